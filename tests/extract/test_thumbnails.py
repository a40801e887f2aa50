"""Thumbnails: the same picture, upright and in proportion, under a name that no id can spoil."""

import hashlib
import os

import av
import numpy as np
import pytest
from vivim.extract import thumbnails
from vivim.extract.thumbnails import thumbnail_path, thumbnail_webp, write_thumbnail


def decode(data):
    decoder = av.VideoCodecContext.create("webp", "r")
    frames = [*decoder.decode(av.Packet(data)), *decoder.decode(None)]
    assert len(frames) == 1
    return frames[0].to_ndarray(format="rgb24")


def corners(height, width):
    """Red above left, green above right, blue below left, white below right."""
    picture = np.zeros((height, width, 3), np.uint8)
    picture[: height // 2, : width // 2] = [255, 0, 0]
    picture[: height // 2, width // 2 :] = [0, 255, 0]
    picture[height // 2 :, : width // 2] = [0, 0, 255]
    picture[height // 2 :, width // 2 :] = 255
    return picture


@pytest.mark.parametrize(
    ("height", "width", "aspect", "expected"),
    [
        (540, 960, 1.0, (144, 256)),
        (1920, 1080, 1.0, (256, 144)),
        (300, 300, 1.0, (256, 256)),
        (48, 64, 1.0, (48, 64)),
        (101, 201, 1.0, (101, 201)),
        (576, 720, 16 / 15, (192, 256)),
        (9000, 2, 1.0, (256, 1)),
        (1, 1, 1.0, (1, 1)),
    ],
)
def test_proportions_are_kept_and_small_pictures_not_enlarged(height, width, aspect, expected):
    assert decode(thumbnail_webp(np.zeros((height, width, 3), np.uint8), aspect)).shape == (*expected, 3)


def test_colours_and_corners_are_where_they_were():
    picture = decode(thumbnail_webp(corners(600, 800)))
    assert picture.shape == (192, 256, 3)
    for (row, column), colour in {(20, 20): [255, 0, 0], (20, 230): [0, 255, 0], (170, 20): [0, 0, 255], (170, 230): [255] * 3}.items():
        assert np.abs(picture[row, column].astype(int) - colour).max() <= 6


def test_pictures_with_strides_are_taken_too():
    picture = corners(100, 60)
    np.testing.assert_array_equal(decode(thumbnail_webp(np.rot90(picture))), decode(thumbnail_webp(np.rot90(picture).copy())))


def test_a_smooth_picture_costs_little_and_changes_little():
    rows, columns = np.mgrid[:256, :256]
    picture = np.stack([rows, columns, (rows + columns) // 2], 2).astype(np.uint8)
    data = thumbnail_webp(picture)
    assert data[:4] == b"RIFF" and data[8:12] == b"WEBP" and len(data) < 4000
    assert np.abs(decode(data).astype(int) - picture).mean() < 3
    assert thumbnail_webp(picture) == data


def test_names_are_hashes_of_ids(tmp_path):
    name = hashlib.sha256(b"007").hexdigest()
    assert thumbnail_path(tmp_path, "007") == tmp_path / name[:2] / f"{name}.webp"
    ids = ["007", "7", "../../etc/passwd", "a/b", "x\0y", "ü", "A", "a", "\udcff", ""]
    paths = {thumbnail_path(tmp_path, id_) for id_ in ids}
    assert len({str(path).lower() for path in paths}) == len(ids)
    assert all(path.parent.parent == tmp_path and path.stem.isalnum() for path in paths)


def test_files_are_written_whole_and_over_old_ones(tmp_path, monkeypatch):
    path = write_thumbnail(tmp_path, "a", corners(100, 100))
    assert path == thumbnail_path(tmp_path, "a") and path.read_bytes() == thumbnail_webp(corners(100, 100))
    write_thumbnail(tmp_path, "a", corners(50, 50))
    new = path.read_bytes()
    assert decode(new).shape == (50, 50, 3)

    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(thumbnails.os, "fsync", fail)
    with pytest.raises(OSError, match="No space left"):
        write_thumbnail(tmp_path, "a", corners(20, 20))
    assert path.read_bytes() == new
    assert os.listdir(path.parent) == [path.name]
