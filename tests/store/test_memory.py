"""What this process holds."""

import ctypes
import subprocess
import sys
from pathlib import Path

import pytest
from vivim.store import memory
from vivim.store.children import child_environment

MIB = 2**20


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the system does not say")
def test_a_peak_is_a_process_own_and_not_that_of_the_one_that_started_it():
    program = """
import resource, subprocess, sys
held = bytearray(900 * 2**20)
held[::4096] = b"x" * len(held[::4096])
own = "import resource; from vivim.store import memory; print(memory.peak_mb(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)"
subprocess.run([sys.executable, "-c", own], check=True)
"""
    done = subprocess.run([sys.executable, "-c", program], env=child_environment(), capture_output=True, text=True, check=True)
    peak, inherited = map(int, done.stdout.split())
    assert peak < 800
    assert inherited >= 900, "the reason for this function is gone"


def test_a_peak_that_was_held_is_told():
    held = bytearray(200 * MIB)
    held[::4096] = b"x" * len(held[::4096])
    assert memory.peak_mb() >= 200


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "malloc_trim"), reason="this C library has no malloc_trim")
def test_what_was_freed_goes_back_though_something_behind_it_is_held():
    program = """
from vivim.store import memory
def held(): return int(open("/proc/self/statm").read().split()[1]) * 4096 // 2**20
blocks = [bytearray(b"x") * 60_000 for _ in range(3000)]
behind = bytearray(b"x") * 60_000
del blocks
before = held()
memory.give_back()
print(before, held())
"""
    done = subprocess.run([sys.executable, "-c", program], env=child_environment(), capture_output=True, text=True, check=True)
    before, after = map(int, done.stdout.split())
    assert before - after > 100
