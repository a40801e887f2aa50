"""Items that training did not know get the vectors that the catalogue would give them, and are recommended for what they look like."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from vivim.errors import InputError, RecipeMismatch
from vivim.extract.weights import load_weights
from vivim.recommend.additions import Additions, add
from vivim.recommend.checkpoint import RunFolder
from vivim.recommend.new_items import NewItems
from vivim.recommend.recommender import Recommender
from vivim.store import EmbeddingStore, Recipe, Rows, write_embeddings

TRAIN = {"lr": 0.02, "batch": 32, "epochs": 1, "weight_decay": 0.0}


def conf(items, model="gru4rec", epochs=1, **of_model):
    model = {"kind": model, "d_model": 16, "layers": 1, "dropout": 0.0, "d_state": 4} | of_model
    return {"model": model, "items": items, "train": TRAIN | {"epochs": epochs}}


@pytest.fixture(scope="module")
def taste(planted, write_vectors, tmp_path_factory):
    """(histories, their file of vectors); the last 40 of 140 items are never watched in training."""
    data, vectors = planted.taste()
    path = tmp_path_factory.mktemp("taste") / "v.h5"
    write_vectors(path, data.items.ids, vectors=vectors)
    return data, EmbeddingStore.open(path)


@pytest.mark.parametrize(
    ("items", "of_model"),
    [
        ({"kind": "frozen"}, {}),
        ({"kind": "ids+frozen"}, {}),
        ({"kind": "ids+frozen", "fusion": "concat"}, {}),
        ({"kind": "ids+frozen"}, {"similarity": "cosine"}),
        ({"kind": "ids+frozen"}, {"model": "dssm"}),
        ({"kind": "frozen"}, {"model": "nfm"}),
    ],
)
def test_an_item_without_a_delta_gets_exactly_its_vector_of_the_catalogue(tmp_path, planted, taste, items, of_model):
    data, store = taste
    planted.fit(data, tmp_path / "run", conf(items, **of_model), store)
    run = RunFolder.open(tmp_path / "run")
    known = run.read_tensors("model.safetensors")["items"]
    new = NewItems.open(run)
    vectors = new.encode(store.lookup(data.items.ids)[0])
    own = slice(100, None) if items["kind"] != "frozen" else slice(None)
    assert torch.equal(vectors[own], known[own])
    torch.testing.assert_close(new.encode(store.lookup(["i120"])[0])[0], known[120], rtol=1e-5, atol=1e-6)
    if items["kind"] != "frozen":  # the watched ones have moved away from their content
        assert float((vectors[:100] - known[:100]).abs().max()) > 1e-3


def test_the_adapter_reads_the_spans_of_a_new_clip(tmp_path, planted, taste):
    data, _ = taste
    spans = np.random.default_rng(0).normal(size=(140, 8 * 3)).astype(np.float32)
    recipe = Recipe(encoder={"pooling": "frames"}, weights={"source": "random"}, frames={}, preprocessing={}, dtype="float32", decoder={})
    rows = Rows(data.items.ids, spans, ["0" * 64] * 140, np.zeros((140, 8)), ["pyav"] * 140, np.zeros(140, bool))
    write_embeddings(tmp_path / "spans.h5", recipe, rows, [])
    planted.fit(data, tmp_path / "run", conf({"kind": "ids+adapter"}), EmbeddingStore.open(tmp_path / "spans.h5"))
    run = RunFolder.open(tmp_path / "run")
    new = NewItems.open(run)
    assert new.width == 24
    torch.testing.assert_close(new.encode(spans)[100:], run.read_tensors("model.safetensors")["items"][100:], rtol=1e-5, atol=1e-6)
    new.check(recipe, 24)


def test_end_to_end_a_new_clip_goes_through_the_trained_encoder(tmp_path, planted, ring, frames):
    from vivim.recommend.config import EndToEndConfig
    from vivim.recommend.end_to_end import find_frames

    options = EndToEndConfig(frames=frames, size="nano", lr=1e-3)
    planted.fit(ring, tmp_path / "run", conf({"kind": "end-to-end", "end_to_end": options.model_dump()}))
    run = RunFolder.open(tmp_path / "run")
    encoder = load_weights(str(tmp_path / "run"))
    with torch.inference_mode():
        stored = encoder.embed_uint8(find_frames(options, ring.items, 0.9)([3, 9, 20])).numpy()
    new = NewItems.open(run)
    torch.testing.assert_close(new.encode(stored), run.read_tensors("model.safetensors")["items"][[3, 9, 20]], rtol=1e-4, atol=1e-5)
    assert new.recipe.weights["sha256"] == encoder.load_report.sha256
    assert new.recipe.frames == {"sampler": "uniform", "count": 2}


def test_a_new_clip_of_a_known_look_is_recommended_to_its_fans(tmp_path, planted, taste):
    """Twenty looks; a new clip of each look is first for those who watched that look, and far away for the others."""
    data, store = taste
    planted.fit(data, tmp_path / "run", conf({"kind": "ids+frozen"}, epochs=8, d_model=32), store)
    run = RunFolder.open(tmp_path / "run")
    by_look = store.lookup(data.items.ids)[0][:100].reshape(5, 20, 16).mean(0)  # item i has look i % 20
    add(run, Additions.now([f"new {look}" for look in range(20)], NewItems.open(run).encode(by_look).numpy()))
    recommender = Recommender.open(tmp_path / "run")
    assert len(recommender.items) == 160
    found = []
    for user in range(40):
        watched = [data.items.ids[row] for row in data.histories[user][:-1]]
        best = [id_ for id_, _ in recommender.top_k(recommender.state(watched), 3)]
        found.append(f"new {int(watched[0][1:]) % 20}" in best)
    assert np.mean(found) > 0.9
    assert recommender.step(recommender.state(["i003"]), "new 3").watched == (3, 143)


@pytest.fixture(scope="module")
def trained(planted, taste, tmp_path_factory):
    out = tmp_path_factory.mktemp("trained") / "run"
    planted.fit(taste[0], out, conf({"kind": "frozen"}), taste[1])
    return RunFolder.open(out)


def test_vectors_of_another_recipe_are_refused_field_by_field(trained, taste):
    new, recipe = NewItems.open(trained), taste[1].recipe
    new.check(recipe, 16)
    new.check(recipe.model_copy(update={"created_by": "another"}), 16)
    other = recipe.model_copy(update={"frames": {"sampler": "fps"}, "weights": {"source": "renamed", "sha256": "7"}})
    with pytest.raises(RecipeMismatch) as told:
        new.check(other, 17)
    assert "frames.sampler: (absent) in the run, fps now" in str(told.value)
    assert "weights.sha256: (absent) in the run, 7 now" in str(told.value)
    assert "numbers of an item: 16 in the run, 17 now" in str(told.value)
    assert "weights.source" not in str(told.value)


@pytest.mark.parametrize(
    ("model", "items", "says"),
    [
        ("gru4rec", "ids", "are ids alone"),
        ("popularity", "ids", "is a run of popularity"),
        ("mmgcn", "ids+frozen", "is a run of mmgcn"),
    ],
)
def test_runs_that_have_no_place_for_a_new_item_say_why(tmp_path, planted, taste, model, items, says):
    planted.fit(taste[0], tmp_path / "run", conf({"kind": items}, model=model), taste[1] if items != "ids" else None)
    with pytest.raises(InputError, match=says):
        NewItems.open(RunFolder.open(tmp_path / "run"))


def test_a_run_of_an_earlier_version_is_refused_with_what_to_do(tmp_path, trained):
    for name in ("run.json", "items.safetensors"):
        (tmp_path / name).write_bytes((trained.path / name).read_bytes())
    info = json.loads((tmp_path / "run.json").read_text())
    del info["files_sha256"]
    kept = info["embeddings"].pop("recipe")
    (tmp_path / "run.json").write_text(json.dumps(info))
    with pytest.raises(InputError, match="does not say how its item vectors were made"):
        NewItems.open(RunFolder.open(tmp_path))
    info["embeddings"]["recipe"] = kept
    (tmp_path / "run.json").write_text(json.dumps(info))
    tensors = load_file(tmp_path / "items.safetensors")
    del tensors["stored_std_V"]
    save_file(tensors, tmp_path / "items.safetensors")
    with pytest.raises(InputError, match="does not hold how its stored vectors were standardised"):
        NewItems.open(RunFolder.open(tmp_path))
