"""What a longer schedule changes, row by row, on the same users and from the same seeds.

    sed 's/epochs: 12, patience: 12/epochs: 24, patience: 24/; s/seeds: 3/seeds: 1/' suites/microlens-50k-id.yaml > longer.yaml
    vivim benchmark run longer.yaml --interactions PAIRS.tsv --rows SASRec Mamba-ID --out FOLDER
    python benchmarks/longer.py FOLDER... --out benchmarks/results/microlens-50k-24-epochs.json

Each training in the folders is compared with the one of the same suite, row and seed that is kept in ``benchmarks/answers``: the best epoch
that validation chose, its NDCG@10, test HR@10, and the paired randomisation test on test (Holm over the rows). ``among`` compares rows
within the folders as the suites do: those with titles against ids alone, Mamba-ID against SASRec. The table goes into docs/benchmark.md.
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from answers import ANSWERS
from doc_pages import markdown_table, replace
from vivim.store.provenance import provenance
from vivim.suites.line import Line, line_of
from vivim.suites.runner import measured
from vivim.suites.significance import Comparison, holm, randomisation
from vivim.suites.suite import Suite

PAGE = Path(__file__).resolve().parents[1] / "docs" / "benchmark.md"
CHOSEN_BY, TOLD = "ndcg@10", "hit_rate@10"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    content = measure(options.folders) | {"provenance": provenance() | {"command": f"longer.py --out {options.out.name} FOLDER..."}}
    options.out.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    replace(PAGE, "longer", ["", *table(content), "", ""])


def measure(folders: Sequence[Path]) -> dict[str, Any]:
    """All rows of the folders beside what is kept of them."""
    pairs = [pair for folder in folders for pair in _pairs(folder)]
    changes = [_compare(longer, usual) for longer, usual in pairs]
    adjusted = holm([change.p for change in changes])
    lines = {longer.row.name: longer for longer, _ in pairs}
    asked = [("Mamba-ID", "SASRec"), *((line.row.name, line.row.against) for line in lines.values() if line.row.against)]
    among = [(row, other, _compare(lines[row], lines[other])) for row, other in asked if row in lines and other in lines]
    of_among = holm([found.p for *_, found in among])
    return {
        "rows": [
            {"row": longer.row.name, "seeds": longer.seeds, "longer": _told(longer), "usual": _told(usual), TOLD: _found(change, p)}
            for (longer, usual), change, p in zip(pairs, changes, adjusted, strict=True)
        ],
        "among": [{"row": row, "against": other, TOLD: _found(found, p)} for (row, other, found), p in zip(among, of_among, strict=True)],
    }


def _pairs(folder: Path) -> list[tuple[Line, Line]]:
    """Rows that were run there, and the trainings of the same seeds that are kept."""
    suite = Suite.model_validate_json((folder / "suite.json").read_text(encoding="utf-8"))
    found = []
    for row, runs in measured(suite, folder):
        kept = [ANSWERS / suite.name / row.slug / run.name for run in runs]
        results = [[json.loads((run / "results.json").read_text(encoding="utf-8")) for run in side] for side in (runs, kept)]
        cards = [result["protocol_card"] for side in results for result in side]
        assert all(card == cards[0] for card in cards), f"{row.name} was run under another protocol card than what is kept"
        found.append((line_of(row, suite.k, runs, results[0]), line_of(row, suite.k, kept, results[1])))
    return found


def _compare(line: Line, other: Line) -> Comparison:
    return randomisation(line.answers.gains[TOLD], other.answers.gains[TOLD])


def _told(line: Line) -> dict[str, Any]:
    cost = line.cost.numbers
    return {
        "epochs": cost["epochs"],
        "best_epoch": cost["best_epoch"],
        "minutes": round((cost["seconds"] or 0.0) / 60, 1),
        f"validation {CHOSEN_BY}": round(line.cells["validation", CHOSEN_BY].estimate.value, 5),
        f"test {TOLD}": {name: round(value, 5) for name, value in line.cells["test", TOLD].estimate.as_dict().items()},
        "measured": list(line.measured),
    }


def _found(found: Comparison, p: float) -> dict[str, Any]:
    return {"difference": round(found.difference, 5), "better": found.better, "worse": found.worse, "p": round(p, 5)}


def table(content: Mapping[str, Any]) -> list[str]:
    """Markdown: the rows down; across, the suite's schedule and the longer one, each with its best epoch."""
    header = ["model", "validation NDCG@10, usual (best epoch)", "longer", "test HR@10, usual", "longer", "better / worse", "p"]
    rows = []
    for row in content["rows"]:
        sides, found = (row["usual"], row["longer"]), row[TOLD]
        chosen = [f"{_number(side[f'validation {CHOSEN_BY}'])} ({side['best_epoch']} of {side['epochs']})" for side in sides]
        told = [_number(side[f"test {TOLD}"]["value"]) for side in sides]
        changed = f"{found['better']:,} / {found['worse']:,}"
        rows.append([row["row"], *chosen, *told, changed, _number(found["p"])])
    return markdown_table([header, *rows])


def _number(value: float) -> str:
    return f"{value:.4f}".removeprefix("0")


if __name__ == "__main__":
    main()
