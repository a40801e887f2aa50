"""Frames decoded once: they are the reader's own, bad clips are left out by name, and nothing is decoded twice."""

import json
import os

import numpy as np
import pytest
from vivim.errors import InputError
from vivim.extract.clips import find_clips
from vivim.extract.config import EncoderConfig, ExtractConfig, FramesConfig
from vivim.extract.frame_recipe import FrameRecipe
from vivim.extract.frame_writer import FrameCacheWriter
from vivim.extract.pretrain.clip_cache import open_cache, source_of
from vivim.extract.pretrain.selfsup_config import SelfSupConfig
from vivim.extract.reader import ClipReader
from vivim.extract.sampling import Uniform
from vivim.extract.weights import make_encoder
from vivim.progress import SILENT, SilentProgress
from vivim.stage_one import make_recipe

CONFIG = SelfSupConfig(frames=4, cached_frames=8, image_size=32, workers=1)


class Told(SilentProgress):
    """Remembers what it is told."""

    def __init__(self):
        self.tasks, self.lines = [], []

    def start(self, what, total, unit):
        self.tasks.append(what)

    def say(self, line):
        self.lines.append(line)


@pytest.fixture
def folder(tmp_path, clips):
    path = tmp_path / "clips"
    path.mkdir()
    clips.write(path / "b.mp4", 40)
    clips.write(path / "a.mp4", 16)
    return path


def test_frames_are_what_the_reader_reads(folder, tmp_path):
    cache = open_cache(source_of(folder, None, CONFIG, SILENT), tmp_path / "cache", CONFIG, SILENT)
    assert cache.ids == ("a", "b") and not cache.failures
    reader = ClipReader(Uniform(8), CONFIG.cached_size)
    for row, ref in enumerate(find_clips(folder).refs):
        np.testing.assert_array_equal(cache.frames(np.array([row]))[0], reader(ref).frames_TCHW)


def test_bad_and_short_clips_are_left_out_by_name(folder, tmp_path, clips):
    (folder / "a0.mp4").write_text("<html>404</html>")
    clips.write(folder / "aa.mp4", 3)
    told = Told()
    cache = open_cache(source_of(folder, None, CONFIG, SILENT), tmp_path / "cache", CONFIG, told)
    assert cache.ids == ("a", "b")
    assert [(failure.id, failure.kind) for failure in cache.failures] == [("a0", "not_video"), ("aa", "too_short")]
    assert "left out: aa: too_short: 3 frames, a view needs 4" in told.lines
    # Row 1 of the cache is b, whose row in the file is 3: the 8 greys of b, not those of a clip that failed.
    grey = cache.frames(np.array([1]))[0].mean((1, 2, 3))
    np.testing.assert_allclose(grey, [clips.grey(k) for k in range(2, 40, 5)], atol=3)


def test_nothing_is_decoded_twice_unless_a_file_or_the_reading_changes(folder, tmp_path, clips):
    def tasks(config=CONFIG):
        told = Told()
        return open_cache(source_of(folder, None, config, SILENT), tmp_path / "cache", config, told).sha256, told.tasks

    first, began = tasks()
    assert began == ["decode"]
    assert tasks() == (first, [])
    assert tasks(SelfSupConfig(**CONFIG.model_dump() | {"lr": 0.5, "workers": 2})) == (first, [])
    # The same bytes under another time are read again, and are the same data.
    os.utime(folder / "a.mp4", (1, 1))
    assert tasks() == (first, ["decode"])
    clips.write(folder / "a.mp4", 20)
    changed, began = tasks()
    assert changed != first and began == ["decode"]
    other, began = tasks(SelfSupConfig(**CONFIG.model_dump() | {"image_size": 40}))
    assert other != changed and began == ["decode"]


def test_a_cache_that_was_not_finished_counts_as_absent(folder, tmp_path):
    whole = open_cache(source_of(folder, None, CONFIG, SILENT), tmp_path / "cache", CONFIG, SILENT)
    expected = whole.frames(np.arange(2))
    (tmp_path / "cache" / "frames.json").write_text('{"key":')
    (tmp_path / "cache" / "frames.u8").write_bytes(b"half")
    again = open_cache(source_of(folder, None, CONFIG, SILENT), tmp_path / "cache", CONFIG, SILENT)
    np.testing.assert_array_equal(again.frames(np.arange(2)), expected)
    assert json.loads((tmp_path / "cache" / "frames.json").read_text())["rows"] == [0, 1]


def test_one_clip_is_not_enough(folder, tmp_path):
    (folder / "b.mp4").write_bytes(b"")
    with pytest.raises(InputError, match="1 of 2 clips can be learned from; b: the file has 0 bytes"):
        open_cache(source_of(folder, None, CONFIG, SILENT), tmp_path / "cache", CONFIG, SILENT)


def test_a_place_that_cannot_be_written_is_named(folder, tmp_path):
    (tmp_path / "cache").write_text("a file")
    with pytest.raises(InputError, match="name another folder"):
        open_cache(source_of(folder, None, CONFIG, SILENT), tmp_path / "cache", CONFIG, SILENT)


@pytest.fixture
def kept(folder, tmp_path):
    """What `extract --cache-frames` leaves: 8 frames of 64 pixels of each clip."""
    config = ExtractConfig(frames=FramesConfig(count=8), image_size=64)
    encoder = make_encoder(EncoderConfig(size="nano"), 1)
    recipe = FrameRecipe.of(make_recipe(config, encoder, encoder.load_report))
    writer = FrameCacheWriter(tmp_path / "kept", recipe)
    for ref in find_clips(folder).refs:
        writer.add(ClipReader(Uniform(8), 64)(ref))
    writer.commit()
    return tmp_path / "kept"


def test_kept_frames_serve_in_the_place_of_clips(folder, kept, tmp_path):
    decoded = open_cache(source_of(folder, None, CONFIG, SILENT), tmp_path / "a", CONFIG, SILENT)
    for path in folder.iterdir():
        path.unlink()
    taken = open_cache(source_of(kept, None, CONFIG, SILENT), tmp_path / "b", CONFIG, SILENT)
    assert taken.ids == decoded.ids == ("a", "b")
    assert taken.sha256 != decoded.sha256  # shrunk twice is not shrunk once
    both = np.array([0, 1])
    assert np.abs(taken.frames(both).astype(int) - decoded.frames(both)).mean() < 3


@pytest.mark.parametrize(
    ("changes", "says"),
    [({"cached_frames": 12}, r"holds 8 frames \(uniform\) .* wanted are 12"), ({"image_size": 96}, "frames of 64 pixels; views of 96")],
)
def test_kept_frames_that_do_not_serve_are_refused(kept, changes, says):
    with pytest.raises(InputError, match=says):
        source_of(kept, None, SelfSupConfig(**{**CONFIG.model_dump(), **changes}), SILENT)
