"""The map as a drawing that can be moved, enlarged and pointed at: by Bokeh, on a canvas, which bears 20,000 points.

Its colours are read on light and on dark, and it has no ground of its own, so that one drawing serves both.

Legend: P places on the map.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ...errors import MissingExtra
from .plane import Plane

SCALE = ("#3f78c4", "#4f9fb8", "#5fb08f", "#a9ad52", "#dd9a3c", "#e0703a", "#d6453d")
"""From rarely to often watched."""
NEVER = "#8d9096"
_FRAME_PIXELS = 560
TARGET = "map-place"

_TOOLTIP = """
<div class="tip" style="max-width: 220px; font: 13px/1.35 system-ui, sans-serif;">
  <img src="@picture" alt="" style="display: @shown; max-width: 112px; max-height: 112px; margin: 0 0 5px; border-radius: 4px;">
  <div style="overflow-wrap: anywhere;">@title</div>
  <div style="opacity: .75; overflow-wrap: anywhere;">@id · watched @views times</div>
</div>
"""


@dataclass(frozen=True)
class MapChart:
    """What the page needs.

    Attributes:
        library: Bokeh's own script.
        item: the drawing, for ``Bokeh.embed.embed_item``.
        steps: (colour, fewest views, most views) of the legend.
    """

    library: str
    item: Any
    steps: tuple[tuple[str, int, int], ...]


def draw_map(plane: Plane, ids: Sequence[str], titles: Sequence[str], pictures: Sequence[str], views_P: npt.NDArray[np.int64]) -> MapChart:
    """The scatter of ``plane``.

    Args:
        ids, titles, pictures: of each place; a picture is a data URI, or empty.
        views_P: (P,) training interactions.

    Raises:
        MissingExtra: Bokeh is not installed.
    """
    try:
        from bokeh.core.types import ID
        from bokeh.embed import json_item
        from bokeh.models import ColumnDataSource, HoverTool
        from bokeh.plotting import figure
        from bokeh.resources import Resources
    except ImportError as error:
        raise MissingExtra("bokeh", extra="report", why="the map of a report") from error

    steps = popularity_steps(views_P)
    source = ColumnDataSource(
        {
            "x": plane.places_P2[:, 0],
            "y": plane.places_P2[:, 1],
            "id": list(ids),
            "title": [title or "(no title)" for title in titles],
            "picture": list(pictures),
            "shown": ["block" if picture else "none" for picture in pictures],
            "views": views_P.tolist(),
            "colour": [_colour(int(views), steps) for views in views_P],
        }
    )
    chart = figure(
        sizing_mode="stretch_width",
        height=_FRAME_PIXELS,
        tools="pan,box_zoom,wheel_zoom,reset",
        active_drag="pan",
        active_scroll=None,  # who scrolls the page must not be held up by the map
        toolbar_location="above",
        background_fill_alpha=0,
        border_fill_alpha=0,
        outline_line_color=None,
        match_aspect=True,
    )
    chart.axis.visible = False
    chart.grid.visible = False
    chart.toolbar.logo = None
    size = 7 if len(ids) <= 2000 else 4
    dots = chart.scatter("x", "y", source=source, size=size, color="colour", alpha=0.75, line_color=None)
    dots.nonselection_glyph = dots.selection_glyph = None
    chart.add_tools(HoverTool(tooltips=_TOOLTIP, renderers=[dots], limit=1))
    library = "\n".join(Resources(mode="inline", components=["bokeh"]).js_raw)
    return MapChart(library, json_item(chart, ID(TARGET)), steps)


def popularity_steps(views_P: npt.NDArray[np.int64]) -> tuple[tuple[str, int, int], ...]:
    """Ranges of views, each twice or more as wide as the one before, with their colours; ranges without an item are left out."""
    most = int(views_P.max(initial=0))
    if most == 0:
        return ((NEVER, 0, 0),)
    edges = np.unique(np.geomspace(1, most + 1, len(SCALE) + 1).round().astype(np.int64))
    ranges = [(int(low), int(high) - 1) for low, high in itertools.pairwise(edges)]
    colours = [SCALE[round(place * (len(SCALE) - 1) / max(len(ranges) - 1, 1))] for place in range(len(ranges))]
    steps = [(NEVER, 0, 0), *((colour, low, high) for colour, (low, high) in zip(colours, ranges, strict=True))]
    return tuple((colour, low, high) for colour, low, high in steps if ((views_P >= low) & (views_P <= high)).any())


def _colour(views: int, steps: Sequence[tuple[str, int, int]]) -> str:
    return next(colour for colour, low, high in steps if low <= views <= high)
