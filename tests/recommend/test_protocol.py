"""Leave one out, in windows and in whole histories, on histories small enough to divide by hand."""

from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from vivim.errors import InputError
from vivim.recommend.build import protocol_of
from vivim.recommend.config import ProtocolConfig
from vivim.recommend.division import take
from vivim.recommend.protocol import MicroLensProtocol, Split
from vivim.recommend.readers import read_interactions
from vivim.recommend.report import card_line
from vivim.recommend.sequences import Interactions, Sequences
from vivim.store.item_index import ItemIndex


def interactions(*histories: list[int], times: list[int] | None = None) -> Interactions:
    """Users u0, u1, ... and items i0, i1, ... up to the highest number."""
    offsets = np.concatenate([[0], np.cumsum([len(history) for history in histories])]).astype(np.int64)
    items = np.array([item for history in histories for item in history], np.int32)
    return Interactions(
        users=ItemIndex(f"u{n}" for n in range(len(histories))),
        items=ItemIndex(f"i{n}" for n in range(max(items) + 1)),
        histories=Sequences(offsets, items),
        times_ms=None if times is None else np.array(times, np.int64),
        source="by hand",
        sha256="0" * 64,
    )


def named(split: Split, rows: object) -> list[str]:
    return [split.items.ids[row] for row in rows]  # type: ignore[attr-defined]


def test_one_user_by_hand() -> None:
    config = ProtocolConfig(keep_last=6, max_len=3)
    split = MicroLensProtocol(config).split(interactions([7, 6, 5, 4, 3, 2, 1, 0]))
    assert split.items.ids == ("i0", "i1", "i2", "i3", "i4", "i5")  # i7 and i6 lie before the window
    assert named(split, split.train[0]) == ["i5", "i4", "i3", "i2"]
    assert named(split, split.validation.targets) == ["i1"]
    assert named(split, split.validation.histories[0]) == ["i4", "i3", "i2"]
    assert named(split, split.validation.seen[0]) == ["i5", "i4", "i3", "i2"]
    assert named(split, split.test.targets) == ["i0"]
    assert named(split, split.test.histories[0]) == ["i3", "i2", "i1"]  # the validation target is among them
    assert named(split, split.test.seen[0]) == ["i5", "i4", "i3", "i2", "i1"]


def test_the_card_counts() -> None:
    data = interactions([0, 1, 2, 3], [4, 5], [2, 3, 2], [1, 2, 3, 3])
    split = MicroLensProtocol(ProtocolConfig()).split(data)
    assert split.users.ids == ("u0", "u2", "u3")
    assert split.dropped_users == 1
    assert split.items.ids == ("i0", "i1", "i2", "i3")  # i4 and i5 went with their user
    assert (split.card.users, split.card.items, split.card.interactions) == (3, 4, 11)
    assert (split.card.repeated_validation, split.card.repeated_test) == (0, 2)  # u2 and u3 saw their last item before
    assert split.card.ordering == "order in the file"
    assert split.card.catalogue_sha256 == split.items.sha256
    assert split.card.as_dict()["keep_last"] == 13


def test_the_card_says_that_times_were_known() -> None:
    split = MicroLensProtocol(ProtocolConfig()).split(interactions([0, 1, 2], times=[5, 5, 6]))
    assert split.card.ordering == "time, then order in the file (stable)"


def test_a_full_catalogue_keeps_what_no_window_holds() -> None:
    split = MicroLensProtocol(ProtocolConfig(keep_last=3, full_catalogue=True)).split(interactions([5, 4, 3, 2, 1], [0, 1]))
    assert split.items.ids == ("i0", "i1", "i2", "i3", "i4", "i5")
    assert named(split, split.test.seen[0]) == ["i3", "i2"]


def test_short_histories_have_short_parts() -> None:
    split = MicroLensProtocol(ProtocolConfig()).split(interactions([0, 1, 2]))
    assert named(split, split.train[0]) == named(split, split.validation.histories[0]) == ["i0"]


def test_nobody_left_is_an_error_with_the_counts() -> None:
    with pytest.raises(InputError, match=r"none of 2 users has the 5 interactions .* longest history has 4"):
        MicroLensProtocol(ProtocolConfig(min_interactions=5)).split(interactions([0, 1, 2, 3], [1]))


def test_histories_against_time_stop_the_split() -> None:
    with pytest.raises(AssertionError, match="time order"):
        MicroLensProtocol(ProtocolConfig()).split(interactions([0, 1, 2], [0, 1, 2], times=[1, 2, 3, 1, 3, 2]))


def test_take_by_hand() -> None:
    sequences = Sequences(np.array([0, 3, 5], np.int64), np.arange(5, dtype=np.int32))
    taken = take(sequences, np.array([1, 3, 0]), np.array([2, 0, 1]))
    assert [taken[s].tolist() for s in range(3)] == [[1, 2], [], [0]]


HISTORIES = st.lists(st.lists(st.integers(0, 12), min_size=1, max_size=20), min_size=1, max_size=12)


@settings(deadline=None)
@given(HISTORIES, st.integers(3, 15), st.integers(1, 12), st.integers(3, 6), st.booleans())
def test_against_a_plain_loop(histories: list[list[int]], keep_last: int, max_len: int, least: int, full: bool) -> None:
    config = ProtocolConfig(keep_last=keep_last, max_len=max_len, min_interactions=least, full_catalogue=full)
    kept = [(f"u{n}", [f"i{item}" for item in history][-keep_last:]) for n, history in enumerate(histories) if len(history) >= least]
    data = interactions(*histories)
    if not kept:
        with pytest.raises(InputError):
            MicroLensProtocol(config).split(data)
        return
    split = MicroLensProtocol(config).split(data)
    assert list(split.users.ids) == [user for user, _ in kept]
    assert set(split.items.ids) == set(data.items.ids if full else (item for _, window in kept for item in window))
    for u, (_, window) in enumerate(kept):
        assert named(split, split.train[u]) == window[:-2]
        for questions, end in ((split.validation, len(window) - 2), (split.test, len(window) - 1)):
            assert questions.users[u] == u
            assert split.items.ids[questions.targets[u]] == window[end]
            assert named(split, questions.histories[u]) == window[:end][-max_len:]
            assert named(split, questions.seen[u]) == window[:end]
    assert split.card.repeated_test == sum(window[-1] in window[:-1] for _, window in kept)


@settings(deadline=None)
@given(HISTORIES, st.data())
def test_the_last_interactions_do_not_change_what_is_trained_on(histories: list[list[int]], data: st.DataObject) -> None:
    """Other targets, same training: nothing of the future reaches the past."""
    histories = [history for history in histories if len(history) >= 3]
    if not histories:
        return
    changed = [history[:-2] + data.draw(st.lists(st.integers(0, 12), min_size=2, max_size=2)) for history in histories]
    one, other = (
        MicroLensProtocol(ProtocolConfig(full_catalogue=True)).split(interactions(*each, [0, 1, 12])) for each in (histories, changed)
    )
    np.testing.assert_array_equal(one.train.items, other.train.items)
    np.testing.assert_array_equal(one.validation.histories.items, other.validation.histories.items)


def test_microlens_50k_keeps_what_the_reference_counts(shared_data: Path) -> None:
    data = read_interactions(shared_data / "microlens-50k" / "MicroLens-50k_pairs.tsv")
    split = MicroLensProtocol(ProtocolConfig()).split(data)
    assert len(split.test) == 50_000
    assert split.dropped_users == 0
    assert split.card.repeated_test == 0  # no user of MicroLens repeats an item
    assert len(split.train.items) == split.card.interactions - 2 * 50_000
    assert split.test.histories.lengths.max() == 10
    cold = ~np.isin(split.test.targets, split.train.items)
    assert cold.mean() == pytest.approx(0.045, abs=0.0005)


def test_leave_one_out_uses_whole_histories() -> None:
    data = interactions(list(range(20)), [3, 4])
    split = protocol_of(ProtocolConfig(name="leave-one-out", max_len=3)).split(data)
    assert split.users.ids == ("u0",)
    assert named(split, split.train[0]) == [f"i{n}" for n in range(18)]
    assert named(split, split.validation.targets) == ["i18"]
    assert named(split, split.test.targets) == ["i19"]
    assert named(split, split.test.histories[0]) == ["i16", "i17", "i18"]
    assert named(split, split.test.seen[0]) == [f"i{n}" for n in range(19)]
    assert "keep_last" not in split.card.as_dict()
    assert split.card.seen_rule.startswith("all items watched before")


def test_seen_items_may_be_kept_in_the_ranking() -> None:
    data = interactions([0, 1, 2, 3], [2, 3, 2], [1, 2, 3, 3])
    masked, kept = (protocol_of(ProtocolConfig(name="leave-one-out", seen=seen)).split(data) for seen in ("masked", "kept"))
    assert named(kept, kept.test.seen[0]) == ["i0", "i1", "i2"], "history lengths are counted from it all the same"
    assert not len(kept.test.masked.items)
    assert masked.test.masked.items.tolist() == masked.test.seen.items.tolist()
    assert (masked.card.repeated_test, kept.card.repeated_test) == (2, 0)
    assert kept.card.seen_rule.startswith("nothing is masked")
    assert kept.card.as_dict() != masked.card.as_dict()
    assert not kept.test.take(np.array([1, 2])).masks_seen


def test_the_card_of_microlens_has_the_fields_it_always_had() -> None:
    card = protocol_of(ProtocolConfig()).split(interactions([0, 1, 2], times=[5, 5, 6])).card.as_dict()
    assert list(card) == [
        "protocol", "dataset_sha256", "catalogue_sha256", "users", "items", "interactions", "keep_last", "max_len", "min_interactions",
        "seen_rule", "tie_rule", "ordering", "repeated_validation", "repeated_test",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("config", "says"),
    [
        (ProtocolConfig(name="leave-one-out", keep_last=50), r"protocol\.keep_last = 50 is an option of protocol\.name microlens"),
        (ProtocolConfig(name="temporal", keep_last=50), r"protocol\.keep_last = 50 .* this is temporal"),
        (ProtocolConfig(test_share=0.2), r"protocol\.test_share = 0\.2 is an option of protocol\.name temporal"),
        (ProtocolConfig(name="temporal", test_share=0.5, validation_share=0.5), "leave nothing to train on"),
    ],
)
def test_options_that_would_do_nothing_are_refused(config: ProtocolConfig, says: str) -> None:
    with pytest.raises(InputError, match=says):
        protocol_of(config)


@pytest.mark.parametrize("name", ["microlens", "leave-one-out", "temporal"])
def test_every_protocol_has_a_line_of_its_own(name: Literal["microlens", "leave-one-out", "temporal"]) -> None:
    data = interactions(*[[n, n + 1, n + 2, n + 3] for n in range(5)], times=[t * 1000 + u for u in range(5) for t in range(4)])
    config = ProtocolConfig(name=name, **({"validation_share": 0.25, "test_share": 0.25} if name == "temporal" else {}))
    line = card_line(protocol_of(config).split(data).card.as_dict())
    own = {
        "microlens": "last 13 kept, leave one out",
        "leave-one-out": "whole histories, leave one out",
        "temporal": "training before 1970-01-01T00:00:02.000, validation before 1970-01-01T00:00:03.000, then test (UTC)",
    }
    assert line.startswith(f"protocol {name}: {own[name]}, ")
    assert "input 10, full ranking of 8 items for 5 users" in line.replace("the first of each user in a span, ", "")
