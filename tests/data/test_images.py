import io
import shutil
import struct
import zipfile
import zlib
from pathlib import PurePosixPath

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn.functional import interpolate

from chita.data.archive import Archive
from chita.data.batches import batches_of
from chita.data.images import ImageFolder, image_folders
from chita.data.sampler import draw
from chita.errors import InputError
from chita.image_format import ImageFormat

RAW = ImageFormat(mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
GREY = ImageFormat(mean=(0.0,), std=(1.0,))
MEAN, STD = (0.1, 0.2, 0.3), (0.5, 0.6, 0.7)


def pixels(seed, height=4, width=4):
    return np.random.RandomState(seed).randint(0, 256, (height, width, 3)).astype(np.uint8)


def encoded(array, kind="PNG", mode=None):
    file = io.BytesIO()
    image = Image.fromarray(array)
    (image.convert(mode) if mode else image).save(file, kind)
    return file.getvalue()


def pictures(*names):
    """A small picture of its own, and of no other, for each name."""
    return {name: encoded(pixels(seed)) for seed, name in enumerate(names)}


def write(folder, contents):
    for name, content in contents.items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
    return folder


def zipped(path, contents):
    with zipfile.ZipFile(path, "w") as file:
        for name, content in contents.items():
            file.writestr(name, content)
    return path


@pytest.fixture(params=["folder", "zip"])
def made(request, tmp_path):
    """Make a folder or a zip file of named contents."""

    def make(contents):
        if request.param == "zip":
            return zipped(tmp_path / "images.zip", contents)
        return write(tmp_path / "images", contents)

    return make


def everything(folder):
    return folder.take(torch.arange(len(folder))).batch


def seen(folder):
    """The pictures of `pictures` in a folder by their seeds, each with its target."""
    known = {pixels(seed).tobytes(): seed for seed in range(40)}
    images, targets = everything(folder)
    arrays = (images.permute(0, 2, 3, 1) * 255).round().to(torch.uint8).numpy()
    seeds = [known[array.tobytes()] for array in arrays]
    return list(zip(seeds, targets.tolist(), strict=True))


BOTH = ("train/cat/1.png", "train/ant/2.png", "train/ant/1.png", "test/cat/7.png", "test/ant/8.png")


def test_training_and_test_images_with_classes_by_the_alphabet(made):
    calibration, evaluation = image_folders(made(pictures(*BOTH)), RAW)
    assert seen(calibration) == [(2, 0), (1, 0), (0, 1)]
    assert seen(evaluation) == [(4, 0), (3, 1)]
    assert [str(file) for file in calibration.files] == sorted(BOTH[:3])


@pytest.mark.parametrize(
    ("train", "test"),
    [("train", "val"), ("training", "validation"), ("Train", "TEST"), ("train", "valid")],
)
def test_other_names_of_the_two_parts(made, train, test):
    contents = pictures(f"{train}/a/0.png", f"{train}/b/1.png", f"{test}/b/2.png")
    calibration, evaluation = image_folders(made(contents), RAW)
    assert seen(calibration) == [(0, 0), (1, 1)]
    assert seen(evaluation) == [(2, 1)]


def test_a_test_part_goes_before_a_validation_part(made):
    contents = pictures("train/a/0.png", "train/b/1.png", "val/a/2.png", "test/a/3.png")
    assert seen(image_folders(made(contents), RAW)[1]) == [(3, 0)]


def test_of_class_folders_alone_a_fifth_is_held_out(made):
    names = [f"{'zebra' if seed % 3 else 'ape'}/{seed:02}.png" for seed in range(23)]
    path = made(pictures(*names))
    first, second = (dict(seen(part)) for part in image_folders(path, RAW))
    assert (len(first), len(second)) == (19, 4)
    assert {**first, **second} == {seed: int(seed % 3 > 0) for seed in range(23)}
    assert [dict(seen(part)) for part in image_folders(path, RAW)] == [first, second]


@pytest.mark.parametrize("wrapping", ["pets/", "Pets/", "a/b/c/"])
def test_folders_around_the_rest_do_not_matter(made, wrapping):
    bare = image_folders(made(pictures(*BOTH)), RAW)
    expected = [seen(folder) for folder in bare]
    contents = {f"{wrapping}{name}": content for name, content in pictures(*BOTH).items()}
    shutil.rmtree(bare[0].archive._path, ignore_errors=True)
    assert [seen(folder) for folder in image_folders(made(contents), RAW)] == expected


def test_a_training_part_alone_is_class_folders(made):
    names = [f"train/{'ab'[seed % 2]}/{seed}.png" for seed in range(5)]
    calibration, evaluation = image_folders(made(pictures(*names)), RAW)
    assert dict(seen(calibration) + seen(evaluation)) == {0: 0, 1: 1, 2: 0, 3: 1, 4: 0}


@pytest.mark.parametrize("wrapping", ["", "pets/"])
def test_hidden_files_and_those_of_other_kinds_are_no_images(made, wrapping):
    expected = [[(2, 0), (1, 0), (0, 1)], [(4, 0), (3, 1)]]
    junk = {
        f"__MACOSX/{wrapping}train/cat/._1.png": b"resource fork",
        f"__MACOSX/{wrapping}._train.png": b"resource fork",
        f"{wrapping}.DS_Store": b"",
        f"{wrapping}train/.hidden.png": b"hidden",
        f"{wrapping}train/cat/._1.png": b"hidden",
        f"{wrapping}train/.thumbnails/1.png": b"hidden",
        f"{wrapping}train/cat/.ipynb_checkpoints/1.png": b"hidden",
        f"{wrapping}train/cat/notes.txt": b"text",
        f"{wrapping}train/empty/notes.txt": b"text",
        f"{wrapping}readme.md": b"text",
    }
    contents = {f"{wrapping}{name}": content for name, content in pictures(*BOTH).items()}
    found = image_folders(made({**junk, **contents}), RAW)
    assert [seen(folder) for folder in found] == expected


def test_suffixes_of_either_case_and_deeper_folders(made):
    colour = np.full((4, 4, 3), 200, np.uint8)
    contents = {
        f"{part}/{name}/{kind}/1.{suffix}": encoded(colour, kind)
        for part in ("train", "test")
        for name in "ab"
        for kind, suffix in (("PNG", "PNG"), ("JPEG", "Jpg"), ("BMP", "bmp"), ("TIFF", "TIF"))
    }
    for folder in image_folders(made(contents), RAW):
        images, targets = everything(folder)
        assert targets.tolist() == [0] * 4 + [1] * 4
        assert torch.allclose(images, torch.tensor(200 / 255), atol=2 / 255)  # JPEG loses a little


def test_normalisation_by_hand(made):
    form = ImageFormat(mean=MEAN, std=STD)
    image = image_folders(made(pictures(*BOTH)), form)[0].take(torch.tensor([0])).batch[0]
    array = pixels(2)
    assert image.shape == (1, 3, 4, 4)
    assert image.dtype == torch.float32
    for c in range(3):
        for y in range(4):
            for x in range(4):
                truth = (array[y, x, c] / 255 - MEAN[c]) / STD[c]
                assert abs(float(image[0, c, y, x]) - truth) < 1e-5


def test_one_mean_makes_images_grey(made):
    """Luma of ITU-R 601, rounded to whole numbers."""
    form = ImageFormat(mean=(0.4,), std=(0.2,))
    image = image_folders(made(pictures(*BOTH)), form)[0].take(torch.tensor([0])).batch[0]
    luma = (pixels(2) @ np.array([0.299, 0.587, 0.114])).round()
    assert image.shape == (1, 1, 4, 4)
    assert np.allclose(image[0, 0] * 0.2 + 0.4, luma / 255, atol=1.01 / 255)


def one(tmp_path, content, form, suffix="png"):
    """An image as the network takes it."""
    folder = write(tmp_path / "one", {f"train/a/1.{suffix}": content, "train/b/1.png": b""})
    write(folder, {"test/a/1.png": b""})
    return image_folders(folder, form)[0].take(torch.tensor([0])).batch[0][0]


def test_a_grey_image_for_a_network_of_colours_and_others(tmp_path):
    grey = pixels(0)[:, :, 0]
    image = one(tmp_path, encoded(grey), RAW)
    assert torch.equal(image, torch.from_numpy(grey / np.float32(255)).expand(3, 4, 4))
    colour = one(tmp_path, encoded(pixels(1), mode="RGBA"), RAW)
    assert np.array_equal(colour.permute(1, 2, 0) * 255, pixels(1))
    two = np.where(pixels(2) > 100, 255, 0).astype(np.uint8)  # eight colours
    assert np.array_equal(one(tmp_path, encoded(two, mode="P"), RAW).permute(1, 2, 0) * 255, two)


@pytest.mark.parametrize(
    ("height", "width", "size"), [(64, 96, 28), (96, 64, 28), (40, 40, 14), (9, 5, 14), (70, 33, 7)]
)
def test_scaling_and_the_centre_against_torch(tmp_path, height, width, size):
    """The shorter side becomes size/0.875, as 256 for 224; torch smooths as Pillow does."""
    array = pixels(0, height, width)
    form = ImageFormat(size=size, mean=RAW.mean, std=RAW.std)
    image = one(tmp_path, encoded(array), form)
    scale = size / 0.875 / min(height, width)
    high, wide = round(height * scale), round(width * scale)
    assert min(high, wide) == round(size / 0.875)
    whole = torch.from_numpy(array).permute(2, 0, 1).float().unsqueeze(0)
    scaled = interpolate(whole, (high, wide), mode="bilinear", antialias=True)[0] / 255
    top, left = (high - size) // 2, (wide - size) // 2
    truth = scaled[:, top : top + size, left : left + size]
    assert image.shape == (3, size, size)
    assert float((image - truth).abs().max()) < 1.6 / 255  # Pillow rounds twice


def test_an_image_of_the_size_is_taken_as_it_is(tmp_path):
    form = ImageFormat(size=6, mean=RAW.mean, std=RAW.std)
    array = pixels(3, 6, 6)
    assert np.array_equal(one(tmp_path, encoded(array), form).permute(1, 2, 0) * 255, array)


@pytest.mark.parametrize("shape", [(1, 50), (50, 1), (1, 1), (3, 2)])
def test_extreme_shapes_are_scaled_too(tmp_path, shape):
    array = np.full((*shape, 3), 51, np.uint8)
    image = one(tmp_path, encoded(array), ImageFormat(size=5, mean=RAW.mean, std=RAW.std))
    assert torch.allclose(image, torch.full((3, 5, 5), 0.2))


def test_images_of_several_sizes_are_refused_with_advice(made):
    contents = pictures(*BOTH)
    contents["train/cat/1.png"] = encoded(pixels(0, 4, 6))
    calibration, evaluation = image_folders(made(contents), RAW)
    with pytest.raises(InputError, match=r"2 sizes, such as \(4, 4\) and \(4, 6\).*`image_size`"):
        everything(calibration)
    assert len(everything(evaluation)[0]) == 2
    form = ImageFormat(size=3)
    assert everything(image_folders(calibration.archive._path, form)[0])[0].shape == (3, 3, 3, 3)


def foreign():
    file = io.BytesIO()
    Image.fromarray(pixels(0)).save(file, "PCX")
    return file.getvalue()


@pytest.mark.parametrize(
    "content",
    [b"", b"no image", encoded(pixels(0, 40, 40))[:-200], b"%!PS-Adobe-3.0 EPSF-3.0\n", foreign()],
    ids=["empty", "text", "cut", "postscript", "of another kind"],
)
def test_a_damaged_image_is_named(made, content):
    calibration, _ = image_folders(made({**pictures(*BOTH), "train/ant/2.png": content}), RAW)
    assert len(calibration.take(torch.tensor([0, 2]))) == 2
    with pytest.raises(InputError, match=r"train/ant/2\.png is no image that can be read.*Remove"):
        calibration.take(torch.tensor([0, 1, 2]))


def test_pixels_of_many_bits_are_refused(tmp_path):
    """Pillow would cut 16 bits off at 255, and the image would be white."""
    deep = np.full((4, 4), 30_000, np.uint16)
    with pytest.raises(InputError, match=r"train/a/1\.png has pixels of more than 8 bits"):
        one(tmp_path, encoded(deep), GREY)
    real = encoded(np.zeros((4, 4), np.float32), "TIFF")
    with pytest.raises(InputError, match=r"train/a/1\.tif has pixels of more than 8 bits"):
        one(tmp_path / "other", real, GREY, "tif")


def declared(width, height):
    """A PNG that says it is large, with a few bytes of pixels."""

    def chunk(kind, body):
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + body


@pytest.mark.parametrize("side", [9_000, 11_000, 100_000])
def test_a_giant_image_is_refused_before_it_is_decoded(tmp_path, monkeypatch, side):
    content = declared(side, side)
    assert len(content) < 200
    monkeypatch.setattr(Image.Image, "convert", lambda *_: pytest.fail("decoded"))
    with pytest.raises(InputError, match=r"train/a/1\.png .*(more than 67108864 pixels|bomb)"):
        one(tmp_path, content, RAW)


def test_classes_must_be_trained_on(made):
    contents = pictures(*BOTH, "test/bee/1.png", "train/cow/1.png")
    with pytest.raises(InputError, match=r"without calibration images: bee. Class folders must"):
        image_folders(made(contents), RAW)


def test_a_class_may_be_called_train(made):
    names = [f"{name}/{seed}.png" for name in ("plane", "train") for seed in range(5)]
    assert sorted(image_folders(made(pictures(*names)), RAW)[0].targets.tolist())[-1] == 1


def test_a_class_may_be_absent_from_evaluation(made):
    contents = pictures(*BOTH, "train/bee/1.png")
    assert seen(image_folders(made(contents), RAW)[1]) == [(4, 0), (3, 2)]


@pytest.mark.parametrize(
    "names",
    [
        [],
        ["1.png", "2.png"],
        ["cat/1.png", "cat/2.png"],
        ["train/cat/1.png", "test/cat/2.png"],
        [*(f"train/{i}.png" for i in range(5)), *(f"test/{i}.png" for i in range(5))],
    ],
)
def test_fewer_than_two_classes_are_refused(made, names):
    with pytest.raises(InputError, match=r"fewer than two class folders.*Expected: train/CLASS"):
        image_folders(made({"readme.md": b"", **pictures(*names)}), RAW)


def test_a_part_without_classes_is_no_class_itself(made):
    """Else the folders `train` and `test` would be taken for two classes."""
    names = ["train/cat/1.png", "train/dog/2.png", "test/3.png", "test/4.png"]
    with pytest.raises(InputError, match="class folders in train, but none in test or val"):
        image_folders(made(pictures(*names)), RAW)
    names = ["holdout/cat/1.png", "holdout/dog/2.png", "val/cat/1.png"]
    with pytest.raises(InputError, match="class folders in val, but none in train"):
        image_folders(write(made({}).parent / "other", pictures(*names)), RAW)


class Counting(Archive):
    def __init__(self, contents):
        self.contents = contents
        self.names = tuple(map(PurePosixPath, contents))
        self.asked = []

    def read(self, name):
        self.asked.append(str(name))
        return self.contents[str(name)]


def counting(count):
    archive = Counting(pictures(*(f"{seed % 2}/{seed:02}.png" for seed in range(count))))
    return archive, ImageFolder(
        archive=archive, files=archive.names, targets=torch.arange(count) % 2, form=RAW
    )


def test_only_the_images_that_are_asked_for_are_read():
    archive, folder = counting(10)
    assert len(folder) == 10
    assert archive.asked == []
    assert seen(folder.take(torch.tensor([7, 4]))) == [(7, 1), (4, 0)]
    assert archive.asked == ["1/07.png", "0/04.png"]
    archive.asked.clear()
    drawn = draw(folder, 3, seed=0)
    assert len(drawn) == len(archive.asked) == 3
    archive.asked.clear()
    next(iter(batches_of(folder, 4)))
    assert archive.asked == ["0/00.png", "1/01.png", "0/02.png", "1/03.png"]


def test_damage_elsewhere_is_not_seen_until_it_is_asked_for(made):
    contents = dict.fromkeys(BOTH, b"junk") | {"train/cat/1.png": encoded(pixels(5))}
    assert seen(image_folders(made(contents), RAW)[0].take(torch.tensor([2]))) == [(5, 1)]


def test_batches_make_up_the_whole():
    _, folder = counting(7)
    whole = everything(folder)
    parts = list(folder.batches(3))
    assert [len(part[1]) for part in parts] == [3, 3, 1]
    for i in range(2):
        assert torch.equal(torch.cat([part[i] for part in parts]), whole[i])
    assert seen(folder) == [(seed, seed % 2) for seed in range(7)]


def test_a_draw_is_by_seed():
    _, folder = counting(30)
    first = draw(folder, 20, seed=1)
    assert torch.equal(first.batch[0], draw(folder, 20, seed=1).batch[0])
    assert not torch.equal(first.batch[0], draw(folder, 20, seed=2).batch[0])
    assert len({image.numpy().tobytes() for image in first.batch[0]}) == 20
