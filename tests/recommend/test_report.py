"""What a report says beside accuracy, on viewers of a ring whose histories and counts are known."""

import itertools
import json

import numpy as np
import pytest
from vivim.progress import SILENT
from vivim.recommend.checkpoint import RunFolder
from vivim.recommend.config import EvaluateConfig
from vivim.recommend.evaluation import evaluate_run
from vivim.recommend.leakage import Leakage
from vivim.recommend.report import Report, SplitResult, group_names, history_names, space_told


@pytest.fixture(scope="module")
def measured(ring, planted, tmp_path_factory):
    """Folder and report of item-knn on the ring: it always finds the next item."""
    folder = tmp_path_factory.mktemp("run") / "knn"
    planted.fit(ring, folder, {"model": {"kind": "item-knn"}})
    return folder, evaluate_run(RunFolder.open(folder), ring, EvaluateConfig(k=(1, 5)), progress=SILENT)


@pytest.mark.parametrize("names", [group_names(), history_names()])
def test_buckets_follow_each_other_without_a_gap(names):
    assert all(after[1] == before[2] + 1 for before, after in itertools.pairwise(names))
    assert [name for name, *_ in names] == [str(a) if a == b else f"{a}+" if b > 10**9 else f"{a}-{b}" for _, a, b in names]


def test_accuracy_by_what_was_watched_before(measured):
    """Lengths are 6 to 9 in turn: on test 5, 6, 7 and 8 items came before, on validation 4 to 7."""
    _, report = measured
    validation, test = report.splits
    assert {g.name: g.questions for g in test.history_groups} == {"3-5": 10, "6-9": 30}
    assert {g.name: g.questions for g in validation.history_groups} == {"3-5": 20, "6-9": 20}
    assert sum(g.questions for g in test.groups) == 40
    assert all(g.metrics["hit_rate@1"].value == 1 for g in test.history_groups)


def test_lists_beside_accuracy(measured):
    """The one item recommended at K = 1 is the target: Gini is that of the targets."""
    _, report = measured
    test = report.splits[1]
    counts = np.bincount([(u + 5 + u % 4) % 30 for u in range(40)], minlength=30)
    differences = np.abs(counts[:, None] - counts[None]).sum()
    assert test.gini[1] == pytest.approx(differences / (2 * 30 * counts.sum()))
    assert test.coverage[1] == (counts > 0).mean()
    assert test.diversity is None  # nothing but counts
    header, first, *_ = report.list_rows()
    assert dict(zip(header, first, strict=True)) | {"Gini": ""} == {
        "split": "validation", "K": "1", "coverage": first[2], "Gini": "", "mean views": first[4],
        "diversity in own vectors": "-", "flat agrees": "-",
    }  # fmt: skip


def test_the_files_hold_it_all(measured):
    folder, report = measured
    kept = json.loads((folder / "results.json").read_text())
    assert kept["leakage"] is None
    assert kept["splits"]["test"]["history_groups"]["3-5"]["questions"] == 10
    assert kept["splits"]["test"]["gini"] == {"1": report.splits[1].gini[1], "5": report.splits[1].gini[5]}
    assert [SplitResult.from_dict(name, told) for name, told in kept["splits"].items()] == list(report.splits)
    page = (folder / "results.md").read_text()
    assert "- test: targets after 3-5 items (10): HR@1 1.0000" in page
    assert "| split | K | coverage | Gini | mean views | diversity in own vectors | flat agrees |" in page


def test_leakage_is_said_where_there_is_some(measured):
    _, report = measured
    unmeasured, card = report.lines()
    assert "not measured" in unmeasured
    assert card.startswith("protocol microlens")
    leaking = Report(**{**vars(report), "leakage": Leakage(10, 4, 40, 2)})
    assert leaking.lines()[0].startswith("leakage: 40.0% of the training interactions")
    assert leaking.as_dict()["leakage"] == {"training": 10, "later": 4, "questions": 40, "unborn": 2}
    clean, card_too = Report(**{**vars(report), "leakage": Leakage(10, 0, 40, 0)}).lines()
    assert "measured, and none" in clean
    assert card_too == card


def test_a_learned_model_has_vectors_and_its_lists_a_diversity(ring, planted, tmp_path):
    planted.fit(ring, tmp_path / "run", {"model": {"kind": "dssm", "d_model": 8}, "train": {"epochs": 1}})
    report = evaluate_run(RunFolder.open(tmp_path / "run"), ring, EvaluateConfig(k=(5,)), progress=SILENT)
    found = report.splits[1].diversity
    assert found is not None and 0 < found[5] < 2
    assert report.space == space_told(json.loads((tmp_path / "run" / "results.json").read_text())) == "own vectors"


def test_results_of_before_spaces_had_a_name_are_in_own_vectors():
    assert space_told({"splits": {}}) == "own vectors"
