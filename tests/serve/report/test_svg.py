"""Drawings take their colours from the page and share no names."""

import re
import xml.etree.ElementTree as ET

import numpy as np
from vivim.serve.report import charts
from vivim.serve.report.svg import INK, OTHER, OWN, panel, style, to_svg


def drawn(name):
    with style():
        figure, axes = panel()
        axes.plot([0, 1], [0, 1], color=OWN)
        axes.plot([0, 1], [1, 0], color=OTHER)
        axes.text(0.5, 0.5, "a <b> & c")
        return to_svg(figure, name, 'says "this"')


def test_colours_are_those_of_the_page():
    text = drawn("one")
    assert "var(--own)" in text
    assert "var(--other)" in text
    assert "var(--ink)" in text
    assert not {INK, OWN, OTHER} & set(re.findall(r"#[0-9a-f]{6}\b", text))
    assert "#000000" not in re.sub(r"<defs>.*?</defs>", "", text, flags=re.DOTALL)


def test_text_stays_text_and_is_escaped():
    root = ET.fromstring(drawn("one"))
    assert "a <b> & c" in "".join(root.itertext())
    assert root.attrib["aria-label"] == 'says "this"'
    assert root.attrib["role"] == "img"


def test_two_drawings_on_a_page_share_no_id_and_find_their_own():
    texts = [drawn("one"), drawn("two")]
    ids = [set(re.findall(r'\bid="([^"]+)"', text)) for text in texts]
    assert ids[0]
    assert not ids[0] & ids[1]
    for text, own in zip(texts, ids, strict=True):
        assert set(re.findall(r'(?:href="#|url\(#)([^")]+)', text)) <= own


def test_one_drawing_has_one_text():
    assert drawn("one") == drawn("one")


def test_the_last_bar_of_lengths_holds_the_longest(counted):
    from vivim.serve.report.histories import look_at_histories

    assert "9 or more in the last bar" in charts.lengths(look_at_histories(counted))
    assert charts.norms(np.full(10, 2.0)).startswith("<svg")  # all alike


def test_the_funnel_names_every_step_with_what_is_left(counted):
    from vivim.serve.report.histories import look_at_histories

    facts = look_at_histories(counted)
    root = ET.fromstring(charts.funnel(facts))
    words = "".join(root.itertext())
    for stage in facts.funnel:
        assert stage.name in words
        assert f"{stage.interactions:,} ({stage.interactions / len(counted.interactions):.0%})" in words
