"""Calls for lists: what to watch next, of a user and after a history that is given."""

import time
from typing import Annotated, Any

from fastapi import APIRouter, Query
from fastapi.responses import Response

from .asgi import Refusal
from .desk import Desk
from .schemas import Id, PathId, Recommendations, RecommendIn
from .snapshot import Search
from .statuses import BODY, errors

Run = Annotated[Id | None, Query(description="Which run answers; the first one if it is left out.")]


def list_of(desk: Desk, user: str, k: int, exclude_seen: bool, search: Search, run: str | None) -> dict[str, Any]:
    """The best items for a user, as ``schemas.Recommendations``. Asks the model."""
    began = time.perf_counter()
    answer = desk.service.recommend_user(user, k, exclude_seen=exclude_seen, search=search, run=run)
    return desk.recommendations(answer, began, user)


def router(desk: Desk) -> APIRouter:
    """The calls, answered by ``desk``."""
    calls = APIRouter(prefix="/v1", tags=["lists"])
    most = desk.config.k
    some = Query(min(10, most), ge=1, le=most)

    @calls.get("/users/{user}/recommendations", response_model=Recommendations, responses=errors(404))
    async def recommend_user(user: PathId, k: int = some, exclude_seen: bool = True, search: Search = "exact", run: Run = None) -> Response:
        """The best items for a user after everything that is known of them."""

        def work() -> bytes:
            return desk.as_json(list_of(desk, user, k, exclude_seen, search, run))

        return Response(await desk.ask(work), media_type="application/json")

    @calls.post("/recommend", response_model=Recommendations, responses=errors(404, *BODY))
    async def recommend_history(asked: RecommendIn) -> Response:
        """The best items after a history that is given, of somebody nobody knows."""
        _require_within(asked, most, desk.config.history)
        began = time.perf_counter()

        def work() -> bytes:
            answer = desk.service.recommend_history(
                asked.history, asked.k, exclude_seen=asked.exclude_seen, search=asked.search, run=asked.run
            )
            return desk.as_json(desk.recommendations(answer, began))

        return Response(await desk.ask(work), media_type="application/json")

    return calls


def _require_within(asked: RecommendIn, most: int, longest: int) -> None:
    """Limits that the schema cannot hold, since they are options of the server."""
    if asked.k > most:
        raise Refusal(422, "bad_k", f"k = {asked.k} is not allowed; 1 to {most} is.")
    if len(asked.history) > longest:
        message = f"a history of {len(asked.history)} items is not allowed; at most {longest} are. Send the newest {longest}."
        raise Refusal(422, "history_too_long", message)
