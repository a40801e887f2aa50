"""Shared memory between decoding processes and the encoder: the right frames, bounded, nothing left behind."""

import errno
import os
from pathlib import Path

import numpy as np
import pytest
from vivim.errors import VivimError
from vivim.extract.clip import Clip
from vivim.extract.frame_ring import FrameRing, Slots


def clip(id_="a", level=7, side=32):
    frames = np.arange(2 * 3 * side * side, dtype=np.uint8).reshape(2, 3, side, side) + np.uint8(level)
    return Clip(id_, frames, np.array([0.5, 1.5]), "pyav", "0" * 64, True)


def test_what_goes_into_a_slot_comes_out_and_is_the_callers():
    ring = FrameRing(3, 2 * 3 * 32 * 32)
    one, two = clip("a", 1), clip("b", 100)
    shelved = [ring.writer.put(2, one), ring.writer.put(0, two)]
    assert shelved[0].clip.frames_TCHW.size == 0
    back, other = ring.take(2, shelved[0]), ring.take(0, shelved[1])
    ring.writer.put(2, clip("c", 50))
    for found, put in ((back, one), (other, two)):
        assert (found.id, found.decoder, found.short, found.times_seconds.tolist()) == (put.id, "pyav", True, [0.5, 1.5])
        assert np.array_equal(found.frames_TCHW, put.frames_TCHW) and found.frames_TCHW.flags.writeable
    ring.close()


def test_a_clip_that_is_larger_than_a_slot_is_refused():
    ring = FrameRing(1, 2 * 3 * 32 * 32)
    with pytest.raises(ValueError, match="a slot takes"):
        ring.writer.put(0, clip(side=64))
    ring.close()


@pytest.mark.skipif(not hasattr(os, "memfd_create"), reason="memory without a name that can be sealed is Linux's")
def test_a_child_cannot_change_the_size_of_the_ring():
    ring = FrameRing(2, 4096)
    for size in (1 << 20, 0):
        with pytest.raises(PermissionError):
            os.ftruncate(ring.fd, size)
    assert not [path for path in Path("/dev/shm").glob("*vivim*")]
    ring.close()


def test_too_little_memory_is_told(monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)  # to fill the memory for real would end other processes
    with pytest.raises(VivimError, match=r"no room for 4 clips .* Use fewer workers, fewer frames or smaller pictures"):
        FrameRing(4, 4096)


def test_slots_are_taken_once_and_given_back():
    slots = Slots(2)
    assert {slots.take(), slots.take()} == {0, 1} and slots.take() is None
    slots.give_back(1)
    slots.hush()
    assert slots.take() == 1
    for _ in range(70_000):  # more rings than a pipe holds must not block
        slots.ring()
    slots.close()
