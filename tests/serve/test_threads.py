"""The thread that asks models, and how many cores it uses."""

import gc
import sys

import faiss
import pytest
import torch
from vivim.serve.threads import model_thread, settled


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
