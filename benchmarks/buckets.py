"""What a suite's rows find by how often training saw the target: one table of several result folders.

    python benchmarks/buckets.py --out benchmarks/results/NAME.json FOLDER...

A folder is a row of `vivim benchmark run`: seed-1, seed-2 ... with results.json in each. HR@10 on test, averaged over seeds.
"""

import argparse
import json
import statistics
from pathlib import Path
from typing import Any

from vivim.store.provenance import provenance

METRIC = "hit_rate@10"


def row_of(folder: Path) -> dict[str, Any]:
    """One row: metrics over its seeds, and what was trained."""
    runs = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("seed-*/results.json"))]
    described = json.loads((folder / "seed-1" / "run.json").read_text(encoding="utf-8"))
    tests = [run["splits"]["test"] for run in runs]
    groups = tests[0]["groups"]
    config = described["config"]
    return {
        "model": config["model"]["kind"],
        "items": config["items"]["kind"],
        "fusion": config["items"]["fusion"],
        "delta_dropout": config["items"]["delta_dropout"],
        "seeds": len(runs),
        "all": _mean(test["metrics"][METRIC]["value"] for test in tests),
        "validation": _mean(run["splits"]["validation"]["metrics"][METRIC]["value"] for run in runs),
        "by_views": {name: _mean(test["groups"][name][METRIC]["value"] for test in tests) for name in groups},
        "questions": {name: group["questions"] for name, group in groups.items()},
        "card": described["card"]["dataset_sha256"],
        "trained": described["provenance"]["date"][:10] + " " + described["provenance"]["commit"],
    }


def _mean(values: Any) -> float:
    return round(statistics.fmean(values), 5)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    rows = [row_of(folder) for folder in options.folders]
    assert len({row.pop("card") for row in rows}) == 1, "rows of several data sets"
    record = provenance() | {"command": "buckets.py " + " ".join(folder.name for folder in options.folders)}
    options.out.write_text(json.dumps({"metric": METRIC, "rows": rows, "provenance": record}, indent=1) + "\n", encoding="utf-8")
    for row in rows:
        print(row["model"], row["items"], row["delta_dropout"], row["seeds"], row["validation"], row["all"], row["by_views"])


if __name__ == "__main__":
    main()
