"""The chart of a table: a picture with a mark for every number."""

import io

import numpy as np
import polars as pl
import pytest
from vivim.recommend.metrics import Estimate
from vivim.suites.beside import Beside
from vivim.suites.cost import Cost
from vivim.suites.line import Answers, Cell, Line
from vivim.suites.table import Table

VALUES = {"popularity": 0.02, "SASRec": 0.05, "Mamba-ID": 0.06}
BLUE, VERMILLION, GREEN, PURPLE = (0, 114, 178), (213, 94, 0), (0, 158, 115), (170, 68, 153)


@pytest.fixture
def picture(suites):
    """Draws a table of ``VALUES``: (H, W, 3) pixels."""
    pytest.importorskip("matplotlib")
    from PIL import Image
    from vivim.suites.chart import draw

    def make(**changes):
        rows = [{"name": name, "kind": "IDRec (SR)", "ours": name.startswith("Mamba")} for name in VALUES]
        suite = suites.small(k=[10], rows=rows, **changes)
        cells = [{("test", "hit_rate@10"): Cell(Estimate(v, v - 0.004, v + 0.004), None)} for v in VALUES.values()]
        nobody = Answers(pl.Series([]), {})
        lines = tuple(Line(row, 1, cell, nobody, Beside(), Cost()) for row, cell in zip(suite.rows, cells, strict=True))
        return np.asarray(Image.open(io.BytesIO(draw(Table(suite, lines, (), {"users": 9, "items": 8}, {})))).convert("RGB"))

    return make


def centre(pixels, colour):
    """(row, column) in the middle of the pixels of a colour, below the head and above the legend."""
    found = np.argwhere((pixels[: int(0.7 * len(pixels))] == colour).all(-1))
    assert len(found), f"nothing is drawn in {colour}"
    return found.mean(0)


def test_values_stand_from_left_to_right_and_rows_from_top_to_bottom(picture):
    pixels = picture()
    blue, ours, printed = (centre(pixels, colour) for colour in (BLUE, VERMILLION, GREEN))
    assert blue[0] < ours[0], "baselines come first"
    assert blue[1] < ours[1] < printed[1], "0.02 and 0.05, 0.06, and the printed 0.0909"
    assert (pixels[0, 0] == 255).all(), "a light background"


def test_printed_numbers_are_not_shown_beside_a_world_that_was_made(picture):
    assert not (picture(world={}) == GREEN).all(-1).any()
    assert (picture() == GREEN).all(-1).any()


def test_what_cannot_be_is_hollow(picture):
    """SASRec's line in the README is possible, in the paper it is not; both print 0.0909."""
    pixels = picture()
    filled, hollow = ((pixels == colour).all(-1)[: int(0.7 * len(pixels))] for colour in (GREEN, PURPLE))

    rows, columns = np.nonzero(filled)
    assert filled[int(rows.mean()), int(columns.mean())], "its middle is of its colour"
    rows, columns = np.nonzero(hollow)
    assert not hollow[int(rows.mean()), int(columns.mean())]
