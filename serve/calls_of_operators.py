"""Calls that change what is served: for who holds the operator's token."""

import asyncio
import tempfile
from pathlib import Path
from typing import Annotated

from fastapi import APIRouter, Depends, Request
from fastapi.responses import Response
from starlette.requests import ClientDisconnect

from .asgi import Refusal, Scope
from .desk import Desk
from .doors import Who
from .limits import check_length, too_large, too_slow
from .schemas import ItemAdded, PathId, Runs
from .statuses import errors

_UPLOADS = "/v1/items/"


def is_upload(scope: Scope) -> bool:
    """A clip that somebody sends: it goes to a file as it comes, not through memory."""
    return scope["method"] == "PUT" and scope["path"].startswith(_UPLOADS)


def _operator(request: Request) -> None:
    if request.scope["state"]["who"] is not Who.OPERATOR:
        message = "this changes what is served, which asks for the operator's token; a server that was started without one refuses all."
        raise Refusal(403, "operator_only", message)


Operator = Annotated[None, Depends(_operator)]


def router(desk: Desk) -> APIRouter:
    """The calls, answered by ``desk``."""
    calls = APIRouter(prefix="/v1", tags=["operators"])

    @calls.post("/reload", response_model=Runs, responses=errors())
    async def reload(_: Operator) -> Response:
        """Open the folders of all runs again. Answers go on meanwhile; each comes from the old model and index or from the new."""
        await desk.change(desk.service.reload)
        return Response(desk.as_json({"runs": desk.runs()}), media_type="application/json")

    @calls.put(
        "/items/{item}",
        response_model=ItemAdded,
        status_code=201,
        responses={200: {"model": ItemAdded}, **errors(408, 409, 413, 507)},
        openapi_extra={
            "requestBody": {"required": True, "content": {"application/octet-stream": {"schema": {"format": "binary", "type": "string"}}}}
        },
    )
    async def put_item(_: Operator, item: PathId, request: Request) -> Response:
        """Add a clip under an id; it can be recommended at once, by what it looks like. The body is the file."""
        add = desk.add
        if add is None:
            raise Refusal(403, "cannot_add", "new clips cannot be added to this server: no run that it serves looks at clips.")
        check_length(request.scope, desk.config.clip_mib * 2**20)
        with tempfile.TemporaryDirectory(prefix="vivim-clip-") as folder:
            path = Path(folder) / "clip"
            await _keep(request, path, desk.config.clip_mib * 2**20, desk.config.clip_seconds)
            replaced = await desk.change(lambda: add(item, path))
        return Response(desk.as_json({"item": item, "replaced": replaced}), 200 if replaced else 201, media_type="application/json")

    return calls


async def _keep(request: Request, path: Path, most_bytes: int, seconds: float) -> None:
    """Write the body of a request to a file, as it comes. It need not outlive us: who keeps it makes a copy that does."""
    size = 0
    try:
        async with asyncio.timeout(seconds):
            with path.open("wb") as file:
                async for part in request.stream():
                    size += len(part)
                    if size > most_bytes:
                        raise too_large(most_bytes)
                    await asyncio.to_thread(file.write, part)
    except TimeoutError:
        raise too_slow(seconds) from None
    except ClientDisconnect:
        raise Refusal(400, "client_left", "the client left before the clip had come.") from None
    if size == 0:
        raise Refusal(422, "no_clip", "the body is empty; send the file of the clip.")
