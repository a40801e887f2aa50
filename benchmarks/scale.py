"""Long histories and large catalogues: where Mamba overtakes attention, and what a step over a million items takes.

    python benchmarks/scale.py [--out benchmarks/results/scale.json]

``histories``  one layer of each user model, width 128, over so many histories of one length that a step always has ``--tokens`` items:
               seconds forward and forward with backward, and Mamba's over attention's
``catalogue``  a training step of 512 sequences over 1.14 million items of 256 numbers, sampled softmax, in a process of its own: the
               memory that was foretold before it and the memory that it took, optimizer state included
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from vivim.allocator import keep_freed_memory
from vivim.recommend import build
from vivim.recommend.batches import train_batches
from vivim.recommend.config import ModelConfig, RecommendConfig
from vivim.recommend.forecast import forecast
from vivim.recommend.learner import Learner
from vivim.recommend.sequences import Interactions, Sequences
from vivim.store import ItemIndex, memory
from vivim.store.provenance import provenance

LENGTHS = (10, 20, 50, 100, 200, 500, 1000, 2000)
MODELS = ("mamba", "mamba2", "sasrec", "gru4rec", "nextitnet")


def seconds(f: Callable[[], Any], times: int = 5) -> float:
    """Median after one to warm up."""
    f()
    taken = []
    for _ in range(times):
        began = time.perf_counter()
        f()
        taken.append(time.perf_counter() - began)
    return sorted(taken)[times // 2]


def histories(tokens: int) -> list[dict[str, Any]]:
    rows = []
    for length in LENGTHS:
        batch = max(1, tokens // length)
        items_BLD = torch.randn(batch, length, 128)
        row: dict[str, Any] = {"length": length, "histories": batch}
        for kind in MODELS:
            torch.manual_seed(0)
            model = build.user_model(ModelConfig(kind=kind, layers=1, dropout=0.0), length)  # type: ignore[arg-type]

            def forward(model: torch.nn.Module = model, items: torch.Tensor = items_BLD) -> None:
                with torch.inference_mode():
                    model(items)

            def both(model: torch.nn.Module = model, items: torch.Tensor = items_BLD) -> None:
                model(items).square().mean().backward()

            row[kind] = {"forward": round(seconds(forward), 4), "both": round(seconds(both), 4)}
        row["mamba_over_sasrec"] = {way: round(row["mamba"][way] / row["sasrec"][way], 2) for way in ("forward", "both")}
        rows.append(row)
        print(row, flush=True)
    return rows


def catalogue(items: int, width: int, batch: int) -> dict[str, Any]:
    """In this process, which should have done nothing before."""
    rng = np.random.default_rng(0)
    lengths = np.full(2 * batch, 12)
    watched = rng.integers(0, items, int(lengths.sum())).astype(np.int32)
    sequences = Sequences(np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64), watched)
    names = [ItemIndex(f"{kind}{k:07d}" for k in range(count)) for kind, count in (("u", len(lengths)), ("i", items))]
    data = Interactions(names[0], names[1], sequences, None, "made up", "0" * 64)
    sections = {
        "protocol": {"full_catalogue": True},
        "items": {"kind": "ids"},
        "model": {"d_model": width},
        "loss": {"kind": "sampled"},
        "train": {"batch": batch},
    }
    config = RecommendConfig.model_validate(sections)
    split = build.protocol_of(config.protocol).split(data)
    encoder = build.item_encoder(config.items, config.model, len(split.items), None)
    learner = Learner(encoder, build.user_model(config.model, 10), build.loss(config.loss, config.items, split))
    expected = forecast(learner, split.train, config.train, max_len=10, seed=1)
    optimizer = torch.optim.AdamW(learner.parameter_groups(1e-3, 0.1), lr=1e-3, fused=True)
    memory.begin_peak_anew()
    taken = []
    for b in islice(train_batches(split.train, batch=batch, max_len=10, seed=1, epoch=0), 2):
        began = time.perf_counter()
        optimizer.zero_grad(set_to_none=True)
        learner(b).backward()
        optimizer.step()
        taken.append(time.perf_counter() - began)
    peak = memory.peak_bytes()
    return {
        "items": len(split.items),
        "width": width,
        "sequences": batch,
        "expected_gib": round(expected.peak_bytes / 2**30, 2),
        "taken_gib": round(peak / 2**30, 2),
        "expected_over_taken": round(expected.peak_bytes / peak, 3),
        "seconds_of_a_step": round(taken[-1], 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int, default=8000)
    parser.add_argument("--items", type=int, default=1_140_000)
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--batch", type=int, default=512)
    parser.add_argument("--catalogue", action="store_true", help="measure that part in this process, and print it")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    keep_freed_memory()  # as the command line does
    if options.catalogue:
        print(json.dumps(catalogue(options.items, options.width, options.batch)))
        return
    command = [sys.executable, __file__, "--catalogue"]
    command += [f"--{name}={getattr(options, name)}" for name in ("items", "width", "batch")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    result: dict[str, Any] = {"catalogue": json.loads(done.stdout.splitlines()[-1])}
    print(result["catalogue"], flush=True)
    result["histories"] = histories(options.tokens)
    result["provenance"] = provenance() | {"command": f"scale.py --tokens {options.tokens}"}
    if options.out:
        options.out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
