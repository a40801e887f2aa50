"""Kill training, resume it, and compare with a training that was left alone: not a bit may differ.

    python benchmarks/train_kills.py --work DIR [--kills 100] [--frozen 10] [--out benchmarks/results/train_kills.json]

A small catalogue whose users walk round in a circle; everything else is the real thing: dropout, drawn negatives, a schedule, a running
mean of the weights, checkpoints within epochs. Runs on one thread of a CPU, where sums do not depend on who is faster.

``random``    SIGKILL at a random instant, then ``--resume``; drawn on until so many hit a run that had not ended yet
``frozen``    the same with stored vectors for items
``named``     SIGKILL before and after each step of writing a checkpoint, at several of its occurrences, then ``--resume``
``repeated``  killed and resumed at random instants until a run comes through

After each: the weights that are kept, the item encoder, and the loss and metrics of every epoch are those of the undisturbed training,
and at every moment after the first checkpoint one can be read.
"""

import argparse
import itertools
import json
import os
import random
import shutil
import signal
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import torch
from kills import finish
from vivim.progress import SILENT
from vivim.recommend.checkpoint import RunFolder
from vivim.recommend.config import ItemsConfig, RecommendConfig
from vivim.recommend.sequences import Interactions, Sequences
from vivim.recommend.train import train_run
from vivim.store import EmbeddingStore, ItemIndex, Recipe, Rows, failpoints, write_embeddings
from vivim.store.provenance import provenance

CONFIG = RecommendConfig.model_validate(
    {
        "model": {"d_model": 16, "layers": 1, "dropout": 0.2, "d_state": 4, "similarity": "cosine"},
        "loss": {"kind": "sampled", "sampler": "mixed", "negatives": 16},
        "train": {"lr": 0.01, "schedule": "cosine", "warmup": 0.2, "ema": 0.9, "batch": 64, "epochs": 4, "checkpoint_minutes": 1e-9},
    }
)
POINTS = ("state.synced", "state.kept")


def walks(users: int = 600, items: int = 60, seed: int = 0) -> Interactions:
    rng = np.random.default_rng(seed)
    lengths = rng.integers(5, 10, users)
    walked = [(rng.integers(items) + np.arange(length)) % items for length in lengths]
    histories = Sequences(np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64), np.concatenate(walked).astype(np.int32))
    names = [ItemIndex(f"{kind}{k:03d}" for k in range(count)) for kind, count in (("u", users), ("i", items))]
    return Interactions(names[0], names[1], histories, None, "made up", "0" * 64)


def write_vectors(path: Path, ids: tuple[str, ...], pooling: str = "levels", dim: int = 12) -> None:
    """Stored vectors of the catalogue, as stage one leaves them."""
    made = {
        "encoder": {"kind": "made up", "pooling": pooling},
        "weights": {"source": "made up"},
        "frames": {},
        "preprocessing": {},
        "decoder": {},
    }
    vectors = np.random.default_rng(0).normal(size=(len(ids), dim)).astype(np.float16)
    rows = Rows.without_frames(ids, vectors, ["0" * 64] * len(ids))
    write_embeddings(path, Recipe(**made, dtype="float16"), rows, [])


def start(run: Path, *, resume: bool, vectors: Path | None = None, failpoint: str = "") -> int:
    """Begin or resume in a forked process; its process id."""
    pid = os.fork()
    if pid:
        return pid
    if failpoint:
        os.environ[failpoints.VARIABLE] = failpoint
    try:
        where = {"path": "made up"}
        store = EmbeddingStore.open(vectors) if vectors else None
        config = CONFIG.model_copy(update={"items": ItemsConfig(kind="frozen" if vectors else "ids")})
        train_run(walks(), store, config, run, seed=1, device="cpu", resume=resume, progress=SILENT, data_location=where)
    except BaseException as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
        os._exit(1)
    os._exit(0)


def outcome(run: Path) -> dict[str, Any]:
    """What must not depend on deaths."""
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    kept = [{key: value for key, value in line.items() if not key.endswith("seconds")} for line in lines]
    return {"model": (run / "model.safetensors").read_bytes(), "items": (run / "items.safetensors").read_bytes(), "log": kept}


class Trials:
    """Deaths, and what came of them; with stored vectors where there are any."""

    def __init__(self, work: Path, vectors: Path | None = None) -> None:
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir(parents=True)
        self.work, self.vectors = work, vectors
        self.counts: Counter[str] = Counter()
        self.bad: list[str] = []
        began = time.monotonic()
        assert finish(start(work / "whole", resume=False, vectors=vectors)) == 0
        self.seconds = time.monotonic() - began
        self.expected = outcome(work / "whole")

    def fresh(self) -> Path:
        run = self.work / "trial"
        shutil.rmtree(run, ignore_errors=True)
        return run

    def go_on(self, run: Path) -> int:
        """Resume where there is something to resume, as a user would be told to."""
        begun = (run / "run.json").exists() and RunFolder.open(run).begun
        if begun and RunFolder.open(run).load_state(SILENT) is None:
            self.bad.append("no checkpoint can be read")
        return start(run, resume=begun, vectors=self.vectors)

    def check(self, what: str, run: Path) -> None:
        code = 0
        if not (run / "run.json").exists() or not RunFolder.open(run).info().get("finished"):
            code = finish(self.go_on(run))
        if code != 0:
            self.bad.append(f"{what}: the next run ended with {code}")
        elif outcome(run) != self.expected:
            self.bad.append(f"{what}: another outcome")

    def at_random(self, kills: int, rng: random.Random, what: str = "random") -> None:
        for number in itertools.count():
            if self.counts[what] == kills:
                return
            assert number < 5 * kills + 20, "hardly any death comes before the end: the undisturbed run was slower"
            run, instant = self.fresh(), rng.uniform(0, self.seconds)
            pid = start(run, resume=False, vectors=self.vectors)
            time.sleep(instant)
            os.kill(pid, signal.SIGKILL)
            self.counts[what if finish(pid) else f"{what}, too late"] += 1
            self.check(f"{what} {number} at {instant:.3f} s", run)

    def named(self) -> None:
        for point in POINTS:
            for hit in (1, 2, 5, 10, 20, 40):  # the tenth ends an epoch, the fortieth the last
                run = self.fresh()
                code = finish(start(run, resume=False, failpoint=f"{point}:{hit}"))
                if code != -signal.SIGKILL:
                    self.bad.append(f"{point}:{hit}: ended with {code}")
                self.counts["named"] += 1
                self.check(f"{point}:{hit}", run)

    def repeated(self, times: int, rng: random.Random) -> None:
        for number in range(times):
            run = self.fresh()
            for _ in range(6):
                if (run / "run.json").exists() and RunFolder.open(run).info().get("finished"):
                    break
                pid = self.go_on(run)
                time.sleep(rng.uniform(0, self.seconds))
                os.kill(pid, signal.SIGKILL)
                finish(pid)
                self.counts["repeated, kills"] += 1
            self.counts["repeated"] += 1
            self.check(f"repeated {number}", run)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--frozen", type=int, default=10)
    parser.add_argument("--repeated", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)  # forked processes must not wait for threads that they do not have
    trials = Trials(options.work)
    trials.named()
    rng = random.Random(options.seed)
    trials.at_random(options.kills, rng)
    trials.repeated(options.repeated, rng)
    write_vectors(options.work / "vectors.h5", walks().items.ids)
    frozen = Trials(options.work / "frozen", options.work / "vectors.h5")
    frozen.at_random(options.frozen, rng, "frozen")
    bad = trials.bad + frozen.bad
    command = f"train_kills.py --kills {options.kills} --frozen {options.frozen} --repeated {options.repeated} --seed {options.seed}"
    result = {
        "trials": dict(trials.counts + frozen.counts),
        "bad": bad,
        "seconds_of_a_run": round(trials.seconds, 2),
        "provenance": provenance() | {"command": command},
    }
    print(json.dumps(result["trials"]), f"{len(bad)} bad", *bad, sep="\n")
    if options.out:
        options.out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    sys.exit(1 if bad else 0)


if __name__ == "__main__":
    main()
