"""JPEG through PyAV: little is lost, the same bytes come every time, and broken files are told from whole ones."""

import numpy as np
import pytest
from vivim.extract.jpeg import DamagedJpeg, decode_jpegs, encode_jpegs, jpeg_size


def slopes(count=3, height=48, width=64):
    """(T, 3, H, W): soft slopes of colour, another for every frame and channel."""
    rows, columns = np.mgrid[:height, :width]
    return np.stack([[(columns * (2 + t) + rows * c + 40 * t) % 200 for c in range(3)] for t in range(count)]).astype(np.uint8)


@pytest.mark.parametrize(("qscale", "allowed"), [(1, 1.0), (2, 1.4), (8, 4.0)])
def test_frames_come_back_nearly(qscale, allowed):
    frames = slopes()
    pictures = decode_jpegs(encode_jpegs(frames, qscale))
    error = np.abs(np.stack(pictures).transpose(0, 3, 1, 2).astype(int) - frames)
    assert error.mean() < allowed


def test_no_channel_gets_darker_or_brighter():
    noise = np.random.default_rng(0).integers(0, 256, (4, 3, 8, 8), np.uint8)
    frames = noise.repeat(16, axis=2).repeat(16, axis=3)  # squares of two blocks' side, so that only colours are rounded
    pictures = np.stack(decode_jpegs(encode_jpegs(frames, 1))).transpose(0, 3, 1, 2)
    error = (pictures.astype(int) - frames).mean((0, 2, 3))
    assert np.abs(error).max() < 0.12  # swscale's conversion to YCbCr gives up to .6


def test_pure_colours_keep_their_place_and_their_channel():
    frames = np.zeros((1, 3, 32, 32), np.uint8)
    frames[0, 0, :, :16] = 255  # left red, right blue; the border between them lies on a border of blocks
    frames[0, 2, :, 16:] = 255
    (picture,) = decode_jpegs(encode_jpegs(frames, 2))
    assert np.abs(picture[5, 3].astype(int) - [255, 0, 0]).max() <= 2
    assert np.abs(picture[5, 28].astype(int) - [0, 0, 255]).max() <= 2


def test_the_same_frames_give_the_same_bytes_wherever_they_stand():
    frames = slopes()
    assert encode_jpegs(frames, 2)[2] == encode_jpegs(frames[2:], 2)[0]
    assert b"Lavc" not in encode_jpegs(frames, 2)[0]


@pytest.mark.parametrize("size", [(1, 1), (35, 33)])
def test_any_size(size):
    frames = slopes(1, *size)
    (picture,) = decode_jpegs(encode_jpegs(frames, 1))
    assert picture.shape == (*size, 3)
    assert np.abs(picture.transpose(2, 0, 1).astype(int) - frames[0]).mean() < 3


def test_a_file_that_is_cut_off_anywhere_is_refused():
    (data,) = encode_jpegs(slopes(1), 2)
    for length in range(len(data)):
        with pytest.raises(DamagedJpeg):
            decode_jpegs([data[:length]])


def test_two_pictures_in_one_file_are_refused():
    first, second = encode_jpegs(slopes(2), 2)
    with pytest.raises(DamagedJpeg):
        decode_jpegs([first[: len(first) // 2] + second])


def test_the_size_is_known_without_decoding():
    (data,) = encode_jpegs(slopes(1, 48, 80), 2)
    assert jpeg_size(data) == (80, 48)
    with pytest.raises(DamagedJpeg, match="begins like no JPEG: 3c 68 74 6d 6c"):
        jpeg_size(b"<html>404</html>")
    for length in range(3, data.index(b"\xff\xc0") + 8):
        with pytest.raises(DamagedJpeg):
            jpeg_size(data[:length])
