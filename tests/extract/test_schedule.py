"""What is to be done, decided before any file is opened."""

import os

import pytest
from vivim.extract.clip import ClipRef, Failure
from vivim.extract.clips import Catalogue
from vivim.extract.ledger import Entry, Stat
from vivim.extract.schedule import make_plan


@pytest.fixture
def refs(tmp_path):
    """Five files of 10, 20, ... bytes."""
    found = {}
    for number, id_ in enumerate("abcde", 1):
        path = tmp_path / f"{id_}.mp4"
        path.write_bytes(b"x" * 10 * number)
        found[id_] = ClipRef(id_, path)
    return found


def entry(ref, kind="", sha256="s", **changes):
    stat = Stat.of(ref.path)
    fields = {"state": "failed" if kind else "done", "stat": stat, "sha256": "" if kind else sha256, "kind": kind, "message": kind}
    return Entry(**(fields | changes))


def ids(refs):
    return [ref.id for ref in refs]


def test_new_clips_are_read_largest_first(refs):
    plan = make_plan(Catalogue(tuple(refs.values())), {}, {})
    assert (ids(plan.todo), plan.total, plan.size_bytes, plan.hashes) == (list("edcba"), 5, 150, {})


def test_what_is_done_and_has_not_changed_is_not_read(refs):
    entries = {id_: entry(ref) for id_, ref in refs.items()}
    os.utime(refs["b"].path, ns=(0, 0))  # another time, maybe another file: hashed, decoded only if it is
    entries["c"] = entry(refs["c"], stat=None)  # the ledger was lost
    plan = make_plan(Catalogue(tuple(refs.values())), entries, {})
    assert (ids(plan.todo), plan.unchanged, plan.hashes) == (["c", "b"], ("a", "d", "e"), {"b": "s", "c": "s"})


def test_failures_are_tried_again_by_their_rule(refs):
    entries = {"a": entry(refs["a"], "truncated"), "b": entry(refs["b"], "changed"), "c": entry(refs["c"], "missing")}
    entries |= {"d": entry(refs["d"], "timeout"), "e": entry(refs["e"], "truncated", stat=Stat(1, 1))}
    catalogue = Catalogue(tuple(refs.values()))
    plan = make_plan(catalogue, entries, {})
    assert (sorted(ids(plan.todo)), [f.id for f in plan.failures], plan.news) == (["b", "c", "e"], ["a", "d"], ())
    assert sorted(ids(make_plan(catalogue, entries, {}, retry_failed=True).todo)) == list("abcde")


def test_listed_failures_are_news_once_and_a_missing_file_keeps_its_vector(refs):
    missing = [Failure(id_, "missing", "not there") for id_ in ("a", "x", "y")]
    entries = {"a": entry(refs["a"]), "x": Entry("failed", None, "", "missing", "not there")}
    plan = make_plan(Catalogue((), tuple(missing)), entries, {})
    assert (plan.gone, [f.id for f in plan.failures], [f.id for f in plan.news]) == (("a",), ["x", "y"], ["y"])


def test_suspects_are_read_alone_and_left_out_after_two_falls_of_the_machine(refs):
    plan = make_plan(Catalogue(tuple(refs.values())), {}, {"a": 0, "b": 1, "c": 2})
    assert (ids(plan.todo), ids(plan.alone)) == (["e", "d"], ["b", "a"])
    assert [(f.id, f.kind, "2 times" in f.message) for f in plan.failures] == [("c", "crash", True)]
    assert "c" in ids(make_plan(Catalogue(tuple(refs.values())), {}, {"c": 2}, retry_failed=True).alone)
