"""Batches become rows, column by column."""

import numpy as np
from vivim.extract.clip import Clip, EmbeddingBatch, Failure
from vivim.extract.writer import FileWriter
from vivim.store import EmbeddingFile, EmbeddingStore, Recipe


def clip(id_, short=False):
    return Clip(id_, np.zeros((2, 3, 4, 4), np.uint8), np.array([1.5, 2.5]), "pyav", id_ * 64, short)


def test_what_is_known_of_a_clip_is_in_its_row(tmp_path):
    recipe = Recipe(encoder={}, weights={}, frames={}, preprocessing={}, dtype="float16", decoder={})
    writer = FileWriter(EmbeddingFile(tmp_path / "e.h5", recipe, 2))
    vectors = np.array([[1, 2], [3, np.inf], [5, 6]], np.float32)
    refused = writer.add(EmbeddingBatch((clip("c"), clip("b"), clip("a", short=True)), vectors))
    assert [(failure.id, failure.kind) for failure in refused] == [("b", "nan_output")]
    writer.fail(Failure("d", "timeout", "slow"))
    assert writer.hashes == {"c": "c" * 64, "a": "a" * 64}
    writer.file.commit()
    store = EmbeddingStore.open(tmp_path / "e.h5")
    assert store.ids.ids == ("a", "c")
    assert store.vectors_ND.tolist() == [[5, 6], [1, 2]]
    assert store.rows.sha256 == ("a" * 64, "c" * 64)
    assert store.rows.times_seconds_NT.tolist() == [[1.5, 2.5]] * 2
    assert store.rows.decoder == ("pyav", "pyav")
    assert store.rows.short_N.tolist() == [True, False]
    assert [(f.id, f.kind) for f in store.failures] == [("b", "nan_output"), ("d", "timeout")]
