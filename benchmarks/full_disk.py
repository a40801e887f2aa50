"""Run extraction on disks that are too small, one step larger each time, then give it room: nothing may be lost, doubled or different.

    python benchmarks/full_disk.py --work DIR [--step-kb 4] [--out benchmarks/results/full_disk.json]

Clips are made up as in ``kills.py``. Two kinds of full:

``disk``   a file system in memory (tmpfs) of N times ``--step-kb``, N = 1, 2, 3... until a run fits; then it is made larger
``limit``  no file may grow beyond N times ``--step-kb`` (RLIMIT_FSIZE), N = 0, 1, 2... until a run fits; then the limit is lifted

Each run that does not fit must end with an error of ours that says what to do, leave every finished shard readable, and leave no
temporary file; the same command, with room, must then make the file that a run with room makes, byte for byte. Mounting takes no
privileges (a user namespace of its own); where the system forbids even that, ``disk`` is left out and said so.
"""

import argparse
import json
import os
import re
import resource
import subprocess
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from kills import Trials, finish, run_here
from vivim.errors import VivimError
from vivim.extract.parts import parts_of, shard_files
from vivim.store import EmbeddingStore
from vivim.store.provenance import provenance

_INSIDE = "VIVIM_FULL_DISK_INSIDE"
_EXPLAINED = re.compile(r"bytes are needed|cannot be written: .*Make room there")


def attempt(work: Path, out: Path, before: Callable[[], None]) -> tuple[int, str]:
    """Run in a forked process after ``before()``: 0, 1 after an error of ours, 2 after any other; and the error's text."""
    listen, say = os.pipe()  # which no limit touches
    pid = os.fork()
    if pid:
        os.close(say)
        with open(listen, "rb") as words:
            told = words.read().decode()
        return finish(pid), told
    try:
        before()
        run_here(work, out)
    except VivimError as error:
        os.write(say, str(error).encode())
        os._exit(1)
    except BaseException as error:
        os.write(say, "".join(traceback.format_exception(error)).encode())
        os._exit(2)
    os._exit(0)


class Kind:
    """Runs with too little of one thing."""

    def __init__(self, name: str, trials: Trials, out: Path) -> None:
        self.name, self.trials, self.out = name, trials, out
        self.bad: list[str] = []
        self.words: dict[str, int] = {}
        self.too_small = 0
        self.shards_kept = 0

    def run(self, size_kb: int, before: Callable[[], None], room: Callable[[], None]) -> bool:
        """Whether a run fits into ``size_kb``."""
        code, words = attempt(self.trials.work, self.out, before)
        what = f"{self.name} of {size_kb} kB"
        if code == 0:
            if self.out.read_bytes() != self.trials.expected:
                self.bad.append(f"{what}: it fits, and is another file")
            return True
        self.too_small += 1
        if code != 1 or not _EXPLAINED.search(words):
            self.bad.append(f"{what}: ended with {code}: {words[-900:]}")
        kind = re.sub(r"/\S+|\d+", "*", words)[:70]
        self.words[kind] = self.words.get(kind, 0) + 1
        room()
        for shard in shard_files(parts_of(self.out) / "all"):
            EmbeddingStore.open(shard, allow_empty=True)
            self.shards_kept += 1
        again, why = attempt(self.trials.work, self.out, lambda: None)
        if again != 0:
            self.bad.append(f"{what}: with room, the next run ended with {again}: {why[:200]}")
        elif self.out.read_bytes() != self.trials.expected:
            self.bad.append(f"{what}: with room, the next run made another file")
        elif left := list(self.out.parent.glob("**/.*.tmp")):
            self.bad.append(f"{what}: temporary files are left: {left}")
        return False

    def result(self) -> dict[str, Any]:
        return {"too_small": self.too_small, "shards_kept": self.shards_kept, "errors": self.words, "bad": self.bad}


def small_disks(trials: Trials, step_kb: int) -> Kind:
    disk = trials.work / "disk"
    disk.mkdir()
    kind = Kind("disk", trials, disk / "e.h5")
    for number in range(1, 10000):
        size = number * step_kb
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}k", "none", str(disk)], check=True)
        grow = ["mount", "-o", "remount,size=100m", str(disk)]
        fits = kind.run(size, lambda: None, lambda grow=grow: subprocess.run(grow, check=True))  # type: ignore[misc]
        subprocess.run(["umount", str(disk)], check=True)
        if fits:
            break
    return kind


def small_files(trials: Trials, step_kb: int) -> Kind:
    kind = Kind("limit", trials, trials.fresh())
    for number in range(10000):
        kind.out = trials.fresh()
        size = number * step_kb

        def limit(size: int = size) -> None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (size * 1024, size * 1024))

        if kind.run(size, limit, lambda: None):
            break
    return kind


def may_mount() -> bool:
    probe = "mount -t tmpfs none /mnt"
    return subprocess.run(["unshare", "--map-root-user", "--mount", "sh", "-c", probe], capture_output=True).returncode == 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--clips", type=int, default=14)
    parser.add_argument("--step-kb", type=int, default=4)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    if _INSIDE not in os.environ and may_mount():
        os.environ[_INSIDE] = "1"
        os.execvp("unshare", ["unshare", "--map-root-user", "--mount", sys.executable, *sys.argv])
    torch.set_num_threads(1)  # forked processes must not wait for threads that they do not have
    trials = Trials(options.work, options.clips)
    kinds = [small_files(trials, options.step_kb)]
    if _INSIDE in os.environ:
        kinds.append(small_disks(trials, options.step_kb))
    else:
        print("this system mounts nothing for unprivileged users: no small disks")
    bad = [line for kind in kinds for line in kind.bad]
    result = {
        "clips": options.clips,
        "step_kb": options.step_kb,
        "kinds": {kind.name: kind.result() for kind in kinds},
        "provenance": provenance() | {"command": f"full_disk.py --clips {options.clips} --step-kb {options.step_kb}"},
    }
    print(json.dumps(result["kinds"], indent=1), f"{len(bad)} bad", sep="\n")
    if options.out:
        options.out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    sys.exit(1 if bad else 0)


if __name__ == "__main__":
    main()
