"""What the parts of the GPU check share: the machine, and how a time is taken."""

import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

DRY = "--dry-run" in sys.argv
if DRY:
    os.environ["TRITON_INTERPRET"] = "1"  # triton reads it when a kernel is defined

import torch  # noqa: E402

try:
    import triton
except ImportError as error:
    sys.exit(f"the GPU check needs triton, which cannot be imported ({error}). Install it with: pip install 'vivim[cuda]'")
import triton.testing  # noqa: E402

ROOT = Path(__file__).resolve().parents[1]
DEVICE = torch.device("cpu" if DRY else "cuda")


def _import_checkout() -> None:
    """Make ``import vivim`` find this checkout, installed or not: the repository root is the package."""
    folder = Path(tempfile.mkdtemp())
    (folder / "vivim").symlink_to(ROOT)
    sys.path.insert(0, str(folder))


_import_checkout()
try:
    import av  # noqa: F401
except ImportError:  # no clip is decoded here: that there is such a package is enough
    parts = ("", ".container", ".codec.context", ".filter", ".stream", ".video.frame", ".video.stream", ".video.reformatter")
    sys.modules |= {f"av{part}": MagicMock() for part in parts}


def milliseconds(f: Callable[[], Any]) -> float:
    """Median device time; in a dry run, one wall time."""
    if DRY:
        start = time.perf_counter()
        f()
        return 1e3 * (time.perf_counter() - start)
    return float(triton.testing.do_bench(f, warmup=50, rep=200, return_mode="median"))


def matrix_rate(dtype: torch.dtype) -> float:
    """Floating-point operations per second of a large square product."""
    side = 64 if DRY else 8192
    left, right = (torch.randn(side, side, device=DEVICE).to(dtype) for _ in range(2))
    return 2e3 * side**3 / milliseconds(lambda: left @ right)


def wait() -> None:
    """Until the device has done all it was given."""
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()


def peak_gib() -> float:
    """Most device memory since ``forget_peak``."""
    return torch.cuda.max_memory_allocated() / 2**30 if DEVICE.type == "cuda" else 0.0


def forget_peak() -> None:
    if DEVICE.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
