import struct
import tracemalloc
import zipfile
from pathlib import PurePosixPath

import pytest

from chita.data import archive
from chita.data.archive import open_archive
from chita.errors import InputError

KINDS = (".jpg", ".png")
NOISE = bytes((i * i * 31 + i // 7) % 251 for i in range(5000))  # hardly shrinks


def write_zip(path, contents, method=zipfile.ZIP_DEFLATED):
    with zipfile.ZipFile(path, "w", method) as file:
        for name, content in contents.items():
            file.writestr(name, content)
    return path


def patched(path, *, local, central, form, value):
    """Change a field in every local and every central header of a zip file."""
    content = bytearray(path.read_bytes())
    for mark, offset in ((b"PK\3\4", local), (b"PK\1\2", central)):
        at = content.find(mark)
        while at >= 0:
            struct.pack_into(form, content, at + offset, value)
            at = content.find(mark, at + 4)
    path.write_bytes(content)
    return path


def everything(folder):
    return sorted(str(file) for file in folder.rglob("*"))


def test_folder_and_zip_name_and_read_the_same(tmp_path):
    contents = {"b/2.JPG": b"two", "a/1.png": b"one", "a/deep/3.jpg": b"", "a/notes.txt": b"no"}
    for name, content in contents.items():
        file = tmp_path / "images" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
    write_zip(tmp_path / "images.zip", {"a/": b"", "c.jpg/": b"", **contents})
    for path in (tmp_path / "images", tmp_path / "images.zip"):
        opened = open_archive(path, KINDS)
        assert [str(name) for name in opened.names] == ["a/1.png", "a/deep/3.jpg", "b/2.JPG"]
        assert [opened.read(name) for name in opened.names] == [b"one", b"", b"two"]


def test_reading_writes_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    opened = open_archive(write_zip(tmp_path / "i.zip", {"a/1.jpg": b"one"}), KINDS)
    before = everything(tmp_path)
    assert opened.read(opened.names[0]) == b"one"
    assert everything(tmp_path) == before


@pytest.mark.parametrize(
    "name",
    [
        "../evil.jpg",
        "a/../../evil.jpg",
        "..\\evil.jpg",
        "a\\..\\..\\evil.jpg",
        "/abs/evil.jpg",
        "\\evil.jpg",
        "\\\\server\\share\\evil.jpg",
        "C:\\evil.jpg",
        "C:/evil.jpg",
        "../evil.txt",
    ],
)
def test_names_outside_are_refused_and_nothing_is_written(tmp_path, monkeypatch, name):
    inner = tmp_path / "deep" / "inner"
    inner.mkdir(parents=True)
    monkeypatch.chdir(inner)
    path = write_zip(inner / "i.zip", {"a/1.jpg": b"one", name: b"evil"})
    before = everything(tmp_path)
    with pytest.raises(InputError, match=r"i\.zip names a file outside itself: .*evil"):
        open_archive(path, KINDS)
    assert everything(tmp_path) == before


def test_other_ways_to_write_a_name(tmp_path):
    path = write_zip(tmp_path / "i.zip", {"./a/1.jpg": b"one", "b\\2.jpg": b"two", ".": b"dot"})
    opened = open_archive(path, KINDS)
    assert opened.names == (PurePosixPath("a/1.jpg"), PurePosixPath("b/2.jpg"))
    assert [opened.read(name) for name in opened.names] == [b"one", b"two"]


def test_a_name_of_nothing_is_no_file(tmp_path):
    path = write_zip(tmp_path / "i.zip", {"a/1.jpg": b"one", "XYZ": b"nameless"})
    path.write_bytes(path.read_bytes().replace(b"XYZ", b"\0YZ"))
    assert open_archive(path, KINDS).names == (PurePosixPath("a/1.jpg"),)


def test_an_encrypted_zip_is_refused(tmp_path):
    path = write_zip(tmp_path / "i.zip", {"a/1.jpg": b"one"})
    patched(path, local=6, central=8, form="<H", value=1)
    with pytest.raises(InputError, match=r"i\.zip is encrypted. Unpack it"):
        open_archive(path, KINDS)


@pytest.mark.parametrize("files", [1, 20])
def test_a_zip_bomb_is_refused_before_anything_is_unpacked(tmp_path, monkeypatch, files):
    zeros = bytes(4_000_000 // files)
    path = write_zip(tmp_path / "i.zip", {f"a/{i}.jpg": zeros for i in range(files)})
    monkeypatch.setattr(zipfile.ZipFile, "open", lambda *_: pytest.fail("unpacked"))
    with pytest.raises(InputError, match=r"to 4000000 bytes.*zip bomb"):
        open_archive(path, KINDS)


def test_a_header_that_lies_about_the_size_does_not_unpack_the_bomb(tmp_path, monkeypatch):
    monkeypatch.setattr(archive, "_LARGEST", 1 << 16)
    path = write_zip(tmp_path / "i.zip", {"a/1.jpg": bytes(20_000_000)})
    patched(path, local=22, central=24, form="<I", value=100)
    opened = open_archive(path, KINDS)
    tracemalloc.start()
    try:
        with pytest.raises(InputError, match=r"a/1\.jpg in .*i\.zip cannot be read"):
            opened.read(opened.names[0])
        assert tracemalloc.get_traced_memory()[1] < 2_000_000
    finally:
        tracemalloc.stop()


def test_files_that_are_too_large(tmp_path, monkeypatch):
    monkeypatch.setattr(archive, "_LARGEST", 4999)
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "1.jpg").write_bytes(NOISE)
    write_zip(tmp_path / "i.zip", {"1.jpg": NOISE})
    for path in (tmp_path / "images", tmp_path / "i.zip"):
        opened = open_archive(path, KINDS)
        with pytest.raises(InputError, match=r"1\.jpg .*more than 4999 bytes"):
            opened.read(opened.names[0])
    monkeypatch.setattr(archive, "_LARGEST", 5000)
    for path in (tmp_path / "images", tmp_path / "i.zip"):
        opened = open_archive(path, KINDS)
        assert opened.read(opened.names[0]) == NOISE


@pytest.mark.parametrize(
    "damage",
    [
        lambda c: b"",
        lambda c: b"no zip at all",
        lambda c: c[: len(c) // 2],
        lambda c: c[:-30],
    ],
)
def test_what_is_no_zip_is_named(tmp_path, damage):
    path = write_zip(tmp_path / "i.zip", {"a/1.jpg": NOISE})
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(InputError, match=r"i\.zip is no readable zip file.*Fetch it again"):
        open_archive(path, KINDS)


def test_a_damaged_file_in_a_zip_is_named(tmp_path):
    path = write_zip(tmp_path / "i.zip", {"a/1.jpg": NOISE, "a/2.jpg": b"two"}, zipfile.ZIP_STORED)
    path.write_bytes(path.read_bytes().replace(NOISE, NOISE[::-1]))
    opened = open_archive(path, KINDS)
    with pytest.raises(InputError, match=r"a/1\.jpg in .*i\.zip cannot be read: Bad CRC"):
        opened.read(opened.names[0])
    assert opened.read(opened.names[1]) == b"two"


def test_a_way_of_packing_that_is_not_known(tmp_path):
    path = write_zip(tmp_path / "i.zip", {"a/1.jpg": NOISE})
    patched(path, local=8, central=10, form="<H", value=99)
    opened = open_archive(path, KINDS)
    with pytest.raises(InputError, match=r"a/1\.jpg in .*cannot be read"):
        opened.read(opened.names[0])


def test_a_file_that_is_gone_is_named(tmp_path):
    (tmp_path / "1.jpg").write_bytes(b"one")
    opened = open_archive(tmp_path, KINDS)
    (tmp_path / "1.jpg").unlink()
    with pytest.raises(InputError, match=r"1\.jpg in .* cannot be read.*No such file.*Check it"):
        opened.read(opened.names[0])


def test_linked_class_folders_are_followed_and_circles_end(tmp_path):
    store, images = tmp_path / "store", tmp_path / "images"
    store.mkdir()
    (store / "1.png").write_bytes(b"one")
    (images / "b").mkdir(parents=True)
    (images / "b" / "2.png").write_bytes(b"two")
    (images / "a").symlink_to(store)
    (images / "b" / "up").symlink_to(images)
    opened = open_archive(images, KINDS)
    assert [str(name) for name in opened.names] == ["a/1.png", "b/2.png"]
    assert opened.read(opened.names[0]) == b"one"
