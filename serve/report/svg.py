"""Charts as SVG inside the page: drawn by matplotlib, coloured by the page, so that one drawing serves light and dark.

Colours are given as ``INK``, ``LINE`` and so on: stand-ins that become variables of the page's style when the drawing is written.
Text stays text, in the page's font.
"""

import io
import re
from contextlib import AbstractContextManager
from html import escape
from typing import TYPE_CHECKING, Any

from ...errors import MissingExtra

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Stand-in -> variable of report.css. No two may be alike, and none may be a colour that matplotlib uses by itself.
INK, SOFT, LINE, OWN, OTHER, THIRD = "#010203", "#040506", "#070809", "#0a0b0c", "#0d0e0f", "#101112"
_VARIABLES = {INK: "--ink", SOFT: "--soft", LINE: "--line", OWN: "--own", OTHER: "--other", THIRD: "--third"}

WIDTH_INCHES, HEIGHT_INCHES = 4.4, 2.8  # narrow, so that its text can still be read on a telephone
_POINTS = 10


def style() -> AbstractContextManager[Any]:
    """Within it charts are drawn.

    Raises:
        MissingExtra: matplotlib is not installed.
    """
    try:
        from matplotlib import rc_context
    except ImportError as error:
        raise MissingExtra("matplotlib", extra="report", why="a report") from error
    return rc_context(
        {
            "svg.fonttype": "none",
            "svg.hashsalt": "vivim",  # names of shapes follow from the drawing, not from the time
            "font.size": _POINTS,
            "axes.labelsize": _POINTS,
            "text.color": INK,
            "axes.labelcolor": SOFT,
            "axes.edgecolor": LINE,
            "xtick.color": LINE,
            "ytick.color": LINE,
            "xtick.labelcolor": SOFT,
            "ytick.labelcolor": SOFT,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.grid": True,
            "axes.axisbelow": True,
            "grid.color": LINE,
            "grid.linewidth": 0.6,
            "legend.frameon": False,
            "legend.fontsize": _POINTS,
            "lines.linewidth": 1.6,
        }
    )


def panel(*, height_inches: float = HEIGHT_INCHES) -> "tuple[Figure, Axes]":
    """An empty chart; call it within ``style``."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH_INCHES, height_inches), layout="constrained")
    figure.patch.set_alpha(0)
    axes = figure.add_subplot()
    axes.patch.set_alpha(0)
    return figure, axes


def to_svg(figure: "Figure", name: str, says: str) -> str:
    """The drawing as an ``<svg>`` element; matplotlib has escaped what is written in it.

    Args:
        name: unique on the page; shapes of the drawing are named after it.
        says: what the chart shows, for who does not see it.
    """
    out = io.BytesIO()
    figure.savefig(out, format="svg", metadata={"Date": None, "Creator": None})
    text = out.getvalue().decode("utf-8")
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r'\bid="([^"]+)"', rf'id="{name}-\1"', text)
    text = re.sub(r'(xlink:href="#|url\(#)', rf"\g<1>{name}-", text)
    text = re.sub(r"(font: [\d.]+px) [^;\"]*", r"\1 var(--font)", text)
    for colour, variable in _VARIABLES.items():
        text = text.replace(colour, f"var({variable})")
    size = re.search(r'viewBox="[^"]+"', text)
    assert size is not None
    head = f'<svg role="img" aria-label="{escape(says)}" {size[0]} xmlns:xlink="http://www.w3.org/1999/xlink">'
    return head + text[text.index(">") + 1 :]
