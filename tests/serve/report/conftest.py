"""A report's evidence over runs whose truth is known."""

import numpy as np
import pytest


@pytest.fixture(scope="session")
def evidence_of():
    """``evidence_of(folder, data, **more)`` measures a run and opens it for a report."""
    from vivim.progress import SILENT
    from vivim.recommend.build import protocol_of
    from vivim.recommend.checkpoint import RunFolder
    from vivim.recommend.config import EvaluateConfig, RecommendConfig
    from vivim.recommend.evaluation import evaluate_run
    from vivim.recommend.loading import load_scorer
    from vivim.serve.report.evidence import Evidence

    def gather(folder, data, **more):
        run = RunFolder.open(folder)
        evaluate_run(run, data, EvaluateConfig(k=(1, 5)), progress=SILENT)
        items, counts_N = run.catalogue()
        split = protocol_of(RecommendConfig.model_validate(run.info()["config"]).protocol).split(data)
        known = {"store": None, "titles": {}} | more
        return Evidence(run, data, split, items, counts_N, load_scorer(run), run.read_json("results.json"), **known)

    return gather


@pytest.fixture(scope="session")
def counted(ring, planted, evidence_of, tmp_path_factory):
    """The ring and item-knn, which always finds the next item."""
    folder = tmp_path_factory.mktemp("counted") / "run"
    planted.fit(ring, folder, {"model": {"kind": "item-knn"}})
    return evidence_of(folder, ring)


@pytest.fixture(scope="session")
def looking(ring, planted, evidence_of, tmp_path_factory):
    """The ring and a small model over stored vectors: the items stand on a circle, i07 failed, i03 and i04 are one file."""
    from vivim.store import EmbeddingStore, FailedClip, Recipe, Rows, write_embeddings

    folder = tmp_path_factory.mktemp("looking")
    rows = [row for row in range(30) if row != 7]
    angles = 2 * np.pi * np.array([3 if row == 4 else row for row in rows]) / 30
    vectors = np.stack([3 * np.cos(angles), 3 * np.sin(angles), np.full(len(rows), 0.5), 0.01 * np.cos(5 * angles)], 1)
    made = Rows(
        ids=tuple(f"i{row:02d}" for row in rows),
        vectors_ND=vectors.astype(np.float32),
        sha256=tuple(f"{3 if row == 4 else row:064x}" for row in rows),
        times_seconds_NT=np.stack([np.zeros(len(rows)), np.arange(len(rows)) + 1.0], 1),
        decoder=("decord",) * 20 + ("pyav",) * 9,
        short_N=np.arange(len(rows)) < 2,
    )
    recipe = Recipe(
        encoder={"kind": "test"},
        weights={"source": "random seed 0"},
        frames={"sampler": "uniform", "count": 2},
        preprocessing={"image_size": 32, "resize": "crop"},
        decoder={},
        dtype="float32",
    )
    write_embeddings(folder / "v.h5", recipe, made, [FailedClip("i07", "not_video", "a web page <html>")])
    store = EmbeddingStore.open(folder / "v.h5")
    small = {"model": {"kind": "mamba", "d_model": 8, "layers": 1}, "items": {"kind": "ids+frozen"}, "train": {"epochs": 2, "batch": 16}}
    planted.fit(ring, folder / "run", small, store=store)
    shares = {"decode_share": 0.5, "encode_share": 0.25, "write_share": 0.05, "other_share": 0.2}
    verdict = shares | {"words": "Decoding bound the run."}
    more = {
        "store": store,
        "titles": {"i00": "<img src=x onerror=alert(1)>", "i01": "</script><b>bold</b>", "i02": "شريط 🎬"},
        "extractions": [
            {"date": "2026-01-02T03:04:05+00:00", "embedded": 29, "seconds": 14.5, "verdict": verdict},
        ],
        "failure_kinds": {"not_video": "the bytes are something else than a video"},
    }
    return evidence_of(folder / "run", ring, **more)
