"""Fixtures that every test file may use."""

import contextlib
import resource
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real clips and histories beside the checkout; the test is skipped where it is absent."""
    if not SHARED_DATA.is_dir():
        pytest.skip(f"real data is not here: {SHARED_DATA.parent.name}/{SHARED_DATA.name} beside the checkout")
    return SHARED_DATA


@pytest.fixture
def told():
    """A ``Progress`` that keeps what is said to it, in ``told.lines``."""
    from vivim.progress import SilentProgress

    class Told(SilentProgress):
        def __init__(self):
            self.lines = []

        def say(self, line):
            self.lines.append(line)

    return Told()


@pytest.fixture
def no_file_beyond():
    """``with no_file_beyond(size_bytes)``: what this process writes to a file behind that place is refused by the system, as a full disk
    refuses it (RLIMIT_FSIZE)."""

    @contextlib.contextmanager
    def limited(size_bytes):
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, before[1]))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)

    return limited


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
    """``write_vectors(path, ids, dim=8)`` writes an embedding file of random vectors, or of ``vectors``."""
    from vivim.store import Recipe, Rows, write_embeddings

    def write(path: Path, ids, dim=8, vectors=None):
        count = len(ids)
        vectors = np.random.default_rng(0).normal(size=(count, dim)) if vectors is None else vectors
        rows = Rows(
            ids=list(ids),
            vectors_ND=vectors.astype(np.float16),
            sha256=["0" * 64] * count,
            times_seconds_NT=np.zeros((count, 2)),
            decoder=["pyav"] * count,
            short_N=np.zeros(count, bool),
        )
        made = {"encoder": {"kind": "test"}, "weights": {"source": "random seed 0"}, "frames": {}, "preprocessing": {}, "decoder": {}}
        write_embeddings(path, Recipe(**made, dtype="float16"), rows, [])

    return write


@pytest.fixture(scope="session")
def write_clip():
    """``write_clip(path, seed)`` encodes half a second of 64 x 64 coloured squares, other ones for every seed."""
    import av

    def write(path: Path, seed: int) -> None:
        squares = np.random.default_rng(seed).integers(0, 256, (8, 8, 3))
        picture = np.kron(squares, np.ones((8, 8, 1))).astype(np.uint8)
        with av.open(str(path), "w") as file:
            stream = file.add_stream("mpeg4", rate=8)
            stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
            for _ in range(4):
                file.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
            file.mux(stream.encode())

    return write


@pytest.fixture(scope="session")
def planted():
    """Histories whose structure is known, and what trains and measures on them."""
    from vivim.progress import SILENT
    from vivim.recommend.checkpoint import RunFolder
    from vivim.recommend.config import EvaluateConfig, RecommendConfig
    from vivim.recommend.evaluation import evaluate_run
    from vivim.recommend.sequences import Interactions, Sequences
    from vivim.recommend.train import train_run
    from vivim.store import ItemIndex

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

    def taste(shuffled=False, seed=0):
        """(histories, vectors): everybody watches what looks alike, and the last of it is a clip that nobody watched before.

        140 items in twenty clusters of vectors; the last two of each cluster are only ever a test target, so that nothing but their
        vectors tells whose they are. In the shuffled copy every number of a vector is another item's.
        """
        rng = np.random.default_rng(seed)
        cluster_of = rng.integers(0, 20, 300)
        rows = [[*rng.permutation(np.arange(c, 100, 20)), 100 + c + 20 * rng.integers(2)] for c in cluster_of]
        vectors = rng.normal(size=(20, 16))[np.arange(140) % 20] * 2 + rng.normal(size=(140, 16)) * 0.3
        names = [ItemIndex(f"{kind}{k:03d}" for k in range(count)) for kind, count in (("u", 300), ("i", 140))]
        data = Interactions(names[0], names[1], sequences_of(*rows), None, "made by a test", "0" * 64)
        return data, rng.permuted(vectors, axis=0) if shuffled else vectors

    def fit(data, out, conf, store=None, **options):
        arguments = {"seed": 1, "device": "cpu", "resume": False, "progress": SILENT, "data_location": {"path": "made by a test"}} | options
        return train_run(data, store, RecommendConfig.model_validate(conf), out, **arguments)

    def hit_rate_of(run, data):
        report = evaluate_run(RunFolder.open(run), data, EvaluateConfig(k=(4,)), splits=("test",), progress=SILENT)
        return report.splits[0].metrics["hit_rate@4"].value

    return SimpleNamespace(sequences_of=sequences_of, blocks=blocks, taste=taste, fit=fit, hit_rate_of=hit_rate_of)
