"""A quarter of an hour of everything at once: does the service keep its memory, threads and files?

    python benchmarks/serve_soak.py --work DIR [--minutes 15] [--rate 60] [--out benchmarks/results/serve_soak.json]

``vivim serve`` over a made-up run of MicroLens-50K's size, with clips and thumbnails; room for 256 states and 600 users, so that states
come and go all the time. Eight clients send events (late ones too), remember which were acknowledged, send those again, alike and with
another item, and take them back, some twice; they ask for lists, similar items, pages of the catalogue and parts of clips, ask for what
does not exist, send what is no JSON, too much, too many headers, and leave in the middle. An operator gives the run other weights every
``RELOAD_SECONDS`` and has it reloaded, so that models and indexes come and go too. Every question has an answer with one of the statuses
that it may have, and the service has counted as many events, replays and removals as were acknowledged, or it is listed under ``bad``.
Every ``CHECK_EVERY``-th answer from a kept state is compared with one from the whole history: no score may differ by more than ``DRIFT``.

Flat is: over the last two thirds the line through the resident memory rises by less than 2 % of it (``RISE``), and the largest numbers
of threads and open files there are not above those of the first third by more than the clients' connections.
"""

import argparse
import http.client
import itertools
import math
import os
import random
import re
import shutil
import signal
import socket
import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from outcome import show_and_exit
from safetensors.torch import load_file, save_file
from served import Client, Server, item_names, make_run, part
from vivim.extract.thumbnails import thumbnail_path
from vivim.store.provenance import provenance

CLIENTS = 8
USERS = 600
CLIPS = 8
CLIP_BYTES = 3_000_000
RISE = 0.02
EVERY_SECONDS = 2.0
REMEMBERED = 500
OPERATOR = "the-operator-of-the-soak"
CHECK_EVERY = 20
RELOAD_SECONDS = 20.0
DRIFT = 1e-3

Asked = tuple[str, str, Any, dict[str, str], set[int]]
"""method, path, content, headers, statuses that are right"""


class Person:
    """What one client draws from, and what it remembers.

    Attributes:
        sent: requests so far.
        kept: user and content of events that were acknowledged, the newest ``REMEMBERED``.
        acknowledged: of how many events, replays and removals it was told that they are recorded.
    """

    def __init__(self, number: int) -> None:
        self.number, self.rng, self.items = number, random.Random(number), item_names(19_099)
        self.sent = 0
        self.kept: deque[tuple[str, dict[str, str]]] = deque(maxlen=REMEMBERED)
        self.acknowledged: Counter[str] = Counter()

    def hear(self, kind: str, path: str, content: Any, status: int) -> None:
        """An answer to ``kind``."""
        if status == 201:
            self.kept.append((path.split("/")[3], content))
            self.acknowledged["recorded"] += 1
        elif status == 200 and kind in ("replay", "undo"):
            self.acknowledged["replayed or removed"] += 1


def event(who: Person) -> Asked:
    """A new one: its id is the client's own."""
    content = {"item": who.rng.choice(who.items), "event_id": f"{who.number}-{who.sent}"}
    if who.rng.random() < 0.1:
        content["time"] = f"2025-0{who.rng.randint(1, 9)}-1{who.rng.randint(0, 9)}T00:00:00Z"
    return "POST", f"/v1/users/s{who.rng.randrange(USERS)}/events?k=10", content, {}, {201}


def replay(who: Person) -> Asked:
    """One that was acknowledged, and taken back since or not, as it was."""
    if not who.kept:
        return event(who)
    user, content = who.rng.choice(who.kept)
    return "POST", f"/v1/users/{user}/events?k=10", content, {}, {200}


def conflict(who: Person) -> Asked:
    """Another event under the id of one that was acknowledged."""
    if not who.kept:
        return event(who)
    user, content = who.rng.choice(who.kept)
    other = who.items[(who.items.index(content["item"]) + 1) % len(who.items)]
    return "POST", f"/v1/users/{user}/events", content | {"item": other}, {}, {409}


def undo(who: Person) -> Asked:
    """One that was acknowledged is taken back, some twice; now and then one that never was."""
    if not who.kept or who.rng.random() < 0.05:
        return "DELETE", f"/v1/users/s{who.rng.randrange(USERS)}/events/never", None, {}, {404}
    user, content = who.rng.choice(who.kept)
    return "DELETE", f"/v1/users/{user}/events/{content['event_id']}", None, {}, {200}


def reload(who: Person) -> Asked:
    return "POST", "/v1/reload", None, {"authorization": f"Bearer {OPERATOR}"}, {200}


def a_list(who: Person) -> Asked:
    user = who.rng.choice([f"s{who.rng.randrange(USERS)}", f"u{who.rng.randrange(USERS)}", f"stranger {who.sent}"])
    k, search = who.rng.choice([1, 10, 10, 10, 1000]), who.rng.choice(["exact", "ann"])
    return "GET", f"/v1/users/{part(user)}/recommendations?k={k}&search={search}", None, {}, {200, 503}


def of_history(who: Person) -> Asked:
    history = who.rng.choices(who.items, k=who.rng.choice([0, 1, 20, 1000]))
    return "POST", "/v1/recommend", {"history": history, "k": 10}, {}, {200}


def similar(who: Person) -> Asked:
    return "GET", f"/v1/items/{who.rng.choice(who.items)}/similar?k=10", None, {}, {200}


def page(who: Person) -> Asked:
    return "GET", f"/v1/items?query=i00{who.rng.randrange(100)}&offset={who.rng.randrange(50)}&limit=20", None, {}, {200}


def history(who: Person) -> Asked:
    return "GET", f"/v1/users/s{who.rng.randrange(USERS)}/history?limit=50", None, {}, {200}


def clip(who: Person) -> Asked:
    first = who.rng.randrange(CLIP_BYTES)
    last = who.rng.choice(["", str(first + who.rng.randrange(1, 100_000))])
    headers = {"range": f"bytes={first}-{last}"} if who.rng.random() < 0.9 else {}
    return "GET", f"/media/{who.rng.randrange(CLIPS)}/{who.rng.choice(['clip', 'thumbnail'])}", None, headers, {200, 206, 416}


def odd(who: Person) -> Asked:
    return who.rng.choice(
        [
            ("GET", "/metrics", None, {}, {200}),
            ("GET", "/", None, {}, {200}),
            ("GET", "/v1/users?query=s&limit=20", None, {}, {200}),
            ("GET", "/v1/popular?k=20&user=s1", None, {}, {200}),
            ("GET", "/v1/items/nobody%2Fknows/similar", None, {}, {404}),
            ("GET", "/v1/users/s1/recommendations?k=0", None, {}, {422}),
            ("GET", "/media/99999999/clip", None, {}, {404}),
            ("GET", "/media/..%2f..%2fetc/passwd", None, {}, {404}),
            ("GET", "/healthz", None, {f"x-{n}": "y" for n in range(200)}, {431, 400}),
            ("GET", "/healthz", None, {"host": "example.org"}, {421}),
            ("POST", "/v1/recommend", {"history": ["a"] * 1001}, {}, {422}),
            ("POST", "/v1/recommend", {"history": ["x" * 100_000]}, {}, {413}),
            ("POST", "/v1/users/s1/events", {"item": "nobody knows", "event_id": str(who.sent)}, {}, {404}),
            ("POST", "/v1/users/s1/events", {"item": None}, {}, {422}),
            ("PUT", "/v1/items/new", {"not": "a clip"}, {}, {401, 403, 404}),
        ]
    )


KINDS: dict[Callable[[Person], Asked], int] = {
    event: 24,
    replay: 4,
    conflict: 2,
    undo: 5,
    a_list: 23,
    of_history: 8,
    similar: 8,
    page: 6,
    history: 5,
    clip: 8,
    odd: 6,
}


def rude(port: int, rng: random.Random) -> None:
    """Connections whose other side leaves: with half a head, with half a body, before the answer, with what is no HTTP."""
    said = rng.choice(
        [
            b"GET /v1/items HTT",
            b"POST /v1/recommend HTTP/1.1\r\nhost: localhost\r\ncontent-length: 100\r\n\r\n{",
            b"GET /v1/popular?k=1000 HTTP/1.1\r\nhost: localhost\r\n\r\n",
            b"GET /media/0/clip HTTP/1.1\r\nhost: localhost\r\n\r\n",
            bytes(rng.randrange(256) for _ in range(100)),
        ]
    )
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        connection.sendall(said)


class Load:
    """The clients, and what they were told."""

    def __init__(self, port: int, rate: float, seconds: float, run: Path) -> None:
        self.port, self.rate, self.until = port, rate, time.monotonic() + seconds
        self.run, self.models = run, itertools.cycle((1, 0))
        self.people = [Person(number) for number in range(CLIENTS)]
        self.counts: Counter[str] = Counter()
        self.bad: list[str] = []
        self.lock = threading.Lock()
        self.threads = [threading.Thread(target=self.work, args=(who,)) for who in self.people]
        for thread in self.threads:
            thread.start()

    def work(self, who: Person) -> None:
        rng = who.rng
        client = Client(self.port)
        kinds, weights = list(KINDS), list(KINDS.values())
        reload_at = time.monotonic() if who.number == 0 else math.inf  # one of them is the operator
        while time.monotonic() < self.until:
            time.sleep(rng.expovariate(self.rate / CLIENTS))
            who.sent += 1
            if rng.random() < 0.03:
                rude(self.port, rng)
                self.note("left in the middle")
                continue
            kind = rng.choices(kinds, weights)[0]
            if time.monotonic() >= reload_at:
                kind, reload_at = reload, time.monotonic() + RELOAD_SECONDS
                put_model(self.run, next(self.models))
            method, path, content, headers, right = kind(who)
            try:
                status, _ = client.ask(method, path, content, headers)
            except (OSError, http.client.HTTPException) as error:
                self.note(f"{kind.__name__} {type(error).__name__}")
                self.bad.append(f"{method} {path}: {type(error).__name__}")
                client.close()
                client = Client(self.port)
                continue
            self.note(f"{kind.__name__} {status}")
            who.hear(kind.__name__, path, content, status)
            if status not in right:
                self.bad.append(f"{method} {path}: {status}")
            if rng.random() < 0.02:
                client.close()
                client = Client(self.port)
        client.close()

    def note(self, what: str) -> None:
        with self.lock:
            self.counts[what] += 1


def flatness(samples: list[dict[str, Any]]) -> dict[str, Any]:
    """What the last two thirds of the samples say against the first."""
    first, rest = samples[: len(samples) // 3], samples[len(samples) // 3 :]
    seconds = np.array([sample["seconds"] for sample in rest])
    mib = np.array([sample["rss_kib"] for sample in rest]) / 1024
    slope = float(np.polyfit(seconds, mib, 1)[0])
    rise = slope * float(seconds[-1] - seconds[0])
    most = {what: [max(sample[what] for sample in part_) for part_ in (first, rest)] for what in ("threads", "files")}
    flat = rise < RISE * mib.mean() and all(later <= before + CLIENTS for before, later in most.values())
    return {
        "rss_mib": {"begin": round(samples[0]["rss_kib"] / 1024, 1), "mean": round(float(mib.mean()), 1), "end": round(float(mib[-1]), 1)},
        "mib_per_hour": round(slope * 3600, 2),
        "rise_mib": round(rise, 2),
        "rise_share": round(rise / float(mib.mean()), 4),
        "most_threads": dict(zip(("first third", "then"), most["threads"], strict=True)),
        "most_files": dict(zip(("first third", "then"), most["files"], strict=True)),
        "flat": bool(flat),
    }


def counters(page: str) -> dict[str, float]:
    """What ``/metrics`` says of states and events: name, with its label -> value."""
    found = re.findall(r'^vivim_(states?(?:_\w+)?|events_total\{kind="\w+"\}) (\S+)$', page, re.MULTILINE)
    return {re.sub(r'_total|[{}"]|kind=', lambda match: " " if match[0] == "{" else "", name): float(value) for name, value in found}


def miscounted(said: dict[str, float], acknowledged: Counter[str]) -> list[str]:
    """Where the service has counted other events than the clients were told of."""
    counted = {
        "recorded": said.get("events new", 0) + said.get("events late", 0),
        "replayed or removed": said.get("events replayed", 0) + said.get("events removed", 0),
    }
    return [
        f"{what}: {acknowledged[what]} acknowledged, {value:g} counted" for what, value in counted.items() if value != acknowledged[what]
    ]


def put_model(run: Path, number: int) -> None:
    """The run has other weights, from one moment to the next: a reload makes another model and another index of them."""
    shutil.copyfile(run.parent / f"model-{number}.safetensors", run.parent / "model.part")
    (run.parent / "model.part").replace(run / "model.safetensors")


def make_world(work: Path) -> Path:
    """The run's folder, with clips and thumbnails beside its interactions."""
    if (work / "run" / "run.json").exists():
        return work / "run"
    run = make_run(work, items=19_099, width=128, users=USERS)
    rng = np.random.default_rng(0)
    (work / "videos").mkdir()
    for item in item_names(CLIPS):
        (work / "videos" / f"{item}.mp4").write_bytes(rng.bytes(CLIP_BYTES))
        picture = thumbnail_path(work / "thumbnails", item)
        picture.parent.mkdir(parents=True, exist_ok=True)
        picture.write_bytes(rng.bytes(9000))
    weights = load_file(run.path / "model.safetensors")
    for number, scale in enumerate((1.0, 0.5)):
        save_file(weights | {"items": weights["items"] * scale}, work / f"model-{number}.safetensors")
    return run.path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=15)
    parser.add_argument("--rate", type=float, default=60)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    run, events = make_world(options.work), options.work / "events.sqlite"
    for path in options.work.glob("events.sqlite*"):
        path.unlink()
    token = options.work / "operator.token"
    token.write_text(OPERATOR)
    settings = ("--set", "serve.max_users=256", f"serve.check_every={CHECK_EVERY}")
    options_of_server = ("--videos", str(options.work / "videos"), "--operator-token-file", str(token), *settings)
    server = Server(run, events, options.work / "server.log", *options_of_server)
    load = Load(server.port(), options.rate, options.minutes * 60, run)
    began, samples = time.monotonic(), []
    while any(thread.is_alive() for thread in load.threads):
        time.sleep(EVERY_SECONDS)
        samples.append({"seconds": round(time.monotonic() - began, 1)} | server.status())
        if len(samples) % 30 == 0:
            print(samples[-1], sum(load.counts.values()), len(load.bad), flush=True)
    time.sleep(1)
    after = server.status()
    client = Client(server.port())
    said = counters(client.ask("GET", "/metrics")[1].decode())
    client.close()
    bad = load.bad + miscounted(said, sum((who.acknowledged for who in load.people), Counter()))
    ended = server.kill(signal.SIGTERM)
    faults = [line for line in server.log.read_text(errors="replace").splitlines() if "Traceback" in line or "Error" in line]
    counts = dict(sorted(load.counts.items()))
    result: dict[str, Any] = {
        "minutes": options.minutes,
        "requests": sum(counts.values()),
        "per_second": round(sum(counts.values()) / (options.minutes * 60), 1),
        **flatness(samples),
        "after": after,
        "exit_code": ended,
        "bad": bad[:50],
        "faults_in_the_log": faults[:20],
        "counts": counts,
        "service": said,
        "rss_kib_by_minute": [sample["rss_kib"] for sample in samples[:: round(60 / EVERY_SECONDS)]],
        "load_average": [round(load, 1) for load in os.getloadavg()],
        "provenance": provenance() | {"command": f"serve_soak.py --minutes {options.minutes:g} --rate {options.rate:g}"},
    }
    right = counts.get("reload 200", 0) > 0 and said["state_checks"] > 0 and said["state_drift_max"] < DRIFT
    show_and_exit(result, options.out, good=result["flat"] and right and not bad and not faults and ended == 130)


if __name__ == "__main__":
    main()
