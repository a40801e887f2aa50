"""One process of a training that torchrun starts; run by test_processes as a program.

Arguments: run folder, JSON of the configuration, ``kill:RANK:STEP``, ``stall:RANK:STEP``, ``nan:RANK:STEP`` (its loss), ``full:RANK:``
(its memory, and it ends late and quietly) or ``watch`` or nothing, ``resume`` or nothing, embedding file or nothing.
"""

import json
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from vivim.progress import SILENT
from vivim.recommend import forecast, training
from vivim.recommend.batches import TrainBatch
from vivim.recommend.config import RecommendConfig
from vivim.recommend.end_to_end import CatalogueFrames, EndToEndItems
from vivim.recommend.sequences import Interactions, Sequences
from vivim.recommend.train import train_run
from vivim.store import EmbeddingStore, ItemIndex


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


def watch(folder: Path) -> Callable[[], None]:
    """Note which clips this process encodes for answering, and which vectors it has of the catalogue; to be written at the end."""
    encoded: list[int] = []
    vectors: list[torch.Tensor] = []
    read, everything = CatalogueFrames.__call__, EndToEndItems.all

    def reading(self: CatalogueFrames, rows_B: list[int]) -> torch.Tensor:
        if torch.is_inference_mode_enabled():
            encoded.extend(rows_B)
        return read(self, rows_B)

    def encoding(self: EndToEndItems) -> torch.Tensor:
        vectors.append(everything(self))
        return vectors[-1]

    CatalogueFrames.__call__ = reading  # type: ignore[assignment,method-assign]
    EndToEndItems.all = encoding  # type: ignore[method-assign]
    rank = os.environ.get("RANK", "0")

    def write() -> None:
        (folder / f"encoded-{rank}.json").write_text(json.dumps(encoded))
        save_file({str(k): tensor for k, tensor in enumerate(vectors)}, folder / f"vectors-{rank}.safetensors")

    return write


def main(folder: str, config: str, how: str = "", resume: str = "", vectors: str = "") -> None:
    write = watch(Path(folder)) if how == "watch" else None
    if how and how != "watch":
        disturb(how)
    train_run(
        walks(),
        EmbeddingStore.open(Path(vectors)) if vectors else None,
        RecommendConfig.model_validate(json.loads(config)),
        Path(folder),
        seed=3,
        device="cpu",
        resume=resume == "resume",
        progress=SILENT,
        data_location={"path": "made by a test"},
    )
    assert not torch.distributed.is_initialized(), "it ends as a member of a group"
    if write is not None:
        write()


if __name__ == "__main__":
    main(*sys.argv[1:])
