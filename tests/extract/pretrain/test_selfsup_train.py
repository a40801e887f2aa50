"""The loop: it learns, goes on where it was stopped, and says what is wrong."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from vivim.errors import InputError, Interrupted, VivimError
from vivim.extract.pretrain.selfsup_config import SelfSupConfig, ViewsConfig
from vivim.extract.pretrain.selfsup_train import learning_rate, pretrain_on_clips
from vivim.extract.vivim import VivimConfig
from vivim.extract.weights import load_weights, save_encoder
from vivim.progress import SILENT, SilentProgress

TINY = VivimConfig(channels=(8, 8, 8, 8), depths=(1, 1, 1, 1), mamba_depths=(1, 1, 1, 1), heads=(1, 1, 1, 1), d_state=4, decoder_width=8)
CONFIG = SelfSupConfig(
    frames=2, cached_frames=4, image_size=32, workers=1, expander=16, epochs=3, batch=4, lr=3e-3, views=ViewsConfig(jitter=0.1, grey=0)
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory, clips):
    """Eight clips of different colours, whose dark bar moves."""
    path = tmp_path_factory.mktemp("clips")

    def picture(k, clip):
        pixels = np.full((48, 48, 3), [30 * clip + 20, 250 - 30 * clip, 40 * (clip % 4) + 60], np.uint8)
        pixels[:, 4 * k + clip : 4 * k + clip + 6] = 10
        return pixels

    for clip in range(8):
        clips.write(path / f"c{clip}.mp4", 8, width=48, picture=lambda k, clip=clip: picture(k, clip))
    return path


@pytest.fixture(scope="module")
def decoded(tmp_path_factory):
    return tmp_path_factory.mktemp("frames")


def settings(**changes):
    return SelfSupConfig.model_validate(CONFIG.model_dump() | changes)


def pretrain(folder, out, config=CONFIG, *, progress=SILENT, resume=False, seed=0, frames=None):
    return pretrain_on_clips(folder, config, TINY, out, progress, seed=seed, device="cpu", resume=resume, frames=frames)


class StopsAt(SilentProgress):
    """Ctrl-C when a task begins."""

    def __init__(self, task):
        self.task = task

    def start(self, what, total, unit):
        if what == self.task:
            raise KeyboardInterrupt


def test_training_lowers_the_loss_and_leaves_weights_that_extraction_loads(folder, tmp_path):
    result = pretrain(folder, tmp_path / "run", settings(epochs=12))
    losses = [epoch.loss for epoch in result.epochs]
    assert np.mean(losses[-3:]) < np.mean(losses[:3])
    assert result.clips == 8 and not result.failures and not result.collapsed
    trained = load_weights(str(result.encoder), TINY, seed=0)
    info = trained.load_report
    fresh = load_weights("random", TINY, seed=0)
    random = fresh.load_report
    assert info.sha256 != random.sha256
    assert any(not torch.equal(a, b) for a, b in zip(trained.parameters(), fresh.parameters(), strict=True))
    log = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert [line["loss"] for line in log] == losses
    kept = {"run.json", "encoder.safetensors", "last.safetensors", "previous.safetensors", "log.jsonl"}
    assert {path.name for path in (tmp_path / "run").iterdir()} == kept


@pytest.mark.parametrize("task", ["epoch 1", "epoch 3", "decode"])
def test_a_stopped_and_resumed_run_ends_with_the_same_weights(folder, tmp_path, task):
    whole = pretrain(folder, tmp_path / "whole")
    with pytest.raises(Interrupted, match="--resume"):
        pretrain(folder, tmp_path / "cut", progress=StopsAt(task))
    assert not (tmp_path / "cut" / "encoder.safetensors").exists()
    resumed = pretrain(folder, tmp_path / "cut", resume=task != "decode")
    assert resumed.encoder.read_bytes() == whole.encoder.read_bytes()
    assert [epoch.loss for epoch in resumed.epochs] == [epoch.loss for epoch in whole.epochs]
    log = (tmp_path / "cut" / "log.jsonl").read_text()
    (tmp_path / "cut" / "log.jsonl").write_text(log.splitlines(keepends=True)[0])  # killed between the last checkpoint and its line
    pretrain(folder, tmp_path / "cut", resume=True)
    assert (tmp_path / "cut" / "log.jsonl").read_text() == log


def test_the_seed_decides(folder, tmp_path, decoded):
    one, two, other = (
        pretrain(folder, tmp_path / name, settings(epochs=1), seed=seed, frames=decoded).encoder.read_bytes()
        for name, seed in (("a", 1), ("b", 1), ("c", 2))
    )
    assert one == two != other
    assert (decoded / "frames.u8").exists()  # a folder that was named is kept


def test_training_may_begin_with_given_weights(folder, tmp_path, decoded):
    first = pretrain(folder, tmp_path / "a", settings(epochs=1), frames=decoded)
    second = pretrain(folder, tmp_path / "b", settings(epochs=1, weights=str(first.encoder), lr=1e-12), frames=decoded)
    start, end = (load_weights(str(result.encoder), TINY, seed=0) for result in (first, second))
    for a, b in zip(start.parameters(), end.parameters(), strict=True):
        torch.testing.assert_close(a, b, atol=1e-9, rtol=0)


def test_mixed_precision_trains(folder, tmp_path, decoded):
    result = pretrain(folder, tmp_path / "run", settings(epochs=1, precision="bf16-mixed"), frames=decoded)
    plain = pretrain(folder, tmp_path / "plain", settings(epochs=1), frames=decoded)
    assert result.epochs[0].loss == pytest.approx(plain.epochs[0].loss, rel=0.05)


def test_clips_that_all_look_alike_are_called_a_collapse(tmp_path, clips, told):
    (tmp_path / "clips").mkdir()
    for name in "abcd":
        clips.write(tmp_path / "clips" / f"{name}.mp4", 8)
    config = settings(epochs=1, views={"min_span": 1, "min_area": 1, "jitter": 0, "grey": 0})
    result = pretrain_on_clips(
        tmp_path / "clips",
        config,
        VivimConfig(**{**vars(TINY), "drop_path": 0.0}),
        tmp_path / "run",
        told,
        seed=0,
        device="cpu",
        resume=False,
    )
    assert result.collapsed and result.epochs[-1].feature_deviation < 1e-3
    assert any(line.startswith("WARNING: the features have collapsed") for line in told.lines)


def test_a_loss_that_is_no_number_stops_the_run_in_words(folder, tmp_path, decoded):
    with pytest.raises(VivimError, match=r"the loss became (nan|inf).*Lower lr"):
        pretrain(folder, tmp_path / "run", settings(lr=1e30, warmup=0, clip_norm=0), frames=decoded)


def test_folders_without_enough_clips_are_refused(tmp_path, clips):
    (tmp_path / "clips").mkdir()
    with pytest.raises(InputError, match="holds no clips"):
        pretrain(tmp_path / "clips", tmp_path / "run")
    clips.write(tmp_path / "clips" / "a.mp4", 8)
    with pytest.raises(InputError, match="1 of 1 clips can be learned from"):
        pretrain(tmp_path / "clips", tmp_path / "run")
    clips.write(tmp_path / "clips" / "b.mp4", 1)
    with pytest.raises(InputError, match="b: 1 frames, a view needs 2"):
        pretrain(tmp_path / "clips", tmp_path / "run")


def test_fewer_clips_than_a_batch_are_warned_of(folder, tmp_path, decoded, told):
    pretrain(folder, tmp_path / "run", settings(epochs=1, batch=64), progress=told, frames=decoded)
    assert any("8 clips are fewer than a batch (64)" in line for line in told.lines)


def test_a_folder_that_is_taken_is_refused(folder, tmp_path, decoded):
    pretrain(folder, tmp_path / "run", settings(epochs=1), frames=decoded)
    with pytest.raises(InputError, match="holds a run already; add --resume"):
        pretrain(folder, tmp_path / "run", settings(epochs=1), frames=decoded)
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="is a file"):
        pretrain(folder, tmp_path / "file")
    with pytest.raises(InputError, match="no run to resume"):
        pretrain(folder, tmp_path / "new", resume=True)


def test_another_run_is_not_resumed(folder, tmp_path, decoded, clips):
    pretrain(folder, tmp_path / "run", settings(epochs=1), frames=decoded)
    with pytest.raises(InputError, match=r"config\.epochs 1 \(now 2\)"):
        pretrain(folder, tmp_path / "run", settings(epochs=2), resume=True, frames=decoded)
    with pytest.raises(InputError, match=r"seed 0 \(now 5\)"):
        pretrain(folder, tmp_path / "run", settings(epochs=1), seed=5, resume=True, frames=decoded)
    (tmp_path / "two").mkdir()
    for name in ("c0", "c1"):
        clips.write(tmp_path / "two" / f"{name}.mp4", 8)
    with pytest.raises(InputError, match="clips_sha256"):
        pretrain(tmp_path / "two", tmp_path / "run", settings(epochs=1), resume=True)
    (tmp_path / "run" / "last.safetensors").write_bytes(b"torn")
    with pytest.raises(InputError, match="damaged"):
        pretrain(folder, tmp_path / "run", settings(epochs=1), resume=True, frames=decoded)


def test_the_learning_rate_rises_and_falls():
    config = settings(lr=1.0, warmup=0.25)
    assert [round(learning_rate(step, 8, config), 4) for step in range(8)] == [0.3333, 0.6667, 1.0, 0.933, 0.75, 0.5, 0.25, 0.067]
    assert learning_rate(8, 8, config) == pytest.approx(0)


def test_views_longer_than_the_cache_are_refused():
    with pytest.raises(ValidationError, match="does not fit"):
        SelfSupConfig(frames=8, cached_frames=12)


def test_epsilon_and_licence_of_the_weights_it_began_with_come_along(folder, decoded, tmp_path):
    start = load_weights("random", replace(TINY, norm_eps=1e-6))
    save_encoder(start, tmp_path / "start.safetensors", "research only")
    done = pretrain(folder, tmp_path / "run", settings(epochs=1, weights=str(tmp_path / "start.safetensors")), frames=decoded)
    trained = load_weights(str(done.encoder), TINY)
    report = trained.load_report
    assert (trained.config.norm_eps, report.licence) == (1e-6, "research only")
    assert done.weights == "The weights begin as in start.safetensors."
    assert json.loads((tmp_path / "run" / "run.json").read_text())["provenance"]["versions"]["torch"] == torch.__version__
