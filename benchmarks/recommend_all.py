"""Whether ``vivim recommend --all`` holds less than it writes, however many users there are.

    python benchmarks/recommend_all.py --work DIR [--users 50000 200000 1000000] [--k 100] [--out benchmarks/results/recommend_all.json]

A Mamba of made-up weights over 19,099 items of 128 numbers, and so many made-up users with histories of 3 to 11 items. Each number of
users has a process of its own, which loads run and interactions, gives back what that has freed, notes what is resident then (``loaded``:
it grows with the interactions, as all commands hold them), and starts the largest resident memory anew from there (Linux). ``lists`` is how
far it rises above that while lists are made, ``joined`` while the parts become one file. Bounded is: from the fewest users to the most
neither grows by more than ``GROWTH_MIB``; the lists that are added, held as a table, are 4 GB per million users. The parent makes the data,
so that this costs the child nothing. A million users write 0.6 GB twice and take minutes.
"""

import argparse
import ctypes
import gc
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import polars as pl
from outcome import show_and_exit
from served import make_run
from vivim.allocator import keep_freed_memory
from vivim.pipeline import Pipeline
from vivim.progress import SilentProgress
from vivim.recommend.batch import recommend_all
from vivim.recommend.checkpoint import RunFolder
from vivim.recommend.recommender import Recommender
from vivim.stage_two import interactions_of, trained_users
from vivim.store import memory
from vivim.store.provenance import provenance

ITEMS, WIDTH = 19_099, 128
GROWTH_MIB = 256


def peak_mib() -> float:
    return memory.peak_bytes() / 2**20


class Phases(SilentProgress):
    """Learns when the lists are made: what comes after is the joining."""

    def __init__(self) -> None:
        self.began, self.seconds, self.peak_mib = time.monotonic(), 0.0, 0.0

    def finish(self) -> None:
        self.seconds, self.peak_mib = time.monotonic() - self.began, peak_mib()
        memory.begin_peak_anew()


def measure(folder: Path, k: int) -> dict[str, Any]:
    """One file of lists, by a process that does nothing else."""
    keep_freed_memory()  # as the command does
    pipeline, run, out = Pipeline(), RunFolder.open(folder / "run"), folder / "lists.parquet"
    recommender, interactions = Recommender.open(run.path), interactions_of(pipeline, run)
    known = trained_users(run, interactions)
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)  # what loading has freed would hide as much growth
    memory.begin_peak_anew()
    loaded = peak_mib()
    phases = Phases()
    done = recommend_all(recommender, interactions, k, out, known_users=known, progress=phases)
    joined = peak_mib()
    columns = pl.scan_parquet(out).select(pl.len(), pl.col("user").n_unique().alias("users"), pl.col("rank").max()).collect().row(0)
    assert columns == (done.rows, done.users, k) and done.rows == done.users * k, (columns, done)
    return {
        "users": done.users,
        "rows": done.rows,
        "file_mb": round(out.stat().st_size / 1e6, 1),
        "seconds": round(done.seconds, 1),
        "users_per_second": round(done.users / done.seconds),
        "loaded_mib": round(loaded),
        "above_mib": {"lists": round(phases.peak_mib - loaded), "joined": round(joined - loaded)},
        "seconds_joining": round(done.seconds - phases.seconds, 1),
    }


def in_a_process(work: Path, users: int, k: int) -> dict[str, Any]:
    """Its data are made first, and everything is deleted afterwards."""
    folder = work / str(users)
    shutil.rmtree(folder, ignore_errors=True)
    make_run(folder, items=ITEMS, width=WIDTH, users=users)
    before = os.getloadavg()[0]
    script = [sys.executable, __file__, "--work", str(folder), "--measure", "--k", str(k)]
    said = subprocess.run(script, check=True, stdout=subprocess.PIPE).stdout
    shutil.rmtree(folder)
    row: dict[str, Any] = json.loads(said)
    return row | {"load_average": [round(before, 1), round(os.getloadavg()[0], 1)]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--users", type=int, nargs="+", default=[50_000, 200_000, 1_000_000])
    parser.add_argument("--k", type=int, default=100)
    parser.add_argument("--measure", action="store_true", help="the run in --work, here: what the children do")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    if options.measure:
        print(json.dumps(measure(options.work, options.k)))
        return
    command = f"recommend_all.py --users {' '.join(map(str, options.users))} --k {options.k}"
    where, rows = provenance() | {"command": command}, []
    for users in options.users:
        rows.append(in_a_process(options.work, users, options.k))
        print(rows[-1], flush=True)
    grown = {phase: rows[-1]["above_mib"][phase] - rows[0]["above_mib"][phase] for phase in rows[0]["above_mib"]}
    result: dict[str, Any] = {
        "items": ITEMS,
        "width": WIDTH,
        "k": options.k,
        "rows": rows,
        "grown_mib": grown,
        "bounded": max(grown.values()) < GROWTH_MIB,
        "provenance": where,
    }
    show_and_exit(result, options.out, good=result["bounded"])


if __name__ == "__main__":
    main()
