"""Heat maps: every level has its cell and its shade, and files are whole."""

import re
from itertools import pairwise, product
from pathlib import Path

import pytest

from chita.errors import InputError, OutputError
from chita.records import LevelRecord
from chita.reports.picture import check_picture, write_picture
from chita.reports.run_charts import heat_of
from chita.reports.shade import Shades

figure = pytest.importorskip("matplotlib.figure")


def levels(losses, sparsities=(0.5, 0.9)):
    """Levels of a tensor for every row of losses, None where one is unknown."""
    names = [f"encoder.layers.{i}.attention.query.projection.weight" for i in range(len(losses))]
    return [
        LevelRecord(tensor=name, sparsity=sparsity, loss=loss)
        for name, row in zip(names, losses, strict=True)
        for sparsity, loss in zip((0.0, *sparsities), (0.0, *row), strict=True)
        if loss is not None
    ]


def shades_of(losses):
    return Shades.of(level.loss for level in levels(losses))


@pytest.fixture
def drawn(tmp_path, monkeypatch):
    """Draw a record and return its figure."""
    kept = []
    save = figure.Figure.savefig
    monkeypatch.setattr(
        figure.Figure, "savefig", lambda self, *a, **k: (save(self, *a, **k), kept.append(self))
    )

    def draw(losses, **options):
        write_picture([heat_of(levels(losses, **options))], tmp_path / "h.png")
        return kept[-1]

    return draw


def test_every_level_has_a_cell_with_its_number(drawn):
    (panel,) = drawn([(0.001, 20.0), (-0.5, None)]).axes
    (image,) = panel.images
    shade = shades_of([(0.001, 20.0), (-0.5, None)]).shade
    (low, high), (fall, unknown) = image.get_array().tolist()
    assert (low, high, fall) == pytest.approx((shade(0.001), 1.0, shade(-0.5)))
    assert unknown is None  # masked: no colour
    assert {(*map(round, text.get_position()), text.get_text()) for text in panel.texts} == {
        *((0, 0, "0.001"), (1, 0, "20"), (0, 1, "-0.5"))
    }


def test_orders_of_magnitude_have_steps_alike_and_an_outlier_hides_none():
    scale = shades_of([(0.01, 0.1), (1.0, 10.0)])
    shades = [scale.shade(10.0**k) for k in (-1, 0, 1)]
    assert shades[1] - shades[0] == pytest.approx(shades[2] - shades[1], rel=0.1)
    wild = shades_of([(0.01, 0.1), (1.0, 1e6)])
    assert wild.shade(1e4) > 0.5
    assert shades_of([(0.0, 0.0)]).shade(0.0) == 0


@pytest.mark.parametrize("losses", [[(0.0, 0.0)], [(None, None)], [(-1e-9, -3.0)], [(1e12, 1.0)]])
def test_all_losses_can_be_drawn(drawn, losses):
    assert len(drawn(losses).axes) == 1


def test_names_of_sixty_tensors_lie_apart_and_on_the_picture(drawn):
    losses = [(10.0 ** -(i % 5), 10.0 ** (i % 3)) for i in range(60)]
    made = drawn(losses)
    made.draw_without_rendering()
    boxes = [text.get_window_extent() for text in made.axes[0].get_yticklabels()]
    assert len(boxes) == 60
    assert all(above.y0 >= below.y1 for above, below in pairwise(boxes))
    assert min(box.x0 for box in boxes) >= 0
    inside = made.axes[0].get_window_extent()
    cells = [text.get_window_extent() for text in made.axes[0].texts]
    assert len(cells) == 120
    assert max(cell.width for cell in cells) < inside.width / 2


def test_many_sparsities_have_colours_and_no_numbers(drawn):
    sparsities = tuple(i / 20 for i in range(1, 20))
    made = drawn([tuple(sparsities), tuple(sparsities)], sparsities=sparsities)
    assert (len(made.axes[0].texts), made.axes[0].images[0].get_array().size) == (0, 38)


@pytest.mark.parametrize("kind", ["png", "svg"])
def test_a_picture_is_written_whole_or_not_at_all(tmp_path, monkeypatch, kind):
    path = tmp_path / f"heat.{kind}"
    found = [heat_of(levels([(0.1, 1.0)]))]
    write_picture(found, path)
    content = path.read_bytes()
    assert len(content) > 1000
    assert re.match(rb"\x89PNG|<\?xml", content)

    def full(self, content):
        self.open("wb").close()
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OutputError, match="could not be written"):
        write_picture(found, path)
    assert [*tmp_path.iterdir()] == [path]
    assert path.read_bytes() == content


@pytest.mark.parametrize(
    ("name", "error", "told"),
    [
        ("heat", InputError, "is no kind of picture"),
        ("heat.csv", InputError, "is no kind of picture"),
        ("no/heat.png", OutputError, "is no folder"),
        ("folder.png", OutputError, "exists and is no file"),
    ],
)
def test_names_that_are_no_picture(tmp_path, name, error, told):
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(error, match=told):
        check_picture(tmp_path / name)
    for kind, folder in product(("png", "SVG", "pdf"), (".", "folder.png")):
        check_picture(tmp_path / folder / f"h.{kind}")


def test_without_matplotlib_nothing_is_drawn(monkeypatch, tmp_path):
    monkeypatch.setitem(__import__("sys").modules, "matplotlib", None)
    with pytest.raises(InputError, match="pip install matplotlib"):
        check_picture(tmp_path / "heat.png")
