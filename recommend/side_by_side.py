"""Work for all cores of a CPU in a few large parts."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import torch

Result = TypeVar("Result")


def side_by_side(function: Callable[..., Result], calls: Sequence[tuple[Any, ...]]) -> list[Result]:
    """The results of all calls, in their order; each runs on a thread of its own, without gradients, and torch uses no other for it.

    Threads that share every small operation wait for each other at its end; threads with work of their own meet once.
    """
    if len(calls) == 1:
        return [function(*calls[0])]
    threads = torch.get_num_threads()

    def alone(call: tuple[Any, ...]) -> Result:
        torch.set_num_threads(1)  # of this thread; the matrix library's is everybody's, so that it is put back below
        with torch.no_grad():
            return function(*call)

    with ThreadPoolExecutor(len(calls)) as pool:
        try:
            return list(pool.map(alone, calls))
        finally:
            torch.set_num_threads(threads)
