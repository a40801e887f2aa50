"""Training beside RecBole's: tables of docs/recommend.md, made from benchmarks/results/train.json.

python benchmarks/train_table.py
"""

import json
import statistics
from collections import defaultdict
from pathlib import Path
from typing import Any

from doc_pages import markdown_table, replace

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"
PAGE = ROOT / "docs" / "recommend.md"

Rows = list[dict[str, Any]]


def lines(sets: dict[str, Any]) -> list[str]:
    """Markdown of ``train.json``: speed on MicroLens-50K, and what all come to there and on ml-100k."""
    found: list[str] = []
    for name, title, make in (
        ("microlens-50k", "Speed, MicroLens-50K, 189,511 targets, full softmax over 19,099 items, width 128", speed),
        ("microlens-50k-whole", "The same, the best of at most 12 epochs", quality),
        ("ml-100k", "ml-100k, 943 users, histories of 50, width 64, the best of at most 30 epochs", quality),
    ):
        if name in sets:
            found += [f"**{title}**", "", *markdown_table(make(sets[name]["rows"])), "", *_origins(sets[name]), ""]
    return found


def speed(rows: Rows) -> list[list[str]]:
    """Seconds of an epoch, against the floor and against RecBole's SASRec."""
    theirs = next((row["seconds_per_epoch"] for row in rows if row["model"] == "RecBole SASRec"), None)
    told = [["model", "precision", "s/epoch", "targets/s", "of the floor", "times RecBole's SASRec", "peak MiB"]]
    for row in rows:
        floor = f"{row['of_floor']:.0%} of {row['floor_seconds']:.1f} s" if "of_floor" in row else "-"
        times = f"{theirs / row['seconds_per_epoch']:.1f}" if theirs else "-"
        numbers = [f"{row['seconds_per_epoch']:.1f}", f"{row['interactions_per_second']:,}", floor, times, f"{row['peak_mb']:,}"]
        told.append([_name(row), row.get("precision", "32-true"), *numbers])
    return told


def quality(rows: Rows) -> list[list[str]]:
    """What each comes to, and how soon; seeds of a model are one row: means, and each of them on the test."""
    models: dict[tuple[str, str], Rows] = defaultdict(list)
    for row in rows:
        models[_name(row), row.get("precision", "32-true")].append(row)
    common = next((row["seconds_to_common_ndcg"][0] for row in rows if row.get("seconds_to_common_ndcg")), None)
    told = [
        ["model", "precision", "seeds", "s/epoch", "best epoch", f"s to {common}", "validation NDCG@10", "test HR@10 / NDCG@10", "peak MiB"]
    ]
    for (name, precision), seeds in models.items():
        trained = all(row.get("validation") for row in seeds)
        best = ", ".join(str(row["best_epoch"]) for row in seeds) if trained else "-"
        soon = f"{statistics.fmean(row['seconds_to_common_ndcg'][1] for row in seeds):,.0f}" if trained else "-"
        validation = f"{statistics.fmean(row['validation']['ndcg@10'] for row in seeds):.4f}" if trained else "not trained to its best"
        test = "; ".join(f"{row['test']['hit_rate@10']:.4f} / {row['test']['ndcg@10']:.4f}" for row in seeds) if trained else "-"
        each = f"{statistics.fmean(row['seconds_per_epoch'] for row in seeds):.1f}"
        told.append([name, precision, str(len(seeds)), each, best, soon, validation, test, f"{max(row['peak_mb'] for row in seeds):,}"])
    return told


def _name(row: dict[str, Any]) -> str:
    return row["model"] if row["model"].startswith("RecBole") else f"`{row['model']}`"


def _origins(of_set: dict[str, Any]) -> list[str]:
    """Which rows were measured when; a set takes hours, and may have been measured in parts."""
    told = []
    for place, origin in enumerate(of_set["provenance"]):
        rows = list(dict.fromkeys(_name(row) for row in of_set["rows"] if row["provenance"] == place))
        if rows:
            told.append(
                f"{', '.join(rows)}: {origin['date'][:10]}, commit {origin['commit']}, {origin['hardware']}: `{origin['command']}`."
            )
    return told


def main() -> None:
    replace(PAGE, "training", lines(json.loads((RESULTS / "train.json").read_text("utf-8"))["sets"]))


if __name__ == "__main__":
    main()
