"""Calls about what people watch: who there is, their histories, events that are recorded and taken back."""

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

from fastapi import APIRouter, Query
from fastapi.responses import Response

from .calls_of_lists import Run, list_of
from .desk import Desk
from .event_store import Added, Removed
from .schemas import MOST_ENTRIES, EventIn, EventOut, History, PathId, RemovedOut, Users, time_text
from .snapshot import Search
from .statuses import BODY, errors

Kept = TypeVar("Kept", Added, Removed)


def router(desk: Desk) -> APIRouter:
    """The calls, answered by ``desk``."""
    calls = APIRouter(prefix="/v1", tags=["events"])
    few, newest = (Query(count, ge=1, le=MOST_ENTRIES) for count in (20, 100))
    none_or_some = Query(None, ge=1, le=desk.config.k, description="Answer with so many recommendations too.")

    @calls.get("/users", response_model=Users, responses=errors())
    async def users(query: str = "", limit: int = few) -> Response:
        """Users whose id begins with ``query``: of training, and those with events."""

        def work() -> bytes:
            found = desk.service.users(query, limit)
            return desk.as_json({"users": [{"user": user, "events": desk.service.watched(user)} for user in found]})

        return Response(await desk.wait(work), media_type="application/json")

    @calls.get("/users/{user}/history", response_model=History, responses=errors())
    async def history(user: PathId, limit: int = newest) -> Response:
        """What a user has watched, oldest first: training, then events. Of a longer history its newest part. An unknown user has none."""

        def work() -> bytes:
            watched = desk.service.history(user, limit)
            shown = [{**desk.shown(entry.item), "time": time_text(entry.time_ms), "event_id": entry.event_id} for entry in watched]
            return desk.as_json({"user": user, "known": desk.service.watched(user) > 0, "history": shown})

        return Response(await desk.wait(work), media_type="application/json")

    @calls.post(
        "/users/{user}/events", response_model=EventOut, status_code=201, responses={200: {"model": EventOut}, **errors(404, 409, *BODY)}
    )
    async def add_event(
        user: PathId,
        event: EventIn,
        k: int | None = none_or_some,
        exclude_seen: bool = True,
        search: Search = "exact",
        run: Run = None,
    ) -> Response:
        """Record that a user watched something. 201: it is on the disk. 200: it was there already."""
        began = time.perf_counter()

        def note(added: Added) -> None:
            desk.meters.phase("append", time.perf_counter() - began)
            desk.meters.event("late" if added.late else "new" if added.new else "replayed")

        def acknowledgement(added: Added) -> Response:
            content = _as_event(added)
            if k is not None and step is not None:
                step.result()  # it has ended: the thread that asks models does one thing after the other
                content["recommendations"] = list_of(desk, user, k, exclude_seen, search, run)
            return Response(desk.as_json(content), 201 if added.new else 200, media_type="application/json")

        if k is not None:
            desk.service.require_list(search, run)
        kept = desk.service.submit_event(user, event.item, event.event_id, event.time)
        _when_kept(kept, note)
        step = None if k is None else desk.model.submit(desk.service.foresee, user, event.item, run)
        if k is None:
            return acknowledgement(await asyncio.wrap_future(kept))
        return await desk.ask_after(kept, acknowledgement)

    @calls.delete("/users/{user}/events/{event_id}", response_model=RemovedOut, responses=errors(404))
    async def remove_event(user: PathId, event_id: PathId) -> Response:
        """Take an event back. Its id is not used again."""
        kept = desk.service.submit_removal(user, event_id)
        _when_kept(kept, lambda removed: desk.meters.event("removed" if removed.new else "replayed"))
        removed = await asyncio.wrap_future(kept)
        content = {"user": user, "event_id": event_id, "item": removed.event.item, "events": removed.events}
        return Response(desk.as_json(content), media_type="application/json")

    return calls


def _when_kept(kept: "Future[Kept]", note: Callable[[Kept], None]) -> None:
    """Call ``note`` as soon as something is on the disk, whatever else an answer waits for, and whether or not anybody still waits."""

    def end(done: "Future[Kept]") -> None:
        if not done.cancelled() and done.exception() is None:
            note(done.result())

    kept.add_done_callback(end)


def _as_event(added: Added) -> dict[str, Any]:
    """What became of an event, as ``schemas.EventOut``, without a list."""
    event = added.event
    return {
        "user": event.user,
        "event_id": event.event_id,
        "item": event.item,
        "time": time_text(event.time_ms),
        "new": added.new,
        "late": added.late,
        "removed": added.removed,
        "events": added.events,
        "recommendations": None,
    }
