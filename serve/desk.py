"""What the calls of the API share: the service, what items look like, and the threads that work for them.

The event loop only reads and writes sockets. Models are asked by one thread, since two would take the cores from each other; events
wait for the log's disk, and pages of the catalogue are looked through, on others.
"""

import asyncio
import json
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from .answers import Answer, Reason
from .catalogue import ItemInfo
from .errors import UnknownItem
from .http_config import HttpConfig
from .media import MediaTable
from .metrics import Meters
from .service import Service
from .threads import chained, model_thread

First = TypeVar("First")
Result = TypeVar("Result")

Adder = Callable[[str, Path], bool]
"""Make the clip in a file recommendable under an id; True: the id had one before. Raises ``InputError`` for a clip that cannot be read."""


@dataclass(frozen=True)
class Desk:
    """Everything a call needs.

    Attributes:
        service: answers.
        media: files of items.
        meters: what is counted.
        config: limits.
        add: for new clips; None: they cannot be added here.
        opened: set while the server may be asked.
        model: the one thread that asks models.
        waiting: threads that wait for disks.
        changes: the one thread that opens what is served anew: memory that models and indexes leave behind is kept by the C library for
            the thread that asked for it, so sixteen would keep sixteen times as much.
    """

    service: Service
    media: MediaTable
    meters: Meters
    config: HttpConfig
    add: Adder | None = None
    opened: threading.Event = field(default_factory=threading.Event)
    model: ThreadPoolExecutor = field(default_factory=model_thread)
    waiting: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(16, "waiting"))
    changes: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(1, "changes"))

    async def ask(self, work: Callable[[], Result]) -> Result:
        """Do ``work``, which asks a model."""
        return await asyncio.get_running_loop().run_in_executor(self.model, work)

    async def ask_after(self, first: "Future[First]", work: Callable[[First], Result]) -> Result:
        """Do ``work``, which asks a model, with the result of ``first`` as soon as there is one: the event loop is not woken between.

        Raises:
            whatever ``first`` or ``work`` does.
        """
        return await asyncio.wrap_future(chained(first, self.model, work))

    async def wait(self, work: Callable[[], Result]) -> Result:
        """Do ``work``, which asks no model."""
        return await asyncio.get_running_loop().run_in_executor(self.waiting, work)

    async def change(self, work: Callable[[], Result]) -> Result:
        """Do ``work``, which changes what is served, after the changes before it."""
        return await asyncio.get_running_loop().run_in_executor(self.changes, work)

    def close(self) -> None:
        """End the threads."""
        self.opened.clear()
        for threads in (self.model, self.waiting, self.changes):
            threads.shutdown(wait=True, cancel_futures=True)

    def shown(self, item: str) -> dict[str, Any]:
        """An item as ``schemas.Item``."""
        info, media = self._info(item), self.media
        number = None if info.row < 0 else info.row
        return {
            "item": item,
            "row": number,
            "title": info.title,
            "thumbnail": media.address(info, "thumbnail"),
            "media": media.address(info, "clip"),
        }

    def recommendations(self, answer: Answer, began: float, user: str | None = None) -> dict[str, Any]:
        """An answer as ``schemas.Recommendations``.

        Args:
            began: by ``time.perf_counter``, when the request was understood.
        """
        took = answer.took_ms
        self.meters.phase("state", took.state / 1000)
        self.meters.phase("search", took.search / 1000)
        total = (time.perf_counter() - began) * 1000
        return {
            "user": user,
            "run": answer.run,
            "model": answer.model_hash,
            "index": answer.index_hash,
            "search": answer.search,
            "fallback": answer.fallback,
            "skipped": answer.skipped,
            "took_ms": {"state": round(took.state, 3), "search": round(took.search, 3), "total": round(total, 3)},
            "items": [
                {**self.shown(ranked.item), "score": ranked.score, "because": [self._reason(reason) for reason in ranked.because]}
                for ranked in answer.items
            ],
        }

    def runs(self) -> list[dict[str, Any]]:
        """The runs that are served, as ``schemas.RunOut``."""
        shown: list[dict[str, Any]] = []
        for name, run in self.service.runs.items():
            snapshot = run.snapshot
            shown.append(
                {
                    "name": name,
                    "kind": snapshot.kind,
                    "items_kind": snapshot.items_kind,
                    "model": snapshot.model_hash,
                    "index": snapshot.index_hash,
                    "items": len(snapshot.recommender.items),
                    "searches": snapshot.searches,
                    "default": not shown,
                }
            )
        return shown

    def _info(self, item: str) -> ItemInfo:
        """Of an item; one that only a history knows has no number."""
        try:
            return self.service.catalogue.info(item)
        except UnknownItem:
            return ItemInfo(item, -1, self.service.catalogue.title(item))

    def _reason(self, reason: Reason) -> dict[str, Any]:
        info = self._info(reason.item)
        return {"item": info.item, "row": info.row, "title": info.title, "similarity": reason.similarity}

    def as_json(self, content: Any) -> bytes:
        """The bytes of an answer; what JSON cannot say is our fault."""
        began = time.perf_counter()
        body = json.dumps(content, allow_nan=False).encode()
        self.meters.phase("serialise", time.perf_counter() - began)
        return body
