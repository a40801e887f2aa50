"""The tables that a suite's pages show, as text."""

from collections.abc import Iterator
from dataclasses import dataclass

from ..recommend.report import short_name
from .beside import LISTS, Bucket
from .cost import COLUMNS
from .line import SPLITS, Line
from .published import METRICS, PAPER, README, marked, printed_for
from .table import Table

PRINTED_HEADER = tuple(f"{source} {short_name(metric)}" for source in (README, PAPER) for metric in METRICS)


@dataclass(frozen=True)
class Sheet:
    """One table.

    Attributes:
        key: its name in result files.
        title: above it; empty for the first.
        header: names of columns.
        rows: as many cells each.
    """

    key: str
    title: str
    header: list[str]
    rows: list[list[str]]


def sheets(table: Table) -> list[Sheet]:
    """All that have rows, in the order of a page."""
    found = [_measured(table), _printed(table), _compared(table), *_buckets(table), _lists(table), _cost(table)]
    return [sheet for sheet in found if sheet.rows]


def _measured(table: Table) -> Sheet:
    numbers = [(split, metric) for split in SPLITS for metric in table.metrics]
    rows = [
        [line.row.kind, _name(line) + (" §" if line.cost.stopped else ""), str(line.seeds), *(str(line.cells[which]) for which in numbers)]
        for line in table.lines
    ]
    return Sheet("table", "", ["class", "model", "seeds", *(f"{split} {short_name(metric)}" for split, metric in numbers)], rows)


def printed_cells(kind: str, name: str) -> list[str]:
    """What is printed for a published row, in the order of ``PRINTED_HEADER``; a dash where a table does not have it."""
    by_source = {row.source: row for row in printed_for(kind, name)}
    return [marked(by_source[source], metric) if source in by_source else "-" for source in (README, PAPER) for metric in METRICS]


def _printed(table: Table) -> Sheet:
    rows = [
        [line.row.kind, _name(line), line.row.printed_name, *printed_cells(line.row.kind, line.row.printed_name)]
        for line in table.lines
        if table.beside_printed and printed_for(line.row.kind, line.row.printed_name)
    ]
    return Sheet("printed", "Printed for MicroLens-100K", ["class", "model", "printed as", *PRINTED_HEADER], rows)


def _compared(table: Table) -> Sheet:
    rows = [
        [t.row, t.baseline, short_name(t.metric), f"{t.found.difference:+.4f}", f"{t.found.better:,}", f"{t.found.worse:,}", f"{t.p:.4f}"]
        for t in table.tested
    ]
    header = ["model", "compared with", "metric", "difference", "users better", "users worse", "p (Holm)"]
    return Sheet("compared", "Compared on the same users", header, rows)


def _buckets(table: Table) -> Iterator[Sheet]:
    """One for each metric at the first K."""
    for metric in table.metrics[:2]:
        by_line = {line.row.slug: {b.title: b for b in line.beside.buckets.get("test", ())} for line in table.lines}
        first: dict[str, Bucket] = next((buckets for buckets in by_line.values() if buckets), {})
        header = ["class", "model", "all", *(f"{title}: {bucket.questions:,} questions" for title, bucket in first.items())]
        rows = []
        for line in table.lines if first else ():
            mine = by_line[line.row.slug]
            cells = [f"{mine[title].metrics[metric].value:.4f}" if title in mine else "-" for title in first]
            rows.append([line.row.kind, _name(line), f"{line.cells['test', metric].estimate.value:.4f}", *cells])
        yield Sheet(f"buckets {metric}", f"Test {short_name(metric)} by bucket of the target and of the history", header, rows)


def _lists(table: Table) -> Sheet:
    """Coverage, Gini, mean popularity and diversity of the test's lists, at every K. Whose vectors diversity is in stands in its heading,
    or in a column where rows differ."""
    columns = [(name, k) for k in sorted(table.suite.k) for name in LISTS]
    spaces = {line.beside.space for line in table.lines if any(name == "diversity" for _, name, _ in line.beside.lists)}
    several = len(spaces) > 1
    rows = []
    for line in table.lines:
        numbers = [line.beside.lists.get(("test", name, k)) for name, k in columns]
        if any(number is not None for number in numbers):
            cells = ["-" if n is None else f"{n:.{LISTS[name][1]}f}" for n, (name, _) in zip(numbers, columns, strict=True)]
            rows.append([line.row.kind, _name(line), *cells, *([line.beside.space] if several else [])])
    where = f" in {next(iter(spaces))}" if len(spaces) == 1 else ""
    names = [f"{LISTS[name][0]}@{k}{where if name == 'diversity' else ''}" for name, k in columns]
    return Sheet("lists", "What the lists are like", ["class", "model", *names, *(["diversity in"] if several else [])], rows)


def _cost(table: Table) -> Sheet:
    rows = [[line.row.name, *line.cost.cells()] for line in table.lines if line.cost.known]
    return Sheet("cost", "Cost, medians over seeds", ["model", *COLUMNS], rows)


def _name(line: Line) -> str:
    return f"**{line.row.name}**" if line.row.ours else line.row.name
