"""What several files of tests read: kept frames, and histories with a planted structure."""

from types import SimpleNamespace

import numpy as np
import pytest
from vivim.extract.clip import Clip
from vivim.extract.frame_recipe import FrameRecipe
from vivim.extract.frame_writer import FrameCacheWriter
from vivim.progress import SILENT
from vivim.recommend.checkpoint import RunFolder
from vivim.recommend.config import EvaluateConfig, RecommendConfig
from vivim.recommend.evaluation import evaluate_run
from vivim.recommend.sequences import Interactions, Sequences
from vivim.recommend.train import train_run
from vivim.store import ItemIndex

RECIPE = FrameRecipe(frames={"sampler": "uniform", "count": 2}, preprocessing={"image_size": 32}, decoder={})


@pytest.fixture(scope="session")
def frames(tmp_path_factory):
    """Two frames of 32 pixels for each item of the ring but ``i07``: a bar at a place that tells the item."""
    folder = tmp_path_factory.mktemp("frames")
    writer = FrameCacheWriter(folder, RECIPE)
    rng = np.random.default_rng(0)
    for item in range(30):
        if item != 7:
            picture = rng.integers(0, 40, (2, 3, 32, 32), np.uint8)
            picture[:, :, :, item : item + 3] += 200
            writer.add(Clip(f"i{item:02d}", picture, np.array([0.0, 1.0]), "pyav", f"{item:064x}"))
    writer.commit()
    return folder


def sequences_of(*lists):
    offsets = np.cumsum([0, *map(len, lists)]).astype(np.int64)
    return Sequences(offsets, np.array([item for items in lists for item in items], np.int32))


def blocks(shuffled=False, users=240, items=60, groups=6, seed=0):
    """Everybody watches only items of one group, in no order; in the shuffled copy it is anybody's items."""
    rng = np.random.default_rng(seed)
    group_of = rng.integers(0, groups, users)
    rows = [rng.permutation(np.arange(g, items, groups))[:8] for g in group_of]
    if shuffled:
        everything = rng.permutation(np.concatenate(rows)).reshape(users, 8)
        rows = [np.unique(row) for row in everything]
    histories = sequences_of(*rows)
    names = [ItemIndex(f"{kind}{k:03d}" for k in range(count)) for kind, count in (("u", users), ("i", items))]
    return Interactions(names[0], names[1], histories, None, "made by a test", "0" * 64)


def fit(data, out, conf, **options):
    arguments = {"seed": 1, "device": "cpu", "resume": False, "progress": SILENT, "data_location": {"path": "made by a test"}} | options
    return train_run(data, None, RecommendConfig.model_validate(conf), out, **arguments)


def hit_rate_of(run, data):
    report = evaluate_run(RunFolder.open(run), data, EvaluateConfig(k=(4,)), splits=("test",), progress=SILENT)
    return report.splits[0].metrics["hit_rate@4"].value


@pytest.fixture(scope="session")
def planted():
    """Histories whose structure is known, and what trains and measures on them."""
    return SimpleNamespace(sequences_of=sequences_of, blocks=blocks, fit=fit, hit_rate_of=hit_rate_of)
