"""What ``benchmarks/serving.py`` and ``benchmarks/serve_soak.py`` count, on answers that are known."""

import socket
import threading
import time
from collections import Counter
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture
def serving(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import serving

    return serving


@pytest.fixture
def serve_soak(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import serve_soak

    return serve_soak


def test_moments_are_drawn_beforehand_and_come_at_the_rate(serving):
    even = serving.moments(50, 2, "even", seed=0)
    assert even[:3] == [0, 0.02, 0.04]
    assert len(even) == 100
    drawn = serving.moments(50, 200, "drawn", seed=0)
    assert drawn == serving.moments(50, 200, "drawn", seed=0)
    assert drawn == sorted(drawn)
    assert drawn[-1] < 200
    assert len(drawn) == pytest.approx(10_000, abs=400)  # four standard deviations


def test_an_answer_that_keeps_others_waiting_counts_for_them_too(serving, monkeypatch):
    """Three requests due at 0, 10 and 20 ms over one connection; each takes the server 100 ms."""
    monkeypatch.setattr(serving, "CONNECTIONS", 1)
    listening = socket.create_server(("127.0.0.1", 0))

    def serve():
        with listening.accept()[0] as connection:
            for _ in range(3):
                connection.recv(65536)
                time.sleep(0.1)
                connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}")

    threading.Thread(target=serve, daemon=True).start()
    replies = serving.open_load(listening.getsockname()[1], [0.0, 0.01, 0.02], [serving.Request("GET", "/")] * 3)
    listening.close()
    assert [reply.status for reply in replies] == [200] * 3
    assert all(reply.ms >= least for reply, least in zip(replies, (100, 190, 280), strict=True))


def test_events_that_the_service_counted_otherwise_than_it_said_are_bad(serve_soak):
    page = (
        "# HELP vivim_state_checks_total Kept states compared\n"
        "vivim_state_checks_total 12.0\nvivim_state_drift_max 2.5e-06\nvivim_states 256.0\n"
        'vivim_events_total{kind="new"} 7.0\nvivim_events_total{kind="late"} 2.0\nvivim_events_total{kind="removed"} 3.0\n'
        'vivim_phase_seconds_sum{phase="state"} 1.0\n'
    )
    said = serve_soak.counters(page)
    assert said == {"state_checks": 12, "state_drift_max": 2.5e-6, "states": 256, "events new": 7, "events late": 2, "events removed": 3}
    assert serve_soak.miscounted(said, Counter({"recorded": 9, "replayed or removed": 3})) == []
    assert serve_soak.miscounted(said, Counter({"recorded": 10, "replayed or removed": 3})) == ["recorded: 10 acknowledged, 9 counted"]


def test_what_was_acknowledged_is_sent_again_and_taken_back(serve_soak):
    who = serve_soak.Person(3)
    who.sent = 1
    assert serve_soak.replay(who)[4] == {201}  # nothing to send again: a new one
    method, path, content, _, right = serve_soak.event(who)
    who.hear("event", path, content, 201)
    assert (method, right, content["event_id"]) == ("POST", {201}, "3-1")
    user = path.split("/")[3]
    assert serve_soak.replay(who)[1:3] == (f"/v1/users/{user}/events?k=10", content)
    other = serve_soak.conflict(who)
    assert (other[2]["event_id"], other[4]) == ("3-1", {409})
    assert other[2]["item"] != content["item"]
    who.rng.random = lambda: 0.5
    assert serve_soak.undo(who)[:2] == ("DELETE", f"/v1/users/{user}/events/3-1")
    who.hear("undo", path, None, 200)
    who.hear("replay", path, content, 200)
    who.hear("a_list", path, None, 200)
    assert who.acknowledged == {"recorded": 1, "replayed or removed": 2}


def test_flat_memory_is_told_from_a_leak_and_from_threads_that_stay(serve_soak):
    def samples(rss_mib, threads=lambda n: 10, files=lambda n: 20):
        return [{"seconds": 2.0 * n, "rss_kib": 1024 * rss_mib(n), "threads": threads(n), "files": files(n)} for n in range(300)]

    settled = serve_soak.flatness(samples(lambda n: 400 + min(n, 90)))
    assert settled["flat"]
    assert settled["rise_mib"] == pytest.approx(0, abs=0.01)
    leak = serve_soak.flatness(samples(lambda n: 400 + n / 10))
    assert not leak["flat"]
    assert leak["mib_per_hour"] == pytest.approx(180)
    assert leak["rise_mib"] == pytest.approx(0.1 * 199)
    assert not serve_soak.flatness(samples(lambda n: 400, threads=lambda n: n))["flat"]
    assert not serve_soak.flatness(samples(lambda n: 400, files=lambda n: n))["flat"]
