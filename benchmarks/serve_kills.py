"""Kill the service under load, start it again, and ask: no acknowledged event may be lost, none be there twice.

    python benchmarks/serve_kills.py --work DIR [--kills 100] [--out benchmarks/results/serve_kills.json]

A small catalogue and made-up weights, so that a start takes a second; everything else is the real thing: ``vivim serve`` over HTTP, SQLite
with ``synchronous=FULL``, SIGKILL. What SIGKILL leaves to the system, a cut of the power would take: that the disk keeps what it has
acknowledged is ``synchronous=FULL``'s part, and is not shown here.

``concurrent``  10,000 events of 100 users from 32 threads, their order shuffled, some sent twice at once, lists asked for in between
``kills``       four threads send events, late ones too, take some back, and send some again; SIGKILL at a random instant of a second
``starts``      in one of five restarts SIGKILL again, at a random instant of the start

After each kill, of every user of it: each acknowledged event is there once, with its item and time; each acknowledged removal holds; what
was sent and not acknowledged is there or not, and once it is sent again it is there once; nothing else is there; and the list of ten is
that of a serial replay, one step after the other, of what the client knows. At the end the same of all users of all kills.
"""

import argparse
import http.client
import json
import random
import shutil
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from served import FIRST_MS, Client, Forked, Server, item_names, make_run, part
from vivim.recommend.recommender import Recommender
from vivim.store.provenance import provenance

ITEMS = 500
WIDTH = 16
SENDERS = 4
USERS_OF_A_SENDER = 4
ALMOST = 1e-4  # a step and reading at once differ by rounding
GONE = (OSError, http.client.HTTPException)


@dataclass
class Sent:
    """An event, and what the client knows of it. ``time``: as it was acknowledged, or asked for; None: the server's."""

    id: str
    item: str
    time: str | None
    acknowledged: bool = False
    removing: bool = False  # asked for, not acknowledged
    removed: bool = False

    def body(self) -> dict[str, str]:
        return {"item": self.item, "event_id": self.id} | ({"time": self.time} if self.time else {})


@dataclass
class Ledger:
    """What was sent, by user in the order of sending; what was found to be wrong."""

    of: dict[str, dict[str, Sent]] = field(default_factory=dict)
    bad: list[str] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)

    def expected(self, user: str) -> list[Sent]:
        """The history, oldest first: of one time in the order of sending, as one user's events come from one thread."""
        return sorted((sent for sent in self.of[user].values() if not sent.removed), key=lambda sent: str(sent.time))


def moment(ms: int) -> str:
    """Unix milliseconds as RFC 3339."""
    return datetime.fromtimestamp(ms // 1000, UTC).strftime("%Y-%m-%dT%H:%M:%S") + f".{ms % 1000:03d}Z"


def post(client: Client, user: str, sent: Sent, ledger: Ledger, *, k: int | None = None) -> None:
    """Send an event, and note what is said of it."""
    known = sent.acknowledged
    status, said = client.json("POST", f"/v1/users/{part(user)}/events{f'?k={k}' if k else ''}", sent.body())
    if status not in (200, 201) or (known and said["new"]) or (sent.time is not None and said["time"] != sent.time):
        ledger.bad.append(f"{user} {sent.id}: {status} {said}")
        return
    sent.time, sent.acknowledged = said["time"], True
    ledger.counts["replays" if known else "events"] += 1


def remove(client: Client, user: str, sent: Sent, ledger: Ledger) -> None:
    """Take an event back."""
    sent.removing = True
    status, said = client.json("DELETE", f"/v1/users/{part(user)}/events/{part(sent.id)}")
    if status != 200:
        ledger.bad.append(f"{user} {sent.id} taken back: {status} {said}")
        return
    sent.removing, sent.removed = False, True
    ledger.counts["removals"] += 1


def send(port: int, users: list[str], ledger: Ledger, rng: random.Random, begun: threading.Event) -> None:
    """Events of some users until the server is gone."""
    client = Client(port)
    try:
        while True:
            user = rng.choice(users)
            events = ledger.of[user]
            there = [sent for sent in events.values() if sent.acknowledged and not sent.removed]
            what = rng.random()
            if what < 0.1 and there:
                remove(client, user, rng.choice(there), ledger)
            elif what < 0.2 and there:
                post(client, user, rng.choice(there), ledger)
            else:
                item = rng.choice(item_names(ITEMS))
                late = moment(FIRST_MS + rng.randrange(10**10)) if rng.random() < 0.25 else None
                sent = Sent(f"{user} {len(events)}", item, late)
                events[sent.id] = sent
                post(client, user, sent, ledger, k=10 if rng.random() < 0.3 else None)
            begun.set()
    except GONE:
        return
    finally:
        client.close()


class Replay:
    """Lists from stepping through histories one by one with nothing kept."""

    def __init__(self, run: Path) -> None:
        self.recommender = Recommender.open(run)

    def differs(self, history: Iterable[str], found: list[dict[str, Any]], k: int = 10) -> bool:
        """Whether a list is another than the replay's; of items that score alike any may stand there."""
        state = self.recommender.state()
        for item in history:
            state = self.recommender.step(state, item)
        if not state.watched:
            return False  # popularity answers, which no event changes
        scores_N = self.recommender.scores(state)[0].clone()
        scores_N[list(state.watched)] = -torch.inf
        best = scores_N.topk(k).values.tolist()
        own = [float(scores_N[self.recommender.items.row_of(place["item"])]) for place in found]
        given = [place["score"] for place in found]
        return len(given) != k or any(abs(a - b) > ALMOST or abs(a - c) > ALMOST for a, b, c in zip(given, own, best, strict=True))


class Trials:
    """A log of events that lives through all deaths, and what came of them."""

    def __init__(self, work: Path, seed: int) -> None:
        shutil.rmtree(work, ignore_errors=True)
        self.work = work
        self.rng = random.Random(seed)
        self.run = make_run(work, items=ITEMS, width=WIDTH, users=20).path
        self.replay = Replay(self.run)
        self.ledger = Ledger()
        self.counts: Counter[str] = Counter()

    def server(self) -> Server:
        options = ("--set", "serve.http.rate=0", "--set", "serve.ann=none")
        return Server(self.run, self.work / "events.sqlite", self.work / "server.log", *options, process=Forked)

    def check(self, client: Client, users: Iterable[str], *, serially: bool) -> None:
        """What the server knows of ``users`` against the ledger, before and after sending again what was not acknowledged."""
        for user in users:
            events = self.ledger.of[user]
            found = self.history(client, user)
            for id_, item, time_ in found:
                sent = events.get(id_)
                if sent is None or sent.removed or sent.item != item or sent.time not in (None, time_):
                    self.ledger.bad.append(f"{user} {id_}: there as {item} at {time_}, sent as {sent}")
            ids = Counter(id_ for id_, _, _ in found)
            self.ledger.bad += [f"{user} {id_}: there {count} times" for id_, count in ids.items() if count > 1]
            for sent in events.values():
                if not sent.acknowledged:
                    self.counts["not acknowledged, kept" if sent.id in ids else "not acknowledged, not kept"] += 1
                elif sent.id not in ids and not sent.removed and not sent.removing:
                    self.ledger.bad.append(f"{user} {sent.id}: lost")
            self.send_again(client, user)
            expected = [(sent.id, sent.item, sent.time) for sent in self.ledger.expected(user)]
            if self.history(client, user) != expected:
                self.ledger.bad.append(f"{user}: another history than that of the client")
            if serially:
                _, said = client.json("GET", f"/v1/users/{part(user)}/recommendations?k=10")
                if self.replay.differs((item for _, item, _ in expected), said["items"]):
                    self.ledger.bad.append(f"{user}: another list than the serial replay's")
                self.counts["lists compared"] += 1

    def send_again(self, client: Client, user: str) -> None:
        for sent in self.ledger.of[user].values():
            if not sent.acknowledged:
                post(client, user, sent, self.ledger)
            if sent.removing:
                remove(client, user, sent, self.ledger)

    @staticmethod
    def history(client: Client, user: str) -> list[tuple[str, str, str]]:
        status, said = client.json("GET", f"/v1/users/{part(user)}/history?limit=1000")
        assert status == 200, said
        return [(entry["event_id"], entry["item"], entry["time"]) for entry in said["history"]]

    def kill(self, number: int) -> None:
        """Load, death, a new start, checks."""
        users = [f"k{number}-{n}" for n in range(SENDERS * USERS_OF_A_SENDER)]
        self.ledger.of |= {user: {} for user in users}
        server, begun = self.server(), threading.Event()
        port = server.port()
        senders = []
        for n in range(SENDERS):
            own = users[n * USERS_OF_A_SENDER : (n + 1) * USERS_OF_A_SENDER]
            senders.append(threading.Thread(target=send, args=(port, own, self.ledger, random.Random(self.rng.random()), begun)))
            senders[-1].start()
        assert begun.wait(60), "no event came through"
        time.sleep(self.rng.random())
        assert server.kill() == -signal.SIGKILL
        for sender in senders:
            sender.join()
        self.counts["kills"] += 1
        if self.rng.random() < 0.2:
            server = self.server()
            time.sleep(self.rng.random() * self.seconds_of_start)
            assert server.kill() == -signal.SIGKILL
            self.counts["starts killed"] += 1
        self.checked(users)

    def checked(self, users: Iterable[str], *, serially: bool = True) -> None:
        """Start, check, and end by a signal as a person ends it."""
        began = time.monotonic()
        server = self.server()
        client = Client(server.port())
        self.seconds_of_start = time.monotonic() - began
        self.check(client, users, serially=serially)
        client.close()
        assert server.kill(signal.SIGTERM) == 130
        self.counts["starts"] += 1

    def concurrent(self, count: int) -> dict[str, Any]:
        """``count`` events of a hundred users in no order, from 32 threads, one in twenty twice; the whole takes a server of its own."""
        users = [f"c{n}" for n in range(100)]
        self.ledger.of |= {user: {} for user in users}
        todo = []
        for n in range(count):
            user = users[n % 100]
            sent = self.ledger.of[user][str(n)] = Sent(str(n), self.rng.choice(item_names(ITEMS)), moment(FIRST_MS + n))
            todo += [(user, sent)] * (2 if self.rng.random() < 0.05 else 1)
        self.rng.shuffle(todo)
        server, local = self.server(), threading.local()
        port = server.port()

        def one(place: int) -> bool:
            if not hasattr(local, "client"):
                local.client = Client(port)
            user, sent = todo[place]
            status, said = local.client.json("POST", f"/v1/users/{user}/events{'?k=10' if place % 10 == 0 else ''}", sent.body())
            if status not in (200, 201):
                self.ledger.bad.append(f"{user} {sent.id}: {status} {said}")
            sent.acknowledged = True
            return bool(status == 201)

        began = time.monotonic()
        with ThreadPoolExecutor(32) as pool:
            new = sum(pool.map(one, range(len(todo))))
        seconds = time.monotonic() - began
        assert server.kill() == -signal.SIGKILL
        self.checked(users)
        if new != count:
            self.ledger.bad.append(f"{new} of {count} events were new")
        return {"events": count, "users": 100, "threads": 32, "sent": len(todo), "seconds": round(seconds, 1)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--concurrent", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    trials = Trials(options.work, options.seed)
    concurrent = trials.concurrent(options.concurrent)
    print(concurrent, dict(trials.counts), f"{len(trials.ledger.bad)} bad", flush=True)
    for number in range(options.kills):
        trials.kill(number)
        if number % 10 == 9:
            print(number + 1, dict(trials.counts), dict(trials.ledger.counts), f"{len(trials.ledger.bad)} bad", flush=True)
    trials.checked(list(trials.ledger.of), serially=False)
    command = f"serve_kills.py --kills {options.kills} --concurrent {options.concurrent} --seed {options.seed}"
    result = {
        "trials": dict(trials.counts),
        "acknowledged": dict(trials.ledger.counts),
        "concurrent": concurrent,
        "bad": trials.ledger.bad,
        "provenance": provenance() | {"command": command},
    }
    print(json.dumps({key: result[key] for key in ("trials", "acknowledged", "concurrent")}), *trials.ledger.bad[:20], sep="\n")
    if options.out:
        options.out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    sys.exit(1 if trials.ledger.bad else 0)


if __name__ == "__main__":
    main()
