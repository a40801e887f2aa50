"""Small runs to serve, and a log to keep events in."""

import numpy as np
import pytest
import torch
from vivim.progress import SILENT
from vivim.recommend import build
from vivim.recommend.checkpoint import RunFolder
from vivim.recommend.config import RecommendConfig
from vivim.recommend.train import train_run
from vivim.serve.event_log import EventLog
from vivim.serve.histories import BaseHistories
from vivim.serve.served_run import ServedRun
from vivim.serve.service import Service
from vivim.serve.snapshot import Snapshot

EPOCHS = {"mamba": 8, "sasrec": 2, "dssm": 2, "nfm": 1}


@pytest.fixture(scope="session")
def run_of(ring, tmp_path_factory):
    """``run_of(kind, seed=0)``: the folder of a run over the ring, trained once."""
    made = {}

    def run(kind, seed=0):
        if (kind, seed) not in made:
            out = tmp_path_factory.mktemp("served") / f"{kind}-{seed}"
            model = {"kind": kind, "d_model": 16, "layers": 1, "d_state": 8, "dropout": 0.1}
            train = {"epochs": EPOCHS.get(kind, 1), "lr": 0.02, "patience": 30, "batch": 16}
            config = RecommendConfig.model_validate({"model": model, "train": train})
            train_run(ring, None, config, out, seed=seed, device="cpu", resume=False, progress=SILENT, data_location={})
            made[kind, seed] = out
        return made[kind, seed]

    return run


@pytest.fixture(scope="session")
def snapshot_of(run_of, ring):
    """``snapshot_of(kind, seed=0, ...)``: a run over the ring, opened; everybody's history is the ring's."""

    def snapshot(kind="mamba", seed=0, extra_ids=(), extra=None, with_base=True, base=None, **options):
        run = RunFolder.open(run_of(kind, seed))
        config = RecommendConfig.model_validate(run.info()["config"])
        if base is None:
            base = BaseHistories(ring, build.protocol_of(config.protocol).split(ring).users) if with_base else BaseHistories()
        return Snapshot.load(run, base, extra_ids, extra, **options)

    return snapshot


@pytest.fixture
def log(tmp_path):
    with EventLog(tmp_path / "events.sqlite") as log:
        yield log


@pytest.fixture
def service_of(snapshot_of, log):
    """``service_of(kind)``: one run over the ring, served; or ``service_of(a=snapshot, b=snapshot)``."""

    def service(kind="mamba", config=None, titles=None, **snapshots):
        snapshots = snapshots or {kind: snapshot_of(kind)}
        runs = [ServedRun(name, lambda before, snapshot=snapshot: snapshot) for name, snapshot in snapshots.items()]
        return Service(runs, log, config, titles)

    return service


@pytest.fixture(scope="session")
def fold():
    """The reference: (scores, rows) after stepping through a history of ids from nothing, one by one, with nothing kept."""

    def scores(snapshot, ids):
        recommender = snapshot.recommender
        state = recommender.nothing()
        for id_ in ids:
            state = recommender.step(state, id_)
        return recommender.scores(state)[0], state.watched

    return scores


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def rng():
    return np.random.default_rng(0)
