"""Small suites over histories whose structure is known."""

from functools import cached_property
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


# Every kind of line that a table has: counted, of two seeds, ours, one that is compared with the one it names and stopped by its budget.
TABLE_ROWS = [
    {"name": "popularity", "kind": "no learning", "config": {"model": {"kind": "popularity"}}},
    {"name": "item-knn", "kind": "no learning", "config": {"model": {"kind": "item-knn"}}},
    {"name": "DSSM", "kind": "IDRec (CF)", "note": "two tables", "seeds": 2, "config": {"model": {"kind": "dssm", "d_model": 8}}},
    {"name": "NFM", "kind": "IDRec (CF)", "config": {"model": {"kind": "nfm", "d_model": 8}}},
    {
        "name": "Vivim-CF",
        "kind": "IDRec (CF)",
        "ours": True,
        "printed_as": "proposed",
        "config": {"model": {"kind": "lightgcn", "d_model": 8, "layers": 1}},
    },
    {
        "name": "GRU4Rec",
        "kind": "IDRec (SR)",
        "against": "NFM",
        "budget_minutes": 1e-9,
        "config": {"model": {"kind": "gru4rec", "d_model": 8, "layers": 1}},
    },
]


@pytest.fixture(scope="session")
def suites(planted, tmp_path_factory):
    """``suites.small(**changes)`` is a suite, ``suites.data(folder)`` writes histories for it; ``suites.table_out`` is where a suite of
    ``suites.table_rows`` was run."""

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

    class Suites(SimpleNamespace):
        @cached_property
        def table_out(self):
            folder = tmp_path_factory.mktemp("suite")
            train_here(small(rows=TABLE_ROWS, k=[2, 4]), data(folder, users=80), folder / "out")
            return folder / "out"

    return Suites(small=small, data=data, run=run, train_here=train_here, rows=SMALL["rows"], table_rows=TABLE_ROWS)
