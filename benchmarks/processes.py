"""Is a training over two processes that of one? The same data, configuration and global batch, kinds of items and of losses.

    python benchmarks/processes.py --work DIR [--out benchmarks/results/processes.json]

A small catalogue whose users walk round in a circle, with vectors, spans and frames that are made up; no dropout, whose masks are others
in each process. The trainings of one process and those of two (gloo, started by torchrun) are each one program. ``largest`` is the largest
relative difference of the mean loss of an epoch, over all epochs of a case; each is a sum over all of its steps, so that a difference in
one step is in all that come after.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from train_kills import walks, write_vectors
from vivim.extract.clip import Clip
from vivim.extract.frame_recipe import FrameRecipe
from vivim.extract.frame_writer import FrameCacheWriter
from vivim.progress import SILENT
from vivim.recommend.checkpoint import RunFolder
from vivim.recommend.config import RecommendConfig
from vivim.recommend.sequences import Interactions
from vivim.recommend.train import train_run
from vivim.store import EmbeddingStore
from vivim.store.provenance import provenance

BOUND = 1e-5
# items.kind, loss.kind
CASES = [
    ("ids", "full"),
    ("frozen", "full"),
    ("frozen", "in-batch"),
    ("ids+frozen", "full"),
    ("ids+frozen", "sampled"),
    ("adapter", "sampled"),
    ("end-to-end", "in-batch"),
    ("end-to-end", "sampled"),
]


def data() -> Interactions:
    return walks(users=50, items=30)


def write_frames(folder: Path, ids: tuple[str, ...]) -> None:
    """Two frames of 32 pixels for each item: a bar at a place that tells the item."""
    writer = FrameCacheWriter(folder, FrameRecipe(frames={"sampler": "uniform", "count": 2}, preprocessing={"image_size": 32}, decoder={}))
    rng = np.random.default_rng(0)
    for row, id_ in enumerate(ids):
        picture = rng.integers(0, 40, (2, 3, 32, 32), np.uint8)
        picture[:, :, :, row : row + 3] += 200
        writer.add(Clip(id_, picture, np.array([0.0, 1.0]), "pyav", f"{row:064x}"))
    writer.commit()


def configure(items: str, loss: str, work: Path) -> RecommendConfig:
    options: dict[str, Any] = {"kind": items, "delta_dropout": 0.0}
    if "end-to-end" in items:
        options["end_to_end"] = {"frames": work / "frames", "size": "nano", "clips_at_once": 8, "drop_path": 0.0}
    return RecommendConfig.model_validate(
        {
            "model": {"d_model": 16, "layers": 1, "dropout": 0.0, "d_state": 8},
            "items": options,
            "loss": {"kind": loss, "negatives": 20, "sampler": "mixed"},
            "train": {"lr": 0.01, "batch": 16, "epochs": 2, "patience": 9, "timeout_seconds": 60},
        }
    )


def train_all(work: Path, processes: int) -> None:
    """Every case, in this process or in its part of several."""
    interactions = data()
    for items, loss in CASES:
        vectors = work / ("spans.h5" if "adapter" in items else "vectors.h5")
        train_run(
            interactions,
            EmbeddingStore.open(vectors),
            configure(items, loss, work),
            folder(work, processes, items, loss),
            seed=3,
            device="cpu",
            resume=False,
            progress=SILENT,
            data_location={"path": "made up"},
        )


def folder(work: Path, processes: int, items: str, loss: str) -> Path:
    return work / str(processes) / f"{items}-{loss}"


def launch(work: Path, processes: int) -> None:
    several = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)] if processes > 1 else []
    command = [sys.executable, *several, __file__, "--work", str(work), "--train", str(processes)]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    if done.returncode:
        sys.exit(done.stderr)


def losses(run: Path) -> list[float]:
    return [line["loss"] for line in RunFolder(run).read_log()]


def compare(work: Path, items: str, loss: str) -> dict[str, Any]:
    one, two = (losses(folder(work, processes, items, loss)) for processes in (1, 2))
    apart = max(abs(b - a) / abs(a) for a, b in zip(one, two, strict=True))
    return {"items": items, "loss": loss, "epochs": len(one), "one": one, "two": two, "largest": apart}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--train", type=int, help="of how many processes this is one: train every case, and print nothing")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.train:
        train_all(options.work, options.train)
        return
    record = provenance() | {"command": "processes.py"}
    shutil.rmtree(options.work, ignore_errors=True)
    options.work.mkdir(parents=True)
    ids = data().items.ids
    write_vectors(options.work / "vectors.h5", ids)
    write_vectors(options.work / "spans.h5", ids, pooling="frames", dim=8 * 4)
    write_frames(options.work / "frames", ids)
    for processes in (1, 2):
        launch(options.work, processes)
    rows = [compare(options.work, items, loss) for items, loss in CASES]
    for row in rows:
        print(f"{row['items']:15} {row['loss']:9} {row['largest']:.1e}")
    largest = max(row["largest"] for row in rows)
    print(f"largest {largest:.1e}")
    if options.out:
        result = {"largest": largest, "bound": BOUND, "rows": rows, "provenance": record}
        options.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    sys.exit(0 if largest <= BOUND else 1)


if __name__ == "__main__":
    main()
