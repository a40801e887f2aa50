"""A text is looked for in every entry, whatever the case."""

import polars as pl
from vivim.serve.text_search import TextSearch


def test_places_of_ids_and_titles():
    search = TextSearch(["ab", "ba", "AB"], ["", "cab", "x"])
    assert search.places("AB").to_list() == [0, 1, 2]
    assert search.places("cAb").to_list() == [1]
    assert search.places("").to_list() == [0, 1, 2]
    assert search.places("ab", pl.Series([False, True, True])).to_list() == [1, 2]
    assert TextSearch(["ab", "ba"]).places("b").to_list() == [1]
    assert TextSearch().places("b").to_list() == TextSearch().places("").to_list() == []


def test_more_entries_come_after_those_there_are():
    first = TextSearch(["a"], ["one"])
    both = first.extended(["b"], ["one more"])
    assert both.places("one").to_list() == [0, 1]
    assert first.places("one").to_list() == [0], "it never changes"
    assert len(both) == 2
