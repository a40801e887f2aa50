"""The resize against torch's antialiased one, and against geometry known beforehand."""

import numpy as np
import pytest
import torch
from vivim.extract.resize import resize


@pytest.mark.parametrize(("height", "width"), [(720, 1280), (1280, 720), (241, 321), (100, 60), (17, 33)])
def test_squash_is_torchs_antialiased_bilinear(height, width):
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (height // 8 + 1, width // 8 + 1, 3))
    picture = np.clip(np.kron(coarse, np.ones((8, 8, 1)))[:height, :width] + rng.integers(-9, 10, (height, width, 3)), 0, 255).astype(
        np.uint8
    )
    expected = torch.nn.functional.interpolate(
        torch.from_numpy(picture).permute(2, 0, 1)[None].float(), size=(96, 96), mode="bilinear", antialias=True
    )[0].numpy()
    difference = np.abs(resize(picture, 96, "squash") - expected)
    assert difference[:, 1:-1, 1:-1].max() <= 2.5
    assert difference.mean() < 0.5


def test_crop_is_squash_of_the_centre_square():
    picture = np.random.default_rng(1).integers(0, 256, (90, 160, 3), dtype=np.uint8)
    assert (resize(picture, 64, "crop") == resize(picture[:, 35:125], 64, "squash")).all()
    upright = picture.transpose(1, 0, 2)
    assert (resize(upright, 64, "crop") == resize(upright[35:125], 64, "squash")).all()


def test_crop_sees_what_a_viewer_sees_when_pixels_are_not_square():
    # 60x90 pixels, each 16:9 wide, are shown as 106.7x90: the centre square is 90 / (16/9) = 51 pixels wide
    picture = np.random.default_rng(2).integers(0, 256, (90, 60, 3), dtype=np.uint8)
    assert (resize(picture, 32, "crop", 16 / 9) == resize(picture[:, 4:55], 32, "squash")).all()
    assert (resize(picture, 32, "squash", 16 / 9) == resize(picture, 32, "squash")).all()


@pytest.mark.parametrize(("height", "width"), [(1, 1), (2, 2), (1, 7), (7, 1), (3, 5000)])
def test_tiny_and_odd_pictures_keep_their_colours(height, width):
    picture = np.empty((height, width, 3), np.uint8)
    picture[:] = (200, 3, 90)
    for mode in ("crop", "squash"):
        square = resize(picture, 64, mode)
        assert square.shape == (3, 64, 64)
        assert [np.unique(plane).tolist() for plane in square] == [[200], [3], [90]]


def test_views_with_negative_strides_are_fine():
    picture = np.random.default_rng(3).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    assert (resize(np.rot90(picture), 32, "squash") == resize(np.ascontiguousarray(np.rot90(picture)), 32, "squash")).all()
