"""Batches become rows, rows become shards, and the ledger knows them."""

import time

import numpy as np
import pytest
from vivim.errors import VivimError
from vivim.extract.clip import Clip, EmbeddingBatch, Failure
from vivim.extract.ledger import Entry, Stat
from vivim.extract.parts import open_parts, shard_files
from vivim.extract.writer import ShardWriter
from vivim.progress import SILENT
from vivim.store import EmbeddingStore, Recipe

RECIPE = Recipe(encoder={}, weights={}, frames={}, preprocessing={}, dtype="float16", decoder={})


def clip(id_, short=False):
    return Clip(id_, np.zeros((2, 3, 4, 4), np.uint8), np.array([1.5, 2.5]), "pyav", id_ * 64, short)


@pytest.fixture
def parts(tmp_path):
    with open_parts(tmp_path / "parts", RECIPE, 2, SILENT) as parts:
        yield parts


def writer(parts, **changes):
    return ShardWriter(parts, RECIPE, 2, hashes={}, stats={"a": Stat(7, 8), "d": Stat(1, 2)}, **changes)


def test_what_is_known_of_a_clip_is_in_its_row(parts):
    into = writer(parts)
    vectors = np.array([[1, 2], [3, np.inf], [5, 6]], np.float32)
    refused = into.add(EmbeddingBatch((clip("c"), clip("b"), clip("a", short=True)), vectors))
    assert [(failure.id, failure.kind) for failure in refused] == [("b", "nan_output")]
    into.fail(Failure("d", "timeout", "slow"))
    assert shard_files(parts.folder) == [] and parts.ledger.entries() == {}
    into.commit()
    (shard,) = shard_files(parts.folder)
    store = EmbeddingStore.open(shard)
    assert store.ids.ids == ("a", "c")
    assert store.vectors_ND.tolist() == [[5, 6], [1, 2]]
    assert store.rows.sha256 == ("a" * 64, "c" * 64)
    assert store.rows.times_seconds_NT.tolist() == [[1.5, 2.5]] * 2
    assert store.rows.decoder == ("pyav", "pyav")
    assert store.rows.short_N.tolist() == [True, False]
    assert [(f.id, f.kind) for f in store.failures] == [("b", "nan_output"), ("d", "timeout")]
    assert parts.ledger.shards() == {"000001.h5": store.sha256}
    entries = parts.ledger.entries()
    assert entries["a"] == Entry("done", Stat(7, 8), "a" * 64, "", "")
    assert entries["c"] == Entry("done", None, "c" * 64, "", "")
    assert entries["d"] == Entry("failed", Stat(1, 2), "", "timeout", "slow")
    assert entries["b"].kind == "nan_output"


def test_a_shard_is_written_when_it_is_full_or_old(parts):
    full = writer(parts, clips=2)
    for name in "abc":
        full.add(EmbeddingBatch((clip(name),), np.ones((1, 2), np.float32)))
    assert [len(EmbeddingStore.open(shard)) for shard in shard_files(parts.folder)] == [2]
    full.commit()
    full.commit()  # nothing new: no empty shard
    waiting = writer(parts, clips=99, seconds=0.05)
    waiting.idle()  # nothing is there
    waiting.fail(Failure("d", "timeout", "slow"))
    waiting.idle()
    assert len(shard_files(parts.folder)) == 2
    time.sleep(0.1)
    waiting.idle()
    assert len(shard_files(parts.folder)) == 3
    (parts.folder / "shards" / "000003.h5").unlink()
    old = writer(parts, clips=99, seconds=-1)
    old.fail(Failure("d", "timeout", "slow"))
    assert [shard.name for shard in shard_files(parts.folder)] == ["000001.h5", "000002.h5", "000003.h5"]


def test_a_folder_that_is_gone_stops_the_run_in_words(parts, tmp_path):
    into = writer(parts)
    into.add(EmbeddingBatch((clip("a"),), np.ones((1, 2), np.float32)))
    for path in (tmp_path / "parts" / "shards").iterdir():
        path.unlink()
    (tmp_path / "parts" / "shards").rmdir()
    with pytest.raises(VivimError, match=r"000001\.h5 could not be written: .*No such file"):
        into.commit()
