"""Table 1 by hand, every oddity on data made to have it, and titles as people write them."""

import json
from pathlib import Path

import pytest
from vivim.errors import InputError
from vivim.recommend.audit import Audit, audit
from vivim.recommend.config import ProtocolConfig
from vivim.recommend.oddities import OddityKind, off_by_one
from vivim.recommend.readers import read_interactions
from vivim.recommend.sequences import Interactions
from vivim.recommend.titles import read_titles


def data_of(tmp_path: Path, text: str) -> Interactions:
    path = tmp_path / "data.csv"
    path.write_text(text)
    return read_interactions(path)


def counts(result: Audit) -> dict[OddityKind, int]:
    return {oddity.kind: oddity.count for oddity in result.oddities}


PAIRS = "1\ta b c d\n2\tb c a\n3\tc b a e\n4\td d\n"


def test_table_one_by_hand(tmp_path: Path) -> None:
    result = audit(data_of(tmp_path, PAIRS))
    assert result.facts == {
        "users": 4,
        "items": 5,
        "interactions": 13,
        "sparsity": pytest.approx(1 - 12 / 20),  # d d is one cell
        "length mean": 13 / 4,
        "length min": 2,
        "length 25 %": 2,
        "length median": 3,
        "length 75 %": 4,
        "length 95 %": 4,
        "length max": 4,
        "users asked": 3,
        "items ranked": 5,
        "interactions kept": 11,
        "interactions to train on": 5,
    }
    assert counts(result) == {
        OddityKind.USERS_TOO_SHORT: 1,
        OddityKind.REPEATED_INTERACTIONS: 1,
        OddityKind.ITEMS_NEVER_TRAINED: 2,  # d and e
        OddityKind.TARGETS_NEVER_TRAINED: 2,
    }


def test_as_json_and_as_lines(tmp_path: Path) -> None:
    result = audit(data_of(tmp_path, PAIRS))
    again = json.loads(json.dumps(result.as_dict()))
    assert again["facts"]["users"] == 4
    assert again["oddities"][0]["kind"] == "users too short"
    assert again["oddities"][0]["message"] == "users left out for fewer than 3 interactions: 1. 3 users are left."
    assert dict(result.lines())["sparsity"] == "40.00%"


def test_times(tmp_path: Path) -> None:
    rows = "1,a,1600000000\n1,b,1600000000\n1,c,1600000000\n1,d,5\n2,a,1600000000\n2,b,1600000001\n2,c,1600000002\n"
    result = audit(data_of(tmp_path, "user,item,timestamp\n" + rows))
    assert counts(result)[OddityKind.TIES_IN_TIME] == 2  # the first of user 2 ties with nobody
    assert counts(result)[OddityKind.IMPLAUSIBLE_TIMES] == 1
    assert result.facts["last interaction"] == "2020-09-13T12:26:42"


def test_windows_and_repeats(tmp_path: Path) -> None:
    result = audit(data_of(tmp_path, "1\told a b c\n2\ta b a\n"), protocol=ProtocolConfig(keep_last=3))
    assert counts(result) == {
        OddityKind.REPEATED_INTERACTIONS: 1,
        OddityKind.ITEMS_NOT_RANKED: 1,
        OddityKind.ITEMS_NEVER_TRAINED: 2,
        OddityKind.TARGETS_NEVER_TRAINED: 1,
        OddityKind.REPEATED_TARGETS: 1,
    }


def test_nobody_left_is_said_not_raised(tmp_path: Path) -> None:
    result = audit(data_of(tmp_path, "user,item\n1,a\n2,b\n"))
    assert [oddity.kind for oddity in result.oddities] == [OddityKind.USERS_TOO_SHORT]
    assert "everyone: nothing can be trained" in result.oddities[0].message
    assert "users asked" not in result.facts


def test_damaged_ids(tmp_path: Path) -> None:
    found = counts(audit(data_of(tmp_path, "1\t12.0 nan 007 7 1e3\n")))
    assert found[OddityKind.FLOAT_IDS] == found[OddityKind.MISSING_WORD_IDS] == found[OddityKind.SAME_NUMBER_IDS] == 1


def test_clips_and_vectors(tmp_path: Path) -> None:
    result = audit(data_of(tmp_path, PAIRS), clip_ids=["a", "b", "x"], vector_ids={"a", "b", "c", "d", "e"})
    assert (result.facts["clips"], result.facts["items with a clip"], result.facts["items with a vector"]) == (3, 2, 5)
    found = counts(result)
    assert (found[OddityKind.CLIPS_MISSING], found[OddityKind.CLIPS_UNUSED]) == (3, 1)
    assert OddityKind.VECTORS_MISSING not in found


def test_ids_off_by_one_are_noticed(tmp_path: Path) -> None:
    data = data_of(tmp_path, "u\t" + " ".join(str(n) for n in range(1, 21)) + "\n")
    result = audit(data, vector_ids={str(n) for n in range(20)})
    oddity = next(oddity for oddity in result.oddities if oddity.kind is OddityKind.VECTORS_OFF_BY_ONE)
    assert "Item n seems to be vector n-1" in oddity.message
    assert OddityKind.VECTORS_OFF_BY_ONE not in counts(audit(data, vector_ids={str(n) for n in range(1, 20)}))  # one is missing


def test_off_by_one() -> None:
    def text(*numbers: int) -> list[str]:
        return [str(number) for number in numbers]

    holes = [n for n in range(1, 40) if n % 7]
    assert off_by_one(text(*holes), text(*(n + 1 for n in holes))) == 1
    assert off_by_one(text(*holes), text(*(n - 1 for n in holes))) == -1
    assert off_by_one(text(*holes), text(*holes[5:])) == 0
    assert off_by_one(text(*holes), text(*range(100, 140))) == 0
    assert off_by_one(text(1, 2), text(0, 1)) == 0  # too few to tell
    assert off_by_one([*text(*holes), "a"], text(*(n - 1 for n in holes))) == 0


TITLES = {
    "header": ("item,title\n1,One\n2,Two\n", {"1": "One", "2": "Two"}),
    "no header": ("1,One\n2,Two\n", {"1": "One", "2": "Two"}),
    "commas": ('1,a, b, c\n2,"d, e"\n', {"1": "a, b, c", "2": "d, e"}),
    "tabs": ("1\ta, b\n2\tc\n", {"1": "a, b", "2": "c"}),
    "quotes": ('1,"say ""hi"", you"\n2,an "inner" quote\n', {"1": 'say "hi", you', "2": 'an "inner" quote'}),
    "line break in quotes": ('item,title\n1,"two\nlines"\n2,x\n', {"1": "two\nlines", "2": "x"}),
    "never closed": ('1,"open\n2,"fine"\n3,"open too\n4,x\n', {"1": '"open', "2": "fine", "3": '"open too', "4": "x"}),
    "empty, blank, windows": ("\ufeffitem,title\r\n1,\r\n\r\n2,b\r\n", {"1": "", "2": "b"}),
    "ids that are words": ('item_id,name\nclip_a,"A, b"\nclip_b,"open\nclip_c,C\n', {"clip_a": "A, b", "clip_b": '"open', "clip_c": "C"}),
    "no last line end": ("1,a", {"1": "a"}),
    "other scripts": ("1,短视频，你好\n", {"1": "短视频，你好"}),
    "formulas and markup are text": ("1,=cmd|x\n2,<b>\n", {"1": "=cmd|x", "2": "<b>"}),
}


@pytest.mark.parametrize(("text", "expected"), TITLES.values(), ids=TITLES.keys())
def test_titles_as_people_write_them(tmp_path: Path, text: str, expected: dict[str, str]) -> None:
    path = tmp_path / "titles.csv"
    path.write_bytes(text.encode())
    assert read_titles(path).by_id == expected


def test_titles_that_cannot_be_read(tmp_path: Path) -> None:
    path = tmp_path / "titles.csv"
    path.write_text("1,a\nno separator\n")
    with pytest.raises(InputError, match="line 2 is 'no separator'; expected an item id, a comma"):
        read_titles(path)
    path.write_bytes(b"1,a\n2,\xff\n")
    with pytest.raises(InputError, match="line 2 is not UTF-8"):
        read_titles(path)


def test_odd_titles_are_counted(tmp_path: Path) -> None:
    path = tmp_path / "titles.csv"
    path.write_text("a,A\na,again\nb,\nx,X\n")
    found = counts(audit(data_of(tmp_path, PAIRS), titles=path))
    assert found[OddityKind.TITLES_REPEATED] == found[OddityKind.TITLES_EMPTY] == found[OddityKind.TITLES_UNUSED] == 1
    assert found[OddityKind.TITLES_MISSING] == 3


def test_microlens_50k(shared_data: Path) -> None:
    folder = shared_data / "microlens-50k"
    result = audit(
        read_interactions(folder / "MicroLens-50k_pairs.tsv"),
        clip_ids={path.stem for path in (folder / "MicroLens-50k_videos").iterdir()},
        titles=folder / "MicroLens-50k_titles.csv",
    )
    assert dict(result.lines())["sparsity"] == "99.96%"
    assert (result.facts["titles"], result.facts["items with a clip"]) == (19_220, 3)
    assert counts(result) == {
        OddityKind.ITEMS_NOT_RANKED: 121,
        OddityKind.ITEMS_NEVER_TRAINED: 768,
        OddityKind.TARGETS_NEVER_TRAINED: 2261,
        OddityKind.CLIPS_MISSING: 19_217,
    }
