"""Quality results as data, and the README table made from them.

    python benchmarks/result_table.py collect microlens-50k RUN [RUN ...]   # evaluated runs -> benchmarks/results/microlens-50k.json
    python benchmarks/result_table.py readme                                # benchmarks/results/*.json -> README.md

Runs with different protocol cards are refused: their numbers must not stand in one table.
"""

import json
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"
BEGIN, END = "<!-- results:begin -->", "<!-- results:end -->"
# Results of these files make the README table, in this order.
TABLES = ("microlens-50k",)


def collect(name: str, runs: list[Path]) -> Path:
    """Gather results.json of evaluated runs into one result file."""
    rows = [json.loads((run / "results.json").read_text()) for run in runs]
    cards = {json.dumps(row["protocol_card"], sort_keys=True) for row in rows}
    if len(cards) != 1:
        raise SystemExit(f"the runs have {len(cards)} different protocol cards; only runs with one card belong in one table")
    path = RESULTS / f"{name}.json"
    path.write_text(json.dumps({"protocol_card": rows[0]["protocol_card"], "rows": [_row(row) for row in rows]}, indent=2) + "\n")
    return path


def _row(result: dict[str, Any]) -> dict[str, Any]:
    training = result["run"]
    return {
        "model": result["model"],
        "splits": result["splits"],
        "index": result["index"],
        "seed": training["seed"],
        "config": training["config"],
        "fit": training["fit"],
        "peak_memory_mb": training["peak_memory_mb"],
        "trained": _without_paths(training["provenance"]),
        "evaluated": _without_paths(result["provenance"]),
    }


def _without_paths(provenance: dict[str, Any]) -> dict[str, Any]:
    """Paths of the machine that ran it say nothing to others: only the file name is kept."""
    words = [Path(word).name if "/" in word else word for word in provenance["command"].split()]
    return provenance | {"command": " ".join(words)}


def table(result: dict[str, Any]) -> list[str]:
    """Markdown lines: one row per model, validation and test side by side."""
    card = result["protocol_card"]
    lines = [
        "| model | validation HR@10 / NDCG@10 | test HR@10 | test NDCG@10 | test HR@20 | best epoch | memory |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in result["rows"]:
        validation, test = (row["splits"][name]["metrics"] for name in ("validation", "test"))
        fit = row["fit"] or {}
        epoch = f"{fit['best_epoch']} of {fit['epochs']}" if fit else "-"
        memory = f"{row['peak_memory_mb']:,} MiB" if row["peak_memory_mb"] else "-"
        both = f"{_short(validation['hit_rate@10']['value'])} / {_short(validation['ndcg@10']['value'])}"
        cells = [row["model"], both, *(_interval(test[m]) for m in ("hit_rate@10", "ndcg@10", "hit_rate@20")), epoch, memory]
        lines.append(f"| {' | '.join(cells)} |")
    trained = result["rows"][-1]["trained"]
    lines += [
        "",
        f"Protocol {card['protocol']}: {card['users']:,} users, {card['items']:,} items ranked, last {card['keep_last']} kept, leave one "
        f"out, input {card['max_len']}, seen items of the window masked. One seed; brackets are 95 % over users; epochs chosen by "
        f"validation NDCG@10, nothing else was tuned here. {trained['date'][:10]}, {trained['hardware']}; commits and versions of every "
        "row are in benchmarks/results.",
        "",
        "```",
        *(row["trained"]["command"] for row in result["rows"]),
        result["rows"][-1]["evaluated"]["command"],
        "```",
    ]
    return lines


def _short(value: float) -> str:
    return f"{value:.4f}".removeprefix("0")


def _interval(estimate: dict[str, float]) -> str:
    return f"{_short(estimate['value'])} [{_short(estimate['low'])}, {_short(estimate['high'])}]"


def write_readme() -> None:
    """Replace what stands between the markers of README.md."""
    path = ROOT / "README.md"
    before, _, rest = path.read_text().partition(BEGIN)
    _, _, after = rest.partition(END)
    lines = []
    for name in TABLES:
        file = RESULTS / f"{name}.json"
        if file.exists():
            lines += [f"**{name}**", "", *table(json.loads(file.read_text())), ""]
    body = "\n".join(lines)
    path.write_text(f"{before}{BEGIN}\n{body}{END}{after}")


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["collect", name, *runs] if runs:
            print(collect(name, [Path(run) for run in runs]))
        case ["readme"]:
            write_readme()
        case _:
            raise SystemExit(__doc__)
