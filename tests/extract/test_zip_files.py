"""Zips: what leads out of them, swells, or is damaged is refused, and said to be so."""

import struct
import zipfile

import pytest
from vivim.errors import InputError
from vivim.extract import zip_files
from vivim.extract.failures import ClipError
from vivim.extract.zip_files import ZipFiles


def write(path, files, method=zipfile.ZIP_STORED):
    with zipfile.ZipFile(path, "w", method) as file:
        for name, data in files.items():
            file.writestr(name, data)
    return path


def kind(path, name="a.jpg", max_bytes=1000):
    with pytest.raises(ClipError) as caught:
        ZipFiles(path).read(name, max_bytes)
    return caught.value.kind


def test_files_come_back_and_hidden_ones_are_passed_over(tmp_path):
    path = write(tmp_path / "a.zip", {"x/": b"", "x/a.jpg": b"one", "__MACOSX/x/._a.jpg": b"two", ".b.jpg": b"three", "ü.jpg": b"four"})
    files = ZipFiles(path)
    assert files.names() == ["x/a.jpg", "ü.jpg"]
    assert files.read("x/a.jpg", 3) == b"one"


@pytest.mark.parametrize(
    "name", ["../a-1.jpg", "x/../../a-1.jpg", "/etc/a-1.jpg", "C:\\a-1.jpg", "c:a-1.jpg", "\\\\host\\a-1.jpg", "x\\..\\a-1.jpg"]
)
def test_names_that_lead_out_are_refused(tmp_path, name):
    path = write(tmp_path / "a.zip", {"b-1.jpg": b"", name: b""})
    with pytest.raises(InputError, match="which would lie outside of where it is unpacked; it is not used"):
        ZipFiles(path)


def test_two_dots_inside_a_name_are_fine(tmp_path):
    assert ZipFiles(write(tmp_path / "a.zip", {"a..b-1.jpg": b""})).names() == ["a..b-1.jpg"]


def test_a_bomb_is_refused_unopened(tmp_path):
    path = write(tmp_path / "a.zip", {"a.jpg": bytes(30 << 20)}, zipfile.ZIP_DEFLATED)
    assert path.stat().st_size < 100_000
    assert kind(path, max_bytes=1 << 20) == "too_large"


def test_a_bomb_that_lies_about_its_size_gives_what_it_declares_at_most(tmp_path):
    path = write(tmp_path / "a.zip", {"a.jpg": bytes(1 << 20)}, zipfile.ZIP_DEFLATED)
    data = path.read_bytes().replace(struct.pack("<I", 1 << 20), struct.pack("<I", 500))
    path.write_bytes(data)
    assert kind(path) == "decode_error"  # its checksum is that of all its bytes


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_flipped_byte_is_found(tmp_path, method):
    content = b"".join(k.to_bytes(2, "big") for k in range(300))
    path = write(tmp_path / "a.zip", {"a.jpg": content}, method)
    data = bytearray(path.read_bytes())
    data[60] ^= 0xFF
    path.write_bytes(data)
    assert kind(path) == "decode_error"


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_packed_without_bounds_is_refused(tmp_path, method):
    assert kind(write(tmp_path / "a.zip", {"a.jpg": b"x" * 100}, method)) == "unsupported_codec"


def test_encrypted_files_are_refused(tmp_path):
    path = write(tmp_path / "a.zip", {"a.jpg": b"x"})
    data = bytearray(path.read_bytes())
    data[data.index(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(data)
    assert kind(path) == "unsupported_codec"


def test_a_zip_that_is_cut_off_or_one_of_several_parts_is_refused(tmp_path):
    path = write(tmp_path / "a.zip", {"a.jpg": b"x" * 100})
    whole = path.read_bytes()
    path.write_bytes(whole[:-30])
    with pytest.raises(InputError, match="Give a whole zip in one part, or a folder"):
        ZipFiles(path)
    with pytest.raises(InputError, match="cannot be read as a zip"):
        ZipFiles(tmp_path)


def test_too_many_files_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(zip_files, "_MAX_FILES", 2)
    path = write(tmp_path / "a.zip", {f"{k}.jpg": b"" for k in range(3)})
    with pytest.raises(InputError, match="holds 3 files; at most 2 are read from a zip"):
        ZipFiles(path)
