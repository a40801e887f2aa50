"""From frozen vectors to end-to-end training and back to extraction, as it is typed."""

import json
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from vivim import cli
from vivim.extract.weights import load_weights
from vivim.recommend.config import EndToEndConfig
from vivim.recommend.end_to_end import EndToEndItems, find_frames
from vivim.store import EmbeddingStore, ItemIndex

ITEMS = 8
FAST = ["--set", "model.d_model=16", "model.layers=1", "train.lr=0.01", "train.batch=16", "--epochs", "2"]


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Eight clips whose bar stands elsewhere, and viewers who watch them in turn."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data" / "videos").mkdir(parents=True)
    for item in range(ITEMS):
        with av.open(f"data/videos/{item + 1}.mp4", "w") as file:
            stream = file.add_stream("mpeg4", rate=8)
            stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
            for number in range(8):
                picture = np.full((64, 64, 3), 20 * item, np.uint8)
                picture[:, item * 8 : item * 8 + 8] = 255 - 20 * number
                file.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
            file.mux(stream.encode())
    lines = [f"{u + 1}\t{' '.join(str((u + i) % ITEMS + 1) for i in range(5))}" for u in range(24)]
    Path("data/ring_pairs.tsv").write_text("\n".join(lines) + "\n")
    return tmp_path


def run(*args: str) -> None:
    assert cli.main([*args, "--device", "cpu"]) == 0


def test_each_rung_begins_where_the_one_below_ended(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    small = ("--set", "extract.image_size=32", "extract.frames.count=2")
    run("extract", "--size", "nano", *small, "--cache-frames", "frames", "--out", "v.h5")
    run("extract", "--size", "nano", *small, "extract.encoder.pooling=frames", "--out", "spans.h5")
    run("train-rec", "--items", "frozen", "--embeddings", "v.h5", "--out", "frozen", *FAST)
    run("train-rec", "--items", "adapter", "--embeddings", "spans.h5", "--out", "adapter", *FAST)
    capsys.readouterr()
    run("train-rec", "--items", "end-to-end", "--from-cache", "frames", "--size", "nano", "--init", "frozen", "--out", "e2e", *FAST)
    told = capsys.readouterr()
    assert "tensors of the user model of frozen" in told.err
    assert "expected: " in told.err
    run("evaluate", "--run", "e2e", "--k", "1", "5")
    run("extract", *small, "--weights", "e2e", "--out", "trained.h5")
    store = EmbeddingStore.open("trained.h5")
    assert store.recipe.weights["source"] == "encoder.safetensors"
    config = EndToEndConfig(frames=Path("frames"))
    catalogue = ItemIndex(store.ids.ids)
    items = EndToEndItems(load_weights("e2e"), find_frames(config, catalogue, 1.0), 16, config).eval()
    items.load_state_dict(load_file("e2e/items.safetensors"))
    with torch.no_grad():
        stored = items.project((torch.from_numpy(store.vectors_ND.astype(np.float32)) - items.mean_V) / items.std_V)
    # Float16 in the file; the deviation of a dimension, by which it is divided, may be small.
    torch.testing.assert_close(stored, load_file("e2e/model.safetensors")["items"], rtol=0.02, atol=0.02)


def test_clips_that_are_given_are_decoded_once(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    small = ("--set", "extract.image_size=32", "extract.frames.count=2", "items.min_coverage=0.5", *FAST[1:])
    Path("data/videos/3.mp4").write_bytes(b"no video at all")
    run("train-rec", "--items", "end-to-end", "--videos", "data/videos", "--size", "nano", "--out", "one", *small)
    said = capsys.readouterr().err
    assert "7 of them decoded now" in said
    assert "clip 3 cannot be read: not_video" in said
    (kept,) = Path("runs").glob("frames-*")
    assert json.loads(Path("one/run.json").read_text())["embeddings"]["missing"] == 1
    run("train-rec", "--items", "end-to-end", "--videos", "data/videos", "--size", "nano", "--out", "two", *small)
    assert f"frames of 7 clips in {kept}, 0 of them decoded now" in capsys.readouterr().err
    assert Path("one/model.safetensors").read_bytes() == Path("two/model.safetensors").read_bytes()


def test_end_to_end_items_without_clips_are_refused_with_what_to_give(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["train-rec", "--items", "end-to-end", "--out", "none", "--device", "cpu"]) == 2
    assert "give --videos DIR, or the frames that" in " ".join(capsys.readouterr().err.split())
