"""Clips with masks, made when a test asks for them."""

from fractions import Fraction
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


def write_grey(path, values_HW, pix_fmt="gray", colours=((255, 9, 7, 7),)):
    """A PNG of one channel; ``colours`` are those of a palette as (alpha, red, green, blue), the last one for all further numbers."""
    if pix_fmt == "pal8":
        palette = np.uint8([colours[min(number, len(colours) - 1)] for number in range(256)])
        write_picture(path, av.VideoFrame.from_ndarray((values_HW, palette), format="pal8"))
    else:
        write_picture(path, av.VideoFrame.from_ndarray(values_HW, format=pix_fmt))


def write_picture(path, frame, codec="png"):
    """One frame as a file of its own."""
    encoder = av.VideoCodecContext.create(codec, "w")
    encoder.width, encoder.height, encoder.pix_fmt = frame.width, frame.height, frame.format.name
    encoder.framerate, encoder.time_base = 1, Fraction(1)
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
