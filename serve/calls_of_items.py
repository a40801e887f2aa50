"""Calls about items: what is near, what is popular, the catalogue; and the files of clips."""

import time
from typing import Annotated

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response

from .calls_of_lists import Run
from .desk import Desk
from .media import answer as file_answer
from .schemas import MOST_ENTRIES, Id, Items, PathId, Recommendations
from .statuses import errors


def router(desk: Desk) -> APIRouter:
    """The calls, answered by ``desk``."""
    calls = APIRouter(tags=["items"])
    some, page = Query(min(10, desk.config.k), ge=1, le=desk.config.k), Query(50, ge=1, le=MOST_ENTRIES)

    @calls.get("/v1/items/{item}/similar", response_model=Recommendations, responses=errors(404))
    async def similar(item: PathId, k: int = some, run: Run = None) -> Response:
        """Items whose vectors are nearest to this one's, by their cosine."""
        began = time.perf_counter()

        def work() -> bytes:
            return desk.as_json(desk.recommendations(desk.service.similar(item, k, run=run), began))

        return Response(await desk.ask(work), media_type="application/json")

    @calls.get("/v1/items", response_model=Items, responses=errors())
    async def items(
        query: Annotated[str, Query(description="Part of a title, or the beginning of an id.")] = "",
        offset: Annotated[int, Query(ge=0, le=2**31)] = 0,
        limit: int = page,
    ) -> Response:
        """A page of the catalogue."""

        def work() -> bytes:
            total, found = desk.service.items(query, offset, limit)
            return desk.as_json({"total": total, "items": [desk.shown(info.item) for info in found]})

        return Response(await desk.wait(work), media_type="application/json")

    @calls.get("/v1/popular", response_model=Recommendations, responses=errors(404))
    async def popular(
        k: int = some, user: Annotated[Id | None, Query(description="Leave out what this user has watched.")] = None, run: Run = None
    ) -> Response:
        """What was watched most in training."""
        began = time.perf_counter()

        def work() -> bytes:
            return desk.as_json(desk.recommendations(desk.service.popular(k, exclude=user, run=run), began, user))

        return Response(await desk.ask(work), media_type="application/json")

    @calls.get(
        "/media/{number}/{kind}",
        response_class=Response,
        responses={
            200: {"content": {"video/mp4": {}, "image/webp": {}}, "description": "The file."},
            206: {"description": "The part that Range asks for."},
            304: {"description": "The file is the one that If-None-Match names."},
            **errors(404, 416),
        },
    )
    async def media(request: Request, number: str, kind: str) -> Response:
        """A clip or a thumbnail, by an address that another call has given."""
        path = await desk.wait(lambda: desk.media.file(number, kind))
        return file_answer(path, request.scope)

    calls.add_api_route("/media/{number}/{kind}", media, methods=["HEAD"], include_in_schema=False)
    return calls
