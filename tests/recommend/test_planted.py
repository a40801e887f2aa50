"""Models of histories find a planted answer, and nothing where it was shuffled away: an order, looks in stored vectors, in spans of them,
and in frames through an encoder that is trained along."""

import numpy as np
import pytest
from vivim.progress import SILENT
from vivim.recommend.checkpoint import RunFolder
from vivim.recommend.config import EvaluateConfig
from vivim.recommend.evaluation import evaluate_run
from vivim.recommend.sequences import Interactions
from vivim.store import EmbeddingStore, ItemIndex, Recipe, Rows, write_embeddings

KINDS = ["mamba", "mamba2", "sasrec", "gru4rec", "nextitnet", "youtube"]


def config(kind, items, width=16, **train):
    return {
        "model": {"kind": kind, "d_model": width, "layers": 1, "dropout": 0.0, "d_state": 8, "headdim": 8},
        "items": {"kind": items},
        "train": {"lr": 0.01, "weight_decay": 0.0, "batch": 16, "epochs": 40, "patience": 40} | train,
    }


def hit_rates(run, data, k):
    """(validation, test)."""
    report = evaluate_run(RunFolder.open(run), data, EvaluateConfig(k=(k,)), progress=SILENT)
    return [split.metrics[f"hit_rate@{k}"].value for split in report.splits]


def of_anybody(ring, planted):
    """As many items for each viewer, in no order."""
    rng = np.random.default_rng(0)
    rows = [rng.permutation(30)[: len(row)] for row in ring.histories]
    return Interactions(ring.users, ring.items, planted.sequences_of(*rows), None, "made by a test", "0" * 64)


@pytest.mark.parametrize("kind", KINDS)
def test_what_comes_after_what_is_learned_and_nothing_where_there_is_no_order(ring, tmp_path, kind, planted):
    """Chance is one of about 25."""
    for name, data in (("true", ring), ("shuffled", of_anybody(ring, planted))):
        planted.fit(data, tmp_path / name, config(kind, "ids"))
        for rate in hit_rates(tmp_path / name, data, 1):
            assert rate < 0.3 if name == "shuffled" else rate > 0.8, (name, rate)


@pytest.mark.parametrize("kind", KINDS)
def test_a_new_clip_is_found_by_its_looks_beside_watched_ones(tmp_path, kind, planted, write_vectors):
    """Among three that look alike, one of them watched; chance among all unwatched is 3 of 40."""
    for name, shuffled in (("true", False), ("shuffled", True)):
        data, vectors = planted.taste(shuffled)
        write_vectors(tmp_path / f"{name}.h5", data.items.ids, vectors=vectors)
        store = EmbeddingStore.open(tmp_path / f"{name}.h5")
        planted.fit(data, tmp_path / name, config(kind, "ids+frozen", 32, batch=32, epochs=6), store)
        watched, new = hit_rates(tmp_path / name, data, 3)
        assert watched > 0.9, (name, watched)
        assert new < 0.2 if shuffled else new > 0.9, (name, new)


def write_spans(path, ids, vectors):
    """Two numbers of each vector are a span."""
    recipe = Recipe(encoder={"pooling": "frames"}, weights={"source": "random"}, frames={}, preprocessing={}, dtype="float32", decoder={})
    count = len(ids)
    hashes, times, decoders = ["0" * 64] * count, np.zeros((count, 8)), ["pyav"] * count
    write_embeddings(path, recipe, Rows(ids, vectors.astype(np.float32), hashes, times, decoders, np.zeros(count, bool)), [])
    return EmbeddingStore.open(path)


@pytest.mark.parametrize("items", ["adapter", "ids+adapter"])
def test_the_adapter_finds_a_new_clip_by_its_spans(tmp_path, items, planted):
    for name, shuffled in (("true", False), ("shuffled", True)):
        data, vectors = planted.taste(shuffled)
        store = write_spans(tmp_path / f"{name}.h5", data.items.ids, vectors)
        planted.fit(data, tmp_path / name, config("gru4rec", items, 32, batch=32, epochs=25), store)
        new = hit_rates(tmp_path / name, data, 3)[1]
        assert new < 0.2 if shuffled else new > 0.7, (name, new)


def bars(planted, shuffled):
    """Sixty viewers who each watch bars of one third of the picture; three of its ten are only ever test targets. In the shuffled copy the
    bars of all clips are exchanged."""
    rng = np.random.default_rng(0)
    rows = [10 * (user % 3) + np.array([*rng.permutation([0, 1, 3, 4, 6, 7, 9])[:6], rng.choice([2, 5, 8])]) for user in range(60)]
    rows = rng.permutation(30)[np.array(rows)] if shuffled else np.array(rows)
    users, items = ItemIndex(f"u{u:02d}" for u in range(60)), ItemIndex(f"i{i:02d}" for i in range(30))
    return Interactions(users, items, planted.sequences_of(*rows), None, "made by a test", "0" * 64)


def test_an_encoder_that_is_trained_along_finds_a_new_clip_by_its_frames(tmp_path, planted, frames):
    """Four of its third are not masked, one of them watched; chance is 4 of 24."""
    for name, shuffled in (("true", False), ("shuffled", True)):
        data = bars(planted, shuffled)
        conf = config("sasrec", "end-to-end", epochs=5)
        conf["items"]["end_to_end"] = {"frames": str(frames), "size": "nano", "lr": 1e-4, "drop_path": 0.0, "checkpointing": False}
        planted.fit(data, tmp_path / name, conf)
        new = hit_rates(tmp_path / name, data, 4)[1]
        assert new < 0.4 if shuffled else new > 0.8, (name, new)
