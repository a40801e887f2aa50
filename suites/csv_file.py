"""Everything that a suite's table says, as CSV: a number a line.

``split`` says what kind of line it is: ``validation`` and ``test`` are measured, ``MicroLens README`` and ``paper`` printed by others for
MicroLens-100K, ``compared`` a row less another, ``cost`` what it took, ``card`` the protocol that all were measured under.
"""

import csv
import io
from collections.abc import Iterator
from typing import Any

from ..recommend.metrics import Estimate
from .line import Line
from .published import METRICS, flags, printed_for
from .table import Table

COLUMNS = (
    *("class", "model", "ours", "seeds", "split", "bucket", "metric", "value", "low", "high", "sd"),
    *("against", "users_better", "users_worse", "p_holm", "flags"),
)


def as_csv(table: Table) -> str:
    """The whole table."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n", restval="")
    writer.writeheader()
    for line in table.lines:
        head = {"class": line.row.kind, "model": line.row.name, "ours": line.row.ours}
        writer.writerows(head | {"seeds": line.seeds} | found for found in _of_line(line))
        if table.beside_printed:
            writer.writerows(head | found for found in _printed(line))
    ours = {(line.row.kind, line.row.name): line.row.ours for line in table.lines}
    for t in table.tested:
        head = {"class": t.kind, "model": t.row, "ours": ours[t.kind, t.row]}
        against = {"against": t.baseline, "users_better": t.found.better, "users_worse": t.found.worse, "p_holm": f"{t.p:.6f}"}
        writer.writerow(head | {"split": "compared", "metric": t.metric, "value": f"{t.found.difference:.6f}"} | against)
    writer.writerows({"split": "card", "metric": name, "value": value} for name, value in table.card.items())
    return text.getvalue()


def _of_line(line: Line) -> Iterator[dict[str, Any]]:
    for (split, metric), cell in line.cells.items():
        sd = {} if cell.sd is None else {"sd": f"{cell.sd:.6f}"}
        yield {"split": split, "metric": metric} | _numbers(cell.estimate) | sd
    for split, buckets in line.beside.buckets.items():
        for bucket in buckets:
            yield {"split": split, "bucket": bucket.title, "metric": "questions", "value": bucket.questions}
            for metric, estimate in bucket.metrics.items():
                yield {"split": split, "bucket": bucket.title, "metric": metric} | _numbers(estimate)
    for (split, name, k), number in line.beside.lists.items():
        space = {"flags": f"in {line.beside.space}"} if name == "diversity" else {}
        yield {"split": split, "metric": f"{name}@{k}", "value": f"{number:.6f}"} | space
    for name, cost in (line.cost.numbers | {"stopped_by_budget": line.cost.stopped}).items():
        if cost is not None and line.cost.known:
            yield {"split": "cost", "metric": name, "value": f"{cost:g}"}


def _printed(line: Line) -> Iterator[dict[str, Any]]:
    for row in printed_for(line.row.kind, line.row.printed_name):
        for metric in METRICS:
            found = {"split": row.source, "metric": metric, "value": f"{row.metrics[metric]:.4f}"}
            yield found | {"flags": " ".join(flags(row, metric))}


def _numbers(estimate: Estimate) -> dict[str, str]:
    return {name: f"{value:.6f}" for name, value in estimate.as_dict().items()}
