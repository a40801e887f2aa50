"""Kept frames that several files of tests read."""

import numpy as np
import pytest
from vivim.extract.clip import Clip
from vivim.extract.frame_recipe import FrameRecipe
from vivim.extract.frame_writer import FrameCacheWriter

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
