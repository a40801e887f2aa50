"""How many cores one answer may use."""

from concurrent.futures import ThreadPoolExecutor

import faiss
import torch


def model_thread(cores: int = 1) -> ThreadPoolExecutor:
    """The one thread that asks models.

    Args:
        cores: that torch and FAISS may use at once for it. Threads that share an operation of a tenth of a millisecond wait for each other
            longer than they work, as soon as anything else wants a core: the next request's HTTP, the log of events.
    """
    return ThreadPoolExecutor(1, "model", initializer=_use, initargs=(cores,))


def _use(cores: int) -> None:
    torch.set_num_threads(cores)
    faiss.omp_set_num_threads(cores)
