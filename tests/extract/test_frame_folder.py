"""Frames that stand as JPEG files: the right ones in the right order, the same from a folder and a zip, every fault with its class."""

import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
from vivim.errors import InputError
from vivim.extract import frame_folder
from vivim.extract.clip import Clip, ClipRef
from vivim.extract.failures import ClipError
from vivim.extract.frame_folder import FrameFileReader, find_frames
from vivim.extract.jpeg import encode_jpegs
from vivim.extract.probe import Limits
from vivim.extract.reader import Unchanged
from vivim.extract.resize import resize

READ = FrameFileReader(5, image_size=32)


def level(number):
    return 20 + 15 * number


def jpeg(number, height=48, width=64):
    """A frame of plain grey that tells its number."""
    return encode_jpegs(np.full((1, 3, height, width), level(number), np.uint8), 1)[0]


MICROLENS = {f"{item}-{k}.jpg": jpeg(k) for item in ("7", "007", "a-b-1") for k in range(1, 6)}


def stored(tmp_path, files, kind):
    """The files in a folder, or in a zip below a folder; also something that is no frame."""
    if kind == "folder":
        root = tmp_path / "frames"
        root.mkdir()
        for name, data in files.items():
            (root / name).write_bytes(data)
        (root / "readme.txt").write_text("5 frames an item")
        return root
    with zipfile.ZipFile(tmp_path / "frames.zip", "w", zipfile.ZIP_DEFLATED if kind == "deflated" else zipfile.ZIP_STORED) as file:
        file.writestr("frames/", "")
        for name, data in files.items():
            file.writestr(f"frames/{name}", data)
        file.writestr("frames/readme.txt", "5 frames an item")
    return tmp_path / "frames.zip"


def levels(clip):
    return [(round(float(frame.mean())) - 20) / 15 for frame in clip.frames_TCHW]


def fault(source, id_="a", reader=READ):
    with pytest.raises(ClipError) as caught:
        reader(ClipRef(id_, source))
    return caught.value


def faults(tmp_path, files, **options):
    return {failure.id: (failure.kind, failure.message) for failure in find_frames(stored(tmp_path, files, "folder"), **options).failures}


@pytest.mark.parametrize("kind", ["folder", "stored", "deflated"])
def test_microlens_frames(tmp_path, kind):
    source = stored(tmp_path, MICROLENS, kind)
    catalogue = find_frames(source, frames_per_item=5)
    assert [(ref.id, ref.path) for ref in catalogue.refs] == [("007", source), ("7", source), ("a-b-1", source)]
    assert not catalogue.failures
    for ref in catalogue.refs:
        clip = READ(ref)
        assert levels(clip) == [1, 2, 3, 4, 5]
        assert clip.times_seconds.tolist() == [1, 2, 3, 4, 5]
        assert (clip.id, clip.short, clip.decoder) == (ref.id, False, "pyav")


def test_folder_and_zip_give_the_same_clip_and_know_it_again(tmp_path):
    folder, packed = (stored(tmp_path, MICROLENS, kind) for kind in ("folder", "deflated"))
    a, b = READ(ClipRef("7", folder)), READ(ClipRef("7", packed))
    np.testing.assert_array_equal(a.frames_TCHW, b.frames_TCHW)
    assert a.sha256 == b.sha256
    assert READ(ClipRef("7", packed), a.sha256) == Unchanged("7")
    assert READ(ClipRef("007", packed)).sha256 == a.sha256  # other id, same bytes
    (folder / "7-3.jpg").write_bytes(jpeg(9))
    changed = READ(ClipRef("7", folder), a.sha256)
    assert isinstance(changed, Clip) and levels(changed) == [1, 2, 9, 4, 5]


@pytest.mark.parametrize(
    ("n", "count", "expected", "short"),
    [
        (5, 5, [1, 2, 3, 4, 5], False),
        (5, 3, [1, 3, 5], False),
        (5, 1, [3], False),
        (9, 3, [2, 5, 8], False),
        (5, 8, [1, 1, 2, 3, 3, 4, 5, 5], True),
        (1, 3, [1, 1, 1], True),
    ],
)
def test_which_frames_where_their_number_is_another(tmp_path, n, count, expected, short):
    source = stored(tmp_path, {f"a-{k}.jpg": jpeg(k) for k in range(1, n + 1)}, "folder")
    clip = FrameFileReader(count, image_size=32)(ClipRef("a", source))
    assert (levels(clip), clip.times_seconds.tolist(), clip.short) == (expected, expected, short)


def test_numbers_from_zero_in_numeric_order_and_any_spelling(tmp_path):
    names = [f"a-{k:02d}.{'JPG' if k % 2 else 'jpeg'}" for k in range(12)]
    source = stored(tmp_path, {name: jpeg(k) for k, name in enumerate(names)}, "folder")
    clip = FrameFileReader(12, image_size=32)(ClipRef("a", source))
    assert levels(clip) == list(range(12)) == clip.times_seconds.tolist()


@pytest.mark.parametrize("mode", ["crop", "squash"])
def test_frames_are_resized_as_those_of_videos(tmp_path, mode):
    columns = np.broadcast_to(np.arange(0, 240, 2, dtype=np.uint8), (3, 40, 120))
    source = stored(tmp_path, {"a-1.jpg": encode_jpegs(columns[None], 1)[0]}, "folder")
    clip = FrameFileReader(1, 32, mode)(ClipRef("a", source))
    expected = resize(np.ascontiguousarray(columns.transpose(1, 2, 0)), 32, mode)
    assert np.abs(clip.frames_TCHW[0].astype(int) - expected).max() <= 3


def test_items_that_cannot_be_read_fail_before_they_are_opened(tmp_path):
    files = {f"good-{k}.jpg": b"" for k in range(1, 6)}
    files |= dict.fromkeys([f"{name}.jpg" for name in ("gap-1", "gap-3", "late-2", "few-1", "few-2", "twice-1", "twice-01")], b"")
    files |= {f"many-{k}.jpg": b"" for k in range(7)}
    assert faults(tmp_path, files, frames_per_item=5) == {
        "gap": ("missing", "frame 2 is not there, 3 is"),
        "late": ("missing", "frame 1 is not there, 2 is"),
        "few": ("too_short", "2 frames; every item must have 5"),
        "many": ("too_long", "7 frames; every item must have 5"),
        "twice": ("duplicate_id", "twice-01.jpg and twice-1.jpg are both its frame 1"),
    }


def test_any_number_of_frames_is_allowed_unless_one_is_asked_for(tmp_path, monkeypatch):
    monkeypatch.setattr(frame_folder, "_MAX_FRAMES", 6)
    files = {f"few-{k}.jpg": b"" for k in (1, 2)} | {f"many-{k}.jpg": b"" for k in range(7)}
    assert faults(tmp_path, files) == {"many": ("too_long", "7 frames; at most 6 are allowed")}


@pytest.mark.parametrize(
    ("data", "kind", "what"),
    [
        (b"", "empty", "a-2.jpg has 0 bytes"),
        (b"<html>404</html>", "not_video", "a-2.jpg is no JPEG, it begins 3c 68"),
        (jpeg(2)[:-9], "decode_error", "a-2.jpg: the JPEG is cut off"),
        (jpeg(2)[:30], "decode_error", "a-2.jpg: "),
        (jpeg(2).replace(b"\xff\xc0\x00\x11\x08\x00\x30\x00\x40", b"\xff\xc0\x00\x11\x08\xff\xff\xff\xff"), "too_large", "65535x65535"),
    ],
)
@pytest.mark.parametrize("kind_of_source", ["folder", "stored"])
def test_bad_pictures(tmp_path, data, kind, what, kind_of_source):
    source = stored(tmp_path, {"a-1.jpg": jpeg(1), "a-2.jpg": data, "b-1.jpg": jpeg(1)}, kind_of_source)
    error = fault(source, reader=FrameFileReader(2, 32))
    assert error.kind == kind and what in error.message
    assert levels(READ(ClipRef("b", source))) == [1] * 5


def test_limits_of_size_are_the_readers(tmp_path):
    source = stored(tmp_path, {"a-1.jpg": jpeg(1, 48, 64)}, "folder")
    assert fault(source, reader=FrameFileReader(1, 32, limits=Limits(max_side_pixels=63))).kind == "too_large"
    assert FrameFileReader(1, 32, limits=Limits(max_side_pixels=64))(ClipRef("a", source)).short is False


def test_files_that_are_too_large_gone_or_no_files(tmp_path, monkeypatch):
    source = stored(tmp_path, {"a-1.jpg": jpeg(1), "b-1.jpg": jpeg(1)}, "folder")
    (source / "c-1.jpg").symlink_to("/dev/zero")
    assert fault(source, "c").kind == "not_video"
    (source / "b-1.jpg").unlink()
    assert fault(source, "b").kind == "missing"
    assert fault(source, "z").kind == "missing"
    monkeypatch.setattr(frame_folder, "_MAX_FILE_BYTES", 100)
    assert fault(source, "a").kind == "too_large"
    assert fault(tmp_path / "gone").kind == "missing"


def test_sources_without_frames_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"frames holds no frames; looked for files named ID-NUMBER\.jpg"):
        find_frames(stored(tmp_path, {"12.jpg": b"", "-1.jpg": b"", "a-.jpg": b"", "a-1.png": b""}, "folder"))
    with pytest.raises(InputError, match="gone is not there"):
        find_frames(tmp_path / "gone")
    (tmp_path / "page.zip").write_text("<html>404</html>")
    with pytest.raises(InputError, match=r"page\.zip cannot be read as a zip \(File is not a zip file\)"):
        find_frames(tmp_path / "page.zip")


def test_ids_that_no_file_can_hold_are_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "f.zip", "w") as file:
        file.writestr("a\nb-1.jpg", b"")
    with pytest.raises(InputError, match="control characters"):
        find_frames(tmp_path / "f.zip")


def test_the_reader_is_small_and_says_what_it_does():
    assert pickle.loads(pickle.dumps(READ)) == READ and len(pickle.dumps(READ)) < 1000
    assert READ.recipe.frames == {"sampler": "files", "count": 5, "times": "numbers in the names of the files"}
    assert READ.recipe.preprocessing == {"image_size": 32, "resize": "crop"}
    assert READ.recipe.decoder["policy"] == "jpeg"


def test_nothing_is_unpacked(tmp_path):
    source = stored(tmp_path, MICROLENS, "deflated")
    before = sorted(tmp_path.rglob("*"))
    READ(find_frames(source).refs[0])
    assert sorted(tmp_path.rglob("*")) == before == [Path(source)]
