"""How many cores one answer may use, and how threads share Python."""

import gc
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

import faiss
import torch

from .errors import NotReady

_CLOSED = "the service is stopping; ask again when it is back."

First = TypeVar("First")
Result = TypeVar("Result")


def model_thread(cores: int = 1) -> ThreadPoolExecutor:
    """The one thread that asks models.

    Args:
        cores: that torch and FAISS may use at once for it. Threads that share an operation of a tenth of a millisecond wait for each other
            longer than they work, as soon as anything else wants a core: the next request's HTTP, the log of events.
    """
    return ThreadPoolExecutor(1, "model", initializer=_use, initargs=(cores,))


@contextmanager
def settled() -> Iterator[None]:
    """Entered when everything is loaded, before the first request.

    The catalogue and the interactions stay until the end: looking through them for garbage, again and again, is what answers would wait
    for. And a thread that wants Python's lock has it after half a millisecond at most, not after five: that of the model lets go of the
    lock at every operation of torch, and would wait behind the event loop's work to get it back.
    """
    before = sys.getswitchinterval()
    gc.collect()
    gc.freeze()
    sys.setswitchinterval(0.0005)
    try:
        yield
    finally:
        sys.setswitchinterval(before)
        gc.unfreeze()


def chained(first: "Future[First]", pool: ThreadPoolExecutor, work: Callable[[First], Result]) -> "Future[Result]":
    """What ``work`` makes of the result of ``first``, in a thread of ``pool``. Nothing is worked on if nobody waits for it any more.

    Its errors:
        NotReady: the pool was closed before the turn of ``work`` came.
        whatever ``first`` or ``work`` raises.
    """
    last: Future[Result] = Future()

    def begin(done: "Future[First]") -> None:
        if not last.set_running_or_notify_cancel():
            return
        try:
            value = done.result()
        except BaseException as error:
            last.set_exception(error)
            return
        try:
            pool.submit(finish, value).add_done_callback(end)
        except RuntimeError:  # it is closed
            last.set_exception(NotReady(_CLOSED))

    def finish(value: First) -> None:
        try:
            last.set_result(work(value))
        except BaseException as error:
            last.set_exception(error)

    def end(turn: "Future[None]") -> None:
        if turn.cancelled():  # as the pool was closed: ``finish`` will not be called
            last.set_exception(NotReady(_CLOSED))

    first.add_done_callback(begin)
    return last


def _use(cores: int) -> None:
    torch.set_num_threads(cores)
    faiss.omp_set_num_threads(cores)
