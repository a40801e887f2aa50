"""The command pretrain, from its options to the vectors that the trained encoder makes."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from vivim import cli
from vivim.extract.pretrain.pictures import write_png
from vivim.store import EmbeddingStore


@pytest.fixture(autouse=True)
def _empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture(autouse=True)
def _one_thread():
    """Threads that wait for each other over such small pictures cost many times the work when the cores are shared."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def clip() -> None:
    """``f`` and ``m``: four frames of a bright square, and its masks."""
    for folder in ("f", "m"):
        Path(folder).mkdir()
    for t in range(4):
        mask = np.zeros((32, 32, 3), np.uint8)
        mask[8:20, 4 + t : 16 + t] = 255
        write_png(Path("f") / f"{t}.png", mask // 2)
        write_png(Path("m") / f"{t}.png", mask)


TINY = ["--size", "nano", "--pixels", "32", "--clip-frames", "2", "--epochs", "1", "--device", "cpu"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "nothing to train on: give --clips DIR, a folder of videos, or --frames DIR and --masks DIR"),
        (["--clips", "f", "--masks", "m"], "--clips and --masks (pretrain.masks) are two ways to train"),
        (["--clips", "nowhere"], "nowhere"),
        (["--clips", "f"], "f"),
        (["--clips", "f", "--pixels", "16"], "--pixels: selfsup.image_size = '16' is not allowed"),
        (["--clips", "f", "--epochs", "0"], "--epochs: selfsup.epochs = '0' is not allowed"),
        (["--frames", "f"], "--frames is given without --masks; every frame needs a mask. Give --masks DIR"),
        (["--masks", "m"], "--masks is given without --frames"),
        (["--frames", "f", "--masks", "m", "--test-masks", "m"], "--test-masks is given without --test-frames"),
        (["--frames", "nowhere", "--masks", "m"], "--frames: nowhere is not a folder"),
        (["--frames", "f", "--masks", "m", "--weights", "nowhere.safetensors"], "no file nowhere.safetensors"),
        (["--frames", "f", "--masks", "m", "--pixels", "16"], "--pixels: pretrain.pixels = '16' is not allowed"),
    ],
)
def test_bad_input_exits_2_and_leaves_nothing(clip: None, options: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["pretrain", *options]) == 2
    assert message in capsys.readouterr().err
    assert not Path("runs").exists()


def test_pretrain_then_extract(clip: None, capsys: pytest.CaptureFixture[str], write_mp4) -> None:
    assert cli.main(["pretrain", "--frames", "f", "--masks", "m", *TINY, "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["run"], said["train_frames"], said["test_frames"], said["test"]) == ("runs/pretrain", 3, 1, "held out: f[3:4]")
    assert said["best"]["epoch"] == 1
    write_mp4(Path("clips") / "a.mp4")
    weights = "runs/pretrain/encoder.safetensors"
    assert cli.main(["extract", "--videos", "clips", "--size", "nano", "--weights", weights, "--frames", "2", "--device", "cpu"]) == 0
    assert EmbeddingStore.open(Path("runs/embeddings.h5")).recipe.weights["source"] == "encoder.safetensors"
    # A finished run is not overwritten, and has nothing to resume.
    assert cli.main(["pretrain", "--frames", "f", "--masks", "m", *TINY]) == 2
    assert "already holds a finished run" in capsys.readouterr().err
    assert cli.main(["pretrain", "--frames", "f", "--masks", "m", *TINY, "--resume", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["best"] == said["best"]


def test_pretrain_on_clips_then_extract(capsys: pytest.CaptureFixture[str], write_mp4) -> None:
    for clip in range(4):
        write_mp4(Path("clips") / f"{clip}.mp4", 20 * clip)
    (Path("clips") / "broken.mp4").write_bytes(b"no video")
    command = ["pretrain", "--clips", "clips", "--size", "nano", "--pixels", "32", "--clip-frames", "2", "--epochs", "2", "--workers", "1"]
    command += ["--set", "selfsup.cached_frames=4", "selfsup.batch=4", "tensorboard=true", "--device", "cpu"]
    assert cli.main([*command, "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["run"], said["size"], said["clips"], len(said["epochs"])) == ("runs/pretrain", "nano", 4, 2)
    assert [failure["id"] for failure in said["failures"]] == ["broken"]
    assert len(list(Path("runs/pretrain/tensorboard").iterdir())) == 1
    assert said["began"] == "The weights begin random (seed 1)."
    assert cli.main(["extract", "--videos", "clips", "--weights", said["weights"], "--frames", "2", "--max-fail-rate", "0.5"]) == 0
    assert EmbeddingStore.open(Path("runs/embeddings.h5")).recipe.weights["source"] == "encoder.safetensors"
    capsys.readouterr()
    assert cli.main(command) == 2
    assert "add --resume" in capsys.readouterr().err
    assert cli.main([*command, "--resume"]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith("nano trained on 4 clips, 1 left out, 2 epochs of ") and "next: vivim extract --videos clips --weights" in shown


def test_options_set_what_belongs_to_the_data_that_is_given(capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--epochs", "7", "--pixels", "64", "--clip-frames", "3", "--weights", "w.safetensors", "--print-config", "--json"]
    for data, section, pixels, frames in (
        (["--clips", "d"], "selfsup", "image_size", "frames"),
        (["--frames", "f", "--masks", "m"], "pretrain", "pixels", "clip_frames"),
    ):
        assert cli.main(["pretrain", *data, *options]) == 0
        config = json.loads(capsys.readouterr().out)
        other = {"selfsup": "pretrain", "pretrain": "selfsup"}[section]
        assert [config[section][key] for key in ("epochs", pixels, frames, "weights")] == [7, 64, 3, "w.safetensors"]
        assert config[other]["epochs"] != 7 and config[other]["weights"] == "random"


@pytest.fixture
def write_mp4():
    """Write a clip of ten frames, each of one grey a little brighter than the one before."""
    import av

    def write(path: Path, dark: int = 0) -> None:
        path.parent.mkdir(exist_ok=True)
        with av.open(str(path), "w") as file:
            stream = file.add_stream("libx264", rate=10)
            stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
            for k in range(10):
                file.mux(stream.encode(av.VideoFrame.from_ndarray(np.full((48, 64, 3), 10 * k + dark, np.uint8), format="rgb24")))
            file.mux(stream.encode(None))

    return write
