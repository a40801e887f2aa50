"""Colours of the map by how often an item was watched."""

import json

import numpy as np
from vivim.serve.report.map_chart import NEVER, SCALE, draw_map, popularity_steps
from vivim.serve.report.plane import Plane


def test_every_item_has_one_colour_and_more_is_warmer():
    views = np.array([0, 1, 1, 2, 5, 9, 40, 41, 300])
    steps = popularity_steps(views)
    assert steps[0] == (NEVER, 0, 0)
    assert steps[-1][0] == SCALE[-1]
    assert [sum(low <= view <= high for _, low, high in steps) for view in views] == [1] * len(views)
    assert [low for _, low, _ in steps] == sorted(low for _, low, _ in steps)


def test_where_nothing_was_watched_there_is_one_colour():
    assert popularity_steps(np.zeros(3, np.int64)) == ((NEVER, 0, 0),)
    assert popularity_steps(np.ones(3, np.int64)) == ((SCALE[0], 1, 1),)


def test_the_drawing_holds_every_place():
    plane = Plane(np.arange(3), np.array([[0, 1], [2, 3], [4, 5]], np.float32), "made", 3)
    chart = draw_map(plane, ["a", "b", "c"], ["</script>", "", "t"], ["data:image/webp;base64,AAAA", "", ""], np.array([0, 1, 7]))
    text = json.dumps(chart.item)
    assert "(no title)" in text
    assert text.count("data:image/webp;base64,AAAA") == 1
    assert "Bokeh" in chart.library
