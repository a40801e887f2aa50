"""The video encoder is trained along: what is trained changes, what is not does not, and extraction repeats its vectors."""

import json

import pytest
import torch
from safetensors.torch import load_file
from vivim.errors import InputError, Interrupted
from vivim.extract.vivim import VivimConfig
from vivim.extract.weights import load_weights
from vivim.progress import SILENT, SilentProgress
from vivim.recommend import end_to_end
from vivim.recommend.config import EndToEndConfig, RecommendConfig
from vivim.recommend.end_to_end import EndToEndItems, find_frames, make_end_to_end
from vivim.recommend.item_encoders import ContentAndIdItems
from vivim.recommend.train import train_run
from vivim.store import ItemIndex


def settings(frames, **changes):
    return EndToEndConfig(**{"frames": frames, "size": "nano", "clips_at_once": 16, "lr": 1e-3} | changes)


def config(frames, kind="end-to-end", end_to_end=None, **train):
    return RecommendConfig.model_validate(
        {
            "model": {"d_model": 16, "layers": 1, "dropout": 0.0, "d_state": 8},
            "items": {"kind": kind, "end_to_end": settings(frames, **(end_to_end or {})).model_dump()},
            "train": {"lr": 0.01, "weight_decay": 0.0, "batch": 16, "epochs": 2, "patience": 9} | train,
        }
    )


def run(ring, out, conf, resume=False, progress=SILENT):
    where = {"path": "made by a test"}
    return train_run(ring, None, conf, out, seed=3, device="cpu", resume=resume, progress=progress, data_location=where)


def made(frames, ring, **changes):
    options = settings(frames, **changes)
    torch.manual_seed(0)
    return make_end_to_end(options, find_frames(options, ring.items, 0.9), 16, seed=3)


def test_a_step_encodes_every_distinct_clip_once_and_unknown_ones_never(frames, ring, monkeypatch):
    items = made(frames, ring, clips_at_once=2)
    seen = []
    original = end_to_end.CatalogueFrames.__call__
    monkeypatch.setattr(end_to_end.CatalogueFrames, "__call__", lambda self, rows: seen.extend(rows) or original(self, rows))
    vectors = items(torch.tensor([3, 7, 9, 12, 20, 21]))
    assert seen == [3, 9, 12, 20, 21]
    torch.testing.assert_close(vectors[1], items.unknown_D)
    items.eval()
    with torch.no_grad():
        torch.testing.assert_close(items(torch.tensor([[9, 7], [3, 9]])), items.all()[torch.tensor([[9, 7], [3, 9]])], rtol=1e-5, atol=1e-6)


def test_vectors_begin_standardised(frames, ring):
    items = made(frames, ring).eval()
    with torch.no_grad():
        vectors = (items.clip_vectors(items.present_N.nonzero()[:, 0]) - items.mean_V) / items.std_V
    torch.testing.assert_close(vectors.mean(0), torch.zeros(240), atol=1e-3, rtol=0)
    assert float(vectors.std(0, correction=0).median()) == pytest.approx(1, abs=0.01)


@pytest.mark.parametrize("stages", [1, 4])
def test_activations_that_are_computed_again_give_the_same_gradients(frames, ring, stages):
    grads = []
    for checkpointing in (True, False):
        items = made(frames, ring, stages=stages, checkpointing=checkpointing, clips_at_once=4).train()
        items.vivim.eval()  # no random paths
        items(torch.arange(6)).square().sum().backward()
        grads.append({name: parameter.grad for name, parameter in items.named_parameters() if parameter.grad is not None})
    assert grads[0].keys() == grads[1].keys()
    assert any(name.startswith("vivim.stages.3") for name in grads[0])
    assert any(name.startswith("vivim.stages.0") for name in grads[0]) == (stages == 4)
    for name, grad in grads[0].items():
        torch.testing.assert_close(grad, grads[1][name], rtol=1e-4, atol=1e-6)


def test_what_is_trained_changes_and_extraction_repeats_its_vectors(frames, ring, tmp_path):
    run(ring, tmp_path / "run", config(frames, end_to_end={"stages": 2}))
    before = load_weights("random", VivimConfig.of_size("nano"), seed=3)
    after = load_weights(str(tmp_path / "run" / "encoder.safetensors"))
    moved = {name for name, tensor in after.state_dict().items() if not torch.equal(tensor, before.state_dict()[name])}
    assert {name.split(".")[1] for name in moved} == {"2", "3"}
    conf = config(frames).items.end_to_end
    items = EndToEndItems(after, find_frames(conf, ring.items, 0.9), 16, conf).eval()
    items.load_state_dict(load_file(tmp_path / "run" / "items.safetensors"))
    kept = load_file(tmp_path / "run" / "model.safetensors")["items"]
    with torch.no_grad():
        torch.testing.assert_close(items.all(), kept, rtol=1e-4, atol=1e-5)
    info = json.loads((tmp_path / "run" / "run.json").read_text())
    assert info["embeddings"]["missing"] == 1
    assert info["config"]["loss"]["kind"] == "in-batch"


@pytest.mark.parametrize("kind", ["end-to-end", "ids+end-to-end"])
def test_an_interrupted_run_resumes_to_the_same_bytes(frames, ring, tmp_path, kind):
    class Stop(SilentProgress):
        now = ""

        def start(self, what, total, unit):
            self.now = what

        def advance(self, count=1, note=""):
            if self.now == "epoch 2" and note:
                raise KeyboardInterrupt

    conf = config(frames, kind, ema=0.5)
    run(ring, tmp_path / "whole", conf)
    with pytest.raises(Interrupted):
        run(ring, tmp_path / "cut", conf, progress=Stop())
    run(ring, tmp_path / "cut", conf, resume=True)
    for name in ("model.safetensors", "encoder.safetensors", "items.safetensors"):
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "cut" / name).read_bytes()


def test_it_begins_with_the_weights_of_another_run(frames, ring, tmp_path, told):
    run(ring, tmp_path / "first", config(frames))
    conf = config(frames, "ids+end-to-end", init=tmp_path / "first", lr=1e-9, epochs=1)
    run(ring, tmp_path / "second", conf, progress=told)
    first, second = (load_file(tmp_path / name / "items.safetensors") for name in ("first", "second"))
    torch.testing.assert_close(second["content.project.0.weight"], first["project.0.weight"], atol=1e-4, rtol=0)
    assert any("tensors of the user model" in line for line in told.lines)
    run(ring, tmp_path / "ids", config(frames, "ids"))
    other = config(frames, "ids", init=tmp_path / "ids")
    other = other.model_copy(update={"model": other.model.model_copy(update={"d_model": 24, "kind": "gru4rec"})})
    with pytest.raises(InputError, match="nothing of the run"):
        run(ring, tmp_path / "third", other)


def test_users_known_by_id_train_the_encoder_along_too(frames, ring, tmp_path):
    conf = config(frames, "ids+end-to-end")
    conf = conf.model_copy(update={"model": conf.model.model_copy(update={"kind": "dssm"})})
    run(ring, tmp_path / "run", conf)
    trained = load_file(tmp_path / "run/encoder.safetensors")
    fresh = load_weights("random", VivimConfig.of_size("nano"), seed=3, segmentation=False).state_dict()
    assert any(not torch.equal(tensor, fresh[name]) for name, tensor in trained.items() if name in fresh)
    found = load_file(tmp_path / "run/model.safetensors")
    assert {name: len(tensor) for name, tensor in found.items()} == {"users": 40, "items": 30}


def test_what_cannot_be_is_refused_with_what_to_do(frames, ring, tmp_path):
    conf = config(frames)
    full = conf.model_copy(update={"loss": conf.loss.model_copy(update={"kind": "full"})})
    with pytest.raises(InputError, match="encode every clip of the catalogue at every step"):
        run(ring, tmp_path / "a", full)
    with pytest.raises(InputError, match="--cache-frames"):
        find_frames(replace_frames(conf, None), ring.items, 0.9)
    with pytest.raises(InputError, match=r"1 of 2 items .* have no frames"):
        find_frames(conf.items.end_to_end, ItemIndex(["i01", "unheard"]), 0.9)


def replace_frames(conf, frames):
    return conf.items.end_to_end.model_copy(update={"frames": frames})


def test_the_order_of_the_ladder_is_in_the_objects(frames, ring):
    """An id delta beside an end-to-end encoder is one beside any content."""
    content = made(frames, ring)
    both = ContentAndIdItems(content, 16).eval()
    with torch.no_grad():
        torch.testing.assert_close(both.all(), content.eval().all())
