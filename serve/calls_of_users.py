"""Calls about people: their events, histories, recommendations."""

import asyncio
import time
from typing import Annotated, Any

from fastapi import APIRouter, Query
from fastapi.responses import Response

from .asgi import Refusal
from .desk import Desk
from .schemas import EventIn, EventOut, History, Id, PathId, Recommendations, RecommendIn, RemovedOut, Search, Users, time_text
from .statuses import BODY, errors

Flag = Annotated[bool, Query()]
Run = Annotated[Id | None, Query(description="Which run answers; the first one if it is left out.")]


def router(desk: Desk) -> APIRouter:
    """The calls, answered by ``desk``."""
    calls = APIRouter(prefix="/v1", tags=["users"])
    most = desk.config.k
    some = Query(10, ge=1, le=most)
    few, newest = (Query(count, ge=1, le=desk.config.history) for count in (20, 100))
    none_or_some = Query(None, ge=1, le=most, description="Answer with so many recommendations too.")

    def as_answer(content: Any, status: int = 200) -> Response:
        return Response(desk.as_json(content), status, media_type="application/json")

    def recommended(user: str, k: int, exclude_seen: bool, search: Search, run: str | None) -> dict[str, Any]:
        began = time.perf_counter()
        answer = desk.service.recommend_user(user, k, exclude_seen=exclude_seen, search=search, run=run)
        return desk.recommendations(answer, began, user)

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
        exclude_seen: Flag = True,
        search: Search = "exact",
        run: Run = None,
    ) -> Response:
        """Record that a user watched something. 201: it is on the disk. 200: it was there already."""
        began = time.perf_counter()
        added = await asyncio.wrap_future(desk.service.submit_event(user, event.item, event.event_id, event.time))
        desk.meters.phase("append", time.perf_counter() - began)
        desk.meters.event("late" if added.late else "new" if added.new else "replayed")
        kept = added.event
        content: dict[str, Any] = {
            "user": user,
            "event_id": event.event_id,
            "item": event.item,
            "time": time_text(kept.time_ms),
            "new": added.new,
            "late": added.late,
            "removed": added.removed,
            "events": added.events,
            "recommendations": None,
        }
        if k is not None:
            content["recommendations"] = await desk.ask(lambda: recommended(user, k, exclude_seen, search, run))
        return as_answer(content, 201 if added.new else 200)

    @calls.delete("/users/{user}/events/{event_id}", response_model=RemovedOut, responses=errors(404))
    async def remove_event(user: PathId, event_id: PathId) -> Response:
        """Take an event back. Its id is not used again."""
        removed = await asyncio.wrap_future(desk.service.submit_removal(user, event_id))
        desk.meters.event("removed")
        return as_answer({"user": user, "event_id": event_id, "item": removed.event.item, "events": removed.events})

    @calls.get("/users/{user}/recommendations", response_model=Recommendations, responses=errors(404))
    async def recommend_user(user: PathId, k: int = some, exclude_seen: Flag = True, search: Search = "exact", run: Run = None) -> Response:
        """The best items for a user after everything that is known of them."""
        work = lambda: desk.as_json(recommended(user, k, exclude_seen, search, run))  # noqa: E731
        return Response(await desk.ask(work), media_type="application/json")

    @calls.post("/recommend", response_model=Recommendations, responses=errors(404, *BODY))
    async def recommend_history(asked: RecommendIn) -> Response:
        """The best items after a history that is given, of somebody nobody knows."""
        if asked.k > most:
            raise Refusal(422, "bad_k", f"k = {asked.k} is not allowed; 1 to {most} is.")
        if len(asked.history) > desk.config.history:
            raise Refusal(
                422, "history_too_long", f"{len(asked.history)} items of history; at most {desk.config.history} are read, the newest."
            )
        began = time.perf_counter()

        def work() -> bytes:
            answer = desk.service.recommend_history(
                asked.history, asked.k, exclude_seen=asked.exclude_seen, search=asked.search, run=asked.run
            )
            return desk.as_json(desk.recommendations(answer, began))

        return Response(await desk.ask(work), media_type="application/json")

    return calls
