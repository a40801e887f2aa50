"""A global cut in time: by hand, against a plain loop, and through training of models that read histories and models that know ids."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from vivim.errors import InputError
from vivim.progress import SILENT
from vivim.recommend.checkpoint import RunFolder
from vivim.recommend.config import EvaluateConfig, ProtocolConfig, RecommendConfig
from vivim.recommend.evaluation import evaluate_run
from vivim.recommend.protocol import Split
from vivim.recommend.sequences import Interactions, Sequences
from vivim.recommend.temporal import TemporalProtocol
from vivim.recommend.train import train_run
from vivim.store.item_index import ItemIndex

Watched = list[tuple[int, int]]  # (item, time)


def interactions(*histories: Watched) -> Interactions:
    offsets = np.cumsum([0, *map(len, histories)]).astype(np.int64)
    flat = [pair for history in histories for pair in history]
    return Interactions(
        users=ItemIndex(f"u{n}" for n in range(len(histories))),
        items=ItemIndex(f"i{n}" for n in range(max(item for item, _ in flat) + 1)),
        histories=Sequences(offsets, np.array([item for item, _ in flat], np.int32)),
        times_ms=np.array([time for _, time in flat], np.int64),
        source="by hand",
        sha256="0" * 64,
    )


def split_of(data: Interactions, **options: Any) -> Split:
    return TemporalProtocol(ProtocolConfig(name="temporal", **options)).split(data)


def named(split: Split, rows: Any) -> list[str]:
    return [split.items.ids[row] for row in rows]


# Ten interactions; shares of 0.2 put the cuts at the times of the 7th and 9th: 70 and 90.
BY_HAND: list[Watched] = [
    [(0, 10), (1, 20), (2, 70), (3, 91)],  # trained on 0 1, asked for 2 and for 3
    [(1, 30), (0, 40), (4, 90)],  # trained on 1 0, not asked on validation, asked for 4, which training never saw
    [(5, 50), (0, 60), (1, 80)],  # trained on 5 0, asked for 1 on validation, gone by the test
]


def test_by_hand() -> None:
    split = split_of(interactions(*BY_HAND), validation_share=0.2, test_share=0.2, max_len=2)
    assert [named(split, row) for row in split.train] == [["i0", "i1"], ["i1", "i0"], ["i5", "i0"]]
    assert split.validation.users.tolist() == [0, 2]
    assert named(split, split.validation.targets) == ["i2", "i1"]
    assert [named(split, row) for row in split.validation.seen] == [["i0", "i1"], ["i5", "i0"]]
    assert split.test.users.tolist() == [0, 1]
    assert named(split, split.test.targets) == ["i3", "i4"]
    assert [named(split, row) for row in split.test.seen] == [["i0", "i1", "i2"], ["i1", "i0"]]  # what validation asked for is history now
    assert [named(split, row) for row in split.test.histories] == [["i1", "i2"], ["i1", "i0"]]
    assert split.items.ids == ("i0", "i1", "i2", "i3", "i4", "i5")  # i4 is cold, and ranked
    assert split.leakage is not None
    assert (split.leakage.later, split.leakage.unborn, split.leakage.line) == (0, 0, "")
    card = split.card.as_dict()
    assert (card["users"], card["users_validation"], card["interactions"]) == (2, 2, 10)
    assert (card["validation_from"], card["test_from"]) == ("1970-01-01T00:00:00.070", "1970-01-01T00:00:00.090")
    assert "keep_last" not in card


def test_equal_times_at_a_cut_go_to_the_later_side() -> None:
    split = split_of(
        interactions([(0, 1), (1, 5), (2, 5), (3, 5)], [(4, 2), (5, 3), (6, 5), (7, 9)]), validation_share=0.25, test_share=0.1
    )
    # Shares alone would begin validation in the middle of the four at 5; all of them are validation.
    assert [named(split, row) for row in split.train] == [["i0"], ["i4", "i5"]]
    assert named(split, split.validation.targets) == ["i1", "i6"]
    assert named(split, split.test.targets) == ["i7"]


def test_who_watched_nothing_before_is_not_asked_and_who_came_in_validation_is() -> None:
    histories: list[Watched] = [
        [(0, 1), (1, 2), (2, 3)],
        [(0, 4), (1, 5), (2, 17)],
        [(3, 11), (0, 12), (1, 18)],
        [(2, 15), (0, 19), (1, 20)],
    ]
    split = split_of(interactions(*histories), validation_share=0.25, test_share=0.25)  # cuts at 12 and 18
    assert split.train.lengths.tolist() == [3, 2, 1, 0]
    assert split.validation.users.tolist() == [1, 2]
    assert split.test.users.tolist() == [2, 3]
    assert named(split, split.test.seen[1]) == ["i2"]  # of validation alone


@pytest.mark.parametrize(
    ("histories", "options", "says"),
    [
        ([[(0, 1), (1, 2), (2, 3)]], {"min_interactions": 4}, "none of 1 users has the 4 interactions"),
        ([[(0, 1), (1, 2), (2, 3), (3, 4)], [(0, 6), (1, 7), (2, 8), (3, 9)]], {"test_share": 0.5}, "nobody can be asked on test"),
        ([[(0, 1), (1, 1), (2, 1)]], {}, "no user has 2 interactions to train on and nobody can be asked on validation and nobody"),
    ],
)
def test_nobody_to_ask_is_an_error_that_says_what_is_missing(histories: list[Watched], options: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError, match=says):
        split_of(interactions(*histories), **options)


def test_without_times_it_says_what_to_bring() -> None:
    data = interactions(*BY_HAND)
    untimed = Interactions(data.users, data.items, data.histories, None, "file.tsv", data.sha256)
    with pytest.raises(InputError, match=r"file\.tsv has no times.*data\.time_column.*leave-one-out"):
        split_of(untimed)


HISTORIES = st.lists(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 12)), min_size=1, max_size=8), min_size=2, max_size=8)


@settings(deadline=None)
@given(HISTORIES, st.sampled_from([0.1, 0.2, 0.35]), st.sampled_from([0.1, 0.2, 0.35]), st.integers(1, 5), st.booleans())
def test_against_a_plain_loop(histories: list[Watched], validation_share: float, test_share: float, max_len: int, full: bool) -> None:
    histories = [sorted(history, key=lambda pair: pair[1]) for history in histories]
    kept = {f"u{n}": history for n, history in enumerate(histories) if len(history) >= 3}
    assume(kept)
    times = sorted(time for history in kept.values() for _, time in history)
    first = times[min(round(len(times) * (1 - (test_share + validation_share))), len(times) - 1)]
    second = times[min(round(len(times) * (1 - test_share)), len(times) - 1)]
    train = [[f"i{item}" for item, time in history if time < first] for history in kept.values()]
    asked: dict[str, list[tuple[str, list[str], str]]] = {"validation": [], "test": []}
    for user, history in kept.items():
        for name, begin, end in (("validation", first, second), ("test", second, 10**9)):
            before = [f"i{item}" for item, time in history if time < begin]
            within = [f"i{item}" for item, time in history if begin <= time < end]
            if before and within:
                asked[name].append((user, before, within[0]))
    options = {"validation_share": validation_share, "test_share": test_share, "max_len": max_len, "full_catalogue": full}
    data = interactions(*histories)
    if not (asked["validation"] and asked["test"] and any(len(row) >= 2 for row in train)):
        with pytest.raises(InputError, match="with cuts at"):
            split_of(data, **options)
        return
    split = split_of(data, **options)
    assert list(split.users.ids) == list(kept)
    assert [named(split, row) for row in split.train] == train
    assert set(split.items.ids) == set(data.items.ids if full else (f"i{item}" for history in kept.values() for item, _ in history))
    for questions, expected in ((split.validation, asked["validation"]), (split.test, asked["test"])):
        found = zip(questions.users, questions.seen, questions.targets, strict=True)
        assert [(split.users.ids[u], named(split, seen), split.items.ids[t]) for u, seen, t in found] == expected
        assert [named(split, shown) for shown in questions.histories] == [before[-max_len:] for _, before, _ in expected]
    assert split.leakage is not None and not split.leakage.line


def staggered() -> Interactions:
    """Forty viewers of a ring of 30 items, item by item; each begins later than the one before, so that the last come after the cut."""
    return interactions(*([((u + i) % 30, 40 * u + 100 * i) for i in range(9)] for u in range(40)))


@pytest.mark.parametrize("kind", ["dssm", "lightgcn", "item-knn", "gru4rec", "bm25"])
def test_every_kind_of_model_trains_and_answers(tmp_path: Path, kind: str) -> None:
    data = staggered()
    sections = {
        "protocol": {"name": "temporal", "validation_share": 0.25, "test_share": 0.25},
        "items": {"kind": "ids"},
        "model": {"kind": kind, "d_model": 8, "layers": 1},
        "train": {"epochs": 1, "batch": 16},
    }
    config = RecommendConfig.model_validate(sections)
    done = train_run(data, None, config, tmp_path / "run", seed=1, device="cpu", resume=False, progress=SILENT, data_location={"path": "x"})
    unknown = (done.split.train.lengths == 0) & np.isin(np.arange(len(done.split.users)), done.split.test.users)
    assert unknown.any()  # users who came between training and test are among those asked
    report = evaluate_run(RunFolder.open(tmp_path / "run"), data, EvaluateConfig(k=(5,)), progress=SILENT)
    assert [s.questions for s in report.splits] == [len(done.split.validation), len(done.split.test)]
    assert json.loads((tmp_path / "run" / "run.json").read_text())["card"]["protocol"] == "temporal"
    if kind in ("dssm", "lightgcn"):
        users_UD = RunFolder.open(tmp_path / "run").read_tensors("model.safetensors")["users"]
        known = done.split.train.lengths > 0
        np.testing.assert_allclose(
            users_UD[unknown].numpy(), users_UD[known].numpy().mean(0)[None].repeat(unknown.sum(), 0), rtol=1e-5, atol=1e-7
        )


def test_ml_100k_has_times_and_a_cut(shared_data: Path) -> None:
    from vivim.recommend.readers import read_interactions

    data = read_interactions(shared_data / "ml-100k" / "ml-100k.inter")
    split = split_of(data)
    assert len(split.train.items) == pytest.approx(0.8 * len(data), rel=0.001)
    assert split.leakage is not None and not split.leakage.line
    assert 0 < len(split.test) < len(split.users)
