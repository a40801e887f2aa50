"""The thread that asks models, and how many cores it uses."""

import gc
import sys
import threading
from concurrent.futures import Future, ThreadPoolExecutor

import faiss
import pytest
import torch
from vivim.serve.errors import NotReady
from vivim.serve.threads import chained, model_thread, settled


@pytest.mark.parametrize("cores", [1, 2])
def test_torch_and_faiss_use_so_many_cores_there_and_as_many_as_before_here(cores):
    before = torch.get_num_threads(), faiss.omp_get_max_threads()
    with model_thread(cores) as model:
        assert model.submit(torch.get_num_threads).result() == cores
        assert model.submit(faiss.omp_get_max_threads).result() == cores
    assert (torch.get_num_threads(), faiss.omp_get_max_threads()) == before


def test_what_is_loaded_is_not_looked_through_again_while_it_is_served():
    before = sys.getswitchinterval(), gc.get_freeze_count()
    with settled():
        assert gc.get_freeze_count() > 1000
        assert sys.getswitchinterval() == pytest.approx(0.0005)
    assert (sys.getswitchinterval(), gc.get_freeze_count()) == (before[0], 0)


@pytest.fixture
def pool():
    with ThreadPoolExecutor(1, "pool") as pool:
        yield pool


def test_work_that_waits_for_other_work_has_its_result_and_is_done_in_the_pool(pool):
    first = Future()
    last = chained(first, pool, lambda value: (value + 1, threading.current_thread().name))
    assert not last.done()
    first.set_result(41)
    assert last.result(5) == (42, "pool_0")


def test_what_goes_wrong_first_or_last_is_told_to_who_waits(pool):
    first, done = Future(), Future()
    first.set_exception(ValueError("first"))
    with pytest.raises(ValueError, match="first"):
        chained(first, pool, lambda value: value).result(5)
    done.set_result(0)
    with pytest.raises(ZeroDivisionError):
        chained(done, pool, lambda value: 1 // value).result(5)
    pool.shutdown()
    with pytest.raises(NotReady, match="is stopping"):
        chained(done, pool, lambda value: value).result(5)


def test_who_waits_for_a_turn_that_a_closed_pool_has_dropped_is_told(pool):
    hold, first, worked = threading.Event(), Future(), []
    busy = pool.submit(hold.wait, 10)
    last = chained(first, pool, worked.append)
    first.set_result(1)
    pool.shutdown(wait=False, cancel_futures=True)
    with pytest.raises(NotReady, match="is stopping"):
        last.result(5)
    hold.set()
    assert busy.result(5)
    assert worked == []


def test_nothing_is_worked_on_for_who_does_not_wait(pool):
    first, worked = Future(), []
    last = chained(first, pool, worked.append)
    assert last.cancel()
    first.set_result(1)
    pool.shutdown()
    assert worked == []
