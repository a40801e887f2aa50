"""Models on data whose numbers are known from elsewhere: are ours near them?

    python benchmarks/known_answers.py --data DIR --work DIR [--seeds 3] [--out benchmarks/results/known_answers.json]

``ml-100k``        943 users, 1,682 items, histories of 50, leave one out, all items ranked, what was watched before ranked too: how RecBole
                   ranks its sequential models. Its own log of GRU4Rec (its documentation, "quick start: sequential"): test HR@10 .1103,
                   NDCG@10 .0513. One standard error of HR@10 at .12 is .0106.
``microlens-50k``  ``item-knn``, which learns nothing: another program's count of the same pairs in the same protocol found test HR@10
                   .0581, NDCG@10 .0345.

Ours on ml-100k are trained by the full softmax, with epochs and patience as they are by default, which no hand has chosen for it. Ends with
exit code 1 if GRU4Rec lies outside of .09 to .15, or item-knn more than half a standard error from what is known.
The tables of docs/benchmark.md are made from the result: ``python benchmarks/known_answers_table.py``.
"""

import argparse
import json
import shutil
import statistics
import sys
from pathlib import Path
from typing import Any

from train import ours
from vivim.progress import SILENT
from vivim.recommend.checkpoint import RunFolder
from vivim.recommend.config import EvaluateConfig, RecommendConfig, TrainConfig
from vivim.recommend.evaluation import evaluate_run
from vivim.recommend.readers import read_interactions
from vivim.recommend.train import train_run
from vivim.store.provenance import provenance

MODELS = ("gru4rec", "sasrec", "mamba")
PUBLISHED = {
    "gru4rec": {"hit_rate@10": 0.1103, "ndcg@10": 0.0513, "source": "RecBole's documentation, its log of GRU4Rec on ml-100k"},
    "item-knn": {"hit_rate@10": 0.0581, "ndcg@10": 0.0345, "source": "another program's count of the same pairs, same protocol"},
}
EXPECTED = {"gru4rec": (0.09, 0.15), "item-knn": (0.0576, 0.0586)}


def summary(model: str, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Over seeds: validation and test, mean and each."""
    kept: dict[str, Any] = {"model": model, "seeds": len(rows), "best_epochs": [row["best_epoch"] for row in rows]}
    for split in ("validation", "test"):
        for metric in ("hit_rate@10", "ndcg@10"):
            values = [row[split][metric] for row in rows]
            kept[f"{split} {metric}"] = {"mean": round(statistics.fmean(values), 4), "each": values}
    kept["published"] = PUBLISHED.get(model)
    return kept


def item_knn(data: Path, work: Path) -> dict[str, Any]:
    """It on MicroLens-50K, in MicroLens's protocol."""
    file, run = "microlens-50k/MicroLens-50k_pairs.tsv", work / "microlens-50k-item-knn"
    interactions = read_interactions(str(data / file))
    config = RecommendConfig.model_validate({"model": {"kind": "item-knn"}})
    shutil.rmtree(run, ignore_errors=True)
    train_run(interactions, None, config, run, seed=1, device="cpu", resume=False, progress=SILENT, data_location={"path": file})
    report = evaluate_run(RunFolder.open(run), interactions, EvaluateConfig(k=(10,)), progress=SILENT)
    metrics = {split.name: {key: round(split.metrics[key].value, 4) for key in ("hit_rate@10", "ndcg@10")} for split in report.splits}
    return summary("item-knn", [{"best_epoch": None} | metrics])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=TrainConfig().epochs)
    parser.add_argument("--patience", type=int, default=TrainConfig().patience)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    record = provenance() | {"command": f"known_answers.py --seeds {options.seeds}"}
    knn = item_knn(options.data, options.work)
    print(json.dumps(knn), flush=True)
    table: list[dict[str, Any]] = []
    for model in MODELS:
        rows = [
            ours(model, "ml-100k", options.data, options.work, options.epochs, options.patience, seed)
            for seed in range(1, options.seeds + 1)
        ]
        table.append(summary(model, rows))
        print(json.dumps(table[-1]), flush=True)
        if options.out:
            known = {"microlens-50k": [knn], "ml-100k": table, "provenance": record}
            options.out.write_text(json.dumps(known, indent=1) + "\n", encoding="utf-8")
    wrong = [row["model"] for row in (knn, *table) if not _expected(row)]
    sys.exit(f"outside of what is known: {', '.join(wrong)}" if wrong else 0)


def _expected(row: dict[str, Any]) -> bool:
    low, high = EXPECTED.get(row["model"], (0.0, 1.0))
    return bool(low <= row["test hit_rate@10"]["mean"] <= high)


if __name__ == "__main__":
    main()
