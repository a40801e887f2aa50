"""What is asked of the service is what its parts know, for every kind of model."""

import shutil
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from vivim.recommend import additions
from vivim.recommend.checkpoint import RunFolder
from vivim.recommend.retrieval import FaissIndex
from vivim.serve import errors
from vivim.serve.config import ServeConfig
from vivim.serve.event_log import EventLog
from vivim.serve.histories import BaseHistories
from vivim.serve.search import AnnSearch
from vivim.serve.served_run import ServedRun
from vivim.serve.service import Service
from vivim.serve.snapshot import Snapshot

VECTOR_MODELS = ["mamba", "sasrec", "dssm"]
OTHERS = ["nfm", "popularity", "item-knn", "bm25"]


def listed(answer):
    return [ranked.item for ranked in answer.items]


def test_who_walks_round_the_ring_is_offered_the_next_item(service_of):
    service = service_of("mamba")
    for at, item in enumerate(("i10", "i11", "i12")):
        service.add_event("somebody new", item, f"e{at}")
        answer = service.recommend_user("somebody new", 3)
        assert listed(answer)[0] == f"i{11 + at}"
        assert item not in listed(answer)
        assert (answer.fallback, answer.skipped, answer.search) == (None, 0, "exact")
    assert listed(service.recommend_history(["i10", "i11", "i12"], 3)) == listed(answer)
    service.remove_event("somebody new", "e2")
    assert listed(service.recommend_user("somebody new", 1)) == ["i12"]
    # Viewer 3 of training watched i03 to i11.
    assert listed(service.recommend_user("u03", 1)) == ["i12"]
    assert "i03" in listed(service.recommend_user("u03", 30, exclude_seen=False))
    assert len(listed(service.recommend_user("u03", 30))) == 30 - 9


@pytest.mark.parametrize("kind", [*VECTOR_MODELS, *OTHERS])
def test_every_kind_of_model_answers_for_everybody(service_of, snapshot_of, ring, kind):
    service, recommender = service_of(kind), snapshot_of(kind).recommender
    answer = service.recommend_user("u03", 5)
    assert (answer.run, answer.fallback, answer.skipped) == (kind, None, 0)
    watched = [ring.items.ids[row] for row in ring.histories[3]]
    want = recommender.top_k(recommender.state(watched, 3), 5)
    assert listed(answer) == [item for item, _ in want]
    assert [ranked.score for ranked in answer.items] == pytest.approx([score for _, score in want], rel=1e-4, abs=1e-4)
    service.add_event("stranger", "i05", "e")
    answer = service.recommend_user("stranger", 5)
    assert answer.fallback == ("popularity+near" if kind == "dssm" else None)
    assert len(answer.items) == 5
    assert "i05" not in listed(answer)
    assert listed(service.recommend_history(["i05"], 5)) == listed(answer)
    assert listed(service.similar("i05", 29)) and "i05" not in listed(service.similar("i05", 29))


def test_nobody_known_is_offered_what_was_watched_most(service_of, snapshot_of):
    service, counts = service_of("mamba"), snapshot_of("mamba").counts_N.numpy()
    most = [f"i{row:02d}" for row in np.argsort(-counts, kind="stable")]
    for answer in (service.recommend_user("stranger", 4), service.recommend_history([], 4), service.recommend_history(["?", "!"], 4)):
        assert listed(answer) == most[:4]
        assert answer.fallback == "popularity"
    assert answer.skipped == 2
    assert listed(service.popular(4)) == most[:4]
    service.add_event("stranger", most[0], "e")
    assert listed(service.popular(4, exclude="stranger")) == most[1:5]


def test_the_fallback_of_a_model_that_knows_users_by_id_mixes_popularity_and_nearness(service_of, snapshot_of):
    snapshot = snapshot_of("dssm")
    items = torch.nn.functional.normalize(snapshot.recommender.scorer.items_ND, dim=1)
    history = [4, 9, 9]
    wish = sum(items[row] * 0.8**age for age, row in enumerate(reversed(history)))
    counts = snapshot.counts_N
    want = items @ torch.nn.functional.normalize(wish, dim=0) + counts.log1p() / counts.log1p().max()
    want[[4, 9]] = -torch.inf
    answer = service_of("dssm").recommend_history(["i04", "i09", "i09"], 28)
    assert answer.fallback == "popularity+near"
    assert listed(answer) == [f"i{row:02d}" for row in want.argsort(descending=True, stable=True)[:28].tolist()]


def test_reasons_are_the_nearest_clips_of_the_history(service_of, snapshot_of):
    items = torch.nn.functional.normalize(snapshot_of("mamba").recommender.scorer.items_ND, dim=1)
    service = service_of("mamba", titles={"i06": "Six"})
    answer = service.recommend_history(["i01", "i02", "i03", "i04", "i05"], 1)
    [ranked] = answer.items
    assert (ranked.item, ranked.row, ranked.title) == ("i06", 6, "Six")
    cosines = items[1:6] @ items[6]
    order = cosines.argsort(descending=True)[:3]
    assert [reason.item for reason in ranked.because] == [f"i{1 + place:02d}" for place in order.tolist()]
    assert [reason.similarity for reason in ranked.because] == pytest.approx(cosines[order].tolist(), abs=1e-6)
    assert service_of("popularity").recommend_history(["i01"], 1).items[0].because == ()


def test_similar_items_are_near_by_cosine_or_come_next(service_of, snapshot_of):
    items = torch.nn.functional.normalize(snapshot_of("mamba").recommender.scorer.items_ND, dim=1)
    cosines = items @ items[3]
    cosines[3] = -torch.inf
    answer = service_of("mamba").similar("i03", 4)
    assert listed(answer) == [f"i{row:02d}" for row in cosines.argsort(descending=True)[:4].tolist()]
    assert [ranked.score for ranked in answer.items] == pytest.approx(cosines.sort(descending=True).values[:4].tolist(), abs=1e-6)


def test_item_knn_says_what_comes_after(service_of):
    assert listed(service_of("item-knn").similar("i03", 2)) == ["i04", "i05"]


def test_the_history_is_that_of_training_then_the_events_in_their_order(service_of):
    service = service_of("mamba")
    service.add_event("u03", "i20", "b", 2000)
    service.add_event("u03", "i21", "a", 1000)
    whole = service.history("u03")
    assert [entry.item for entry in whole] == [f"i{n:02d}" for n in range(3, 12)] + ["i21", "i20"]
    assert whole[0] == ("i03", None, None)
    assert whole[-2:] == [("i21", 1000, "a"), ("i20", 2000, "b")]
    for limit in range(12):
        assert service.history("u03", limit) == whole[len(whole) - limit :]
    assert service.history("nobody") == []
    assert (service.watched("u03"), service.watched("nobody")) == (11, 0)


def test_users_are_those_of_training_and_those_with_events(service_of):
    service = service_of("mamba")
    service.add_event("u0X", "i01", "a")
    service.add_event("u01", "i01", "a")
    assert service.users("U0", 99) == [f"u{n:02d}" for n in range(10)]
    assert service.users("u0", 99) == [*(f"u{n:02d}" for n in range(10)), "u0X"]
    assert service.users("u0", 2) == ["u00", "u01"]
    assert service.items("i1", 2, 3) == (10, [("i12", 12, ""), ("i13", 13, ""), ("i14", 14, "")])


def test_what_cannot_be_answered_has_a_code(service_of):
    service = service_of("mamba", config=ServeConfig(max_id=20))
    late = int((time.time() + 90_000) * 1000)
    asked = [
        (errors.UnknownItem, "unknown_item", lambda: service.add_event("u", "i99", "e")),
        (errors.UnknownItem, "unknown_item", lambda: service.similar("i99", 1)),
        (errors.UnknownRun, "unknown_run", lambda: service.recommend_user("u", 1, run="other")),
        (errors.BadK, "bad_k", lambda: service.recommend_user("u", 0)),
        (errors.BadK, "bad_k", lambda: service.recommend_history(["i01"], -5)),
        (errors.BadTime, "bad_time", lambda: service.add_event("u", "i01", "e", -1)),
        (errors.BadTime, "bad_time", lambda: service.add_event("u", "i01", "e", late)),
        (errors.BadId, "bad_id", lambda: service.add_event("", "i01", "e")),
        (errors.BadId, "bad_id", lambda: service.add_event("u" * 21, "i01", "e")),
        (errors.BadId, "bad_id", lambda: service.add_event("u", "i01", "\ud800")),
        (errors.BadId, "bad_id", lambda: service.recommend_user("a\0b", 1)),
        (errors.BadId, "bad_id", lambda: service.recommend_history(["i01", ""], 1)),
        (errors.UnknownEvent, "unknown_event", lambda: service.remove_event("u", "e")),
        (errors.SearchUnavailable, "search_unavailable", lambda: service.recommend_user("u03", 1, search="ann")),
    ]
    for kind, code, ask in asked:
        with pytest.raises(kind) as caught:
            ask()
        assert caught.value.code == code
    assert service.log.users("", 10) == []


@pytest.mark.parametrize("time_ms", [-1, 10**18])
def test_a_time_that_is_refused_is_told_with_what_is_allowed(service_of, monkeypatch, time_ms):
    monkeypatch.setattr(time, "time", lambda: 1_700_000_000.0)
    service = service_of("mamba", config=ServeConfig(max_future_seconds=60))
    with pytest.raises(
        errors.BadTime, match=rf"^{time_ms} ms .* 0 \(1970\) to 1700000060000 ms is, 60 seconds ahead .* Leave the time out"
    ):
        service.submit_event("u", "i01", "e", time_ms)
    assert service.add_event("u", "i01", "e", 1_700_000_060_000).new


def test_an_approximate_list_is_asked_for_and_said(service_of, snapshot_of):
    snapshot = snapshot_of("mamba", ann="hnsw")
    snapshot.ann.wait()
    service = service_of(run=snapshot)
    exact, ann = (service.recommend_user("u03", 5, search=search) for search in ("exact", "ann"))
    assert (exact.search, ann.search) == ("exact", "ann")
    assert listed(exact) == listed(ann)
    assert service.recommend_user("stranger", 5, search="ann").search == "exact", "a fallback is searched exactly"


def test_some_answers_are_compared_with_the_whole_history(service_of):
    service = service_of("mamba", config=ServeConfig(check_every=3))
    service.recommend_user("u03", 1)
    for n in range(9):
        service.add_event("u03", f"i{n:02d}", str(n))
        service.recommend_user("u03", 1)
    counts = service.states.counts
    assert (counts.rebuilt, counts.stepped, counts.kept, counts.checks) == (1, 9, 0, 3), "each answer once"
    assert 0 < counts.drift_max < 1e-4


def test_several_runs_are_served_and_each_answers_for_itself(service_of, snapshot_of):
    service = service_of(one=snapshot_of("mamba"), two=snapshot_of("item-knn"))
    service.add_event("u", "i05", "e")
    assert [service.recommend_user("u", 1, run=run).run for run in (None, "one", "two")] == ["one", "one", "two"]
    assert service.recommend_user("u", 1, run="two").model_hash == snapshot_of("item-knn").model_hash


def test_a_restart_answers_as_before(service_of, snapshot_of, tmp_path):
    service = service_of("mamba")
    for n in (3, 1, 2):
        service.add_event("u", f"i{n:02d}", str(n), n)
    service.remove_event("u", "1")
    before = service.recommend_user("u", 5)
    service.close()
    with EventLog(tmp_path / "events.sqlite") as log:
        again = Service([ServedRun("mamba", lambda _: snapshot_of("mamba"))], log)
        assert [entry.event_id for entry in again.history("u")] == ["2", "3"]
        assert listed(again.recommend_user("u", 5)) == listed(before)


def test_no_answer_mixes_two_models_while_they_are_swapped(log, snapshot_of):
    snapshots = [
        snapshot_of(),
        snapshot_of(seed=1),
        snapshot_of(extra_ids=["new"], extra=snapshot_of().recommender.scorer.items_ND[4:5].numpy() * 9),
    ]
    history = ["i03", "i04", "i05"]
    alone = {s.index_hash: s.rank(s.recommender.state(history), 5, exclude_seen=True, search="exact").places for s in snapshots}
    ids = {s.index_hash: s.recommender.items.ids for s in snapshots}
    assert len(alone) == 3
    turn = iter(range(10**9))
    service = Service([ServedRun("run", lambda _: snapshots[next(turn) % 3])], log)
    for n, item in enumerate(history):
        service.add_event("u", item, str(n), n)
    stop = threading.Event()

    def swap():
        while not stop.is_set():
            assert service.reload() == ["run"]
            time.sleep(0.002)

    def ask(n):
        answers = []
        for _ in range(15):
            answers += [service.recommend_user("u", 5), service.recommend_history(history, 5)]
        return answers

    swapper = threading.Thread(target=swap)
    swapper.start()
    with ThreadPoolExecutor(8) as pool:
        answers = [answer for some in pool.map(ask, range(8)) for answer in some]
    stop.set()
    swapper.join()
    assert {answer.index_hash for answer in answers} == set(alone)
    model_of = {s.index_hash: s.model_hash for s in snapshots}
    for answer in answers:
        assert answer.model_hash == model_of[answer.index_hash]
        want = alone[answer.index_hash]
        assert listed(answer) == [ids[answer.index_hash][place.row] for place in want]
        assert [ranked.score for ranked in answer.items] == pytest.approx([place.score for place in want], rel=1e-4, abs=1e-4)


def test_a_clip_that_is_added_to_the_run_is_recommended_after_a_reload_and_gone_after_another(run_of, ring, log, tmp_path):
    shutil.copytree(run_of("mamba"), tmp_path / "run")
    run, base = RunFolder.open(tmp_path / "run"), BaseHistories(ring)
    served = ServedRun("run", lambda before: Snapshot.load(run, base, ann="ivf", before=before))
    service = Service([served], log, titles={"new clip": "New"})
    for n, item in enumerate(("i10", "i11", "i12")):
        service.add_event("u", item, str(n))
    before = service.recommend_user("u", 2)
    assert service.reload() == []
    # Where the next item lies, only further out.
    additions.add(run, additions.Additions.now(["new clip"], served.snapshot.nearness.items_ND[13:14].numpy() * 1.5))
    assert service.reload() == ["run"]
    for search in ("exact", "ann"):
        answer = service.recommend_user("u", 2, search=search)
        assert listed(answer) == ["new clip", "i13"]
        assert (answer.items[0].row, answer.items[0].title) == (30, "New")
    assert (answer.model_hash, answer.index_hash == before.index_hash) == (before.model_hash, False)
    assert service.states.counts.rebuilt == 1, "the state lives on"
    assert service.items("new", 0, 9)[0] == 1
    service.add_event("u", "new clip", "3")
    assert listed(service.recommend_user("u", 1)) != ["new clip"]
    additions.remove(run, ["new clip"])
    assert service.reload() == ["run"]
    again = service.recommend_user("u", 2)
    assert (listed(again), again.index_hash, again.skipped) == (listed(before), before.index_hash, 1)
    assert service.items("new", 0, 9)[0] == 0
    with pytest.raises(errors.UnknownItem):
        service.add_event("u", "new clip", "4")


def test_a_reload_waits_for_an_index_that_is_new_and_not_for_one_that_answers_already(log, snapshot_of):
    hold, old, new = threading.Event(), snapshot_of(), snapshot_of(seed=1)
    old.ann = AnnSearch(lambda: hold.wait(60) and FaissIndex("flat", old.nearness.items_ND))
    turns = [old, old, new]
    service = Service([ServedRun("run", lambda _: turns.pop(0))], log)
    with ThreadPoolExecutor(1) as pool:
        try:
            assert pool.submit(service.reload).result(10) == [], "its index is still being made, with a reload as without"
            new.ann = old.ann
            old.ann = None
            waits = pool.submit(service.reload)
            with pytest.raises(TimeoutError):
                waits.result(0.2)
        finally:
            hold.set()
        assert waits.result(10) == ["run"]


def test_a_run_that_cannot_be_read_leaves_all_as_they_are(log, snapshot_of):
    before, after = snapshot_of(), snapshot_of(seed=1)

    def broken(old):
        if old is None:
            return before
        raise errors.InputError("damaged")

    service = Service([ServedRun("good", lambda old: before if old is None else after), ServedRun("broken", broken)], log)
    with pytest.raises(errors.InputError, match="damaged"):
        service.reload()
    assert service.runs["good"].snapshot is before
