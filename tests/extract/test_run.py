"""The extraction loop: all that is done is kept, whatever single clips, the encoder or the user do."""

import os
import signal
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from vivim.errors import InputError, Interrupted, RecipeMismatch
from vivim.extract.clip import Clip, ClipRef, Failure
from vivim.extract.config import ExtractConfig, FramesConfig
from vivim.extract.reader import Unchanged
from vivim.extract.run import Tally, extract_catalogue, run_shard
from vivim.extract.writer import FileWriter
from vivim.progress import SILENT, SilentProgress
from vivim.store import EmbeddingFile, EmbeddingStore, Recipe

CONFIG = ExtractConfig(frames=FramesConfig(count=2), image_size=32, workers=1, batch_clips=2)


class MeanColour:
    """Mean red, green and blue over all frames, from 1 to 2; counts the clips it sees."""

    dim = 3
    device = torch.device("cpu")

    def __init__(self):
        self.batches = []

    def embed_uint8(self, frames_BTCHW):
        assert frames_BTCHW.dtype == torch.uint8
        self.batches.append(len(frames_BTCHW))
        return 1 + frames_BTCHW.float().mean((1, 3, 4)) / 255


def recipe(**changes):
    parts = {"encoder": {"size": "mean"}, "weights": {}, "frames": {"count": 2}, "preprocessing": {}, "dtype": "float16", "decoder": {}}
    return Recipe(**{**parts, **changes})


def extract(folder, out, encoder=None, config=CONFIG, **changes):
    return extract_catalogue(folder, out, config, encoder or MeanColour(), recipe(**changes), SILENT)


@pytest.fixture
def folder(tmp_path, clips):
    path = tmp_path / "clips"
    path.mkdir()
    for k in range(3):
        clips.write(path / f"c{k}.mp4", 4, picture=lambda _, k=k: np.full((48, 64, 3), 50 * k + 20, np.uint8))
    (path / "page.mp4").write_text("<html>404</html>")
    return path


def test_a_folder_becomes_a_file(folder, tmp_path):
    summary = extract(folder, tmp_path / "e.h5")
    store = EmbeddingStore.open(tmp_path / "e.h5")
    assert store.ids.ids == ("c0", "c1", "c2")
    assert np.abs(store.vectors_ND - [[1 + (50 * k + 20) / 255] * 3 for k in range(3)]).max() < 0.02
    assert [(f.id, f.kind) for f in store.failures] == [("page", "not_video")]
    assert (summary.total, summary.embedded, summary.unchanged, summary.sha256) == (4, 3, 0, store.sha256)
    assert summary.first_line().startswith("3 of 4 clips embedded, 1 failed (1 not_video); ")
    assert store.rows.times_seconds_NT.shape == (3, 2)
    assert set(store.rows.decoder) == {"decord"}


def test_only_new_changed_and_failed_clips_are_computed_again(folder, tmp_path, clips):
    extract(folder, tmp_path / "e.h5")
    first = EmbeddingStore.open(tmp_path / "e.h5")
    idle = MeanColour()
    assert extract(folder, tmp_path / "e.h5", idle).unchanged == 3
    assert idle.batches == []
    assert EmbeddingStore.open(tmp_path / "e.h5").sha256 == first.sha256

    (folder / "page.mp4").unlink()
    clips.write(folder / "page.mp4", 4)
    clips.write(folder / "c1.mp4", 4, picture=lambda _: np.full((48, 64, 3), 250, np.uint8))
    clips.write(folder / "new.mp4", 4)
    (folder / "c2.mp4").unlink()
    busy = MeanColour()
    summary = extract(folder, tmp_path / "e.h5", busy)
    assert (summary.embedded, summary.unchanged, sum(busy.batches)) == (3, 1, 3)
    store = EmbeddingStore.open(tmp_path / "e.h5")
    assert store.ids.ids == ("c0", "c1", "c2", "new", "page")
    assert store.lookup(["c1"])[0][0, 0] == pytest.approx(1 + 250 / 255, abs=0.02)
    assert store.failures == ()


def test_a_changed_clip_that_fails_loses_its_row(folder, tmp_path):
    extract(folder, tmp_path / "e.h5")
    (folder / "c1.mp4").write_text("overwritten")
    extract(folder, tmp_path / "e.h5")
    store = EmbeddingStore.open(tmp_path / "e.h5")
    assert store.ids.ids == ("c0", "c2")
    assert {f.id for f in store.failures} == {"c1", "page"}


def test_a_missing_file_keeps_its_row(folder, tmp_path):
    manifest = tmp_path / "m.csv"
    manifest.write_text(f"id,path\na,{folder}/c0.mp4\nb,{folder}/c1.mp4\nnever,{folder}/none.mp4\n")
    config = CONFIG.model_copy(update={"manifest": manifest})
    extract(folder, tmp_path / "e.h5", config=config)
    (folder / "c1.mp4").unlink()
    summary = extract(folder, tmp_path / "e.h5", config=config)
    assert (summary.unchanged, [f.id for f in summary.failures]) == (2, ["never"])
    assert EmbeddingStore.open(tmp_path / "e.h5").ids.ids == ("a", "b")


def test_another_recipe_is_refused_before_any_work(folder, tmp_path):
    extract(folder, tmp_path / "e.h5")
    before = (tmp_path / "e.h5").read_bytes()
    idle = MeanColour()
    with pytest.raises(RecipeMismatch, match=r"frames\.count: 2 in the file, 9 now"):
        extract(folder, tmp_path / "e.h5", idle, frames={"count": 9})
    assert idle.batches == []
    assert (tmp_path / "e.h5").read_bytes() == before


def test_no_clips_is_refused_and_leaves_nothing(tmp_path):
    (tmp_path / "clips").mkdir()
    with pytest.raises(InputError, match="no clips"):
        extract(tmp_path / "clips", tmp_path / "out" / "e.h5")
    assert not (tmp_path / "out").exists()


def test_when_every_clip_fails_the_file_says_why(tmp_path):
    (tmp_path / "a.mp4").write_text("no film")
    summary = extract(tmp_path, tmp_path / "e.h5")
    assert summary.first_line().startswith("0 of 1 clips embedded, 1 failed (1 not_video)")
    with pytest.raises(InputError, match="holds no vectors, only 1 failed"):
        EmbeddingStore.open(tmp_path / "e.h5")
    assert EmbeddingStore.open(tmp_path / "e.h5", allow_empty=True).failures[0].id == "a"


class Poisoned(MeanColour):
    """Gives c1 a vector that cannot be stored."""

    def __init__(self, value):
        super().__init__()
        self.value = value

    def embed_uint8(self, frames_BTCHW):
        vectors = super().embed_uint8(frames_BTCHW)
        vectors[(vectors[:, 0] - 1 - 70 / 255).abs() < 0.02, 0] = self.value
        return vectors


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e6])
def test_vectors_that_cannot_be_stored_cost_one_clip(folder, tmp_path, value):
    summary = extract(folder, tmp_path / "e.h5", Poisoned(value))
    assert summary.failures_by_kind == {"nan_output": 1, "not_video": 1}
    store = EmbeddingStore.open(tmp_path / "e.h5")
    assert store.ids.ids == ("c0", "c2")
    assert {f.id: f.kind for f in store.failures} == {"c1": "nan_output", "page": "not_video"}


def made(id_, level=100):
    return Clip(id_, np.full((2, 3, 32, 32), level, np.uint8), np.zeros(2), "pyav", "0" * 64)


def decode_from(*results):
    def decode(refs, known):
        yield from results

    return decode


def shard(tmp_path, results, encoder, batch_clips=2, progress=SILENT):
    file, tally = EmbeddingFile(tmp_path / "e.h5", recipe(), 3), Tally()
    refs = [ClipRef(result.id, Path("unused")) for result in results]
    run_shard(refs, decode_from(*results), encoder, FileWriter(file), tally, batch_clips=batch_clips, progress=progress)
    return file, tally


def test_batches_are_filled_and_the_rest_is_not_forgotten(tmp_path):
    encoder = MeanColour()
    results = [made("a"), Failure("x", "timeout", "slow"), made("b"), made("c"), Unchanged("u"), made("d"), made("e")]
    file, tally = shard(tmp_path, results, encoder)
    assert encoder.batches == [2, 2, 1]
    assert (tally.embedded, tally.unchanged, len(tally.failures), len(file)) == (5, 1, 1, 5)


def test_a_device_with_too_little_memory_gets_halves(tmp_path):
    class Small(MeanColour):
        def embed_uint8(self, frames_BTCHW):
            if len(frames_BTCHW) > 2:
                raise torch.OutOfMemoryError("too much")
            return super().embed_uint8(frames_BTCHW)

    class Listener(SilentProgress):
        lines: list[str] = []  # noqa: RUF012

        def say(self, line):
            self.lines.append(line)

    encoder = Small()
    file, _ = shard(tmp_path, [made(f"c{k}", 40 * k) for k in range(5)], encoder, batch_clips=5, progress=Listener())
    assert encoder.batches == [2, 1, 2]
    file.commit()
    vectors = EmbeddingStore.open(tmp_path / "e.h5").vectors_ND[:, 0]
    assert np.abs(vectors - [1 + 40 * k / 255 for k in range(5)]).max() < 0.01
    assert "trying halves" in Listener.lines[0]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stop_saves_what_is_done_and_the_same_command_resumes(folder, tmp_path, number):
    class Stopped(MeanColour):
        def embed_uint8(self, frames_BTCHW):
            if self.batches:
                threading.Timer(0.01, os.kill, (os.getpid(), number)).start()
                threading.Event().wait(20)
            return super().embed_uint8(frames_BTCHW)

    with pytest.raises(Interrupted, match=r"2 of 4 clips are embedded and saved in .*e\.h5.*same command") as caught:
        extract(folder, tmp_path / "e.h5", Stopped())
    assert caught.value.exit_code == 130
    assert len(EmbeddingStore.open(tmp_path / "e.h5")) == 2
    assert extract(folder, tmp_path / "e.h5").unchanged == 2
    assert len(EmbeddingStore.open(tmp_path / "e.h5")) == 3


def test_a_broken_encoder_is_not_hidden_but_loses_nothing(folder, tmp_path):
    class Broken(MeanColour):
        def embed_uint8(self, frames_BTCHW):
            if self.batches:
                raise ZeroDivisionError("in the model")
            return super().embed_uint8(frames_BTCHW)

    with pytest.raises(ZeroDivisionError):
        extract(folder, tmp_path / "e.h5", Broken())
    assert len(EmbeddingStore.open(tmp_path / "e.h5")) == 2


@pytest.mark.slow
@pytest.mark.shared
def test_all_real_clips_and_both_decoders_hardly_differ(shared_data, tmp_path):
    class Grid(MeanColour):
        dim = 48

        def embed_uint8(self, frames_BTCHW):
            batch, frames = frames_BTCHW.shape[:2]
            grid = torch.nn.functional.adaptive_avg_pool2d(frames_BTCHW.flatten(0, 1).float(), 4)
            return 1 + grid.reshape(batch, frames, 48).mean(1) / 255

    config = ExtractConfig(workers=2)
    quick = extract(shared_data / "clips", tmp_path / "auto.h5", Grid(), config, dtype="float32")
    assert (quick.total, quick.embedded) == (106, 106)
    careful = extract(shared_data / "clips", tmp_path / "pyav.h5", Grid(), config.model_copy(update={"decoder": "pyav"}), dtype="float32")
    assert careful.decoders == {"pyav": 106}
    a, b = EmbeddingStore.open(tmp_path / "auto.h5"), EmbeddingStore.open(tmp_path / "pyav.h5")
    assert a.rows.sha256 == b.rows.sha256
    assert np.abs(a.rows.times_seconds_NT - b.rows.times_seconds_NT).max() == 0
    difference_N = np.abs(a.vectors_ND - b.vectors_ND).max(axis=1)
    assert (difference_N == 0).sum() >= 100  # the others have more than 8 bits a channel
    assert difference_N.max() < 0.05  # of a range of 1
