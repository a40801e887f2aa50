"""Scoring every item for histories with a pair model: how close to its products, at several sizes of what is computed at a time.

    python benchmarks/pair_scores.py [--rounds 5] [--out benchmarks/results/pair_scores.json]

512 histories of 10 against 2,048 items of 64 numbers each, one thread; the sizes take turns. The floor is the one product that NFM cannot
do without, its hidden layer over every pair, 4,096 pairs a call. DeepFM has no product over pairs: its layer is the sum of a part of the
history and a part of the item.
"""

import argparse
import json
import statistics
import time
from collections import defaultdict
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch.nn.functional import linear
from vivim.recommend import scorers
from vivim.recommend.config import ModelConfig
from vivim.recommend.models.pairs import DeepFm, Nfm, PairModel
from vivim.recommend.scorers import PairScorer
from vivim.recommend.sequences import SequenceBatch
from vivim.store.provenance import provenance

HISTORIES, LENGTH, ITEMS, WIDTH = 512, 10, 2_048, 64
SIZES = (2**24, 2**22, 2**20, 2**18, 2**16)


def seconds(work: Callable[[], Any]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    items_ND = torch.randn(ITEMS, WIDTH)
    batch = SequenceBatch(torch.randint(ITEMS, (HISTORIES, LENGTH)), torch.full((HISTORIES,), LENGTH))
    models: dict[str, PairModel] = {
        "nfm": Nfm(ModelConfig(kind="nfm", d_model=WIDTH, dropout=0.0)).eval(),
        "deepfm": DeepFm(ModelConfig(kind="deepfm", d_model=WIDTH, dropout=0.0), LENGTH).eval(),
    }
    pairs, weights = torch.randn(4_096, WIDTH), torch.randn(WIDTH, WIDTH)
    times = defaultdict(list)
    shipped = scorers._PAIR_NUMBERS_CPU
    with torch.inference_mode():
        for _ in range(options.rounds):
            times["floor"].append(seconds(lambda: [linear(pairs, weights) for _ in range(HISTORIES * ITEMS // len(pairs))]))
            for name, model in models.items():
                for size in SIZES:
                    scorers._PAIR_NUMBERS_CPU = size
                    scorer = PairScorer(model, items_ND)
                    times[f"{name} {size}"].append(seconds(partial(scorer.score, batch)))
    median = {part: statistics.median(each) for part, each in times.items()}
    table = [
        {"model": name, "numbers at a time": size, "shipped": size == shipped, "seconds": round(median[f"{name} {size}"], 4)}
        | {"times the floor": round(median[f"{name} {size}"] / median["floor"], 2) if name == "nfm" else None}
        for name in models
        for size in SIZES
    ]
    for row in table:
        print(json.dumps(row))
    if options.out:
        record = provenance() | {"command": f"pair_scores.py --rounds {options.rounds}"}
        result = {"floor seconds": round(median["floor"], 4), "rows": table, "provenance": record}
        options.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
