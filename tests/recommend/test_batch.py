"""Lists for everybody are those that each user alone is answered with."""

import numpy as np
import polars as pl
import pytest
from vivim.errors import InputError, VivimError
from vivim.progress import SILENT
from vivim.recommend import batch
from vivim.recommend.additions import Additions, add
from vivim.recommend.batch import recommend_all
from vivim.recommend.checkpoint import RunFolder
from vivim.recommend.config import ProtocolConfig
from vivim.recommend.protocol import MicroLensProtocol
from vivim.recommend.recommender import Recommender
from vivim.recommend.sequences import Interactions
from vivim.store import ItemIndex

KINDS = ["gru4rec", "mamba", "nfm", "item-knn"]


def config(kind):
    return {"model": {"kind": kind, "d_model": 8, "layers": 1, "d_state": 4}, "train": {"epochs": 2, "lr": 0.02}}


@pytest.fixture(scope="module")
def runs(planted, ring, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    for kind in [*KINDS, "dssm"]:
        planted.fit(ring, folder / kind, config(kind))
    return folder


def alone(recommender, history, k, user=None):
    """As ``vivim recommend --user`` answers."""
    state = recommender.state(history[-recommender.max_len :], user)
    best = recommender.top_k(state, min(len(recommender.items), k + len(history)), exclude_seen=False)
    return [(id_, score) for id_, score in best if id_ not in set(history)][:k]


def histories(data):
    return {user: [data.items.ids[row] for row in rows] for user, rows in zip(data.users.ids, data.histories, strict=True)}


@pytest.mark.parametrize("kind", [*KINDS, "dssm"])
def test_every_users_list_is_the_one_of_that_user_alone(runs, ring, tmp_path, kind):
    recommender = Recommender.open(runs / kind)
    known = MicroLensProtocol(ProtocolConfig()).split(ring).users if kind == "dssm" else None
    done = recommend_all(recommender, ring, 25, tmp_path / "r.parquet", known_users=known, progress=SILENT)
    table = pl.read_parquet(tmp_path / "r.parquet")
    assert table.schema == {"user": pl.String, "rank": pl.Int32, "item": pl.String, "score": pl.Float32}
    assert table["user"].unique(maintain_order=True).to_list() == list(ring.users.ids)
    assert (done.users, done.rows, done.left_out) == (40, len(table), 0)
    assert done.short == int((table["user"].value_counts()["count"] < 25).sum())
    for user, history in histories(ring).items():
        own = table.filter(pl.col("user") == user)
        assert own["rank"].to_list() == list(range(1, len(own) + 1))
        want = alone(recommender, history, 25, None if known is None else known.row_of(user))
        np.testing.assert_allclose(own["score"], [score for _, score in want], rtol=1e-4, atol=1e-5)
        assert set(own["item"]) == {id_ for id_, _ in want}


def test_parts_do_not_show(runs, ring, tmp_path, monkeypatch):
    recommender = Recommender.open(runs / "mamba")
    recommend_all(recommender, ring, 5, tmp_path / "whole.parquet", progress=SILENT)
    monkeypatch.setattr(batch, "_USERS_AT_ONCE", 7)
    monkeypatch.setattr(batch, "_SCORES", 60)
    recommend_all(recommender, ring, 5, tmp_path / "parts.parquet", progress=SILENT)
    whole, parts = (pl.read_parquet(tmp_path / f"{name}.parquet") for name in ("whole", "parts"))
    assert whole.drop("score").equals(parts.drop("score"))
    np.testing.assert_allclose(whole["score"], parts["score"], rtol=1e-5, atol=1e-6)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["parts.parquet", "whole.parquet"]


@pytest.mark.parametrize("index", ["hnsw", "ivf"])
def test_an_approximate_index_searches_where_scores_are_products(runs, ring, tmp_path, index):
    recommender = Recommender.open(runs / "mamba")
    recommend_all(recommender, ring, 5, tmp_path / "exact.parquet", progress=SILENT)
    recommend_all(recommender, ring, 5, tmp_path / "index.parquet", index=index, progress=SILENT)
    exact, found = (pl.read_parquet(tmp_path / f"{name}.parquet") for name in ("exact", "index"))
    assert len(found.join(exact, on=["user", "item"])) > 0.9 * len(exact)  # 30 items: both indexes look at nearly all
    with pytest.raises(InputError, match="products of vectors"):
        recommend_all(Recommender.open(runs / "item-knn"), ring, 5, tmp_path / "no.parquet", index=index, progress=SILENT)


def test_users_of_whom_nothing_is_known_are_left_out_and_counted(runs, ring, tmp_path):
    foreign = Interactions(
        ring.users, ItemIndex(f"x{i}" if i < 12 else f"i{i:02d}" for i in range(30)), ring.histories, None, "made by a test", "0" * 64
    )
    recommender = Recommender.open(runs / "mamba")
    done = recommend_all(recommender, foreign, 3, tmp_path / "r.parquet", progress=SILENT)
    known = {user: [id_ for id_ in history if id_ in recommender.items] for user, history in histories(foreign).items()}
    table = pl.read_parquet(tmp_path / "r.parquet")
    assert set(table["user"]) == {user for user, history in known.items() if history}
    assert 0 < done.left_out == sum(not history for history in known.values())
    assert table.filter(pl.col("user") == "u10")["item"].to_list() == [id_ for id_, _ in alone(recommender, known["u10"], 3)]
    nobody = Interactions(ring.users, ItemIndex(f"x{i}" for i in range(30)), ring.histories, None, "made by a test", "0" * 64)
    with pytest.raises(InputError, match="the run knows no item"):
        recommend_all(recommender, nobody, 3, tmp_path / "none.parquet", progress=SILENT)
    assert not (tmp_path / "none.parquet").exists()


def test_added_items_are_recommended_too(planted, ring, tmp_path):
    planted.fit(ring, tmp_path / "run", config("gru4rec"))
    run = RunFolder.open(tmp_path / "run")
    add(run, Additions.now(["new"], 50 * run.read_tensors("model.safetensors")["items"][:1].numpy()))
    recommend_all(Recommender.open(run.path), ring, 31, tmp_path / "r.parquet", progress=SILENT)
    assert set(pl.read_parquet(tmp_path / "r.parquet").filter(pl.col("item") == "new")["user"]) == set(ring.users.ids)


def test_impossible_orders_are_refused_and_the_earlier_file_stays(runs, ring, tmp_path, monkeypatch):
    recommender = Recommender.open(runs / "mamba")
    for k in (0, 31):
        with pytest.raises(InputError, match=f"k = {k} is not between"):
            recommend_all(recommender, ring, k, tmp_path / "r.parquet", progress=SILENT)
    with pytest.raises(InputError, match="is a folder"):
        recommend_all(recommender, ring, 5, tmp_path, progress=SILENT)
    with pytest.raises(InputError, match="no folder that may be written to"):
        recommend_all(recommender, ring, 5, tmp_path / "absent" / "r.parquet", progress=SILENT)
    (tmp_path / "r.parquet").write_text("earlier")

    def full(self, path, **options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pl.LazyFrame, "sink_parquet", full)
    with pytest.raises(VivimError, match="No space left"):
        recommend_all(recommender, ring, 5, tmp_path / "r.parquet", progress=SILENT)
    assert (tmp_path / "r.parquet").read_text() == "earlier"
    assert [path.name for path in tmp_path.iterdir()] == ["r.parquet"]
