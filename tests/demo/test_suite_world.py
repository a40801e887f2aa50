"""The demo world as suites take it."""

import pytest
from vivim.demo.suite_world import make_world
from vivim.errors import InputError
from vivim.extract.frame_cache import FrameCache
from vivim.progress import SILENT
from vivim.recommend.readers import read_interactions
from vivim.store import EmbeddingStore

TINY = {"clips": 12, "viewers": 4, "palettes": ["ember"], "patterns": ["net"], "motions": ["left", "still"], "seconds": 0.5}
TINY |= {"history_min": 3, "history_max": 5}


def test_a_world_is_made_once_and_everything_is_of_its_clips(tmp_path):
    made = make_world(TINY, tmp_path, "cpu", SILENT)
    clips = {f"c{number:04d}" for number in range(12)}
    stores = {name: EmbeddingStore.open(path) for name, path in made.vectors.items()}
    assert {name: set(store.ids.ids) for name, store in stores.items()} == {"levels": clips, "frames": clips}
    assert stores["levels"].recipe.encoder["pooling"] == "levels"
    assert stores["frames"].recipe.encoder["pooling"] == "frames"
    assert set(FrameCache.open(made.frames).ids) == clips
    found = read_interactions(made.pairs)
    assert len(found.users) == 4
    assert set(found.items.ids) <= clips
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.suffix in (".mp4", ".h5", ".safetensors")}
    assert make_world(TINY, tmp_path, "cpu", SILENT) == made
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert make_world(TINY | {"seed": 1, "viewers": 3}, tmp_path, "cpu", SILENT).pairs != made.pairs


def test_a_world_that_cannot_be_is_refused(tmp_path):
    with pytest.raises(InputError, match="world: clip: Extra inputs"):
        make_world({"clip": 3}, tmp_path, "cpu", SILENT)
    with pytest.raises(InputError, match=r"world: .*too few for 30 categories"):
        make_world({"clips": 3}, tmp_path, "cpu", SILENT)
