"""The three callables of ASGI with their types, and how a request is refused (https://asgi.readthedocs.io, version 3)."""

import json
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from dataclasses import dataclass, field
from typing import Any

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]


@dataclass
class Refusal(Exception):
    """A request that is not served.

    Attributes:
        status: of HTTP.
        code: stable name of the reason, for programs.
        message: the reason for people: the value, what is allowed, what to do. No path of this machine.
        headers: that the answer carries.
    """

    status: int
    code: str
    message: str
    headers: Mapping[str, str] = field(default_factory=dict)


def error_body(scope: Scope, code: str, message: str) -> bytes:
    """``{"error": {...}}``, the body of every answer that is an error."""
    return json.dumps({"error": {"code": code, "message": message, "request_id": request_id(scope)}}).encode()


def request_id(scope: Scope) -> str:
    """Of the request, as ``RequestLog`` has given it out; empty without one."""
    return str(scope.get("state", {}).get("request_id", ""))


def header(scope: Scope, name: bytes) -> bytes | None:
    """The first header of that (lower case) name."""
    return next((value for key, value in scope["headers"] if key == name), None)


async def refuse(scope: Scope, send: Send, refusal: Refusal) -> None:
    """Answer with an error."""
    body = error_body(scope, refusal.code, refusal.message)
    headers = {"content-type": "application/json", "content-length": str(len(body)), **refusal.headers}
    pairs = [(key.encode("latin-1"), value.encode("latin-1")) for key, value in headers.items()]
    await send({"type": "http.response.start", "status": refusal.status, "headers": pairs})
    await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})
