"""What an answer of ``vivim serve`` takes over HTTP on loopback, beside what nothing could do without.

    python benchmarks/serving.py --work DIR [--run RUN] [--real RUN] [--large] [--out benchmarks/results/serving.json]

A process serves, this one asks. Load is open: the moments at which requests are due are drawn beforehand, as independent people come
(exponential gaps), or evenly; a request's time counts from when it was due, so that an answer that keeps others waiting counts for them
too. Connections are kept alive. Events are on disk (``synchronous=FULL``) before they are acknowledged.

``small``  19,099 items of 128 numbers, Mamba of 2 layers, 2,000 users with histories of 3 to 11 items: ``GET /healthz``, ``GET`` of a list
           of ten, ``POST`` of an event that is answered with the new list of ten
``steps``  the state of one more event against the whole history read anew, for histories of 10, 100 and 1,000, as the service tells it
``large``  --large: 1.14 million items of 256 numbers, exact and IVF, one request after the other; how many of the exact ten IVF finds
           among vectors that are made-up clusters. Minutes, and 6 GB
``real``   --real: 500 users of a trained run drawn at random, exact and IVF: how many of the exact ten IVF finds among vectors that were
           learned. Seconds
``floor``  reading the item vectors once, by a sum over them; 16 KiB appended and ``fdatasync`` in the folder of the log
"""

import argparse
import gc
import json
import os
import re
import signal
import socket
import statistics
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from served import Client, Server, item_names, make_run, part, percentiles
from vivim.recommend.checkpoint import RunFolder
from vivim.stage_two import read_again
from vivim.store.provenance import provenance

CONNECTIONS = 32
WARM_SECONDS = 5.0
LENGTHS = (10, 100, 1000)
TARGET_MS = 10.0


@dataclass(frozen=True)
class Request:
    method: str
    path: str
    content: Any = None


@dataclass(frozen=True)
class Reply:
    """``ms``: since the request was due."""

    status: int
    ms: float
    said: Any


def moments(rate: float, seconds: float, arrivals: str, seed: int) -> list[float]:
    """Seconds after the start at which requests are due."""
    count = int(rate * seconds)
    if arrivals == "even":
        return [n / rate for n in range(count)]
    times = np.random.default_rng(seed).exponential(1 / rate, 2 * count + 50).cumsum()
    return times[times < seconds].tolist()


class Wire:
    """A connection that is kept alive, with as little in it as can be: what is measured is the service, and http.client takes a
    millisecond of a processor that has just been woken."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=60)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def ask(self, message: bytes) -> bytes:
        """The answer, head and body. Answers of the service tell their length."""
        self.socket.sendall(message)
        answer, end = b"", -1
        while end < 0 or len(answer) < end:
            got = self.socket.recv(65536)
            if not got:
                raise ConnectionError("the server went away")
            answer += got
            if end < 0 and (found := LENGTH.search(answer)):
                end = answer.index(b"\r\n\r\n") + 4 + int(found[1])
        return answer

    def close(self) -> None:
        self.socket.close()


LENGTH = re.compile(rb"\r\ncontent-length: (\d+)\r\n(?:.+\r\n)*\r\n", re.IGNORECASE)  # in a head that is there whole


def message_of(asked: Request) -> bytes:
    """The bytes of a request."""
    body = b"" if asked.content is None else json.dumps(asked.content).encode()
    kind = f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n" if body else ""
    return f"{asked.method} {asked.path} HTTP/1.1\r\nHost: 127.0.0.1\r\n{kind}\r\n".encode() + body


def reply_of(answer: bytes, ms: float) -> Reply:
    head, _, body = answer.partition(b"\r\n\r\n")
    return Reply(int(head.split(b" ", 2)[1]), ms, json.loads(body))


def open_load(port: int, due: Sequence[float], requests: Sequence[Request]) -> list[Reply]:
    """Send each request when it is due, over the first connection that is free."""
    messages = [message_of(asked) for asked in requests]
    answers: list[tuple[bytes, float] | None] = [None] * len(due)
    waiting, lock = iter(range(len(due))), threading.Lock()
    began = time.perf_counter() + 0.5

    def work() -> None:
        wire = Wire(port)
        while True:
            with lock:
                place = next(waiting, None)
            if place is None:
                wire.close()
                return
            time.sleep(max(0.0, began + due[place] - time.perf_counter()))
            answer = wire.ask(messages[place])
            answers[place] = answer, (time.perf_counter() - began - due[place]) * 1000

    threads = [threading.Thread(target=work) for _ in range(min(CONNECTIONS, len(due)))]
    gc.disable()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    gc.enable()
    assert None not in answers, "a connection broke"
    return [reply_of(*answer) for answer in answers if answer is not None]


def one_by_one(port: int, requests: Sequence[Request]) -> list[Reply]:
    """Each request after the answer to the one before."""
    wire = Wire(port)
    replies = []
    for asked in requests:
        message = message_of(asked)
        began = time.perf_counter()
        answer = wire.ask(message)
        replies.append(reply_of(answer, (time.perf_counter() - began) * 1000))
    wire.close()
    return replies


def summary(replies: Sequence[Reply]) -> dict[str, Any]:
    """Times, and what went wrong; where lists are answered, the parts of their time that the service tells."""
    times = [reply.ms for reply in replies]
    row: dict[str, Any] = {"requests": len(replies), "not_served": sum(reply.status >= 300 for reply in replies), "ms": percentiles(times)}
    row["share_over_target"] = round(sum(ms > TARGET_MS for ms in times) / len(times), 4)
    lists = [reply.said.get("recommendations") or reply.said for reply in replies]
    if all("took_ms" in said for said in lists):
        for phase in ("state", "search"):
            row[f"{phase}_ms"] = percentiles([said["took_ms"][phase] for said in lists])
    return row


def list_of(user: str, search: str = "exact") -> Request:
    return Request("GET", f"/v1/users/{part(user)}/recommendations?k=10&search={search}")


def event_of(user: str, id_: str, item: str, search: str = "exact") -> Request:
    return Request("POST", f"/v1/users/{part(user)}/events?k=10&search={search}", {"item": item, "event_id": id_})


def small(server: Server, users: int, items: Sequence[str], options: argparse.Namespace) -> dict[str, Any]:
    port, rng = server.port(), np.random.default_rng(1)

    def drawn(kind: str, count: int) -> list[Request]:
        who = [f"u{n}" for n in rng.integers(0, users, count)]
        if kind == "health":
            return [Request("GET", "/healthz")] * count
        if kind == "list":
            return [list_of(user) for user in who]
        return [event_of(user, f"{kind}{n}-{rng.integers(2**40)}", items[rng.integers(len(items))]) for n, user in enumerate(who)]

    result: dict[str, Any] = {}
    for kind, seconds, arrivals in (
        ("warm list", WARM_SECONDS, "even"),
        ("warm event", WARM_SECONDS, "even"),
        ("health", options.seconds / 3, "drawn"),
        ("list", options.seconds, "drawn"),
        ("event", options.seconds, "drawn"),
        ("event, evenly", options.seconds, "even"),
    ):
        due = moments(options.rate, seconds, arrivals, seed=len(result))
        before = server.cpu_seconds()
        replies = open_load(port, due, drawn(kind.removeprefix("warm "), len(due)))
        if kind.startswith("warm"):
            continue
        cpu = (server.cpu_seconds() - before) * 1000 / len(replies)
        result[kind] = {"rate": options.rate, "arrivals": arrivals} | summary(replies) | {"cpu_ms_each": round(cpu, 2)}
        print(kind, result[kind], flush=True)
    result["log_commit_ms"] = mean_of_phase(port, "append")
    result["peak_rss_mib"] = server.status()["peak_kib"] // 1024
    return result


def mean_of_phase(port: int, phase: str) -> float:
    """Mean milliseconds of a part of an answer, from ``/metrics``."""
    client = Client(port)
    lines = client.ask("GET", "/metrics")[1].decode().splitlines()
    client.close()
    total, count = (
        next(float(line.split()[-1]) for line in lines if line.startswith(f'vivim_phase_seconds_{what}{{phase="{phase}"}}'))
        for what in ("sum", "count")
    )
    return round(total / count * 1000, 2)


def steps(server: Server, items: Sequence[str], per_length: int) -> list[dict[str, Any]]:
    """First a list of somebody whose state is not kept, then one more event of theirs."""
    port, rows = server.port(), []
    for length in LENGTHS:
        users = [f"h{length}-{n}" for n in range(per_length)]
        whole = one_by_one(port, [list_of(user) for user in users])
        step = one_by_one(port, [event_of(user, "1", items[0]) for user in users])
        state_ms = {
            "whole": [reply.said["took_ms"]["state"] for reply in whole],
            "step": [reply.said["recommendations"]["took_ms"]["state"] for reply in step],
        }
        row: dict[str, Any] = {"history": length} | {f"{name}_ms": percentiles(ms) for name, ms in state_ms.items()}
        row["ratio"] = round(statistics.median(state_ms["whole"]) / statistics.median(state_ms["step"]), 1)
        row["event_ms"] = percentiles([reply.ms for reply in step])
        rows.append(row)
        print(row, flush=True)
    return rows


def wait_for_index(port: int, user: str) -> None:
    """Until ``search=ann`` is answered."""
    client = Client(port)
    while (said := client.json("GET", list_of(user, "ann").path))[0] != 200:
        assert said[1]["error"]["code"] == "not_ready", said
        time.sleep(1)
    client.close()


def exact_and_ann(port: int, users: Sequence[str]) -> dict[str, Any]:
    """Times of both searches for the lists of ``users``, and the share of the exact ten that the other finds."""
    result: dict[str, Any] = {}
    lists: dict[str, list[set[str]]] = {}
    for search in ("exact", "ann"):
        replies = one_by_one(port, [list_of(user, search) for user in users])
        result[search] = summary(replies)
        lists[search] = [{place["item"] for place in reply.said["items"]} for reply in replies]
    result["recall@10"] = round(statistics.mean(len(a & b) / len(a) for a, b in zip(lists["exact"], lists["ann"], strict=True)), 4)
    return result


def real(work: Path, run: RunFolder, asked: int) -> dict[str, Any]:
    """A trained run, and users of its data drawn at random: how many of the exact ten IVF finds among vectors that were learned."""
    info = run.info()
    names = read_again(info["data"]).users.ids
    users = [names[row] for row in np.random.default_rng(0).choice(len(names), min(asked, len(names)), replace=False)]
    server = serve(work, "real", run, "--set", "serve.http.rate=0")  # asked as fast as it answers
    wait_for_index(server.port(), users[0])
    model, items = info["config"]["model"], info["config"]["items"]
    result = {"model": model["kind"], "items_kind": items["kind"], "data": Path(info["data"]["path"]).name, "users": len(users)}
    result |= {"items": len(run.catalogue()[0]), "width": model["d_model"]} | exact_and_ann(server.port(), users)
    assert server.kill(signal.SIGTERM) == 130
    print("real", result, flush=True)
    return result


def large(work: Path, items: int, width: int, asked: int) -> dict[str, Any]:
    folder = work / "large"
    run = (
        RunFolder.open(folder / "run") if (folder / "run" / "run.json").exists() else make_run(folder, items=items, width=width, users=1000)
    )
    began = time.monotonic()
    server = serve(work, "large", run)
    port = server.port()
    result: dict[str, Any] = {"items": items, "width": width, "seconds_to_first_answer": round(time.monotonic() - began, 1)}
    wait_for_index(port, "u0")
    result["seconds_to_index"] = round(time.monotonic() - began, 1)
    result["peak_rss_mib"] = server.status()["peak_kib"] // 1024
    users = [f"u{n}" for n in range(asked)]
    one_by_one(port, [list_of(user) for user in users[:5]])
    result |= exact_and_ann(port, users)
    print(items, result, flush=True)
    for search in ("exact", "ann"):
        result[f"event_to_{search}"] = summary(one_by_one(port, [event_of(user, search, item_names(1)[0], search) for user in users]))
        print(items, "event to", search, result[f"event_to_{search}"], flush=True)
    result["rss_mib"] = server.status()["rss_kib"] // 1024
    assert server.kill(signal.SIGTERM) == 130
    return result


def floor(work: Path, sizes: dict[str, tuple[int, int]]) -> dict[str, Any]:
    """What the disk and the memory take alone, while nothing is served."""
    taken = []
    with (work / "floor").open("wb") as file:
        for _ in range(300):
            file.write(b"\0" * 16384)
            file.flush()
            began = time.perf_counter()
            os.fdatasync(file.fileno())
            taken.append((time.perf_counter() - began) * 1000)
    result: dict[str, Any] = {"fdatasync_ms": percentiles(taken)}
    for name, (items, width) in sizes.items():
        vectors_ND, ms = torch.ones(items, width), []
        for cores in [1, torch.get_num_threads()] * 10:
            torch.set_num_threads(cores)
            began = time.perf_counter()
            vectors_ND.sum()
            ms.append((time.perf_counter() - began) * 1000)
        fastest = min(ms)
        result[f"reading_{name}_ms"] = round(fastest, 3)
        result[f"reading_{name}_gb_per_s"] = round(vectors_ND.nbytes / fastest / 1e6, 1)
    return result


def serve(work: Path, name: str, run: RunFolder, *args: str) -> Server:
    events = work / f"{name}.sqlite"
    for path in work.glob(f"{events.name}*"):
        path.unlink()
    return Server(run.path, events, work / f"{name}.log", *args)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--run", type=Path, help="a trained run, in the place of the made-up one")
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--rate", type=float, default=50)
    parser.add_argument("--users", type=int, default=2000)
    parser.add_argument("--per-length", type=int, default=40)
    parser.add_argument("--real", type=Path, help="a trained run: recall of the approximate index among real vectors")
    parser.add_argument("--large", action="store_true")
    parser.add_argument("--large-items", type=int, default=1_142_528)
    parser.add_argument("--large-width", type=int, default=256)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    made = options.work / "small"
    if options.run:
        run = RunFolder.open(options.run)
    elif (made / "run" / "run.json").exists():
        run = RunFolder.open(made / "run")
    else:
        run = make_run(made, items=19_099, width=128, users=options.users, long=LENGTHS, per_length=options.per_length)
    items = run.catalogue()[0].ids
    sizes = {"small": (19_099, 128)} | ({"large": (options.large_items, options.large_width)} if options.large else {})
    words = [f"--seconds {options.seconds:g}", *(["--large"] if options.large else []), *(["--real RUN"] if options.real else [])]
    result: dict[str, Any] = {"provenance": provenance() | {"command": f"serving.py {' '.join(words)}"}}

    def keep(part: str, measured: Any) -> None:
        """Write at once: what comes later may fail."""
        result[part] = measured
        if options.out:
            options.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")

    keep("floor", floor(options.work, sizes))
    print(result["floor"], flush=True)
    server = serve(options.work, "small", run)
    keep("small", small(server, options.users, items, options))
    if not options.run:
        keep("steps", steps(server, items, options.per_length))
    assert server.kill(signal.SIGTERM) == 130
    if options.large:
        keep("large", large(options.work, options.large_items, options.large_width, 100))
    if options.real:
        keep("real", real(options.work, RunFolder.open(options.real), 500))
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
