"""The compiled scan: the same to the bit for any number of threads and whatever memory held before, and right at every level."""

import contextlib
import ctypes
import importlib.util
import shutil
import sys
from pathlib import Path

import pytest
import torch
from vivim.ssm import FORWARD, REVERSE, Backend, available_backends, time_major
from vivim.ssm.conv import causal_conv1d
from vivim.ssm.native import build, library


def beside(name):
    """The module in the file ``name`` beside this one."""
    spec = importlib.util.spec_from_file_location(Path(name).stem, Path(__file__).with_name(name))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


scan_cases, kept_memory = beside("test_scan.py"), beside("kept_memory.py")

pytestmark = pytest.mark.skipif(available_backends()["native"] != "ok", reason=f"no compiled scan: {available_backends()['native']}")
# Blocks of channels that fill a tree unevenly, chunks that end early, more rows than share a task.
SIZES = [(1, 150, 200, 16, 1), (2, 70, 90, 5, 3), (40, 9, 40, 32, 1)]


def outcome(size, **kwargs):
    """Output, last state and every gradient; then the convolution's."""
    found = scan_cases.run(scan_cases.make(*size, dtype=torch.float32), Backend.NATIVE, **kwargs)
    x = torch.randn(size[0], size[1], size[2], generator=torch.Generator().manual_seed(1)).requires_grad_()
    weight = torch.randn(size[2], 4, generator=torch.Generator().manual_seed(2)).requires_grad_()
    y = causal_conv1d(x, weight, silu=True, backend=Backend.NATIVE)
    return [*found, y.detach(), *torch.autograd.grad((y * y).sum(), [x, weight])]


@pytest.fixture
def threads():
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


@pytest.mark.parametrize("size", SIZES)
def test_any_number_of_threads_gives_the_same_bits(size, threads):
    threads(1)
    want = outcome(size)
    for count in (2, 3, 7):
        threads(count)
        for w, g in zip(want, outcome(size), strict=True):
            assert torch.equal(g, w), count


def test_without_gradients_nothing_is_kept_for_a_backward():
    plain, no_grad, inference, training = kept_memory.counts(Backend.NATIVE)
    assert no_grad == inference == plain < training


@contextlib.contextmanager
def spoiled_memory():
    """New tensors hold NaN, new memory of compiled code numbers of the order of 1e38."""
    libc = ctypes.CDLL(None)
    perturb = -6  # glibc's M_PERTURB
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.utils.deterministic.fill_uninitialized_memory = True
    libc.mallopt(perturb, 1)
    try:
        yield
    finally:
        libc.mallopt(perturb, 0)
        torch.use_deterministic_algorithms(False)


@pytest.mark.skipif(sys.platform != "linux" or not hasattr(ctypes.CDLL(None), "mallopt"), reason="spoils memory through glibc")
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("order", [FORWARD, REVERSE, time_major(1)])
def test_what_memory_held_before_does_not_matter(size, order):
    packed = {"seq_idx": scan_cases.resets(size[0], size[1], 7), "order": order}
    want = outcome(size, **packed)
    with spoiled_memory():
        assert torch.isnan(torch.empty(100)).all()
        got = outcome(size, **packed)
    for w, g in zip(want, got, strict=True):
        assert torch.equal(g, w)


def test_a_sequence_of_nan_does_not_reach_the_next_one_in_its_row():
    t = {k: v.detach() for k, v in scan_cases.make(1, 12, 20, 16, 1, dtype=torch.float32).items()}
    seq_idx = scan_cases.resets(1, 12, 4)
    clean = scan_cases.selective_scan(t["u"], t["delta"], t["A"], t["B"], t["C"], seq_idx=seq_idx, backend=Backend.NATIVE)
    u = t["u"].clone()
    u[0, 2] = torch.nan
    got = scan_cases.selective_scan(u, t["delta"], t["A"], t["B"], t["C"], seq_idx=seq_idx, backend=Backend.NATIVE)
    assert torch.isnan(got[0, 2:4]).all()
    assert torch.equal(got[0, :2], clean[0, :2]) and torch.equal(got[0, 4:], clean[0, 4:])


@pytest.mark.slow
@pytest.mark.skipif(not any(map(shutil.which, ("c++", "g++", "clang++"))), reason="there is no compiler")
@pytest.mark.parametrize("name", list(build.variants()))
def test_every_level_equals_the_reference(name, tmp_path, monkeypatch):
    if name not in library._runnable():
        pytest.skip("this processor cannot run it")
    flags = build.variants()[name]
    build.compile_scan(build.find_compiler(), flags, tmp_path / name, "test")
    built = library._open(tmp_path / name)
    monkeypatch.setattr(library, "load", lambda: built)
    for size in scan_cases.SIZES:
        for kwargs in ({}, {"seq_idx": scan_cases.resets(size[0], size[1], 5), "order": REVERSE}):
            want = scan_cases.run(scan_cases.make(*size), Backend.REFERENCE, **kwargs)
            got = scan_cases.run(scan_cases.make(*size, dtype=torch.float32), Backend.NATIVE, **kwargs)
            for part, w, g in zip(("y", "last", *scan_cases.NAMES), want, got, strict=True):
                assert scan_cases.relative(g, w) < (2e-6 if part == "y" else 5e-6), (size, part)
