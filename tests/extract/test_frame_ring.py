"""Frames come out of shared memory as they went in, and nothing of it outlives the processes."""

import errno
import os
import select

import numpy as np
import pytest
from vivim.errors import VivimError
from vivim.extract.clip import Clip
from vivim.extract.frame_ring import FrameRing, Slots


def clip(seed, shape_TCHW=(2, 3, 5, 7)):
    frames_TCHW = np.random.default_rng(seed).integers(0, 256, shape_TCHW, np.uint8)
    return Clip(f"clip {seed}", frames_TCHW, np.arange(shape_TCHW[0]) / 2, "pyav", "sha", short=True)


def same(a, b):
    rest = ("id", "decoder", "sha256", "short")
    return (
        np.array_equal(a.frames_TCHW, b.frames_TCHW)
        and np.array_equal(a.times_seconds, b.times_seconds)
        and all(getattr(a, name) == getattr(b, name) for name in rest)
    )


@pytest.fixture(params=["memory", "file"])
def ring(request, monkeypatch):
    """Three slots, in anonymous memory and in the unlinked file of systems without it."""
    if request.param == "file":
        monkeypatch.delattr(os, "memfd_create", raising=False)
    elif not hasattr(os, "memfd_create"):
        pytest.skip("this system has no anonymous memory")
    ring = FrameRing(3, 2 * 3 * 5 * 7)
    yield ring
    ring.close()


def test_each_slot_gives_back_what_was_put_there(ring):
    clips = [clip(k) for k in range(3)]
    shelved = [ring.writer.put(slot, c) for slot, c in enumerate(clips)]
    assert all(same(ring.take(slot, shelved[slot]), clips[slot]) for slot in (2, 0, 1))


def test_what_was_taken_does_not_change_when_the_slot_is_filled_anew(ring):
    first, second = clip(1), clip(2, (1, 3, 4, 4))
    taken = ring.take(1, ring.writer.put(1, first))
    again = ring.take(1, ring.writer.put(1, second))
    assert same(taken, first)
    assert same(again, second)


def test_frames_need_not_lie_in_a_row(ring):
    turned = Clip("t", clip(3, (2, 3, 7, 5)).frames_TCHW.transpose(0, 1, 3, 2)[::-1], np.zeros(2), "pyav", "sha")
    assert same(ring.take(0, ring.writer.put(0, turned)), turned)


def test_what_a_killed_writer_left_is_overwritten_and_touches_no_other_slot(ring):
    neighbours = {0: clip(1), 2: clip(2)}
    shelved = {slot: ring.writer.put(slot, c) for slot, c in neighbours.items()}
    os.pwrite(ring.fd, b"\xff" * 100, ring.slot_bytes)
    assert same(ring.take(1, ring.writer.put(1, clip(3))), clip(3))
    assert all(same(ring.take(slot, shelved[slot]), neighbours[slot]) for slot in neighbours)


def test_a_clip_that_does_not_fit_is_refused(ring):
    side = int(ring.slot_bytes**0.5)
    with pytest.raises(ValueError, match=rf"{3 * side * side} bytes of frames, a slot takes {ring.slot_bytes}.*frame_bytes"):
        ring.writer.put(2, clip(1, (1, 3, side, side)))


@pytest.mark.skipif(not hasattr(os, "memfd_create"), reason="needs Linux's anonymous memory")
def test_nobody_can_change_its_size():
    ring = FrameRing(2, 1000)
    for size in (1 << 30, 0):
        with pytest.raises(PermissionError):
            os.ftruncate(ring.fd, size)
    with pytest.raises(PermissionError):
        os.pwrite(ring.fd, b"x", 2 * ring.slot_bytes)
    ring.close()


def test_it_has_no_name_anywhere(ring):
    assert os.fstat(ring.fd).st_nlink == 0


@pytest.mark.skipif(not hasattr(os, "posix_fallocate"), reason="this system cannot say beforehand")
def test_too_little_memory_is_said_before_work_begins(monkeypatch):
    def full(fd, offset, size):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    before = os.listdir("/dev/fd")
    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(VivimError, match=r"no room for 4 clips of 4096 bytes .*No space left.*fewer workers"):
        FrameRing(4, 1000)
    assert os.listdir("/dev/fd") == before


def test_slots_are_taken_until_there_are_none_and_giving_back_wakes():
    slots = Slots(2)

    def rings():
        return bool(select.select([slots.bell], [], [], 0)[0])

    assert sorted([slots.take(), slots.take()]) == [0, 1]
    assert slots.take() is None
    assert not rings()
    slots.give_back(1)
    assert rings()
    slots.hush()
    assert not rings()
    assert (slots.take(), slots.take()) == (1, None)
    slots.hush()  # a silent bell can be silenced
    slots.close()


def test_a_bell_that_nobody_hears_blocks_nobody():
    slots = Slots(1)
    for _ in range(100_000):
        slots.ring()
    assert select.select([slots.bell], [], [], 0)[0]
    while select.select([slots.bell], [], [], 0)[0]:
        slots.hush()
    assert slots.take() == 0
    slots.close()
