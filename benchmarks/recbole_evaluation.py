"""RecBole's side of ``evaluation.py``: its collector and evaluator on scores that are products of given vectors.

    python benchmarks/recbole_evaluation.py FOLDER --threads N --k 10 20 [--lists] [--batch 4096]

Runs in an interpreter that has recbole 1.2.1. A batch is what its trainer does with one: scores, padding and seen items to -inf, then
its own code collects; in the end its own code computes the metrics. Item rows are one more than in the files, as its row 0 is padding.
Prints JSON.
"""

import argparse
import json
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import torch


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--batch", type=int, default=4096)
    parser.add_argument("--k", type=int, nargs="+", default=[10, 20])
    parser.add_argument("--lists", action="store_true", help="coverage, Gini and average popularity too")
    options = parser.parse_args()
    from recbole.config import Config
    from recbole.evaluator import Collector, Evaluator

    torch.set_num_threads(options.threads)
    load = {path.stem: np.load(path) for path in options.folder.glob("*.npy")}
    users_UD = torch.from_numpy(load["users"])
    items_ND = torch.cat([torch.zeros(1, users_UD.shape[1]), torch.from_numpy(load["items"])])
    targets = torch.from_numpy(load["targets"].astype(np.int64)) + 1
    offsets, seen = load["seen_offsets"], torch.from_numpy(load["seen_items"].astype(np.int64)) + 1
    settings: dict[str, Any] = {
        "metrics": ["Hit", "NDCG", "MRR", *(["ItemCoverage", "GiniIndex", "AveragePopularity"] if options.lists else [])],
        "topk": options.k,
        "eval_args": {"split": {"LS": "valid_and_test"}, "order": "TO", "group_by": "user", "mode": "full"},
        "valid_metric": f"NDCG@{options.k[0]}",
        "train_neg_sample_args": None,
        "loss_type": "CE",
        "use_gpu": False,
        "metric_decimal_place": 12,
    }
    sys.argv = sys.argv[:1]  # RecBole reads the command line for settings of its own
    config = Config(model="SASRec", dataset="none", config_dict=settings)
    collector, evaluator = Collector(config), Evaluator(config)
    counts = Counter({row + 1: int(count) for row, count in enumerate(load["counts"])})
    began = time.perf_counter()
    with torch.no_grad():
        for start in range(0, len(users_UD), options.batch):
            end = min(start + options.batch, len(users_UD))
            scores = users_UD[start:end] @ items_ND.T
            scores[:, 0] = -np.inf
            row = torch.from_numpy(np.repeat(np.arange(end - start), np.diff(offsets[start : end + 1])))
            scores[row, seen[offsets[start] : offsets[end]]] = -np.inf
            collector.eval_batch_collect(scores, None, torch.arange(end - start), targets[start:end])
        struct = collector.get_data_struct()
        # Set here: where its trainer sets them, 1.2.1 ends with an error ('int' object has no attribute 'cpu'). Without the padding, which
        # it would count as an item.
        struct.set("data.num_items", len(items_ND) - 1)
        struct.set("data.count_items", counts)
        found = evaluator.evaluate(struct)
    seconds = time.perf_counter() - began
    names = {"itemcoverage": "coverage", "giniindex": "gini", "averagepopularity": "popularity"}
    metrics = {f"{names.get(name, name)}@{k}": float(value) for (name, k), value in ((key.split("@"), v) for key, v in found.items())}
    print(json.dumps({"seconds": seconds, "metrics": metrics, "torch": torch.__version__}))


if __name__ == "__main__":
    main()
