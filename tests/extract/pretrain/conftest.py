"""Clips with masks, made when a test asks for them."""

from pathlib import Path

import av
import numpy as np
import pytest
import torch
from vivim.extract.pretrain.pictures import write_png


@pytest.fixture(autouse=True)
def _one_thread():
    """Threads that wait for each other over such small pictures cost many times the work when the cores are shared."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def write_grey(path, values_HW, pix_fmt="gray"):
    """A PNG of one channel."""
    encoder = av.VideoCodecContext.create("png", "w")
    encoder.height, encoder.width = values_HW.shape
    encoder.pix_fmt, encoder.framerate = pix_fmt, 1
    if pix_fmt == "pal8":
        frame = av.VideoFrame.from_ndarray((values_HW, np.tile(np.uint8([255, 9, 7, 7]), (256, 1))), format="pal8")
    else:
        frame = av.VideoFrame.from_ndarray(values_HW, format=pix_fmt)
    path.write_bytes(b"".join(bytes(packet) for packet in [*encoder.encode(frame), *encoder.encode(None)]))


def square_clip(frames: Path, masks: Path, count=6, size=48, value=255, seed=0):
    """A bright square that walks over dark noise; its masks."""
    frames.mkdir(parents=True, exist_ok=True)
    masks.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(seed)
    for t in range(count):
        picture = random.integers(0, 60, (size, size, 3)).astype(np.uint8)
        mask = np.zeros((size, size), np.uint8)
        left = 4 + 3 * t % 20
        picture[12:30, left : left + 18] += 180
        mask[12:30, left : left + 18] = value
        write_png(frames / f"{t:04d}.png", picture)
        write_grey(masks / f"{t:04d}.png", mask)


@pytest.fixture
def folders(tmp_path):
    """``frames/a``, ``frames/b`` and their masks: six frames each."""
    for name in "ab":
        square_clip(tmp_path / "frames" / name, tmp_path / "masks" / name, seed=ord(name))
    return tmp_path / "frames", tmp_path / "masks"
