"""How this process asks the system for memory."""

import ctypes
import os
import sys

# glibc's malloc.h
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_LARGEST_KEPT_BYTES = 1 << 30


def keep_freed_memory() -> bool:
    """Let glibc keep freed tensors for the next ones; did it?

    By default a freed tensor of megabytes goes back to the system, and the next of its size comes from there again: zeroed, and
    with a page fault every 4 KiB. An encoder of eight clips met 90,000 of them a clip, a third of its time. What is kept shows as
    resident memory, here a tenth more. For a program, at its start; whoever set glibc's own variables has the last word.
    """
    if not sys.platform.startswith("linux") or any(name.startswith("MALLOC_") for name in os.environ):
        return False
    libc = ctypes.CDLL(None)
    if not hasattr(libc, "mallopt"):  # musl
        return False
    return bool(libc.mallopt(_M_MMAP_THRESHOLD, _LARGEST_KEPT_BYTES) and libc.mallopt(_M_TRIM_THRESHOLD, 2 * _LARGEST_KEPT_BYTES - 1))
