from chita.reports.layer_ranges import FEW, joined, layer_ranges


def blocks(count):
    kinds = {"q": 4, "up": 8}
    names = [f"layers.{i}.{kind}.weight" for i in range(count) for kind in kinds]
    return [*names, "head.weight"], [*(list(kinds.values()) * count), 4]


def test_equal_blocks_are_one_line_for_each_of_their_layers():
    names, alike = blocks(30)
    lines = joined(names, alike)
    assert [line.name for line in lines] == [
        "layers.0-29.q.weight",
        "layers.0-29.up.weight",
        "head.weight",
    ]
    members = [place for line in lines for place in line.members]
    assert sorted(members) == list(range(len(names)))


def test_what_is_not_alike_stays_apart():
    """The fourth block has another shape, so the range of the others has a gap."""
    names, alike = blocks(6)
    alike[6] = 5  # of layers.3.q.weight
    assert [line.name for line in joined(names, alike)] == [
        "layers.0-2,4-5.q.weight",
        "layers.0-5.up.weight",
        "layers.3.q.weight",
        "head.weight",
    ]


def test_several_numbers_in_a_name():
    names = [f"stage.{i}.block.{j}.conv" for i in range(2) for j in range(3)]
    (line,) = joined(names, [0] * len(names))
    assert line.name == "stage.0-1.block.0-2.conv"


def test_few_layers_have_a_row_each():
    names, alike = blocks(3)
    assert [line.name for line in layer_ranges(names, alike, every=False)] == names
    names, alike = blocks(FEW)
    assert len(layer_ranges(names, alike, every=False)) == 3
    assert [line.name for line in layer_ranges(names, alike, every=True)] == names


def test_a_name_stands_for_no_more_than_its_layers():
    """Numbers that are no full product are lines of their own, those that go together one."""
    places = [(0, 0), (0, 1), (1, 0), (1, 1), (1, 2), (2, 0), (2, 1), (3, 5)]
    names = [f"stage.{i}.{j}.conv" for i, j in places]
    lines = joined(names, [0] * len(names))
    assert [line.label for line in lines] == [
        "stage.0,2.0-1.conv (4 layers)",
        "stage.1.0-2.conv (3 layers)",
        "stage.3.5.conv",
    ]
    assert [line.members for line in lines] == [(0, 1, 5, 6), (2, 3, 4), (7,)]
