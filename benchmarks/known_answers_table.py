"""Known answers: the table of docs/benchmark.md, made from benchmarks/results/known_answers.json.

python benchmarks/known_answers_table.py
"""

import json
from pathlib import Path
from typing import Any

from doc_pages import markdown_table, replace

ROOT = Path(__file__).resolve().parents[1]
RESULT = ROOT / "benchmarks" / "results" / "known_answers.json"
PAGE = ROOT / "docs" / "benchmark.md"


def lines(known: dict[str, Any]) -> list[str]:
    """A row a model: test, means over seeds and each of them, beside what is known from elsewhere."""
    told = [["data", "model", "seeds", "test HR@10", "each", "test NDCG@10", "each", "known HR@10 / NDCG@10", "by"]]
    for data in ("ml-100k", "microlens-50k"):
        for row in known[data]:
            own = []
            for metric in ("test hit_rate@10", "test ndcg@10"):
                own += [f"{row[metric]['mean']:.4f}", ", ".join(f"{value:.4f}" for value in row[metric]["each"])]
            other = row["published"]
            beside = [f"{other['hit_rate@10']:.4f} / {other['ndcg@10']:.4f}", other["source"]] if other else ["-", "-"]
            told.append([data, f"`{row['model']}`", str(row["seeds"]), *own, *beside])
    origin = known["provenance"]
    return [
        *markdown_table(told),
        "",
        f"{origin['date'][:10]}, commit {origin['commit']}, {origin['hardware']}: `{origin['command']}`.",
        "",
    ]


def main() -> None:
    replace(PAGE, "known", lines(json.loads(RESULT.read_text("utf-8"))))


if __name__ == "__main__":
    main()
