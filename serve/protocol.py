"""HTTP/1.1 with deadlines: uvicorn's own protocol waits for the head of a request, and for a client that takes nothing, without end."""

import asyncio
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from .http_config import HttpConfig

_FULL = b'{"error": {"code": "overloaded", "message": "too many connections; try again in a second.", "request_id": ""}}'
_JUNK = b'{"error": {"code": "not_http", "message": "what came is not HTTP.", "request_id": ""}}'
_LATE = b'{"error": {"code": "head_too_slow", "message": "the head of the request did not come in time.", "request_id": ""}}'


def timed_protocol(config: HttpConfig) -> type[asyncio.Protocol]:
    """A protocol for uvicorn that keeps the limits of ``config`` on connections, heads of requests, and writing."""

    class TimedProtocol(H11Protocol):
        head_timer: asyncio.TimerHandle | None = None
        stall_timer: asyncio.TimerHandle | None = None
        begun = False

        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            if len(self.connections) > config.connections:
                self._say_goodbye(503, b"Service Unavailable", _FULL, b"retry-after: 1\r\n")
            else:
                self._watch_head()

        def data_received(self, data: bytes) -> None:
            if self.transport.is_closing():
                return
            self.begun = True
            super().data_received(data)
            if not self._answering() and not self._idle():
                self._watch_head()
                return
            self._stop_watching_head()
            if not self._answering() and self.timeout_keep_alive_task is None:  # the rest of a refused body has come
                self.timeout_keep_alive_task = self.loop.call_later(self.timeout_keep_alive, self.timeout_keep_alive_handler)

        def connection_lost(self, exc: Exception | None) -> None:
            self._stop_watching_head()
            self.resume_writing()
            super().connection_lost(exc)

        def pause_writing(self) -> None:
            super().pause_writing()
            if self.stall_timer is None:
                self.stall_timer = self.loop.call_later(config.stall_seconds, self.transport.abort)

        def resume_writing(self) -> None:
            super().resume_writing()
            if self.stall_timer is not None:
                self.stall_timer.cancel()
                self.stall_timer = None

        def send_400_response(self, msg: str) -> None:
            """Bytes came that are no HTTP."""
            if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
                self._say_goodbye(400, b"Bad Request", _JUNK)
            else:  # an answer is on its way already
                self.transport.close()

        def _answering(self) -> bool:
            return self.cycle is not None and not self.cycle.response_complete

        def _idle(self) -> bool:
            """Nothing is on its way: no part of a head, no rest of the body of a request that was refused."""
            return self.conn.their_state is h11.IDLE and not self.conn.trailing_data[0]

        def _watch_head(self) -> None:
            if self.head_timer is None:
                self.head_timer = self.loop.call_later(config.header_seconds, self._head_is_late)

        def _stop_watching_head(self) -> None:
            if self.head_timer is not None:
                self.head_timer.cancel()
                self.head_timer = None

        def _head_is_late(self) -> None:
            self.head_timer = None
            if self.begun and self.conn.our_state is h11.IDLE:
                self._say_goodbye(408, b"Request Timeout", _LATE)
            else:
                self.transport.close()

        def _say_goodbye(self, status: int, reason: bytes, body: bytes, more: bytes = b"") -> None:
            """A last answer, and nothing more is read."""
            head = b"HTTP/1.1 %d %s\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: %d\r\n%s\r\n"
            self.transport.write(head % (status, reason, len(body), more) + body)
            self.transport.close()

    return TimedProtocol
