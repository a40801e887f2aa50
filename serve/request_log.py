"""A name for each request, a line in the log when it is done: which route, which status, how long. Never what was asked or answered."""

import logging
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass

from .asgi import App, Message, Receive, Scope, Send

LOG = logging.getLogger("vivim.serve")


@dataclass(frozen=True)
class Served:
    """A request that is done.

    Attributes:
        id: its name.
        method: of HTTP.
        route: as the API describes it, ``/v1/users/{user}/history``: ids of people are not logged. ``-``: none.
        status: of the answer; 499: the client left before there was one.
        seconds: from its head to the end of the answer.
    """

    id: str
    method: str
    route: str
    status: int
    seconds: float


class RequestLog:
    """The outermost layer: names requests, hears of every answer."""

    def __init__(self, app: App, tell: Callable[[Served], None]) -> None:
        self.app = app
        self.tell = tell

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        id_ = secrets.token_hex(8)
        scope.setdefault("state", {})["request_id"] = id_
        began = time.perf_counter()
        status = 499

        async def listening(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message = {**message, "headers": [*message.get("headers", []), (b"x-request-id", id_.encode())]}
            await send(message)

        try:
            await self.app(scope, receive, listening)
        finally:
            route = str(getattr(scope.get("route"), "path", "-"))
            self.tell(Served(id_, _method(scope), route, status, time.perf_counter() - began))


def _method(scope: Scope) -> str:
    """One of the usual methods; a client may send any word."""
    method = str(scope["method"])
    return method if method in ("GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH") else "OTHER"


def log_line(served: Served) -> None:
    """The access log."""
    LOG.info("%s %s %s %d %.1f ms", served.id, served.method, served.route, served.status, served.seconds * 1000)
