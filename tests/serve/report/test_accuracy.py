"""The run beside the yardsticks, on the ring: item-knn always finds the next item."""

from dataclasses import replace

import pytest
from vivim.progress import SILENT
from vivim.recommend.metrics import Estimate
from vivim.serve.report.accuracy import Accuracy, Line, look_at_accuracy


def test_yardsticks_are_measured_on_the_same_questions(looking, counted, ring, planted, evidence_of, tmp_path):
    found = look_at_accuracy(looking, SILENT)
    own, popularity, knn, content = found.lines
    assert [line.name for line in found.lines] == ["mamba, ids+frozen", "popularity", "item-knn", "content-mean"]
    assert [line.own for line in found.lines] == [True, False, False, False]
    assert knn.metrics["hit_rate@1"].value == 1
    assert own.metrics["hit_rate@1"].as_dict() == looking.results["splits"]["test"]["metrics"]["hit_rate@1"]
    planted.fit(ring, tmp_path / "run", {"model": {"kind": "popularity"}})
    alone = evidence_of(tmp_path / "run", ring).results["splits"]["test"]
    assert {name: value.as_dict() for name, value in popularity.metrics.items()} == alone["metrics"]
    assert {g.name: g.questions for g in popularity.by_history} == {"3-5": 10, "6-9": 30}
    assert {g.name: g.metrics["ndcg@5"].value for g in popularity.by_views} == {
        name: group["ndcg@5"]["value"] for name, group in alone["groups"].items()
    }

    planted.fit(ring, tmp_path / "looks", {"model": {"kind": "content-mean"}}, store=looking.store)
    looks = evidence_of(tmp_path / "looks", ring, store=looking.store)
    assert {name: value.as_dict() for name, value in content.metrics.items()} == looks.results["splits"]["test"]["metrics"]
    assert [line.name for line in look_at_accuracy(looks, SILENT).lines] == ["content-mean", "popularity", "item-knn"]


def test_a_run_without_vectors_has_no_yardstick_that_looks_at_them(looking):
    names = [line.name for line in look_at_accuracy(replace(looking, store=None), SILENT).lines]
    assert names == ["mamba, ids+frozen", "popularity", "item-knn"]


def test_chance_is_that_of_an_order_drawn_at_random():
    chance = Accuracy(100, 4, (1, 3), (), {}, "", "", "").chance
    assert chance == pytest.approx(
        {
            "hit_rate@1": 1 / 4,
            "hit_rate@3": 3 / 4,
            "ndcg@1": 1 / 4,
            "ndcg@3": (1 + 1 / 1.5849625 + 1 / 2) / 4,
            "mrr": (1 + 1 / 2 + 1 / 3 + 1 / 4) / 4,
        }
    )


def test_a_yardstick_is_not_compared_with_itself(counted):
    assert [line.name for line in look_at_accuracy(counted, SILENT).lines] == ["item-knn", "popularity"]


def line(name, low, value, high, own=False):
    return Line(name, own, {"hit_rate@10": Estimate(value, low, high)}, (), ())


@pytest.mark.parametrize(
    ("own", "words"),
    [((0.30, 0.35, 0.40), "finds more than item-knn"), ((0.01, 0.02, 0.03), "not worth using"), ((0.15, 0.25, 0.35), "not told apart")],
)
def test_the_verdict_goes_by_the_better_yardstick(own, words):
    lines = (line("mine", *own, own=True), line("popularity", 0.05, 0.1, 0.15), line("item-knn", 0.1, 0.2, 0.29))
    facts = Accuracy(100, 30, (10,), lines, {}, "", "", "")
    assert words in facts.verdict
    assert "yardstick itself" in replace(facts, lines=lines[:1]).verdict
