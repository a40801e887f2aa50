"""Small runs to serve, and a log to keep events in."""

import contextlib
import os
import shutil
import socket
import threading
from pathlib import Path

import httpx
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
def live(service_of):
    """``live(service=None, tokens=None, files=None, add=None, **limits)``: the API on a real socket of this machine, with no limit on
    how often it is asked unless ``rate`` is given."""
    from vivim.serve.api import create_app
    from vivim.serve.desk import Desk
    from vivim.serve.doors import Tokens
    from vivim.serve.http_config import HttpConfig
    from vivim.serve.media import MediaTable
    from vivim.serve.metrics import Meters, numbers_of
    from vivim.serve.server import listen, make_server

    running = []

    def start(service=None, tokens=None, files=None, add=None, **limits):
        service = service or service_of()
        tokens = tokens or Tokens()
        config = HttpConfig(**{"rate": 0.0, "access_log": False, "stop_seconds": 1} | limits)
        desk = Desk(service, MediaTable(service.catalogue, files or {}, tokens.user), Meters(numbers_of(service)), config, add)
        server = make_server(create_app(desk, tokens), config, desk.opened.set)
        listening = listen("127.0.0.1", 0)
        thread = threading.Thread(target=server.run, args=([listening],), daemon=True)
        thread.start()
        assert desk.opened.wait(20)
        found = Live(listening.getsockname()[1], desk)
        running.append((found, server, thread, listening))
        return found

    yield start
    for found, server, thread, listening in running:
        found.client.close()
        server.should_exit = True
        thread.join(20)
        listening.close()
        assert not thread.is_alive()


class Live:
    """A server that runs: what to ask it with."""

    def __init__(self, port, desk):
        self.port, self.desk, self.service = port, desk, desk.service
        self.client = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=20, trust_env=False)
        for method in ("get", "post", "put", "delete", "request", "options", "head"):
            setattr(self, method, getattr(self.client, method))

    def open(self, timeout=20):
        return socket.create_connection(("127.0.0.1", self.port), timeout=timeout)

    def raw(self, data, timeout=20):
        """Everything that comes back for these bytes until the server closes, or says nothing for ``timeout``."""
        with self.open(timeout) as connection:
            connection.sendall(data)
            return self.rest(connection)

    @staticmethod
    def rest(connection):
        """What comes until the server closes, in whatever way, or says nothing any more: all of these end an answer."""
        parts = []
        with contextlib.suppress(TimeoutError, ConnectionResetError):
            while part := connection.recv(65536):
                parts.append(part)
        return b"".join(parts)

    @staticmethod
    def code(response):
        return response.status_code, response.json()["error"]["code"]


@pytest.fixture(scope="module")
def browser():
    """Debian's Chromium, or the one that CHROMIUM names."""
    program = os.environ.get("CHROMIUM") or shutil.which("chromium")
    if program is None or not Path(program).is_file():
        pytest.skip("no Chromium here: apt-get install chromium, or name one in CHROMIUM")
    sync_api = pytest.importorskip("playwright.sync_api", reason="no playwright here: pip install playwright")
    # Stopped after these tests: while it runs, its event loop stands in the way of tests that start one.
    with sync_api.sync_playwright() as playwright:
        # Its sandbox wants user namespaces, which containers mostly refuse; the pages it sees are ours.
        chromium = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield chromium
        chromium.close()
