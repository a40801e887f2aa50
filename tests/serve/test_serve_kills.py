"""A few of the deaths of ``benchmarks/serve_kills.py``, all of which stand in docs/serve.md; and that its checks find what is wrong."""

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture
def kills(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import serve_kills

    return serve_kills


@pytest.mark.slow
def test_killed_under_load_every_acknowledged_event_is_there_once(tmp_path):
    out = tmp_path / "kills.json"
    script = [sys.executable, str(BENCHMARKS / "serve_kills.py"), "--work", str(tmp_path / "work")]
    done = subprocess.run([*script, "--kills", "3", "--concurrent", "300", "--out", str(out)], capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(out.read_text())
    assert found["bad"] == []
    assert found["trials"]["kills"] == 3
    assert found["trials"]["lists compared"] == 3 * 16 + 100


@pytest.fixture
def trials(kills, run_of):
    """What checks, without servers of its own."""
    trials = object.__new__(kills.Trials)
    trials.ledger, trials.counts, trials.replay = kills.Ledger(), Counter(), kills.Replay(run_of("mamba"))
    return trials


@pytest.fixture
def asked(kills, live, trials):
    """A client, and a ledger in which ada has watched three items that the server has too."""
    client = kills.Client(live().port)
    trials.ledger.of["ada"] = {str(n): kills.Sent(str(n), f"i{n:02d}", None) for n in range(3)}
    for sent in trials.ledger.of["ada"].values():
        kills.post(client, "ada", sent, trials.ledger)
    yield client
    client.close()


def test_what_is_right_is_found_to_be_right(trials, asked):
    trials.check(asked, ["ada"], serially=True)
    assert trials.ledger.bad == []
    assert trials.counts == {"lists compared": 1}


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (lambda k, of: of.update({"9": k.Sent("9", "i09", "2026-01-01T00:00:00.000Z", acknowledged=True)}), "ada 9: lost"),
        (lambda k, of: of.pop("1"), "ada 1: there as"),
        (lambda k, of: setattr(of["1"], "removed", True), "ada 1: there as"),
        (lambda k, of: setattr(of["1"], "item", "i02"), "ada 1: there as"),
        (lambda k, of: setattr(of["0"], "time", "2026-01-01T00:00:00.000Z"), "ada 0: there as"),
    ],
)
def test_what_is_wrong_is_found(kills, trials, asked, change, found):
    change(kills, trials.ledger.of["ada"])
    trials.check(asked, ["ada"], serially=True)
    assert any(line.startswith(found) for line in trials.ledger.bad), trials.ledger.bad
    assert "ada: another history than that of the client" in trials.ledger.bad


def test_an_event_that_was_not_acknowledged_may_be_there_and_is_sent_again(kills, trials, asked):
    events = trials.ledger.of["ada"]
    events["2"].acknowledged = False
    events["3"] = kills.Sent("3", "i03", None)
    trials.check(asked, ["ada"], serially=True)
    assert trials.ledger.bad == []
    assert trials.counts == {"not acknowledged, kept": 1, "not acknowledged, not kept": 1, "lists compared": 1}


def test_another_list_than_the_replays_is_found(trials, asked):
    _, said = asked.json("GET", "/v1/users/ada/recommendations?k=10")
    history = [f"i{n:02d}" for n in range(3)]
    assert not trials.replay.differs(history, said["items"])
    assert trials.replay.differs(history[::-1], said["items"])
    assert trials.replay.differs(history, said["items"][::-1])
    assert trials.replay.differs(history, said["items"][:9])
