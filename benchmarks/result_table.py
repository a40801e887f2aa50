"""Quality results as data, and the tables of README.md and docs/benchmark.md made from them.

python benchmarks/result_table.py keep FOLDER      # a suite that was run, or rows of it -> benchmarks/answers/SUITE
python benchmarks/result_table.py collect SUITE    # benchmarks/answers/SUITE -> benchmarks/results/SUITE.json, docs/SUITE.png
python benchmarks/result_table.py write            # benchmarks/results/*.json -> README.md and docs/benchmark.md
"""

import json
import re
import sys
from pathlib import Path
from typing import Any

from answers import ANSWERS, keep
from doc_pages import markdown_table, replace

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"
# Suites whose results stand in the README, and in docs/benchmark.md, in this order.
README_SUITES = ("microlens-50k-id", "microlens-50k-text")
DOCS_SUITES = (*README_SUITES, "demo")
# Of result files from before these stood in them.
TITLES = {"table": "", "compared": "Compared on the same users", "cost": "Cost, medians over seeds"}
# Suite and commit of a result -> what is otherwise since it was measured. One that is collected anew has another commit, and no remark.
CHANGED_SINCE: dict[tuple[str, str], str] = {}


def take_over(folder: Path) -> list[str]:
    """Keep what was run, as far as its suite would train it so today."""
    from vivim.strict_yaml import read
    from vivim.suites.suite import place_of, shipped, suite_of

    name = json.loads((folder / "suite.json").read_text())["name"]
    return keep(folder, ANSWERS / name, suite_of(read(place_of(name)), name) if name in shipped() else None)


def collect(name: str) -> Path:
    """Gather the table of a suite into one result file, and its chart beside the page that shows it."""
    from vivim.suites.chart import draw
    from vivim.suites.sheets import sheets
    from vivim.suites.table import table_of

    table = table_of(ANSWERS / name)
    rows = [
        {
            "class": line.row.kind,
            "model": line.row.name,
            "ours": line.row.ours,
            "seeds": line.seeds,
            "metrics": line.metrics_as_dict(),
            "cost": line.cost.numbers | {"on": line.cost.where, "seconds_of_all": line.cost.seconds_of_all},
        }
        | line.beside.as_dict()
        for line in table.lines
    ]
    content = {
        "suite": table.suite.model_dump(mode="json", exclude_defaults=True),
        "protocol_card": table.card,
        "rows": rows,
        "pages": {sheet.key: [sheet.header, *sheet.rows] for sheet in sheets(table)} | {"notes": table.notes()},
        "titles": {sheet.key: sheet.title for sheet in sheets(table)},
        "provenance": table.provenance,
    }
    path = RESULTS / f"{table.suite.name}.json"
    path.write_text(json.dumps(content, indent=1) + "\n")
    (ROOT / "docs" / f"{table.suite.name}.png").write_bytes(draw(table))
    return path


def short(result: dict[str, Any]) -> list[str]:
    """Markdown lines for the README: validation and test side by side."""
    rows = [["model", "seeds", "validation HR@10 / NDCG@10", "test HR@10", "test NDCG@10", "test HR@20", "best epoch", "memory"]]
    for row in result["rows"]:
        metrics, cost = row["metrics"], row["cost"]
        both = " / ".join(_number(metrics[f"validation {name}@10"]["value"]) for name in ("hit_rate", "ndcg"))
        test = [_interval(metrics[f"test {name}"]) for name in ("hit_rate@10", "ndcg@10", "hit_rate@20")]
        trained = cost["epochs"] is not None
        best = f"{cost['best_epoch']:g} of {cost['epochs']:g}" if trained else "-"
        to_best = f" in {cost['seconds_to_best'] / 60:.0f} min" if cost.get("seconds_to_best") else ""
        memory = f"{cost['peak_memory_mb']:,.0f} MiB" if cost["peak_memory_mb"] else "-"
        name = f"**{row['model']}**" if row["ours"] else row["model"]
        rows.append([name, str(row["seeds"]), both, *test, best + to_best, memory])
    card = result["protocol_card"]
    return [
        *markdown_table(rows),
        "",
        f"Protocol {card['protocol']}: {card['users']:,} users, {card['items']:,} items ranked, last {card['keep_last']} kept, leave one "
        f"out, input {card['max_len']}, seen items of the window masked. Mean over seeds, ± their standard deviation; brackets are 95 % "
        f"over users; epochs chosen by validation NDCG@10. {_origin(result)}",
    ]


def whole(result: dict[str, Any]) -> list[str]:
    """Markdown lines for docs/benchmark.md: everything that the suite's own page says; what is printed stands there once for all."""
    pages, titles = result["pages"], TITLES | result.get("titles", {})
    chart = [f"![chart]({result['suite']['name']}.png)", ""] if (ROOT / "docs" / f"{result['suite']['name']}.png").exists() else []
    changed = CHANGED_SINCE.get((result["suite"]["name"], result["provenance"]["commit"]))
    remark = [f"**{changed}**", ""] if changed else []
    shown = [key for key in pages if key not in ("notes", "printed") and len(pages[key]) > 1]
    tables = [line for key in shown for line in (*([f"{titles[key]}:", ""] if titles[key] else []), *markdown_table(pages[key]), "")]
    return [*remark, *chart, *tables, *(f"- {note}" for note in pages["notes"]), "", _origin(result)]


def printed() -> list[str]:
    """Markdown lines of both published tables, the paper's own rows among them."""
    from vivim.suites.published import published
    from vivim.suites.sheets import PRINTED_HEADER, printed_cells

    names = dict.fromkeys((row.kind, row.row) for row in published())
    return markdown_table([["class", "model", *PRINTED_HEADER], *([kind, name, *printed_cells(kind, name)] for kind, name in names)])


def _origin(result: dict[str, Any]) -> str:
    """When, of what and how. Of a table made in parts: of its newest row, and the command that makes the whole of it.

    A row may have been run from another file than the suite that holds it now; ``keep`` took it as configured alike.
    """
    provenance = result["provenance"]
    when = f"{provenance['date'][:10]}, commit {provenance['commit']}, {provenance['hardware']}"
    command = re.sub(r" --rows( [^- ]\S*)+", "", provenance["command"])
    command = re.sub(r"(?<=benchmark run )\S+", result["suite"]["name"], command)
    return f"{when}: `{command}`" if command == provenance["command"] else f"Newest row: {when}. All of them: `{command}`"


def _number(value: float) -> str:
    return f"{value:.4f}".removeprefix("0")


def _interval(cell: dict[str, float | None]) -> str:
    value, low, high, sd = (cell[key] for key in ("value", "low", "high", "sd"))
    assert value is not None and low is not None and high is not None
    return f"{_number(value)} [{_number(low)}, {_number(high)}]" + ("" if sd is None else f" ±{_number(sd)}")


def write() -> None:
    """Replace what stands between the markers ``results`` and ``printed``."""
    for page, suites, lines_of in ((ROOT / "README.md", README_SUITES, short), (ROOT / "docs" / "benchmark.md", DOCS_SUITES, whole)):
        lines: list[str] = []
        for name in suites:
            file = RESULTS / f"{name}.json"
            if file.exists():
                lines += [f"**{name}**", "", *lines_of(json.loads(file.read_text())), ""]
        replace(page, "results", lines)
    replace(ROOT / "docs" / "benchmark.md", "printed", [*printed(), ""])


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["keep", folder]:
            print("\n".join(take_over(Path(folder))))
        case ["collect", name]:
            print(collect(name))
        case ["write"]:
            write()
        case _:
            raise SystemExit(__doc__)
