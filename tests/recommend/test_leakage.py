"""Leakage counted by hand, and what is said of it."""

import statistics
from pathlib import Path

import numpy as np
from vivim.recommend.audit import audit
from vivim.recommend.build import protocol_of
from vivim.recommend.config import ProtocolConfig
from vivim.recommend.leakage import Leakage, leakage_lines, measure_leakage
from vivim.recommend.oddities import OddityKind
from vivim.recommend.readers import read_interactions


def measured(train: list[tuple[int, int]], asked: list[tuple[int, int]]) -> Leakage:
    items, times = (np.array(column, np.int64) for column in zip(*train, strict=True))
    targets, at = (np.array(column, np.int64) for column in zip(*asked, strict=True))
    return measure_leakage(items.astype(np.int32), times, targets.astype(np.int32), at)


def test_by_hand() -> None:
    found = measured(train=[(0, 10), (0, 30), (1, 40), (2, 50)], asked=[(0, 20), (1, 35), (2, 60), (7, 5)])
    # Median question: 27.5. Item 0 was there before 20, item 1 came after 35, item 2 before 60, item 7 never.
    assert found == Leakage(training=4, later=3, questions=4, unborn=1)
    assert found.line.startswith(
        "leakage: 75.0% of the training interactions are later than the median test question, and the targets of 25.0%"
    )
    assert "protocol.name: temporal" in found.line


def test_the_same_moment_is_not_later() -> None:
    found = measured(train=[(0, 20), (1, 20)], asked=[(0, 20), (1, 20)])
    assert found == Leakage(training=2, later=0, questions=2, unborn=0)
    assert found.line == ""


def test_every_result_of_leave_one_out_has_a_line_and_none_of_a_cut_by_time() -> None:
    leaking, clean = Leakage(4, 3, 4, 1), Leakage(4, 0, 4, 0)
    for protocol in ("microlens", "leave-one-out"):
        assert leakage_lines(protocol, leaking) == [leaking.line]
        assert "measured, and none" in leakage_lines(protocol, clean)[0]
        assert "the file has no times" in leakage_lines(protocol, None)[0]
    assert leakage_lines("temporal", clean) == []


# Two users, one after the other: all that the second is trained on comes after the first is asked.
TEXT = (
    "user,item,timestamp\n"
    + "".join(f"1,{i},{1600000000 + n}\n" for n, i in enumerate("abcz"))
    + "".join(f"2,{i},{1700000000 + n}\n" for n, i in enumerate("zbcda"))
)


def test_microlens_and_leave_one_out_leak_and_temporal_does_not(tmp_path: Path) -> None:
    (tmp_path / "data.csv").write_text(TEXT)
    data = read_interactions(tmp_path / "data.csv")
    for name in ("microlens", "leave-one-out"):
        # Asked: z at 1600000003, a at 1700000004; trained on a b at 16..., z b c at 17...; z is known from later, a is not.
        assert protocol_of(ProtocolConfig(name=name)).split(data).leakage == Leakage(5, 3, 2, 1)
    found = {oddity.kind: oddity for oddity in audit(data).oddities}[OddityKind.TRAINED_ON_LATER]
    assert found.count == 3
    assert "60.0% of the training interactions" in found.message


def test_without_times_nothing_is_measured(tmp_path: Path) -> None:
    (tmp_path / "data.tsv").write_text("1\ta b c\n2\tb c d\n")
    data = read_interactions(tmp_path / "data.tsv")
    assert protocol_of(ProtocolConfig()).split(data).leakage is None
    assert OddityKind.TRAINED_ON_LATER not in {oddity.kind for oddity in audit(data).oddities}


def test_ml_100k_leaks_under_leave_one_out_as_a_plain_loop_counts(shared_data: Path) -> None:
    path = shared_data / "ml-100k" / "ml-100k.inter"
    watched: dict[str, list[tuple[float, str]]] = {}
    for line in path.read_text().splitlines()[1:]:
        user, item, _, time = line.split("\t")
        watched.setdefault(user, []).append((float(time), item))
    histories = [sorted(history, key=lambda pair: pair[0]) for history in watched.values()]
    train, asked = [pair for history in histories for pair in history[:-2]], [history[-1] for history in histories]
    middle = statistics.median(time for time, _ in asked)
    first: dict[str, float] = {}
    for time, item in train:
        first[item] = min(time, first.get(item, time))
    expected = Leakage(
        training=len(train),
        later=sum(time > middle for time, _ in train),
        questions=len(asked),
        unborn=sum(item in first and first[item] > time for time, item in asked),
    )
    assert protocol_of(ProtocolConfig(name="leave-one-out")).split(read_interactions(path)).leakage == expected
    assert expected.later > 0.3 * expected.training
