"""A suite's table as Markdown, as one HTML file, as CSV and as a chart, beside the runs."""

from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from ..errors import MissingExtra
from ..store.run_folder import write_atomically
from .chart import draw
from .csv_file import as_csv
from .sheets import sheets
from .table import Table, table_of

CHART = "table.png"


@dataclass(frozen=True)
class Written:
    """A table that lies beside its runs.

    Attributes:
        table: what it says.
        files: names of what was written.
        note: why there is no chart; empty if there is one.
    """

    table: Table
    files: tuple[str, ...]
    note: str


def write_table(out: Path) -> Written:
    """``table_of``, and table.md, .csv, .html and, where it can be drawn, .png beside the runs."""
    table, png, note = table_of(out), None, ""
    try:
        png = draw(table)
    except MissingExtra as error:
        note = str(error)
    (out / CHART).unlink(missing_ok=True)  # one that is there is of an older table
    if png is not None:
        (out / CHART).write_bytes(png)
    texts = {"table.md": markdown(table, chart=png is not None), "table.csv": as_csv(table), "table.html": html(table, png)}
    for name, text in texts.items():
        write_atomically(out / name, text)
    return Written(table, (*texts, *([CHART] if png is not None else [])), note)


def markdown(table: Table, *, chart: bool) -> str:
    """The page, with ``CHART`` beside it."""
    origin = table.provenance
    parts = [[*([f"## {sheet.title}", ""] if sheet.title else []), *_lines(sheet.header, sheet.rows), ""] for sheet in sheets(table)]
    return "\n".join(
        [
            *(f"# {table.suite.name}", "", table.suite.about, "", *([f"![chart]({CHART})", ""] if chart else [])),
            *(line for part in parts for line in part),
            *(f"- {note}" for note in table.notes()),
            *("", f"{origin['date']}, commit {origin['commit']}, {origin['hardware']}; `{origin['command']}`", ""),
        ]
    )


def html(table: Table, chart_png: bytes | None) -> str:
    """The page as one file, without anything from elsewhere."""
    tables = [(f"<h2>{escape(s.title)}</h2>" if s.title else "") + _html(s.header, s.rows) for s in sheets(table)]
    drawn = "" if chart_png is None else f'<img alt="chart" src="data:image/png;base64,{b64encode(chart_png).decode()}">'
    notes = "".join(f"<li>{escape(note)}</li>" for note in table.notes())
    cells = "table{border-collapse:collapse;margin:1em 0}img{max-width:100%}td,th{border:1px solid #999;padding:.2em .5em}"
    style = f"body{{font:14px sans-serif;margin:2em}}{cells}"
    body = f"<h1>{escape(table.suite.name)}</h1><p>{escape(table.suite.about)}</p>{drawn}{''.join(tables)}<ul>{notes}</ul>"
    head = f'<meta charset="utf-8"><title>{escape(table.suite.name)}</title><style>{style}</style>'
    return f'<!doctype html><html lang="en"><head>{head}</head><body>{body}</body></html>\n'


def _lines(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return [f"| {' | '.join(header)} |", f"|{'---|' * len(header)}", *(f"| {' | '.join(row)} |" for row in rows)]


def _html(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    head = "".join(f"<th>{escape(cell)}</th>" for cell in header)
    lines = ["".join(f"<td>{escape(cell.strip('*'))}</td>" for cell in row) for row in rows]
    body = "".join(f"<tr>{line}</tr>" for line in lines)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
