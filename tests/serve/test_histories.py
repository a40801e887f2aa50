"""What people watched before the service began."""

from dataclasses import replace

import numpy as np
import pytest
from vivim.recommend.sequences import Interactions, Sequences
from vivim.serve.answers import HistoryEntry
from vivim.serve.histories import BaseHistories
from vivim.serve.served_run import ServedRun
from vivim.serve.service import Service
from vivim.store import ItemIndex


@pytest.fixture
def interactions():
    """anna watched c, a, c; bert watched b. The items stand in the order b, c, a."""
    histories = Sequences(np.array([0, 3, 4]), np.array([1, 2, 1, 0], np.int32))
    times = np.array([100, 200, 300, 50])
    return Interactions(ItemIndex(["anna", "bert"]), ItemIndex(["b", "c", "a"]), histories, times, "made by a test", "0" * 64)


def test_rows_and_times_of_a_user(interactions):
    base = BaseHistories(interactions, ItemIndex(["bert"]))
    assert [base.ids_of_items()[row] for row in base.rows("anna")] == ["c", "a", "c"]
    assert base.times_ms("anna").tolist() == [100, 200, 300]
    assert base.times_ms("bert").tolist() == [50]
    assert (base.trained_row("bert"), base.trained_row("anna")) == (0, None)
    assert (len(base.rows("carl")), base.times_ms("carl"), base.trained_row("carl")) == (0, None, None)
    assert BaseHistories(replace(interactions, times_ms=None)).times_ms("anna") is None


def test_nothing_is_known_without_interactions():
    base = BaseHistories()
    assert (len(base.rows("anna")), base.ids_of_items(), base.trained_row("anna")) == (0, (), None)


def test_the_hash_tells_other_histories_apart(interactions):
    moved = replace(interactions, histories=Sequences(np.array([0, 2, 4]), interactions.histories.items))
    hashes = {BaseHistories(some).sha256 for some in (interactions, moved, replace(interactions, sha256="1" * 64), None)}
    assert len(hashes) == 4
    assert BaseHistories(interactions).sha256 == BaseHistories(replace(interactions)).sha256


def test_items_of_training_that_the_catalogue_does_not_hold_are_skipped_and_counted(ring, snapshot_of, log, run_of):
    """The ring's run knows i00 to i29; this user also watched something else, with times."""
    items = ItemIndex(["other", "i04", "i05"])
    histories = Sequences(np.array([0, 3]), np.array([1, 0, 2], np.int32))
    seen = Interactions(ItemIndex(["anna"]), items, histories, np.array([1000, 2000, 3000]), "made by a test", "2" * 64)
    snapshot = snapshot_of(base=BaseHistories(seen))
    service = Service([ServedRun("ring", lambda _: snapshot)], log)
    answer = service.recommend_user("anna", 1)
    assert (answer.items[0].item, answer.skipped, answer.fallback) == ("i06", 1, None)
    assert service.history("anna") == [HistoryEntry("i04", 1000, None), HistoryEntry("other", 2000, None), HistoryEntry("i05", 3000, None)]
    assert service.history("anna", 2)[0].item == "other"
    assert service.users("AN", 5) == ["anna"]
