"""A run folder of made-up weights, ``vivim serve`` over it as a process, and a client: what the measurements of the service share.

Weights are random: they cost what trained ones cost. Item vectors lie in clusters, as an approximate index finds those of real items.
"""

import http.client
import json
import multiprocessing
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import quote

import numpy as np
import polars as pl
import torch
from vivim.recommend import build
from vivim.recommend.checkpoint import RunFolder
from vivim.recommend.config import RecommendConfig
from vivim.store import ItemIndex

FIRST_MS = 1_700_000_000_000  # of the interactions of training; events come after them
_START_SECONDS = 600.0


def item_names(count: int) -> list[str]:
    return [f"i{row:07d}" for row in range(count)]


def make_run(
    folder: Path, *, items: int, width: int, users: int, layers: int = 2, long: Sequence[int] = (), per_length: int = 8
) -> RunFolder:
    """A Mamba over ids.

    Args:
        users: ``u0`` and so on, with histories of 3 to 11 items, 7 in the mean as MicroLens-50K's.
        long: lengths of the histories of further users: ``h1000-0`` to ``h1000-7`` have 1,000 items.
    """
    rng = np.random.default_rng(0)
    torch.manual_seed(0)
    folder.mkdir(parents=True, exist_ok=True)
    names = [f"u{n}" for n in range(users)] + [f"h{length}-{n}" for length in long for n in range(per_length)]
    lengths = np.concatenate([rng.integers(3, 12, users), np.repeat(np.array(long, np.int64), per_length)])
    who = np.repeat(np.arange(len(names)), lengths)
    place = np.arange(len(who)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    watched = np.array(item_names(items))[rng.integers(0, items, len(who))]
    table = pl.DataFrame({"user": np.array(names)[who], "item": watched, "timestamp": FIRST_MS + place * 1000})
    table.write_csv(folder / "made_up_pairs.csv")
    sections = {"items": {"kind": "ids"}, "model": {"d_model": width, "layers": layers}, "protocol": {"full_catalogue": True}}
    config = RecommendConfig.model_validate(sections)
    model = build.user_model(config.model, config.protocol.max_len)
    run = RunFolder.create(folder / "run")
    tensors = {f"model.{name}": tensor for name, tensor in model.state_dict().items()}
    run.write_tensors("model.safetensors", tensors | {"items": clustered(items, width)})
    ids = ItemIndex(item_names(items))
    run.write_catalogue(ids, rng.integers(0, 100, items))
    run.write_json(
        "run.json",
        {
            "format": 1,
            "config": config.model_dump(mode="json"),
            "catalogue_sha256": ids.sha256,
            "data": {"path": str((folder / "made_up_pairs.csv").resolve())},
            "finished": True,
        },
    )
    return run


def clustered(items: int, width: int) -> torch.Tensor:
    """(items, width), a hundred of them around each centre."""
    centres = torch.randn(max(10, items // 100), width)
    own = torch.randint(len(centres), (items,))
    return torch.randn(items, width).mul_(0.7).add_(centres[own]).div_(width**0.5)


class Spawned:
    """A process with an interpreter of its own, as from a shell."""

    def __init__(self, args: Sequence[str], log: Path) -> None:
        command = [sys.executable, "-c", "import sys; from vivim.cli import main; sys.exit(main())", *args]
        with log.open("wb") as out:
            self.process = subprocess.Popen(command, stdout=out, stderr=out)
        self.pid = self.process.pid

    def code(self) -> int | None:
        """Of the end; None: it runs."""
        return self.process.poll()

    def wait(self) -> int:
        """Of the end."""
        return self.process.wait()


class Forked:
    """The same from a process that has imported everything: it takes a tenth of the time to start, and runs the same command."""

    _FORKS: ClassVar[ForkServerContext] = multiprocessing.get_context("forkserver")
    _FORKS.set_forkserver_preload([f"vivim.{name}" for name in ("stage_serve", "serve.api", "serve.server")])

    def __init__(self, args: Sequence[str], log: Path) -> None:
        self.process = self._FORKS.Process(target=_run_here, args=(list(args), log))
        self.process.start()
        assert self.process.pid is not None
        self.pid = self.process.pid

    def code(self) -> int | None:
        """Of the end; None: it runs."""
        return self.process.exitcode

    def wait(self) -> int:
        """Of the end."""
        self.process.join()
        assert self.process.exitcode is not None
        return self.process.exitcode


def _run_here(args: list[str], log: Path) -> None:
    out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(out, 1)
    os.dup2(out, 2)
    from vivim.cli import main

    sys.exit(main(args))


class Server:
    """``vivim serve``; its words go to a file.

    Args:
        run: folder of the run.
        events: the log.
        log: where stdout and stderr go.
        args: further options.
        process: how it is started.
    """

    def __init__(self, run: Path, events: Path, log: Path, *args: str, process: type[Spawned | Forked] = Spawned) -> None:
        self.log = log
        log.unlink(missing_ok=True)
        self.process = process(["serve", "--run", str(run), "--events", str(events), "--port", "0", *args], log)
        self.pid = self.process.pid

    def port(self) -> int:
        """Where it listens, once it answers.

        Raises:
            RuntimeError: it ended before, or does not answer in ten minutes.
        """
        deadline = time.monotonic() + _START_SECONDS
        while self.process.code() is None and time.monotonic() < deadline:
            said = self.log.read_text(errors="replace") if self.log.exists() else ""
            found = re.search(r"^serving http://127\.0\.0\.1:(\d+)/", said, re.MULTILINE)
            if found:
                return int(found[1])
            time.sleep(0.01)
        raise RuntimeError(f"no server: {self.log.read_text(errors='replace')}")

    def kill(self, number: int = signal.SIGKILL) -> int:
        """Send a signal and wait for the end; the exit code."""
        os.kill(self.pid, number)
        return self.process.wait()

    def cpu_seconds(self) -> float:
        """Of all its threads since it began."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def status(self) -> dict[str, int]:
        """What the system holds for it: memory in KiB, threads, open files."""
        lines = Path(f"/proc/{self.pid}/status").read_text().splitlines()
        fields = dict(line.split(":", 1) for line in lines)
        named = {"rss_kib": "VmRSS", "peak_kib": "VmHWM", "threads": "Threads"}
        return {key: int(fields[name].split()[0]) for key, name in named.items()} | {"files": len(os.listdir(f"/proc/{self.pid}/fd"))}


class Client:
    """One connection, kept alive."""

    def __init__(self, port: int, timeout: float = 60) -> None:
        self.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)

    def ask(self, method: str, path: str, content: Any = None, headers: dict[str, str] | None = None) -> tuple[int, bytes]:
        """Status and body.

        Raises:
            OSError, http.client.HTTPException: the server went away.
        """
        body = None if content is None else json.dumps(content).encode()
        sent = {"content-type": "application/json"} if body else {}
        self.connection.request(method, path, body, sent | (headers or {}))
        response = self.connection.getresponse()
        return response.status, response.read()

    def json(self, method: str, path: str, content: Any = None) -> tuple[int, Any]:
        """Status and what the body says."""
        status, body = self.ask(method, path, content)
        return status, json.loads(body)

    def close(self) -> None:
        self.connection.close()


def part(id_: str) -> str:
    """An id as a part of a path."""
    return quote(id_, safe="")


def percentiles(ms: Sequence[float]) -> dict[str, float]:
    """p50, p99 and the largest."""
    p50, p99 = np.percentile(ms, [50, 99])
    return {"p50": round(float(p50), 2), "p99": round(float(p99), 2), "max": round(max(ms), 2)}
