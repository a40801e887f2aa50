"""A run on masks: what it learns, that it resumes to the same weights, and what its files are good for."""

import json
import os
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file
from vivim.errors import InputError, Interrupted, VivimError
from vivim.extract.pretrain.config import MaskLossConfig, PretrainConfig
from vivim.extract.pretrain.masks import MaskedClip, read_clips
from vivim.extract.pretrain.pictures import read_frame
from vivim.extract.pretrain.predict import measure, predict
from vivim.extract.pretrain.train import train_on_masks
from vivim.extract.vivim import VivimConfig
from vivim.extract.weights import load_weights, save_encoder
from vivim.progress import SILENT, SilentProgress

from .conftest import square_clip

TINY = PretrainConfig(pixels=32, clip_frames=2, epochs=3, lr=1e-3, pictures_every=2, batch=2, loss=MaskLossConfig(tiles=4))


class StopsIn(SilentProgress):
    """Ctrl-C in the middle of an epoch."""

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch

    def advance(self, count: int = 1, note: str = "") -> None:
        if self.now == f"epoch {self.epoch}":
            raise KeyboardInterrupt

    def start(self, what: str, total: int, unit: str) -> None:
        self.now = what


def train(folders, out, config=TINY, *, resume=False, progress=SILENT, seed=1, test=None, size="nano", **changes):
    clips = read_clips(*folders, config.pixels, SILENT)
    config = config.model_copy(update=changes)
    return train_on_masks(clips, test, config, size, out, seed=seed, device="cpu", resume=resume, progress=progress)


@pytest.mark.slow
def test_a_bright_square_is_found(folders, tmp_path):
    clips = read_clips(*folders, 32, SILENT)
    config = TINY.model_copy(update={"epochs": 12, "lr": 3e-3, "augment": False, "test_every": 12})
    done = train(folders, tmp_path / "run", config, test=clips)
    assert done.best.dice > 0.9
    assert done.epochs[-1].loss < done.epochs[0].loss / 2
    assert [log.test is not None for log in done.epochs] == [False] * 11 + [True]


def test_a_killed_run_resumes_to_the_same_weights(folders, tmp_path):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    expected = train(folders, whole)
    with pytest.raises(Interrupted, match=r"stopped in epoch 2; 1 epochs are saved.*--resume"):
        train(folders, killed, progress=StopsIn(2))
    with pytest.raises(InputError, match="interrupted run; add --resume"):
        train(folders, killed)
    done = train(folders, killed, resume=True)
    for name in ("last.safetensors", "best.safetensors"):
        a, b = load_file(whole / name), load_file(killed / name)
        assert a.keys() == b.keys()
        assert all(torch.equal(a[key], b[key]) for key in a if key != "epochs"), name
    assert [(log.loss, log.test) for log in done.epochs] == [(log.loss, log.test) for log in expected.epochs]
    lines = [json.loads(line) for line in (killed / "log.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in lines] == [1, 2, 3]
    assert json.loads((killed / "run.json").read_text())["finished"]
    log = (killed / "log.jsonl").read_text()
    (killed / "log.jsonl").write_text(log.splitlines(keepends=True)[0])  # killed between the last checkpoint and its line
    train(folders, killed, resume=True)
    assert (killed / "log.jsonl").read_text() == log


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seed": 2}, r"seed 1 \(now 2\)"),
        ({"config": TINY.model_copy(update={"lr": 0.5})}, r"lr 0\.001 \(now 0\.5\)"),
        ({"config": TINY.model_copy(update={"loss": MaskLossConfig(kind="official")})}, "loss"),
    ],
)
def test_another_run_is_not_resumed(folders, tmp_path, change, message):
    with pytest.raises(Interrupted):
        train(folders, tmp_path / "run", progress=StopsIn(2))
    with pytest.raises(InputError, match=message):
        train(folders, tmp_path / "run", resume=True, **change)


def test_other_clips_are_not_resumed(folders, tmp_path):
    with pytest.raises(Interrupted):
        train(folders, tmp_path / "run", progress=StopsIn(2))
    with pytest.raises(InputError, match="other train clips; other test clips"):
        train((folders[0] / "a", folders[1] / "a"), tmp_path / "run", resume=True)


def test_the_files_of_a_run_serve_extraction_and_further_training(folders, tmp_path):
    run = tmp_path / "run"
    done = train(folders, run)
    encoder = load_weights(str(run / "encoder.safetensors"), VivimConfig.of_size("nano"))
    info = encoder.load_report
    model = load_weights(str(run / "best.safetensors"), segmentation=True)
    report = model.load_report
    assert report.size == "nano" and not report.initialised
    assert "encoder.safetensors" in info.words
    frames = torch.rand(1, 2, 3, 32, 32)
    model.eval()
    assert all(torch.equal(a, b) for a, b in zip(encoder.forward_features(frames), model.forward_features(frames), strict=True))
    # best.safetensors is the model that was measured: its metrics come out again.
    clips = read_clips(*folders, 32, SILENT)
    test = [clip for clip in clips if done.held_out == f"held out: {clip.name}"]
    again = measure(test, [predict(model, clip, 2, "all") for clip in test])
    assert again.dice == done.best.dice


def test_masks_that_teach_nothing_are_refused_and_leave_nothing(folders, tmp_path):
    clips = read_clips(*folders, 32, SILENT)
    empty, full = (
        [MaskedClip(clip.name, clip.frames_TCHW, torch.full_like(clip.masks_THW, value)) for clip in clips] for value in (False, True)
    )
    run = tmp_path / "run"
    for train_on, test_on, message in (
        (empty, clips, "none of the 12 masks to train on holds an object: all are 0"),
        (full, clips, "the 12 masks to train on hold no background"),
        (clips, empty, r"none of the 12 masks to measure on \(2 test clips\) holds an object.*Give --test-frames"),
    ):
        with pytest.raises(InputError, match=message):
            train_on_masks(train_on, test_on, TINY, "nano", run, seed=1, device="cpu", resume=False, progress=SILENT)
    assert not run.exists()
    # A single clip without the object is legal.
    train_on_masks([clips[0], empty[1]], clips, TINY, "nano", run, seed=1, device="cpu", resume=False, progress=SILENT)


def test_a_clip_whose_name_is_no_utf8_is_trained_on_and_resumed(tmp_path):
    name = os.fsdecode(b"a\xff")
    square_clip(tmp_path / "f" / name, tmp_path / "m" / name)
    folders = tmp_path / "f", tmp_path / "m"
    with pytest.raises(Interrupted):
        train(folders, tmp_path / "run", progress=StopsIn(2))
    assert len(train(folders, tmp_path / "run", resume=True).epochs) == TINY.epochs
    assert json.loads((tmp_path / "run" / "run.json").read_text())["train"]["clips"] == [f"{name}[0:5]"]


def test_a_run_needs_a_folder_that_can_be(folders, tmp_path):
    (tmp_path / "file").write_text("mine")
    for out in (tmp_path / "file" / "run", tmp_path / ("x" * 300)):
        with pytest.raises(InputError, match=r"cannot be a folder for the run \(.*\); choose another --out"):
            train(folders, out)
    assert (tmp_path / "file").read_text() == "mine"


def test_encoder_weights_alone_can_be_the_beginning(folders, tmp_path):
    train(folders, tmp_path / "run")
    weights = str(tmp_path / "run" / "encoder.safetensors")
    done = train(folders, tmp_path / "next", weights=weights, size="auto")
    assert done.size == "nano"
    assert "begin as in encoder.safetensors" in done.weights
    assert "head" in done.weights and "begin random" in done.weights
    with pytest.raises(InputError, match="b0"):
        train(folders, tmp_path / "other", weights=weights, size="b0")


def test_pictures_show_frame_masks_and_edges(folders, tmp_path):
    train(folders, tmp_path / "run")
    assert [path.name for path in sorted((tmp_path / "run" / "pictures").iterdir())] == ["epoch-0002.png", "epoch-0003.png"]
    picture = read_frame(tmp_path / "run" / "pictures" / "epoch-0003.png")
    assert picture.shape == (4 * 36, 5 * 36, 3)  # four frames, five tiles of 32 and a gap of 4
    assert set(picture[:32, 36:68].flatten().tolist()) == {0, 255}  # the true mask


def test_the_middle_frame_alone_can_be_supervised_and_the_official_loss_used(folders, tmp_path):
    config = TINY.model_copy(update={"supervise": "middle", "clip_frames": 3, "epochs": 1, "loss": MaskLossConfig(kind="official")})
    done = train((folders[0] / "a", folders[1] / "a"), tmp_path / "run", config)
    assert set(done.epochs[0].terms) == {"structure", "edge", "edge_attention"}
    assert (done.train_frames, done.test_frames) == (5, 1)


def test_bfloat16_learns_the_same_but_for_rounding(folders, tmp_path):
    config = TINY.model_copy(update={"epochs": 1, "clip_norm": 1.0})
    exact = train(folders, tmp_path / "a", config)
    rounded = train(folders, tmp_path / "b", config.model_copy(update={"precision": "bf16-mixed"}))
    assert rounded.epochs[0].loss == pytest.approx(exact.epochs[0].loss, rel=0.03)
    assert rounded.epochs[0].loss != exact.epochs[0].loss


def test_a_loss_that_is_no_number_stops_the_run(folders, tmp_path):
    config = TINY.model_copy(update={"lr": 1e30})
    with pytest.raises(VivimError, match=r"the loss became nan in epoch 1.*Lower pretrain\.lr"):
        train(folders, tmp_path / "run", config)


@pytest.mark.slow
@pytest.mark.shared
def test_one_real_clip_is_learned_by_heart(shared_data, tmp_path):
    clips = read_clips(shared_data / "vtus/Train/0002", shared_data / "vtus/Train_GT/0002", 256, SILENT)
    config = PretrainConfig(pixels=256, clip_frames=2, epochs=24, lr=2e-3, augment=False, test_every=24, pictures_every=0)
    done = train_on_masks(clips, clips, config, "nano", tmp_path / "run", seed=1, device="cpu", resume=False, progress=SILENT)
    assert done.best.dice >= 0.95


def test_epsilon_and_licence_of_the_weights_it_began_with_come_along(folders, tmp_path):
    """Both decide what may be done with the vectors, and neither can be read off the tensors."""
    start = load_weights("random", replace(VivimConfig.of_size("nano"), norm_eps=1e-6))
    save_encoder(start, tmp_path / "start.safetensors", "research only")
    train(folders, tmp_path / "run", TINY, size="auto", epochs=1, weights=str(tmp_path / "start.safetensors"))
    for name in ("encoder.safetensors", "best.safetensors"):
        trained = load_weights(str(tmp_path / "run" / name))
        report = trained.load_report
        assert (trained.config.norm_eps, report.licence) == (1e-6, "research only")
