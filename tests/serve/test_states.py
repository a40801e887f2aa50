"""Kept states are what the whole history gives, however they came to be so."""

import random
import weakref
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from vivim.recommend.recommender import Recommender
from vivim.serve.states import UserStates, size_bytes


@pytest.fixture
def states():
    return UserStates(max_users=10)


def same(found, snapshot, fold, history):
    """The state found is the fold over ``history``, ids."""
    scores_N, watched = fold(snapshot, history)
    assert found.folded.state.watched == watched
    torch.testing.assert_close(snapshot.recommender.scores(found.folded.state)[0], scores_N, rtol=1e-4, atol=1e-4)
    return True


def base_of(ring, user):
    return [ring.items.ids[row] for row in ring.histories[ring.users.row_of(user)]]


@pytest.mark.parametrize("kind", ["mamba", "sasrec", "item-knn"])
def test_a_state_is_the_fold_over_training_and_events_and_one_event_is_one_step(snapshot_of, ring, log, states, fold, kind):
    snapshot, history = snapshot_of(kind), base_of(ring, "u03")
    found = states.current(snapshot, "u03", log)
    assert found.how == "rebuilt"
    assert same(found, snapshot, fold, history)
    for n, item in enumerate(("i20", "i02", "i20")):
        log.append("u03", str(n), item, n)
        history.append(item)
        found = states.current(snapshot, "u03", log)
        assert (found.how, found.folded.events) == ("stepped", n + 1)
        assert same(found, snapshot, fold, history)
        assert states.current(snapshot, "u03", log).how == "kept"
    assert (states.counts.rebuilt, states.counts.stepped, states.counts.steps, states.counts.kept) == (1, 3, 3, 3)


@pytest.fixture
def continued(monkeypatch):
    """The rows of every step that is made."""
    steps = []
    before = Recommender.continued
    monkeypatch.setattr(Recommender, "continued", lambda self, state, rows: (steps.append(list(rows)), before(self, state, rows))[1])
    return steps


def test_a_step_that_was_made_while_its_event_was_written_is_taken(snapshot_of, ring, log, states, fold, continued):
    snapshot = snapshot_of()
    states.current(snapshot, "u03", log)
    continued.clear()
    states.foresee(snapshot, "u03", "i20")
    assert continued == [[20]]
    log.append("u03", "a", "i20")
    found = states.current(snapshot, "u03", log)
    assert (found.how, continued) == ("stepped", [[20]])
    assert found.ahead_seconds > 0
    assert same(found, snapshot, fold, [*base_of(ring, "u03"), "i20"])
    assert states.current(snapshot, "u03", log) == (found.folded, "kept", 0.0)


@pytest.mark.parametrize("what", ["nothing", "another item", "two", "another before", "another snapshot"])
def test_a_step_that_was_foreseen_wrongly_is_not_taken(snapshot_of, ring, log, states, fold, continued, what):
    snapshot, history = snapshot_of(), base_of(ring, "u03")
    states.current(snapshot, "u03", log)
    states.foresee(snapshot, "u03", "i20")
    events = {"nothing": [], "another item": ["i05"], "two": ["i20", "i05"], "another before": ["i05", "i20"], "another snapshot": ["i20"]}
    if what == "another before":
        log.append("u03", "first", "i05")
        states.current(snapshot, "u03", log)
    if what == "another snapshot":
        snapshot = snapshot_of(extra_ids=("new",), extra=np.ones((1, 16), np.float32))
    continued.clear()
    for item in events[what][1 if what == "another before" else 0 :]:
        log.append("u03", f"then {item}", item)
    found = states.current(snapshot, "u03", log)
    assert (len(continued), found.ahead_seconds) == (0 if what == "nothing" else 1, 0.0)
    assert same(found, snapshot, fold, [*history, *events[what]])


def test_a_step_that_nobody_asks_for_does_not_keep_its_snapshot(snapshot_of, log, states):
    snapshot = snapshot_of()
    states.current(snapshot, "somebody", log)
    states.foresee(snapshot, "somebody", "i01")
    gone = weakref.ref(snapshot)
    del snapshot
    assert gone() is None


def test_steps_that_nobody_asks_for_are_forgotten(snapshot_of, log):
    snapshot, states = snapshot_of(), UserStates(max_users=200)
    for n in range(100):
        states.current(snapshot, f"somebody {n}", log)
        states.foresee(snapshot, f"somebody {n}", "i01")
    assert len(states._foreseen) == 64
    states.foresee(snapshot, "nobody kept", "i01")
    states.foresee(snapshot, "somebody 1", "unknown")
    assert len(states._foreseen) == 64


def test_several_events_at_once_are_read_side_by_side(snapshot_of, ring, log, states, fold):
    snapshot = snapshot_of()
    states.current(snapshot, "u00", log)
    for n in range(5):
        log.append("u00", str(n), f"i{n:02d}", n)
    found = states.current(snapshot, "u00", log)
    assert (found.how, states.counts.steps) == ("stepped", 5)
    assert same(found, snapshot, fold, [*base_of(ring, "u00"), "i00", "i01", "i02", "i03", "i04"])


def test_a_late_event_takes_its_place_and_an_undone_one_leaves_it(snapshot_of, log, states, fold):
    snapshot = snapshot_of()
    log.append("new", "a", "i05", 100)
    log.append("new", "c", "i07", 300)
    before = states.current(snapshot, "new", log)
    assert log.append("new", "b", "i20", 200).late
    found = states.current(snapshot, "new", log)
    assert found.how == "rebuilt"
    assert same(found, snapshot, fold, ["i05", "i20", "i07"])
    log.remove("new", "b")
    found = states.current(snapshot, "new", log)
    assert found.how == "rebuilt"
    assert same(found, snapshot, fold, ["i05", "i07"])
    assert torch.equal(found.folded.state.user_1D, before.folded.state.user_1D)


def test_an_event_that_replaces_another_is_seen_though_the_number_is_the_same(snapshot_of, log, states, fold):
    snapshot = snapshot_of()
    log.append("new", "a", "i05", 100)
    states.current(snapshot, "new", log)
    log.remove("new", "a")
    log.append("new", "b", "i09", 100)
    assert same(states.current(snapshot, "new", log), snapshot, fold, ["i09"])


def test_a_state_that_was_evicted_is_made_anew_and_memory_is_bounded(snapshot_of, log, fold):
    snapshot, states = snapshot_of(), UserStates(max_users=2)
    for n in range(5):
        log.append(f"new{n}", "a", f"i{n:02d}", 1)
        states.current(snapshot, f"new{n}", log)
    one = states.current(snapshot, "new4", log).folded.state
    # One layer, d_model 16, expand 2, d_state 8: 3 + 8 numbers a channel, and the user vector; and one watched row.
    assert size_bytes((one.memory, one.user_1D)) == 4 * (32 * (3 + 8) + 16)
    assert (len(states), states.size_bytes, states.counts.evicted) == (2, 2 * (4 * (32 * 11 + 16) + 36), 3)
    states.current(snapshot, "new3", log)  # used last
    log.append("new0", "b", "i11", 2)
    found = states.current(snapshot, "new0", log)
    assert found.how == "rebuilt"
    assert same(found, snapshot, fold, ["i00", "i11"])
    assert states.current(snapshot, "new3", log).how == "kept"
    assert states.current(snapshot, "new4", log).how == "rebuilt"


def test_states_of_another_model_are_never_used(snapshot_of, log, states, fold):
    one, two = snapshot_of(), snapshot_of(seed=1)
    assert one.model_hash != two.model_hash
    log.append("new", "a", "i05", 1)
    for snapshot in (one, two, one, two):
        assert same(states.current(snapshot, "new", log), snapshot, fold, ["i05"])
    assert states.counts.rebuilt == 2


def test_what_was_not_known_is_skipped_and_comes_in_when_it_is_known(snapshot_of, log, states, fold):
    before = snapshot_of()
    vector = before.recommender.scorer.items_ND[7:8].numpy()
    after = snapshot_of(extra_ids=["new clip"], extra=vector)
    assert (after.model_hash, after.index_hash == before.index_hash) == (before.model_hash, False)
    for n, item in enumerate(("i05", "new clip", "i06")):
        log.append("u", str(n), item, n)
    log.append("v", "0", "i05", 0)
    states.current(before, "v", log)
    found = states.current(before, "u", log)
    assert found.folded.skipped == 1
    assert same(found, before, fold, ["i05", "i06"])
    found = states.current(after, "u", log)
    assert (found.how, found.folded.skipped) == ("rebuilt", 0)
    assert same(found, after, fold, ["i05", "new clip", "i06"])
    torch.testing.assert_close(found.folded.state.user_1D, before.recommender.state(["i05", "i07", "i06"]).user_1D)
    assert states.current(after, "v", log).how == "kept", "a state of known items alone lives on"
    replaced = snapshot_of(extra_ids=["new clip"], extra=-vector)
    assert same(states.current(replaced, "u", log), replaced, fold, ["i05", "new clip", "i06"])


def test_a_check_finds_a_state_that_went_wrong_and_puts_it_right(snapshot_of, log, states, fold):
    snapshot = snapshot_of()
    log.append("new", "a", "i05", 1)
    states.current(snapshot, "new", log)
    states.checked(snapshot, "new", log)
    assert states.counts.checks == 1
    assert states.counts.drift_max < 1e-5
    [(key, (folded, size))] = states._kept.items()
    wrong = snapshot.recommender.state(["i25"])
    states._kept[key] = (type(folded)(wrong, folded.events, folded.digest, 0, None), size)
    apart = snapshot.recommender.scores(wrong) - snapshot.recommender.scores(folded.state)
    found = states.checked(snapshot, "new", log)
    assert states.counts.drift_max == pytest.approx(float(apart.abs().max()))
    assert same(states.current(snapshot, "new", log), snapshot, fold, ["i05"])
    assert found.events == 1


def assert_at_once_equals_serially(snapshot_of, log, fold, events, users):
    """Events of many users from many threads, some sent twice and some late, with questions between them, give each user the state of
    the same events one by one."""
    snapshot, states, rng = snapshot_of(), UserStates(max_users=users // 2), random.Random(0)
    work = [(f"p{n % users}", str(n), f"i{rng.randrange(30):02d}", rng.randrange(1000) if n % 10 == 0 else None) for n in range(events)]
    work += rng.sample(work, events // 20)
    rng.shuffle(work)

    def do(event):
        log.append(*event)
        if int(event[1]) % 7 == 0:
            states.current(snapshot, event[0], log)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(do, work))
    total = 0
    for n in range(users):
        head, recorded = log.since(f"p{n}", 0)
        assert [(event.time_ms, event.arrival) for event in recorded] == sorted((event.time_ms, event.arrival) for event in recorded)
        assert same(states.current(snapshot, f"p{n}", log), snapshot, fold, [event.item for event in recorded])
        total += head.events
    assert total == events


def test_events_of_many_users_at_once_equal_the_serial_replay(snapshot_of, log, fold):
    assert_at_once_equals_serially(snapshot_of, log, fold, events=600, users=20)


@pytest.mark.slow
def test_ten_thousand_events_of_a_hundred_users_at_once_equal_the_serial_replay(snapshot_of, log, fold):
    assert_at_once_equals_serially(snapshot_of, log, fold, events=10_000, users=100)
