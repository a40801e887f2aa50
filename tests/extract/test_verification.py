"""What a verification says, on findings made by hand."""

import json
from dataclasses import replace

import pytest
from vivim.errors import VerificationFailed
from vivim.extract.clip import Failure
from vivim.extract.verification import RowCheck, Verification


def check(row, deviation=2e-4, nearest_row=None, nearest_deviation=0.0, **more):
    nearest_row = row if nearest_row is None else nearest_row
    return RowCheck(f"c{row}", row, deviation, 0.001, 1.0, f"c{nearest_row}", nearest_row, nearest_deviation, 2.0**-10, 0.01, **more)


def found(*checks, **more):
    parts = {"rows": 100, "without_clip": 0, "changed": (), "exchanged": {}, "unreadable": ()}
    return Verification(checks=checks, **{**parts, **more})


@pytest.mark.parametrize(
    ("made", "misplaced", "wrong"),
    [
        (check(1), False, False),
        (check(1, 2e-4, 7, 0.0), False, False),  # 7 is a copy: which is nearer is chance
        (check(1, 0.003, 7, 0.0014), True, True),
        (check(1, 0.003, 7, 0.0016), False, False),  # arithmetic may move a clip past its twin
        (check(1, 0.5, 7, 2e-4), True, True),
        (check(1, 0.5, 1, 0.5), False, True),
        (check(1, 0.01), False, False),
        (check(1, 0.0101), False, True),
        (check(1, float("nan"), 0, float("inf")), False, True),
    ],
)
def test_when_a_row_is_wrong(made, misplaced, wrong):
    assert (made.misplaced, made.wrong) == (misplaced, wrong)


def test_a_file_that_passes():
    good = found(check(1), check(2, 3e-4))
    assert good.passed
    assert good.first_line() == "2 of 2 rows are what their clips give; off by 3.0e-04 of their length at most"
    assert good.notes() == [
        "2 of 100 rows were drawn, 2 compared with every row.",
        "So fewer than 77.6% of all rows are wrong, with 95 % confidence; --sample N draws more.",  # (1 - .776) ** 2 = .05
    ]
    assert found(*map(check, range(100))).notes() == ["100 of 100 rows were drawn, 100 compared with every row."]
    assert good.as_dict()["wrong_at_most"] == pytest.approx(1 - 0.05**0.5)
    good.raise_if_wrong()
    assert found(check(1)).first_line().startswith("1 of 1 rows is what its clip gives; ")


def test_a_file_that_fails():
    bad = found(check(1), check(2, 0.5, 7, 2e-4), check(3, 0.2, 3, 0.2), exchanged={"c8": "c9", "c9": "c8"})
    assert bad.first_line() == (
        "FAILED: 2 of 3 rows are not what their clips give, 1 of them the vector of another clip; "
        "2 clips stand in the row of another id, by the hashes of their files"
    )
    assert [made.id for made in bad.wrong] == ["c2", "c3"]
    assert bad.largest_deviation == 2e-4  # of those that are right
    with pytest.raises(VerificationFailed) as caught:
        bad.raise_if_wrong()
    assert caught.value.exit_code == 4
    assert not found(exchanged={"a": "b"}).passed


@pytest.mark.parametrize(
    ("steps", "shift"),
    [((1, 1, 1), 1), ((-2, -2, -2, -2, 5), -2), ((1, 1), 0), ((1, 1, 1, 4), 0), ((), 0)],
)
def test_a_shift_is_most_of_the_misplaced_and_at_least_three(steps, shift):
    assert found(check(90), *(check(10 * k, 0.5, 10 * k + step) for k, step in enumerate(steps))).shift == shift


def test_everything_else_is_told_apart():
    told = found(
        check(0),
        check(1, 0.005, note="read by pyav, was decord"),
        *(check(20 * k, 0.5, 20 * k + 1) for k in (1, 2, 3)),
        without_clip=7,
        changed=tuple("uvwxyz"),
        unreadable=(Failure("t", "timeout", "slow"),),
    )
    assert told.drawn == 5 + 6 + 1
    assert told.notes() == [
        "12 of 100 rows were drawn, 5 compared with every row.",
        "The vectors are shifted: they stand 1 row after their ids.",
        "6 clips (u, v, w, x, y and 1 more) are another file than their rows were made of, and not compared; vivim extract renews them.",
        "1 clip (t (timeout)) is not readable this time, and not compared.",
        "7 rows have no clip here and were not drawn from.",
        "1 clip (c1) is off by more than rounding explains: another processor, device or library made the file.",
        "1 clip (c1) is not read as recorded; c1: read by pyav, was decord.",
    ]


def test_the_numbers_are_json_whatever_they_are():
    bad = found(replace(check(2), deviation=float("nan"), nearest_deviation=float("inf")), exchanged={"a": "b"})
    told = json.loads(json.dumps(bad.as_dict(), allow_nan=False))
    assert (told["passed"], told["drawn"], told["compared"], told["exchanged"]) == (False, 2, 1, {"a": "b"})
    assert (told["wrong"][0]["id"], told["wrong"][0]["deviation"], told["wrong"][0]["row"]) == ("c2", None, 2)
