"""Kill extraction, run it again, and compare with a run that was left alone: no row may be lost, doubled or different.

    python benchmarks/kills.py --work DIR [--kills 300] [--out benchmarks/results/kills.json]

Clips are made up by a reader (a clip's pixels follow from its id), so that a run takes a fraction of a second and the instants of death
lie close together; everything else is the real thing: decoding processes, shards, SQLite, HDF5, SIGKILL.

``named``    at every named failpoint, before and after each write, sync, rename and ledger commit, at each of its occurrences in a run
``full``     at every one of these the disk is full instead (ENOSPC), once
``random``   at a random instant between start and end: the main process, or one of its children
``repeated`` killed again and again at random instants until a run comes through

After each: no process of the run is left, the same command ends well, and its file is the uninterrupted run's, byte for byte.
"""

import argparse
import json
import os
import random
import shutil
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from made_up import MadeUp
from vivim.errors import VivimError
from vivim.extract import run as engine
from vivim.extract.clip import ClipRef, Failure
from vivim.extract.clips import Catalogue
from vivim.extract.config import ExtractConfig, FramesConfig
from vivim.extract.decode_statistics import DecodeStatistics
from vivim.extract.failures import ClipError
from vivim.extract.sources import Source
from vivim.progress import SILENT
from vivim.store import EmbeddingStore, Recipe, failpoints
from vivim.store.provenance import provenance

RECIPE = Recipe(encoder={}, weights={}, frames={"count": 2}, preprocessing={}, dtype="float16", decoder={})
CONFIG = ExtractConfig(frames=FramesConfig(count=2), image_size=32, workers=2, batch_clips=2, shard_clips=4)
EXIT_DISK_FULL = 9


class Mean:
    """The mean of each colour."""

    dim = 3
    device = torch.device("cpu")

    def embed_uint8(self, frames_BTCHW: torch.Tensor) -> torch.Tensor:
        return 1 + frames_BTCHW.float().mean((1, 3, 4))


@dataclass(frozen=True)
class Here:
    """Decoding without processes, for the deaths of the main process alone: many more of them in the same time."""

    reader: Any
    workers: int = 0
    timeout_seconds: float = 0.0
    ahead: int = 0
    statistics: DecodeStatistics = field(default_factory=DecodeStatistics)

    def listen(self, refs: Any, known: Mapping[str, str], on_start: Callable[[ClipRef], None], stop: Any) -> Any:
        for ref in refs:
            on_start(ref)
            try:
                yield self.reader(ref, known.get(ref.id))
            except ClipError as error:
                yield Failure(ref.id, error.kind, error.message)


def make_clips(folder: Path, count: int) -> None:
    folder.mkdir(parents=True)
    for number in range(count):
        (folder / f"{number:04d}").touch()


def catalogue(work: Path) -> Catalogue:
    return Catalogue(tuple(ClipRef(path.name, path) for path in sorted((work / "clips").iterdir())))


def run_here(work: Path, out: Path) -> None:
    """A run whose clips are made in this process."""
    engine.DecodePool = Here  # type: ignore[assignment,misc]
    engine.extract_catalogue(Source(catalogue(work), MadeUp()), out, CONFIG, Mean(), RECIPE, SILENT)


def start(work: Path, out: Path, *, here: bool, environment: Mapping[str, str] | None = None) -> int:
    """Begin a run in a forked process; its process id. It ends with code 0, or EXIT_DISK_FULL after a clean error."""
    pid = os.fork()
    if pid:
        return pid
    os.environ.update(environment or {})
    try:
        if here:
            run_here(work, out)
        else:
            engine.extract_catalogue(Source(catalogue(work), MadeUp()), out, CONFIG, Mean(), RECIPE, SILENT)
    except (VivimError, OSError) as error:
        os._exit(EXIT_DISK_FULL if "space" in str(error) else 1)
    os._exit(0)


def finish(pid: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def children_of(pid: int) -> list[int]:
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()] + [
            int(child)
            for task in Path(f"/proc/{pid}/task").iterdir()
            if task.name != str(pid)
            for child in (task / "children").read_text().split()
        ]
    except OSError:
        return []


def gone(pids: list[int]) -> bool:
    """Whether all of these end within some seconds, zombies counted as ended."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        if all(_state(pid) in ("", "Z", "X") for pid in pids):
            return True
        time.sleep(0.02)
    return False


def _state(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return ""


class Trials:
    """Runs, deaths and what came of them."""

    def __init__(self, work: Path, clips: int) -> None:
        self.work = work
        self.counts: Counter[str] = Counter()
        self.bad: list[str] = []
        shutil.rmtree(work, ignore_errors=True)
        make_clips(work / "clips", clips)
        reference = work / "reference" / "e.h5"
        began = time.monotonic()
        assert finish(start(work, reference, here=False)) == 0
        self.seconds = time.monotonic() - began
        self.expected = reference.read_bytes()
        store = EmbeddingStore.open(reference)
        self.rows, self.failed = len(store), len(store.failures)
        log = work / "failpoints.log"
        environment = {failpoints.LOG_VARIABLE: str(log)}
        assert finish(start(work, work / "logged" / "e.h5", here=True, environment=environment)) == 0
        self.points = Counter(log.read_text().split())

    def fresh(self) -> Path:
        folder = self.work / "trial"
        shutil.rmtree(folder, ignore_errors=True)
        return folder / "e.h5"

    def check(self, what: str, kind: str, out: Path, *, here: bool) -> None:
        """Run again to the end, and compare."""
        self.counts[kind] += 1
        code = finish(start(self.work, out, here=here))
        if code != 0:
            self.bad.append(f"{what}: the next run ended with {code}")
        elif out.read_bytes() != self.expected:
            self.bad.append(f"{what}: another file")
        elif list(out.parent.glob("**/*.tmp")):
            self.bad.append(f"{what}: temporary files are left")

    def named(self) -> None:
        for point, hits in self.points.items():
            for hit in range(1, hits + 1):
                for kind, suffix, code in (("named", "", -signal.SIGKILL), ("full", ":ENOSPC", EXIT_DISK_FULL)):
                    what, out = f"{point}:{hit}{suffix}", self.fresh()
                    ended = finish(start(self.work, out, here=True, environment={failpoints.VARIABLE: what}))
                    if ended != code:
                        self.bad.append(f"{what}: ended with {ended}")
                    self.check(what, kind, out, here=True)

    def at_random(self, kills: int, rng: random.Random) -> None:
        for number in range(kills):
            out = self.fresh()
            main = number % 3 != 0
            instant = rng.uniform(0, self.seconds)
            pid = start(self.work, out, here=False)
            time.sleep(instant)
            children = children_of(pid)
            if main or not children:
                _kill(pid)
                finish(pid)
                kind = "random, main process"
            else:
                _kill(rng.choice(children))
                if finish(pid) != 0:
                    self.bad.append(f"random kill {number} of a child: the run did not survive it")
                kind = "random, a child"
            if not gone(children):
                self.bad.append(f"random kill {number}: a child is left")
            self.check(f"{kind} {number} at {instant:.3f} s", kind, out, here=False)

    def repeated(self, times: int, rng: random.Random) -> None:
        for number in range(times):
            out = self.fresh()
            for _ in range(8):
                pid = start(self.work, out, here=False)
                time.sleep(rng.uniform(0, self.seconds))
                _kill(pid)
                finish(pid)
                self.counts["repeated, kills"] += 1
            self.check(f"repeated {number}", "repeated", out, here=False)


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--clips", type=int, default=14)
    parser.add_argument("--kills", type=int, default=300)
    parser.add_argument("--repeated", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)  # forked processes must not wait for threads that they do not have
    trials = Trials(options.work, options.clips)
    trials.named()
    print(f"{trials.points} -> {dict(trials.counts)}, {len(trials.bad)} bad", flush=True)
    rng = random.Random(options.seed)
    trials.at_random(options.kills, rng)
    trials.repeated(options.repeated, rng)
    result: dict[str, Any] = {
        "clips": options.clips,
        "rows": trials.rows,
        "failed": trials.failed,
        "failpoints": dict(trials.points),
        "trials": dict(trials.counts),
        "bad": trials.bad,
        "seconds_of_a_run": round(trials.seconds, 2),
        "provenance": provenance() | {"command": f"kills.py --kills {options.kills} --repeated {options.repeated} --seed {options.seed}"},
    }
    print(json.dumps(result["trials"]), f"{len(trials.bad)} bad", *trials.bad, sep="\n")
    if options.out:
        options.out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    sys.exit(1 if trials.bad else 0)


if __name__ == "__main__":
    main()
