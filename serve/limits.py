"""How much of a request is taken, and how many at once: ASGI layers around the application."""

import asyncio
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence

from .asgi import App, Message, Receive, Refusal, Scope, Send, header, refuse

MOST_HEADERS = 100
MOST_HEADER_BYTES = 16 * 1024

Check = Callable[[Scope], None]


class Checks:
    """Asks each of ``checks`` about a request's head, before anything of its body is read. A check raises ``Refusal``."""

    def __init__(self, app: App, checks: Sequence[Check]) -> None:
        self.app = app
        self.checks = checks

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            try:
                for check in self.checks:
                    check(scope)
            except Refusal as refusal:
                await refuse(scope, send, refusal)
                return
        await self.app(scope, receive, send)


def check_head(scope: Scope) -> None:
    """Refuse heads that no honest client sends."""
    headers = scope["headers"]
    size = sum(len(key) + len(value) for key, value in headers) + len(scope.get("raw_path", b"")) + len(scope["query_string"])
    if len(headers) > MOST_HEADERS or size > MOST_HEADER_BYTES:
        message = f"the request has {len(headers)} header lines of {size} bytes; at most {MOST_HEADERS} and {MOST_HEADER_BYTES} are read."
        raise Refusal(431, "head_too_large", message)


class Bodies:
    """Reads the body of a request whole before the application sees it, up to a size and within a time.

    Bodies of ``streamed`` requests are handed on as they come; who reads them keeps the limits.
    """

    def __init__(self, app: App, most_bytes: int, seconds: float, streamed: Callable[[Scope], bool]) -> None:
        self.app = app
        self.most_bytes = most_bytes
        self.seconds = seconds
        self.streamed = streamed

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not _has_body(scope) or self.streamed(scope):
            await self.app(scope, receive, send)
            return
        try:
            body = await self._read(scope, receive)
        except Refusal as refusal:
            await refuse(scope, send, refusal)
            return
        if body is not None:
            await self.app(scope, _again(body, receive), send)

    async def _read(self, scope: Scope, receive: Receive) -> bytes | None:
        """The body; None if the client has gone."""
        check_length(scope, self.most_bytes)
        parts: list[bytes] = []
        size = 0
        try:
            async with asyncio.timeout(self.seconds):
                while True:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        return None
                    parts.append(message.get("body", b""))
                    size += len(parts[-1])
                    if size > self.most_bytes:
                        raise too_large(self.most_bytes)
                    if not message.get("more_body", False):
                        return b"".join(parts)
        except TimeoutError:
            raise too_slow(self.seconds) from None


def check_length(scope: Scope, most_bytes: int) -> None:
    """Refuse a body whose announced length is too large, before a byte of it is read."""
    length = header(scope, b"content-length")
    if length is not None and int(length) > most_bytes:  # the server has refused what is not a number
        raise too_large(most_bytes)


def too_large(most_bytes: int) -> Refusal:
    """413. What of the body is still on its way is read and thrown away by the server, for as long as a head may take: a client that
    writes all before it reads would otherwise see a broken connection in the place of the answer."""
    return Refusal(413, "body_too_large", f"the body of this request is larger than {most_bytes} bytes.")


def too_slow(seconds: float) -> Refusal:
    """408."""
    return Refusal(408, "body_too_slow", f"the body of this request did not come within {seconds:g} seconds.", {"connection": "close"})


def _has_body(scope: Scope) -> bool:
    return header(scope, b"content-length") not in (None, b"0") or header(scope, b"transfer-encoding") is not None


def _again(body: bytes, receive: Receive) -> Receive:
    waiting: deque[Message] = deque([{"type": "http.request", "body": body, "more_body": False}])

    async def replay() -> Message:
        return waiting.popleft() if waiting else await receive()

    return replay


class Crowd:
    """Lets so many requests in at once; the others are told to come again. Requests of another kind do not count against these."""

    def __init__(self, app: App, most: int, kind: Callable[[Scope], str | None]) -> None:
        """``kind`` None: always let in."""
        self.app = app
        self.most = most
        self.kind = kind
        self.inside: dict[str, int] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        kind = self.kind(scope) if scope["type"] == "http" else None
        if kind is None:
            await self.app(scope, receive, send)
            return
        if self.inside.get(kind, 0) >= self.most:
            message = f"{self.most} requests are worked on already; try again in a second."
            await refuse(scope, send, Refusal(503, "overloaded", message, {"retry-after": "1"}))
            return
        self.inside[kind] = self.inside.get(kind, 0) + 1
        try:
            await self.app(scope, receive, send)
        finally:
            self.inside[kind] -= 1


class Rate:
    """A bucket of tokens for each key: full with ``burst``, filled again by ``per_second``. The keys used last are kept."""

    def __init__(self, per_second: float, burst: int, *, clock: Callable[[], float] = time.monotonic, most_keys: int = 10_000) -> None:
        self.per_second = per_second
        self.burst = burst
        self.clock = clock
        self.most_keys = most_keys
        self.buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()  # key -> (tokens, when counted)

    def wait_seconds(self, key: str) -> float:
        """Take a token; 0 if there was one, else how long until there is."""
        if not self.per_second:
            return 0.0
        now = self.clock()
        tokens, counted = self.buckets.pop(key, (float(self.burst), now))
        tokens = min(self.burst, tokens + (now - counted) * self.per_second)
        wait = 0.0 if tokens >= 1 else (1 - tokens) / self.per_second
        self.buckets[key] = (tokens if wait else tokens - 1, now)
        if len(self.buckets) > self.most_keys:
            self.buckets.popitem(last=False)
        return wait
