"""How many cores one answer may use, and how threads share Python."""

import gc
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import faiss
import torch


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


def _use(cores: int) -> None:
    torch.set_num_threads(cores)
    faiss.omp_set_num_threads(cores)
