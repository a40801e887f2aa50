"""Readers that do what native decoders do. Imported by name in decoding processes."""

import contextlib
import ctypes
import os
import re
import resource
import signal
import stat
import struct
import sys
import time
import zlib
from dataclasses import dataclass
from pathlib import Path

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
    return Clip(ref.id, frames_of(ref.id), np.array([0.0, 1.0]), "pyav", "sha of " + ref.id)


def frames_of(id_: str, side: int = 32) -> np.ndarray:
    """(2, 3, side, side) noise that no other id has."""
    return np.random.default_rng(zlib.crc32(id_.encode())).integers(0, 256, (2, 3, side, side), np.uint8)


def by_id(ref: ClipRef, known_sha256: str | None = None) -> Clip | Unchanged:
    """The id says what goes wrong: ``hang-3`` hangs, ``fine-1`` does not."""
    match ref.id.split("-")[0]:
        case "hang":
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            ctypes.PyDLL(None).sleep(600)  # holds the interpreter's lock, as decord does
        case "spin":
            re.match("(a+)+$", "a" * 60 + "b")  # so does this, and it takes all processor time it can get
        case "segv":
            os.kill(os.getpid(), signal.SIGSEGV)
        case "abort":
            os.write(2, b"terminate called after throwing an instance of 'std::bad_alloc'\n")
            os.abort()
        case "exit":
            os._exit(7)
        case "memory":
            np.ones(8 << 30, np.uint8)
        case "greed":
            hoard = []
            while True:
                hoard.append(np.ones(16 << 20, np.uint8))
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
        case "steps":  # as slow, but a stopped process has most of it still before it
            for _ in range(60):
                time.sleep(0.005)
        case "loudspeaker":
            os.write(1, b"out")
            os.write(2, b"err")
            raise ClipError("decode_error", f"{os.fstat(2).st_size} bytes")
        case "swapped":
            return well_behaved(ClipRef("fine-1", ref.path))
        case "nothing":
            return None  # type: ignore[return-value]
        case "garble":
            os.write(_pipe(), struct.pack("!i", 4) + b"junk")
        case "half":
            os.write(_pipe(), struct.pack("!i", 4) + b"ju")
            ctypes.PyDLL(None).sleep(600)
        case "deaf":
            os.close(_pipe())
            time.sleep(600)
        case "large":
            return Clip(ref.id, frames_of(ref.id, 64), np.array([0.0, 1.0]), "pyav", "sha")
        case "files":
            raise ClipError("decode_error", f"{_open_files()} files")
        case "leak":
            os.open(os.devnull, os.O_RDONLY)
        case "glut":
            [os.open(os.devnull, os.O_RDONLY) for _ in range(100)]
        case "limits":
            raise ClipError("decode_error", _limits())
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


@dataclass(frozen=True)
class Sized:
    """The same clips, of which it is known how large they are."""

    frame_bytes: int = 2 * 3 * 32 * 32

    def __call__(self, ref: ClipRef, known_sha256: str | None = None) -> Clip | Unchanged:
        return by_id(ref, known_sha256)


@dataclass(frozen=True)
class Beacon(Sized):
    """Writes its process id into the file it is given before it does what the id says."""

    def __call__(self, ref: ClipRef, known_sha256: str | None = None) -> Clip | Unchanged:
        part = ref.path.with_suffix(".part")
        part.write_text(str(os.getpid()))
        part.rename(ref.path)
        return by_id(ref, known_sha256)


@dataclass(frozen=True)
class Large:
    """Clips that take longer to hand over than to make: a process that is killed is most likely killed while it writes."""

    frame_bytes: int = 2 * 3 * 1000 * 1000

    def __call__(self, ref: ClipRef, known_sha256: str | None = None) -> Clip | Unchanged:
        frames_TCHW = np.broadcast_to(np.uint8(zlib.crc32(ref.id.encode()) % 256), (2, 3, 1000, 1000))
        return Clip(ref.id, frames_TCHW, np.array([0.0, 1.0]), "pyav", "sha of " + ref.id)


@dataclass(frozen=True)
class AfterNote:
    """Reads a clip only if ``path`` is there by then."""

    frame_bytes: int = 2 * 3 * 32 * 32

    def __call__(self, ref: ClipRef, known_sha256: str | None = None) -> Clip | Unchanged:
        if not ref.path.exists():
            raise ClipError("missing", "no note")
        return well_behaved(ref)


def _pipe() -> int:
    """The descriptor over which this process talks to its parent: the only socket it has."""
    return next(fd for fd in range(3, 64) if _is_socket(fd))


def _is_socket(fd: int) -> bool:
    try:
        return stat.S_ISSOCK(os.fstat(fd).st_mode)
    except OSError:
        return False


def _open_files() -> int:
    return len(os.listdir("/dev/fd"))


def _limits() -> str:
    """What this process may use, as text."""
    soft = {name: resource.getrlimit(getattr(resource, f"RLIMIT_{name}"))[0] for name in ("DATA", "FSIZE", "CORE", "CPU", "NOFILE")}
    soft["CPU"] -= time.process_time()
    if sys.platform == "linux":
        soft["oom"] = int(Path("/proc/self/oom_score_adj").read_text())
        soft["dumpable"] = ctypes.CDLL(None).prctl(3, 0, 0, 0, 0)
    return " ".join(f"{name}={value:g}" for name, value in soft.items())
