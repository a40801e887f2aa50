"""The application: every call of the API, with the layers around it that keep its limits."""

import errno
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware

from .. import __version__
from ..errors import VivimError
from . import calls_of_events, calls_of_items, calls_of_lists, calls_of_operators, calls_of_pages
from .asgi import App, Refusal, Scope, error_body, request_id
from .desk import Desk
from .document import Documented
from .doors import SecurityHeaders, Tokens, check_host, check_origin, check_text, check_token
from .limits import Bodies, Checks, Crowd, Rate, check_head
from .request_log import RequestLog, Served, log_line
from .statuses import of_error, words_of

LOG = logging.getLogger("vivim.serve")

DESCRIPTION = (
    "Recommendations from a trained run, a user's state moved forward one event at a time. Every error is "
    '{"error": {"code", "message", "request_id"}}. Ids may hold any character, percent-encoded in addresses.'
)


def create_app(desk: Desk, tokens: Tokens = Tokens()) -> App:  # noqa: B008 - immutable
    """The ASGI application.

    Args:
        desk: the service behind it; closed when the application stops.
        tokens: what is asked of whom.
    """
    config = desk.config
    origins = {origin.lower() for origin in config.allow_origin}
    app: App = _api(desk, tokens)
    app = Crowd(app, config.concurrency, _kind)
    app = Bodies(app, config.body_kib * 1024, config.body_seconds, calls_of_operators.is_upload)
    checks = (
        check_head,
        check_text,
        check_host({name.lower() for name in (*config.hosts, config.host)}),
        check_origin(origins),
        check_token(tokens, Rate(config.rate, config.burst), desk.media.opens),
    )
    app = Checks(app, checks)
    if origins:
        methods, headers = ["GET", "POST", "PUT", "DELETE"], ["authorization", "content-type"]
        app = CORSMiddleware(
            app,
            allow_origins=sorted(origins),
            allow_methods=methods,
            allow_headers=headers,
            expose_headers=["x-request-id", "retry-after"],
        )
    return RequestLog(SecurityHeaders(app), _listener(desk))


def _api(desk: Desk, tokens: Tokens) -> FastAPI:
    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        desk.close()

    app = Documented(
        tokens,
        title="vivim",
        version=__version__,
        description=DESCRIPTION,
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        lifespan=lifespan,
    )
    for calls in (calls_of_events, calls_of_lists, calls_of_items, calls_of_operators):
        app.include_router(calls.router(desk))
    app.include_router(calls_of_pages.router(desk, app))

    async def answer(request: Request, error: Exception) -> Response:
        refusal = _refusal(error)
        if refusal.code in ("refused", "internal", "no_room"):
            LOG.error("%s %s: %s", request_id(request.scope), type(error).__name__, error)
        return Response(error_body(request.scope, refusal.code, refusal.message), refusal.status, dict(refusal.headers), "application/json")

    for kind in (Refusal, VivimError, RequestValidationError, HTTPException, Exception):
        app.add_exception_handler(kind, answer)
    return app


def _refusal(error: Exception) -> Refusal:
    """How an error is told to whoever asked."""
    if isinstance(error, Refusal):
        return error
    if _is_full(error) or _is_full(error.__cause__):
        return Refusal(507, "no_room", "the disk of the server is full; send this again when there is room.")
    if isinstance(error, VivimError):
        return of_error(error)
    if isinstance(error, RequestValidationError):
        malformed = any(problem["type"] == "json_invalid" for problem in error.errors())
        return Refusal(400 if malformed else 422, "malformed_json" if malformed else "invalid_request", words_of(error.errors()))
    if isinstance(error, HTTPException):
        code = {400: "malformed_json", 404: "not_found", 405: "method_not_allowed"}.get(error.status_code, "bad_request")
        return Refusal(error.status_code, code, f"{str(error.detail).lower()}; /docs says what can be asked, and how.", error.headers or {})
    return Refusal(500, "internal", "something went wrong here; the log of the server has this request's id.")


def _is_full(error: BaseException | None) -> bool:
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def _kind(scope: Scope) -> str | None:
    """What a request counts as: paused videos must not keep answers waiting; whether the server lives is always told."""
    if scope["path"] in ("/healthz", "/readyz", "/metrics"):
        return None
    return "media" if scope["path"].startswith("/media/") else "call"


def _listener(desk: Desk) -> Callable[[Served], None]:
    def tell(served: Served) -> None:
        desk.meters.hear(served)
        if desk.config.access_log:
            log_line(served)

    return tell
