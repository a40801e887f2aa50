"""Small embedding files with known content."""

import numpy as np
import pytest
from vivim.store import EmbeddingFile, Recipe, Rows


class Samples:
    @staticmethod
    def recipe(**changes):
        parts = {
            "encoder": {"size": "nano", "dims": [8, 16]},
            "weights": {"source": "random seed 42", "sha256": "ab" * 32},
            "frames": {"sampler": "uniform", "count": 2, "fps": None},
            "preprocessing": {"image_size": 64, "mean": [0.5, 0.5, 0.5]},
            "dtype": "float16",
            "decoder": {"policy": "auto", "av": "18.1.0"},
        }
        return Recipe(**{**parts, **changes})

    @staticmethod
    def rows(ids, vectors=None, dim=4, seed=0):
        ids = tuple(ids)
        if vectors is None:
            vectors = np.random.default_rng(seed).standard_normal((len(ids), dim)).astype(np.float32)
        times = np.arange(2 * len(ids), dtype=np.float64).reshape(-1, 2)
        decoders = tuple("pyav" if k % 2 else "decord" for k in range(len(ids)))
        return Rows(
            ids, np.asarray(vectors, np.float32), tuple(f"{k:064x}" for k in range(len(ids))), times, decoders, np.arange(len(ids)) % 3 == 0
        )

    @classmethod
    def write(cls, path, ids=("a", "b", "c"), failures=(), **changes):
        file = EmbeddingFile(path, cls.recipe(**changes), 4)
        file.add(cls.rows(ids))
        for failure in failures:
            file.fail(failure)
        file.commit()
        return path


@pytest.fixture(scope="session")
def samples():
    return Samples
