"""A suite's table as a picture: hits on the test with their intervals, class by class, beside what others printed.

Colours are Okabe and Ito's, which people with any colour vision can tell apart ("Color universal design", 2008); shapes say the same.
"""

import io
from typing import TYPE_CHECKING

from ..errors import MissingExtra
from .line import Line
from .published import PAPER, README, PublishedRow, printed_for
from .table import Table

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_OURS, _BASELINE, _GREEN, _PURPLE = "#D55E00", "#0072B2", "#009E73", "#AA4499"
_PRINTED = {README: ("^", _GREEN), PAPER: ("s", _PURPLE)}  # source -> shape, colour
_PRINTED_K = 10
_WIDTH_INCHES, _ROW_INCHES, _MARGIN_INCHES, _DPI = 9.0, 0.27, 1.7, 150


def draw(table: Table) -> bytes:
    """The chart as PNG.

    Raises:
        MissingExtra: matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtra("matplotlib", extra="viz", why="the chart of a suite") from error

    places, headings = _places(table)
    rows = len(places) + len(headings)
    figure = Figure(figsize=(_WIDTH_INCHES, _MARGIN_INCHES + _ROW_INCHES * rows), dpi=_DPI, layout="constrained", facecolor="white")
    axes = figure.add_subplot()
    k = _PRINTED_K if _PRINTED_K in table.suite.k else min(table.suite.k)
    drawn = _printed(axes, places) if k == _PRINTED_K and table.beside_printed else set()
    for line, place in places:
        _measured(axes, line, place, k)
    axes.set_yticks([place for _, place in places], [line.row.name for line, _ in places])
    for label, (line, _) in zip(axes.get_yticklabels(), places, strict=True):
        label.set_fontweight("bold" if line.row.ours else "normal")
    for kind, place in headings:
        axes.text(0.006, place, kind, transform=axes.get_yaxis_transform(), va="center", fontsize=9, fontweight="bold", color="#555555")
        axes.axhline(place - 0.5, color="#dddddd", linewidth=0.8, zorder=0)
    axes.set_ylim(rows - 0.5, -0.5)
    axes.set_xlim(left=0)
    axes.set_xlabel(f"HR@{k} on test: mean over users and seeds, 95 % interval over users")
    axes.grid(axis="x", color="#e6e6e6", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(axis="y", length=0)
    axes.spines[["top", "right", "left"]].set_visible(False)
    card = table.card
    figure.suptitle(f"{table.suite.name}: {card['users']:,} users, {card['items']:,} items ranked", x=0.01, ha="left", fontsize=12)
    _legend(figure, table, drawn)
    out = io.BytesIO()
    figure.savefig(out, format="png")
    return out.getvalue()


def _places(table: Table) -> tuple[list[tuple[Line, int]], list[tuple[str, int]]]:
    """Where every line and every heading of a class stands, from the top."""
    places: list[tuple[Line, int]] = []
    headings: list[tuple[str, int]] = []
    for line in table.lines:
        if not headings or headings[-1][0] != line.row.kind:
            headings.append((line.row.kind, len(places) + len(headings)))
        places.append((line, len(places) + len(headings)))
    return places, headings


def _measured(axes: "Axes", line: Line, place: int, k: int) -> None:
    found = line.cells["test", f"hit_rate@{k}"].estimate
    axes.errorbar(
        [found.value],
        [place],
        xerr=[[found.value - found.low], [found.high - found.value]],
        fmt="D" if line.row.ours else "o",
        color=_OURS if line.row.ours else _BASELINE,
        markersize=6,
        capsize=2.5,
        linewidth=1.4,
        zorder=3,
    )


def _printed(axes: "Axes", places: list[tuple[Line, int]]) -> set[tuple[str, bool]]:
    """Mark what others printed; which kinds of marks there are: (source, can be)."""
    drawn = set()
    for line, place in places:
        for row in printed_for(line.row.kind, line.row.printed_name):
            # Side by side in height, so that two of one value can both be seen.
            _mark(axes, row, row.metrics[f"hit_rate@{_PRINTED_K}"], place + (-0.2 if row.source == README else 0.2))
            drawn.add((row.source, row.possible))
    return drawn


def _mark(axes: "Axes", row: PublishedRow, value: float, place: float) -> None:
    shape, colour = _PRINTED[row.source]
    face = colour if row.possible else "white"
    axes.plot([value], [place], linestyle="none", marker=shape, color=colour, markerfacecolor=face, markersize=5, zorder=2)


def _legend(figure: "Figure", table: Table, drawn: set[tuple[str, bool]]) -> None:
    from matplotlib.lines import Line2D

    def sign(shape: str, colour: str, label: str, *, hollow: bool = False) -> "Line2D":
        face = "white" if hollow else colour
        return Line2D([], [], linestyle="none", marker=shape, color=colour, markerfacecolor=face, markersize=6, label=label)

    kinds = {line.row.ours for line in table.lines}
    signs = [sign("o", _BASELINE, "baseline, measured")] if False in kinds else []
    signs += [sign("D", _OURS, "ours, measured")] if True in kinds else []
    for source, (shape, colour) in _PRINTED.items():
        if (source, True) in drawn:
            signs.append(sign(shape, colour, f"{source}, printed for MicroLens-100K"))
        if (source, False) in drawn:
            signs.append(sign(shape, colour, f"{source}, printed; the row is impossible", hollow=True))
    figure.legend(handles=signs, loc="outside lower center", ncols=2, frameon=False, fontsize=9)
