"""Fixtures that every test file may use."""

from pathlib import Path

import numpy as np
import pytest

SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real clips and histories beside the checkout; the test is skipped where it is absent."""
    if not SHARED_DATA.is_dir():
        pytest.skip(f"real data is not here: {SHARED_DATA.parent.name}/{SHARED_DATA.name} beside the checkout")
    return SHARED_DATA


@pytest.fixture(scope="session")
def ring():
    """Forty viewers who all watch 30 items round in a circle: after item i comes item i + 1, so that the truth is known.

    Item ids are ``i00``..``i29``; viewer u starts at item u; lengths are 6 to 9.
    """
    from vivim.recommend.sequences import Interactions, Sequences
    from vivim.store import ItemIndex

    lengths = np.array([6 + u % 4 for u in range(40)])
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    items = np.concatenate([(u + np.arange(n)) % 30 for u, n in enumerate(lengths)]).astype(np.int32)
    return Interactions(
        users=ItemIndex(f"u{u:02d}" for u in range(40)),
        items=ItemIndex(f"i{i:02d}" for i in range(30)),
        histories=Sequences(offsets, items),
        times_ms=None,
        source="ring, made by a test",
        sha256="0" * 64,
    )


@pytest.fixture(scope="session")
def write_vectors():
    """``write_vectors(path, ids, dim=8)`` writes an embedding file of random vectors."""
    from vivim.store import Recipe, Rows, write_embeddings

    def write(path: Path, ids, dim=8):
        count = len(ids)
        rows = Rows(
            ids=list(ids),
            vectors_ND=np.random.default_rng(0).normal(size=(count, dim)).astype(np.float16),
            sha256=["0" * 64] * count,
            times_seconds_NT=np.zeros((count, 2)),
            decoder=["pyav"] * count,
            short_N=np.zeros(count, bool),
        )
        made = {"encoder": {"kind": "test"}, "weights": {"source": "random seed 0"}, "frames": {}, "preprocessing": {}, "decoder": {}}
        write_embeddings(path, Recipe(**made, dtype="float16"), rows, [])

    return write
