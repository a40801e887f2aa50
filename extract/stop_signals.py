"""Stopping on request without losing work."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

_STOPPING = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def stop_gently(stop: threading.Event) -> Iterator[None]:
    """Inside, the first SIGINT or SIGTERM sets ``stop``, the second raises KeyboardInterrupt in the main thread."""

    def handle(number: int, frame: FrameType | None) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()

    with _handlers(handle):
        yield


@contextmanager
def stop_on_signals() -> Iterator[None]:
    """Inside, SIGINT and SIGTERM raise KeyboardInterrupt in the main thread. Elsewhere than in the main thread nothing changes."""

    def stop(number: int, frame: FrameType | None) -> NoReturn:
        raise KeyboardInterrupt

    with _handlers(stop):
        yield


@contextmanager
def shielded() -> Iterator[None]:
    """Inside, SIGINT and SIGTERM do nothing: for the seconds in which a file is written."""
    with _handlers(signal.SIG_IGN):
        yield


@contextmanager
def _handlers(handler: "signal._HANDLER") -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, handler) for number in _STOPPING}
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old if old is not None else signal.SIG_DFL)
