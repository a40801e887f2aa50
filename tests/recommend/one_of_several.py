"""One process of a training that torchrun starts; run by test_processes as a program.

Arguments: run folder, JSON of the configuration, ``kill:RANK:STEP``, ``stall:RANK:STEP``, ``nan:RANK:STEP`` (its loss) or ``full:RANK:``
(its memory, and it ends late and quietly) or nothing, ``resume`` or nothing.
"""

import json
import os
import signal
import sys
import time
from pathlib import Path

import numpy as np
from vivim.progress import SILENT
from vivim.recommend import forecast, training
from vivim.recommend.batches import TrainBatch
from vivim.recommend.config import RecommendConfig
from vivim.recommend.sequences import Interactions, Sequences
from vivim.recommend.train import train_run
from vivim.store import ItemIndex


def walks(users: int = 50, items: int = 30, seed: int = 0) -> Interactions:
    """Everyone walks around a circle of items, from anywhere, 5 to 9 steps."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(5, 10, users)
    starts = rng.integers(items, size=users)
    walked = [(start + np.arange(length)) % items for start, length in zip(starts, lengths, strict=True)]
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    histories = Sequences(offsets, np.concatenate(walked).astype(np.int32))
    names = [ItemIndex(f"{kind}{k:02d}" for k in range(count)) for kind, count in (("u", users), ("i", items))]
    return Interactions(names[0], names[1], histories, None, "made by a test", "0" * 64)


def disturb(how: str) -> None:
    """End or stop this process at a step, if it is the one that is meant."""
    what, rank, step = how.split(":")
    if os.environ["RANK"] != rank:
        return
    if what == "full":
        forecast._free_bytes = lambda device: 2**20  # type: ignore[assignment]
        sys.excepthook = lambda *error: time.sleep(30)
        return
    left = int(step)
    original = training.Training._step

    def stepping(self: training.Training, batch: TrainBatch) -> None:
        nonlocal left
        left -= 1
        if left < 0:
            if what == "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            if what == "stall":
                time.sleep(600)
            self.learner.register_forward_hook(lambda module, args, loss: loss * float("nan"))
        original(self, batch)

    training.Training._step = stepping  # type: ignore[method-assign]


def main(folder: str, config: str, how: str = "", resume: str = "") -> None:
    if how:
        disturb(how)
    train_run(
        walks(),
        None,
        RecommendConfig.model_validate(json.loads(config)),
        Path(folder),
        seed=3,
        device="cpu",
        resume=resume == "resume",
        progress=SILENT,
        data_location={"path": "made by a test"},
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
