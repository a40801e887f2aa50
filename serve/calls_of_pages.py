"""What is not about people or items: is the server alive, what does it serve, how much has it done; and the page with its files."""

from collections.abc import Awaitable, Callable

from fastapi import APIRouter, FastAPI, Request
from fastapi.responses import Response

from .. import __version__
from .asgi import Refusal
from .desk import Desk
from .metrics import CONTENT_TYPE
from .pages import Asset, describe, page_assets
from .schemas import Ready, Runs, Version
from .statuses import errors


def router(desk: Desk, app: FastAPI) -> APIRouter:
    """The calls, answered by ``desk``."""
    calls = APIRouter(tags=["server"])

    @calls.get("/healthz", response_model=Ready, responses=errors())
    async def healthz() -> Response:
        """The process lives. Asks nothing of the model."""
        return _json(desk, {"ready": desk.opened.is_set()})

    @calls.get("/readyz", response_model=Ready, responses=errors())
    async def readyz() -> Response:
        """Models and indexes are loaded. 503 until then, and while the server stops."""
        if not desk.opened.is_set():
            raise Refusal(503, "not_ready", "models are being loaded; try again in a second.", {"retry-after": "1"})
        return _json(desk, {"ready": True})

    @calls.get("/version", response_model=Version, responses=errors())
    async def version() -> Response:
        """What answers: the program, and the hashes of models and indexes."""
        return _json(desk, {"version": __version__, "runs": desk.runs()})

    @calls.get("/v1/runs", response_model=Runs, responses=errors())
    async def runs() -> Response:
        """The runs that are served. The first one answers who names none."""
        return _json(desk, {"runs": desk.runs()})

    @calls.get("/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}, **errors()})
    async def metrics() -> Response:
        """Counts and times in Prometheus's text format."""
        return Response(await desk.wait(desk.meters.page), media_type=CONTENT_TYPE)

    for path, asset in page_assets().items():
        calls.add_api_route(path, _giving(asset), methods=["GET", "HEAD"], include_in_schema=False)

    # Making the document takes a while the first time, which must not hold up answers.
    @calls.get("/openapi.json", include_in_schema=False)
    async def openapi() -> Response:
        return Response(await desk.wait(lambda: desk.as_json(app.openapi())), media_type="application/json")

    @calls.get("/docs", include_in_schema=False)
    async def docs() -> Response:
        return Response(await desk.wait(lambda: describe(app.openapi())), media_type="text/html; charset=utf-8")

    return calls


def _json(desk: Desk, content: object) -> Response:
    return Response(desk.as_json(content), media_type="application/json")


def _giving(asset: Asset) -> Callable[[Request], Awaitable[Response]]:
    async def give(request: Request) -> Response:
        headers = {"etag": asset.etag, "cache-control": "no-cache"}
        if request.headers.get("if-none-match") == asset.etag:
            return Response(status_code=304, headers=headers)
        return Response(asset.content, headers=headers, media_type=asset.media_type)

    return give
