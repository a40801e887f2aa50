"""Items keep their numbers and are found by what people type."""

import pytest
from vivim.serve.catalogue import ItemCatalogue
from vivim.serve.errors import UnknownItem


@pytest.fixture
def catalogue():
    catalogue = ItemCatalogue({"a1": "The Red Car", "b2": "straße am abend", "c3": "100% fun_", "new": "red again"})
    catalogue.show([["a1", "b2", "c3"], ["a1", "B20"]])
    return catalogue


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("", ["a1", "b2", "c3", "B20"]),
        ("b2", ["b2", "B20"]),
        ("red", ["a1"]),
        ("RED C", ["a1"]),
        ("STRASSE", ["b2"]),
        ("0% fun_", ["c3"]),
        ("1", ["c3"]),
        ("a1x", []),
        (".*", []),
        ("%", ["c3"]),
        ("\ud800", []),
    ],
)
def test_ids_are_found_by_their_beginning_and_titles_by_any_part(catalogue, query, found):
    total, items = catalogue.search(query, 0, 10)
    assert [item.item for item in items] == found
    assert total == len(found)


def test_pages_of_a_search(catalogue):
    assert catalogue.search("", 1, 2) == (4, [("b2", 1, "straße am abend"), ("c3", 2, "100% fun_")])
    assert catalogue.search("", 9, 2) == (4, [])


def test_numbers_stay_when_items_come_and_go(catalogue):
    catalogue.show([["c3", "new", "a1"]])
    assert [(item.item, item.row) for item in catalogue.search("", 0, 9)[1]] == [("a1", 0), ("c3", 2), ("new", 4)]
    assert catalogue.search("red", 0, 9)[0] == 2
    assert catalogue.info("b2").row == 1, "an address made of it is still the same clip's"
    assert [catalogue.id_at(row) for row in range(5)] == ["a1", "b2", "c3", "B20", "new"]
    with pytest.raises(UnknownItem, match="unknown item 'zz'"):
        catalogue.info("zz")
    for row in (-1, 5):
        with pytest.raises(UnknownItem):
            catalogue.id_at(row)


def test_ids_that_are_no_text_can_be_shown():
    catalogue = ItemCatalogue({})
    catalogue.show([["\udc80", "ok"]])
    assert catalogue.search("o", 0, 9)[0] == 1
