"""Ray only says where clips are read: the file is the same, also when a node dies on the way."""

import threading
import time
from functools import partial

import numpy as np
import pytest
import torch
from vivim.errors import MissingExtra
from vivim.extract.config import ExtractConfig, FramesConfig
from vivim.extract.parts import parts_of, shard_files
from vivim.extract.ray_engine import RayEngine
from vivim.extract.run import extract_catalogue
from vivim.extract.sources import videos
from vivim.extract.vivim import VivimConfig
from vivim.extract.weights import load_weights
from vivim.progress import SILENT, SilentProgress
from vivim.store import EmbeddingStore, Recipe

CONFIG = ExtractConfig(frames=FramesConfig(count=2), image_size=32, workers=1, batch_clips=4, shard_clips=8)
RECIPE = Recipe(encoder={}, weights={}, frames={}, preprocessing={}, dtype="float16", decoder={})


def extract(folder, out, engine=None, progress=SILENT):
    encoder = load_weights("random", VivimConfig.of_size("nano"))
    return extract_catalogue(videos(folder, CONFIG), out, CONFIG, encoder, RECIPE, progress, engine=engine)


@pytest.fixture
def folder(tmp_path, clips):
    path = tmp_path / "clips"
    path.mkdir()
    for k in range(23):
        clips.write(path / f"c{k:02d}.mp4", 4, picture=lambda j, k=k: np.full((48, 64, 3), 10 * k + j, np.uint8))
    (path / "page.mp4").write_text("<html>404</html>")
    return path


def test_without_ray_the_install_command_is_named(folder, tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "ray", None)
    with pytest.raises(MissingExtra, match=r"--engine ray needs ray.*pip install 'vivim\[ray\]'"):
        extract(folder, tmp_path / "e.h5", RayEngine)


@pytest.fixture
def cluster():
    """Two nodes of one CPU each on this machine."""
    ray = pytest.importorskip("ray", reason="ray is not installed (pip install 'vivim[ray]')")
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    second = cluster.add_node(num_cpus=1)
    ray.init(address=cluster.address, log_to_driver=False)
    yield cluster, second
    ray.shutdown()
    cluster.shutdown()


class Watch(SilentProgress):
    """Calls ``then`` once after so many clips."""

    def __init__(self, clips, then):
        self.clips, self.then, self.done = clips, then, 0

    def advance(self, count=1, note=""):
        self.done += count
        if self.done >= self.clips and self.then:
            then, self.then = self.then, None
            threading.Thread(target=then).start()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_two_nodes_and_one_that_dies_give_the_file_of_one_machine(folder, tmp_path, cluster):
    cluster, second = cluster
    torch.set_num_threads(1)
    extract(folder, tmp_path / "local.h5")
    engine = partial(RayEngine, chunk_clips=2)
    died = []

    def kill():
        cluster.remove_node(second, allow_graceful=False)
        died.append(time.monotonic())

    summary = extract(folder, tmp_path / "ray.h5", engine, Watch(4, kill))
    ended = time.monotonic()
    assert died and died[0] < ended
    assert (summary.embedded, [failure.kind for failure in summary.failures]) == (23, ["not_video"])
    assert (tmp_path / "ray.h5").read_bytes() == (tmp_path / "local.h5").read_bytes()
    rows = sum(len(EmbeddingStore.open(shard, allow_empty=True)) for shard in shard_files(parts_of(tmp_path / "ray.h5") / "all"))
    assert rows == 23  # none twice
    again = extract(folder, tmp_path / "ray.h5", engine)
    assert (again.embedded, again.unchanged) == (0, 23)
