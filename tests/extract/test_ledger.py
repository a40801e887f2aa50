"""The ledger: what it remembers, also of a process that ended without a word."""

import multiprocessing
import os
import signal

import pytest
from vivim.errors import InputError
from vivim.extract import ledger as module
from vivim.extract.clip import Failure
from vivim.extract.ledger import Entry, Ledger, Stat


def start_and_die(path, alone):
    ledger = Ledger.open(path)
    for id_ in ("a", "b", "c"):
        ledger.starting(id_, alone=alone)
    ledger.read("b")
    os.kill(os.getpid(), signal.SIGKILL)


def die(path, alone=False):
    process = multiprocessing.get_context("fork").Process(target=start_and_die, args=(path, alone))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL


def suspects(path):
    ledger = Ledger.open(path)
    try:
        return ledger.suspects()
    finally:
        ledger.close()


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_what_was_being_read_when_a_process_was_killed_is_suspect(tmp_path):
    path = tmp_path / "ledger.sqlite"
    die(path)
    assert Ledger.look(path) == ({}, {"a": 0, "c": 0})
    assert suspects(path) == {"a": 0, "c": 0}
    ledger = Ledger.open(path)
    ledger.starting("a", alone=True)
    ledger.read("a")
    assert ledger.suspects() == {"c": 0}
    ledger.starting("d")
    ledger.nothing_is_read()
    assert ledger.suspects() == {"c": 0}
    ledger.close()


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_only_falls_of_the_whole_machine_count_against_a_clip_read_alone(tmp_path, monkeypatch):
    path = tmp_path / "ledger.sqlite"
    for boots in range(3):
        die(path, alone=True)
        assert suspects(path)["a"] == boots  # killed, but the machine is the same
        die(path, alone=True)
        monkeypatch.setattr(module, "boot_id", lambda boots=boots: f"boot {boots}")
        assert suspects(path)["a"] == boots + 1
    die(path, alone=False)
    monkeypatch.setattr(module, "boot_id", lambda: "another")
    assert suspects(path)["a"] == 3  # others were read beside it


def test_a_later_shard_overrides_and_a_lost_one_is_forgotten(tmp_path):
    ledger = Ledger.open(tmp_path / "ledger.sqlite")
    ledger.book("000001.h5", "h1", [("a", "s1"), ("b", "s2")], [Failure("c", "timeout", "slow")], {"a": Stat(1, 2)})
    ledger.book("000002.h5", "h2", [("c", "s3")], [Failure("b", "truncated", "cut")])
    assert ledger.shards() == {"000001.h5": "h1", "000002.h5": "h2"}
    assert ledger.entries() == {
        "a": Entry("done", Stat(1, 2), "s1", "", ""),
        "b": Entry("failed", None, "", "truncated", "cut"),
        "c": Entry("done", None, "s3", "", ""),
    }
    ledger.touch({"a": Stat(5, 6)})
    assert ledger.entries()["a"].stat == Stat(5, 6)
    ledger.forget_shard("000002.h5")
    assert set(ledger.entries()) == {"a"}
    ledger.set_meta("k", "v")
    ledger.close()
    assert Ledger.open(tmp_path / "ledger.sqlite").meta("k") == "v"


def test_a_ledger_of_a_newer_vivim_is_refused(tmp_path):
    ledger = Ledger.open(tmp_path / "ledger.sqlite")
    ledger.set_meta("version", "2")
    ledger.close()
    with pytest.raises(InputError, match=r"version '2'.*knows '1'"):
        Ledger.open(tmp_path / "ledger.sqlite")
