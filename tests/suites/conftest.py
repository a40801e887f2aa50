"""Small suites over histories whose structure is known."""

from types import SimpleNamespace

import pytest
from vivim.progress import SILENT
from vivim.suites.data import SuiteData
from vivim.suites.job import train_and_measure
from vivim.suites.runner import SuiteRun
from vivim.suites.suite import suite_of

SMALL = {
    "name": "small",
    "k": [4],
    "config": {"items": {"kind": "ids"}, "train": {"epochs": 2, "lr": 0.02, "batch": 32}},
    "rows": [
        {"name": "popularity", "kind": "no learning", "config": {"model": {"kind": "popularity"}}},
        {"name": "DSSM", "kind": "IDRec (CF)", "seeds": 2, "config": {"model": {"kind": "dssm", "d_model": 8}}},
        {"name": "SASRec", "kind": "IDRec (SR)", "config": {"model": {"kind": "sasrec", "d_model": 8, "layers": 1}}},
    ],
}


@pytest.fixture(scope="session")
def suites(planted):
    """``suites.small(**changes)`` is a suite, ``suites.data(folder)`` writes histories for it."""

    def small(**changes):
        return suite_of(SMALL | changes, "small.yaml")

    def data(folder, **options):
        """Where everybody watches one group of items; see ``planted.blocks``."""
        histories = planted.blocks(**({"users": 60} | options)).histories
        path = folder / "made_pairs.tsv"
        path.write_text("".join(f"{user}\t{' '.join(map(str, items))}\n" for user, items in enumerate(histories)))
        return SuiteData({"path": str(path)})

    def run(which, data, out, progress=SILENT, **options):
        return SuiteRun(which, data, out, "cpu", progress, **options)

    def train_here(which, data, out):
        """As ``SuiteRun.run`` does it, without processes: they take seconds to start."""
        of = run(which, data, out)
        for row in which.rows:
            for seed in range(1, which.seeds_of(row) + 1):
                train_and_measure(of.job_of(row, seed), SILENT)
        out.mkdir(exist_ok=True)
        (out / "suite.json").write_text(which.model_dump_json())

    return SimpleNamespace(small=small, data=data, run=run, train_here=train_here, rows=SMALL["rows"])
