"""Readers that do what native decoders do. Imported by name in decoding processes."""

import contextlib
import ctypes
import os
import signal
import time

import numpy as np
from vivim.extract.clip import Clip, ClipRef
from vivim.extract.failures import ClipError
from vivim.extract.headers import Header
from vivim.extract.reader import Unchanged
from vivim.extract.timed_reader import Timing


def well_behaved(ref: ClipRef, known_sha256: str | None = None) -> Clip | Unchanged:
    """A clip whose pixels, hash and times are a function of its id."""
    if known_sha256 == "sha of " + ref.id:
        return Unchanged(ref.id)
    level = sum(ref.id.encode()) % 256
    return Clip(ref.id, np.full((2, 3, 32, 32), level, np.uint8), np.array([0.0, 1.0]), "pyav", "sha of " + ref.id)


def by_id(ref: ClipRef, known_sha256: str | None = None) -> Clip | Unchanged:
    """The id says what goes wrong: ``hang-3`` hangs, ``fine-1`` does not."""
    match ref.id.split("-")[0]:
        case "hang":
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            ctypes.PyDLL(None).sleep(600)  # holds the interpreter's lock, as decord does
        case "segv":
            os.kill(os.getpid(), signal.SIGSEGV)
        case "abort":
            os.write(2, b"terminate called after throwing an instance of 'std::bad_alloc'\n")
            os.abort()
        case "exit":
            os._exit(7)
        case "memory":
            np.ones(8 << 30, np.uint8)
        case "raise":
            raise RuntimeError("sum of all fears")
        case "noise":
            for _ in range(64):
                with contextlib.suppress(OSError):  # native code does not look at what write returns
                    os.write(2, b"[h264] error while decoding\n" * 40_000)
        case "clip":
            raise ClipError("truncated", "half of it")
        case "slow":
            time.sleep(0.3)
        case "loudspeaker":
            os.write(1, b"out")
            os.write(2, b"err")
            raise ClipError("decode_error", f"{os.fstat(2).st_size} bytes")
    return well_behaved(ref, known_sha256)


def tell_pid(ref: ClipRef, known_sha256: str | None = None) -> Clip | Unchanged:
    """Writes its process id into the file it is given, then hangs."""
    fd = os.open(ref.path, os.O_WRONLY)
    os.write(fd, str(os.getpid()).encode())
    os.close(fd)
    ctypes.PyDLL(None).sleep(600)
    return well_behaved(ref, known_sha256)


def header_by_id(ref: ClipRef, known_sha256: str | None = None) -> Header:
    """Goes wrong as ``by_id`` does, or else finds a header that says little."""
    by_id(ref, known_sha256)
    return Header(ref.id, 10, "mov", "h264", 64, 48, 40, 2.0, False, 0, 8, False, False)


def timing_by_id(ref: ClipRef, known_sha256: str | None = None) -> Timing:
    """Goes wrong as ``by_id`` does, or else took half a second."""
    clip = by_id(ref, known_sha256)
    assert isinstance(clip, Clip)
    return Timing(ref.id, 0.5, clip)


class Sized:
    """``by_id`` with frames through shared memory."""

    frame_bytes = 2 * 3 * 32 * 32

    def __call__(self, ref: ClipRef, known_sha256: str | None = None) -> Clip | Unchanged:
        match ref.id.split("-")[0]:
            case "spin":  # does not look at the clock, only burns it
                while True:
                    pass
            case "large":
                return Clip(ref.id, np.zeros((4, 3, 32, 32), np.uint8), np.zeros(4), "pyav", "0" * 64)
            case "other":
                return well_behaved(ClipRef("someone else", ref.path), None)
            case "odd":
                return None  # type: ignore[return-value]
            case "leak":
                for _ in range(40):
                    os.dup(0)
        return by_id(ref, known_sha256)
