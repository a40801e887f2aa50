"""The extraction loop: all that is done is kept, whatever single clips, the encoder or the user do."""

import os
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from vivim.errors import InputError, Interrupted, RecipeMismatch
from vivim.extract.clip import Clip, ClipRef, Failure
from vivim.extract.clips import Catalogue
from vivim.extract.config import ExtractConfig, FramesConfig
from vivim.extract.decode_pool import Idle
from vivim.extract.decode_process import DecodeProcess
from vivim.extract.ledger import Ledger
from vivim.extract.merge import merge
from vivim.extract.parts import Share, open_parts
from vivim.extract.reader import ClipReader, Unchanged
from vivim.extract.run import extract_catalogue
from vivim.extract.shard_loop import Tally, run_shard
from vivim.extract.sources import Source, videos
from vivim.progress import SILENT, SilentProgress
from vivim.store import EmbeddingStore, Recipe

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
    return extract_catalogue(videos(folder, config), out, config, encoder or MeanColour(), recipe(**changes), SILENT)


@pytest.fixture
def misbehaving(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    import misbehaving_readers

    return misbehaving_readers


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


class Kept:
    """Keeps what it is given."""

    def __init__(self):
        self.hashes, self.vectors, self.failures, self.unchanged, self.pauses = {}, {}, [], [], 0

    def add(self, batch):
        self.vectors.update(zip((clip.id for clip in batch.clips), batch.vectors_BD, strict=True))
        return []

    def fail(self, failure):
        self.failures.append(failure)

    def same(self, id_):
        self.unchanged.append(id_)

    def idle(self):
        self.pauses += 1


def shard(results, encoder, batch_clips=2, progress=SILENT):
    kept, tally = Kept(), Tally()
    refs = [ClipRef(result.id, Path("unused")) for result in results if not isinstance(result, Idle)]
    run_shard(refs, decode_from(*results), encoder, kept, tally, batch_clips=batch_clips, progress=progress)
    return kept, tally


def test_batches_are_filled_and_the_rest_is_not_forgotten():
    encoder = MeanColour()
    results = [made("a"), Failure("x", "timeout", "slow"), made("b"), made("c"), Unchanged("u"), made("d"), made("e")]
    kept, tally = shard(results, encoder)
    assert encoder.batches == [2, 2, 1]
    assert (tally.embedded, tally.unchanged, len(tally.failures)) == (5, 1, 1)
    assert (sorted(kept.vectors), kept.unchanged, [failure.id for failure in kept.failures]) == (list("abcde"), ["u"], ["x"])


def test_what_waits_is_encoded_when_nothing_comes():
    encoder = MeanColour()
    kept, tally = shard([made("a"), Idle(), Idle(), made("b"), made("c"), made("d"), Idle()], encoder)
    assert encoder.batches == [1, 2, 1]
    assert (tally.embedded, sorted(kept.vectors), kept.pauses) == (4, list("abcd"), 3)


def test_a_device_with_too_little_memory_gets_halves():
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
    kept, _ = shard([made(f"c{k}", 40 * k) for k in range(5)], encoder, batch_clips=5, progress=Listener())
    assert encoder.batches == [2, 1, 2]
    assert [kept.vectors[f"c{k}"][0] for k in range(5)] == pytest.approx([1 + 40 * k / 255 for k in range(5)])
    assert "trying halves" in Listener.lines[0]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_first_stop_finishes_the_batch_and_the_same_command_does_the_rest(folder, tmp_path, number):
    class Stopped(MeanColour):
        def embed_uint8(self, frames_BTCHW):
            if not self.batches:
                os.kill(os.getpid(), number)
            return super().embed_uint8(frames_BTCHW)

    first = Stopped()
    with pytest.raises(Interrupted, match=r"2 of 4 clips are done and kept in .*e\.h5\.parts.*same command") as caught:
        extract(folder, tmp_path / "e.h5", first, CONFIG.model_copy(update={"workers": 1, "batch_clips": 2}))
    assert caught.value.exit_code == 130
    assert not (tmp_path / "e.h5").exists()  # half a catalogue must not pass for a whole one
    second = MeanColour()
    summary = extract(folder, tmp_path / "e.h5", second)
    assert (summary.unchanged + summary.embedded, sum(first.batches) + sum(second.batches)) == (3, 3)
    assert len(EmbeddingStore.open(tmp_path / "e.h5")) == 3


def test_a_second_stop_ends_at_once(folder, tmp_path):
    class Stopped(MeanColour):
        def embed_uint8(self, frames_BTCHW):
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)
            return super().embed_uint8(frames_BTCHW)

    with pytest.raises(Interrupted, match=r"stopped at once.*0 of 4 clips are done"):
        extract(folder, tmp_path / "e.h5", Stopped())
    assert extract(folder, tmp_path / "e.h5").embedded == 3


def test_a_broken_encoder_is_not_hidden_but_loses_nothing(folder, tmp_path):
    class Broken(MeanColour):
        def embed_uint8(self, frames_BTCHW):
            if self.batches:
                raise ZeroDivisionError("in the model")
            return super().embed_uint8(frames_BTCHW)

    with pytest.raises(ZeroDivisionError):
        extract(folder, tmp_path / "e.h5", Broken())
    summary = extract(folder, tmp_path / "e.h5")
    assert (summary.embedded, summary.unchanged) == (1, 2)


def test_nothing_is_read_again_when_nothing_has_changed(folder, tmp_path, monkeypatch):
    extract(folder, tmp_path / "e.h5")
    before = (tmp_path / "e.h5").stat()
    monkeypatch.setattr(ClipReader, "__call__", lambda *_: pytest.fail("opened"))
    monkeypatch.setattr(DecodeProcess, "start", lambda *_, **__: pytest.fail("a process was started"))
    summary = extract(folder, tmp_path / "e.h5")
    assert (summary.unchanged, len(summary.failures), summary.embedded) == (3, 1, 0)
    assert (tmp_path / "e.h5").stat().st_mtime_ns == before.st_mtime_ns


def test_a_failure_is_tried_again_when_the_file_changes_or_when_asked(folder, tmp_path, clips):
    extract(folder, tmp_path / "e.h5")
    source = videos(folder, CONFIG)
    made_whole = folder / "page.mp4"
    stat = made_whole.stat()
    made_whole.unlink()
    clips.write(made_whole, 4)
    data = made_whole.read_bytes()
    made_whole.write_bytes(b"<html>404</html>")
    os.utime(made_whole, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert extract(folder, tmp_path / "e.h5").embedded == 0  # the same size and time: taken for the same
    made_whole.write_bytes(data)
    assert extract(folder, tmp_path / "e.h5").embedded == 1
    made_whole.write_text("<html>500</html>")
    assert extract(folder, tmp_path / "e.h5").failures_by_kind == {"not_video": 1}
    again = extract_catalogue(source, tmp_path / "e.h5", CONFIG, MeanColour(), recipe(), SILENT, retry_failed=True)
    assert again.failures_by_kind == {"not_video": 1}


def test_shares_merge_to_the_bytes_of_one_run(folder, tmp_path, clips):
    for k in range(3, 9):
        clips.write(folder / f"c{k}.mp4", 4)
    extract(folder, tmp_path / "one" / "e.h5")
    for index in (3, 1, 2):
        summary = extract_catalogue(
            videos(folder, CONFIG), tmp_path / "e.h5", CONFIG, MeanColour(), recipe(), SILENT, share=Share(index, 3)
        )
        assert summary.sha256 == "" and not (tmp_path / "e.h5").exists()
    done = merge(tmp_path / "e.h5")
    assert (done.rows, done.failures, done.folders) == (9, 1, ("1-of-3", "2-of-3", "3-of-3"))
    assert (tmp_path / "e.h5").read_bytes() == (tmp_path / "one" / "e.h5").read_bytes()


@pytest.mark.parametrize("changes", [{"workers": 2}, {"batch_clips": 1}, {"shard_clips": 1}])
def test_how_the_work_is_cut_does_not_show_in_the_file(folder, tmp_path, changes):
    extract(folder, tmp_path / "a.h5")
    extract(folder, tmp_path / "b.h5", config=CONFIG.model_copy(update=changes))
    assert (tmp_path / "a.h5").read_bytes() == (tmp_path / "b.h5").read_bytes()


def test_a_file_without_parts_is_taken_over(folder, tmp_path):
    extract(folder, tmp_path / "e.h5")
    before = (tmp_path / "e.h5").read_bytes()
    shutil.rmtree(tmp_path / "e.h5.parts")
    idle = MeanColour()
    assert extract(folder, tmp_path / "e.h5", idle).unchanged == 3
    assert idle.batches == []
    assert (tmp_path / "e.h5").read_bytes() == before


def test_a_lost_file_comes_back_from_the_parts(folder, tmp_path):
    extract(folder, tmp_path / "e.h5")
    before = (tmp_path / "e.h5").read_bytes()
    for loss in (b"", None):
        (tmp_path / "e.h5").unlink() if loss is None else (tmp_path / "e.h5").write_bytes(loss)
        idle = MeanColour()
        extract(folder, tmp_path / "e.h5", idle)
        assert idle.batches == [] and (tmp_path / "e.h5").read_bytes() == before


@pytest.mark.parametrize("damage", ["delete", "empty", "invert", "garbage"])
def test_a_lost_ledger_is_made_again_from_the_shards(folder, tmp_path, damage):
    extract(folder, tmp_path / "e.h5")
    ledger = tmp_path / "e.h5.parts" / "all" / "ledger.sqlite"
    content = ledger.read_bytes()
    match damage:
        case "delete":
            ledger.unlink()
        case "empty":
            ledger.write_bytes(b"")
        case "invert":
            ledger.write_bytes(content[:100] + bytes(255 - byte for byte in content[100:]))
        case "garbage":
            ledger.write_bytes(b"no database" * 1000)
    idle = MeanColour()
    summary = extract(folder, tmp_path / "e.h5", idle)
    assert (summary.unchanged, len(summary.failures), idle.batches) == (3, 1, [])


@pytest.mark.parametrize("damage", ["delete", "invert", "cut"])
def test_the_clips_of_a_lost_shard_are_done_again(folder, tmp_path, damage):
    config = CONFIG.model_copy(update={"shard_clips": 2})
    extract(folder, tmp_path / "e.h5", config=config)
    before = (tmp_path / "e.h5").read_bytes()
    (tmp_path / "e.h5").unlink()
    first = tmp_path / "e.h5.parts" / "all" / "shards" / "000001.h5"
    lost = len(EmbeddingStore.open(first))
    content = first.read_bytes()
    match damage:
        case "delete":
            first.unlink()
        case "invert":
            middle = content.index(EmbeddingStore.open(first).rows.vectors_ND.tobytes())
            first.write_bytes(content[:middle] + bytes([255 - content[middle]]) + content[middle + 1 :])
        case "cut":
            first.write_bytes(content[:-100])
    busy = MeanColour()
    extract(folder, tmp_path / "e.h5", busy, config)
    assert sum(busy.batches) == lost > 0
    assert (tmp_path / "e.h5").read_bytes() == before


def test_a_clip_that_kills_its_reader_is_tried_twice_and_alone_and_then_named(tmp_path, monkeypatch, misbehaving):
    """Others are read beside it the first time only; the second time everything else is done."""
    tried = []
    real = Ledger.starting
    monkeypatch.setattr(Ledger, "starting", lambda self, id_, alone=False: (tried.append((id_, alone)), real(self, id_, alone=alone)))
    ids = ["fine-1", "segv-1", "fine-2", "exit-1", "fine-3"]
    refs = tuple(ClipRef(id_, tmp_path / "unused") for id_ in ids)
    config = CONFIG.model_copy(update={"workers": 2})
    summary = extract_catalogue(Source(Catalogue(refs), misbehaving.by_id), tmp_path / "e.h5", config, MeanColour(), recipe(), SILENT)
    assert {failure.id: failure.kind for failure in summary.failures} == {"segv-1": "crash", "exit-1": "crash"}
    assert "SIGSEGV" in next(failure.message for failure in summary.failures if failure.id == "segv-1")
    assert sorted(tried[:5]) == sorted((id_, False) for id_ in ids)
    assert sorted(tried[5:]) == [("exit-1", True), ("segv-1", True)]
    assert EmbeddingStore.open(tmp_path / "e.h5").ids.ids == ("fine-1", "fine-2", "fine-3")


def test_two_runs_on_one_file_are_refused_by_process_and_host(folder, tmp_path):
    with open_parts(tmp_path / "e.h5.parts" / "all", recipe(), 3, SILENT), pytest.raises(InputError, match=rf"process {os.getpid()} on "):
        extract(folder, tmp_path / "e.h5")
    assert extract(folder, tmp_path / "e.h5").embedded == 3


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
