"""Frames of several clips in memory that all decoding processes share, so that no pipe has to carry them.

The memory has no name anywhere, so nothing is left behind however the processes end. The parent decides which slot a child may
fill and reads it only after the child said that it is done. Shapes: T frames, C = 3, H height, W width.
"""

import fcntl
import mmap
import os
import tempfile
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, replace

import numpy as np

from ..errors import VivimError
from .clip import Clip

_POPULATE = getattr(mmap, "MAP_POPULATE", 0)  # Linux: one call instead of a page fault for every 4 kB


@dataclass(frozen=True)
class Shelved:
    """A clip whose frames lie in a slot.

    Attributes:
        clip: all of it but the frames, which have no height and no width here.
        shape_TCHW: of the frames in the slot.
    """

    clip: Clip
    shape_TCHW: tuple[int, ...]


@dataclass(frozen=True)
class RingWriter:
    """A child's access to the ring. It is mapped only while a slot is filled, so that a decoder that writes astray cannot hit it.

    Attributes:
        fd: of the shared memory, the same number in both processes.
        slot_bytes: size of a slot.
    """

    fd: int
    slot_bytes: int

    def put(self, slot: int, clip: Clip) -> Shelved:
        """Copy the frames into a slot that the parent has given to this child.

        Raises:
            ValueError: they do not fit.
        """
        frames_TCHW = clip.frames_TCHW
        if frames_TCHW.nbytes > self.slot_bytes:
            raise ValueError(
                f"the reader gave {frames_TCHW.nbytes} bytes of frames, a slot takes {self.slot_bytes}. "
                "Let its frame_bytes be the size of its largest clip."
            )
        with mmap.mmap(self.fd, self.slot_bytes, flags=mmap.MAP_SHARED | _POPULATE, offset=slot * self.slot_bytes) as memory:
            memory.write(np.ascontiguousarray(frames_TCHW).data)
        return Shelved(replace(clip, frames_TCHW=frames_TCHW[:, :, :0, :0].copy()), frames_TCHW.shape)


class FrameRing:
    """The parent's side: ``slots`` times at least ``frame_bytes`` bytes, taken from the system at once.

    Children that are given ``fd`` can fill the memory but, on Linux, not change its size. The parent never maps it.

    Raises:
        VivimError: there is not so much memory.
    """

    def __init__(self, slots: int, frame_bytes: int) -> None:
        assert slots > 0 and frame_bytes > 0, (slots, frame_bytes)
        self.slot_bytes = -(-frame_bytes // mmap.ALLOCATIONGRANULARITY) * mmap.ALLOCATIONGRANULARITY
        size = slots * self.slot_bytes
        try:
            self.fd = _anonymous(size)
        except OSError as error:
            raise VivimError(
                f"there is no room for {slots} clips of {self.slot_bytes} bytes that wait between decoder and encoder ({error}). "
                "Use fewer workers, fewer frames or smaller pictures."
            ) from error

    @property
    def writer(self) -> RingWriter:
        """What a child needs, besides the inherited ``fd``."""
        return RingWriter(self.fd, self.slot_bytes)

    def take(self, slot: int, shelved: Shelved) -> Clip:
        """The clip in a slot with frames of its own; the slot may be filled anew afterwards."""
        frames_TCHW = np.empty(shelved.shape_TCHW, np.uint8)
        assert frames_TCHW.nbytes <= self.slot_bytes, (shelved.shape_TCHW, self.slot_bytes)
        got = os.preadv(self.fd, [frames_TCHW.data], slot * self.slot_bytes)
        assert got == frames_TCHW.nbytes, (got, shelved.shape_TCHW)
        return replace(shelved.clip, frames_TCHW=frames_TCHW)

    def close(self) -> None:
        """Give the memory back; children that still run keep it until they end."""
        os.close(self.fd)


class Slots:
    """Which slots are free. One thread takes them, any thread gives them back and thereby wakes the taker.

    Attributes:
        bell: a descriptor that can be waited for; readable after ``give_back`` or ``ring`` until ``hush``.
    """

    def __init__(self, count: int) -> None:
        self.free = deque(range(count))
        self.bell, self._rope = os.pipe()
        os.set_blocking(self.bell, False)
        os.set_blocking(self._rope, False)

    def take(self) -> int | None:
        """A free slot, the one that was given back last; None: all are in use."""
        return self.free.pop() if self.free else None

    def give_back(self, slot: int) -> None:
        """The slot may be filled anew."""
        self.free.append(slot)
        self.ring()

    def ring(self) -> None:
        """Wake whoever waits for the bell."""
        with suppress(BlockingIOError):  # a full pipe rings already
            os.write(self._rope, b"!")

    def hush(self) -> None:
        """Silence the bell; look for free slots after this, not before."""
        with suppress(BlockingIOError):
            os.read(self.bell, 1 << 16)

    def close(self) -> None:
        """Nobody waits any more."""
        os.close(self.bell)
        os.close(self._rope)


def _anonymous(size_bytes: int) -> int:
    """A descriptor of so much memory; where the system has no such thing, of an unlinked temporary file.

    Raises:
        OSError: not so much is to be had.
    """
    sealable = hasattr(os, "memfd_create")
    if sealable:
        fd = os.memfd_create("vivim-frames", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    else:
        with tempfile.TemporaryFile() as file:
            fd = os.dup(file.fileno())
    try:
        os.ftruncate(fd, size_bytes)
        if hasattr(os, "posix_fallocate"):  # better no room now than a bus error in a child
            os.posix_fallocate(fd, 0, size_bytes)
        if sealable:
            fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_SEAL)
    except OSError:
        os.close(fd)
        raise
    return fd
