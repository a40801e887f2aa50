"""The Triton scan against its definition, in Triton's interpreter on the CPU; and its kernels compiled for GPUs that are not here.

The interpreter must be chosen before triton is imported, so that the comparisons run in a process of their own.
"""

import json
import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
import torch
from vivim.ssm import FORWARD, REVERSE, time_major
from vivim.ssm import mamba_ssm_scan as mamba
from vivim.ssm import triton_scan as triton_backend
from vivim.ssm.inputs import ScanInputs

CPU = torch.device("cpu")
HERE = Path(__file__).parent
ROOT = HERE.parents[1]
KERNELS = {"local_ends", "chain", "outputs", "local_adjoints", "gradients"}


def has_triton():
    try:
        import triton  # noqa: F401
    except Exception:
        return False
    return True


def why_no_interpreter():
    if not has_triton():
        return "triton is not installed: pip install -c constraints.txt triton"
    if version("triton").startswith("3.9."):
        return "the interpreter of triton 3.9 takes masks that were joined with & for int32; 3.6 to 3.8 do not"
    return None


needs_triton = pytest.mark.skipif(why_no_interpreter() is not None, reason=why_no_interpreter() or "")


def in_process(*arguments, **environment):
    """Run one of the scripts beside this file; it must end well."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", *arguments],
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


@needs_triton
def test_every_output_and_gradient_equals_the_reference(tmp_path):
    """The dry run of the GPU check: its small cases, and all that it does after them."""
    in_process(str(ROOT / "benchmarks" / "gpu_check.py"), "--dry-run", "--out", str(tmp_path))
    report = json.loads((tmp_path / "gpu_check_dry_run.json").read_text())
    rows = report["correctness"]["rows"]
    assert report["correctness"]["ok"] and len(rows) == 12 and len(report["correctness"]["convolutions"]) == 5
    assert all(row["errors"].keys() >= {"y", "last", "u", "delta", "A", "B", "C"} for row in rows)
    parts = ("vectors", "losses", "places", "end_to_end", "epochs", "scans", "forecast", "models", "directions", "softmax")
    assert all(report[part] for part in parts)


@needs_triton
def test_without_gradients_nothing_is_kept_for_a_backward():
    told = in_process(str(HERE / "kept_memory.py"), "triton", TRITON_INTERPRET="1").split()
    plain, no_grad, inference, training = map(int, told[-4:])
    assert no_grad == inference == plain < training


@needs_triton
def test_the_kernels_of_a_long_sequence_compile_for_hopper():
    assert kernels_in(in_process(str(HERE / "triton_compile.py"), "90", "quick", TRITON_INTERPRET="0")) == KERNELS


@needs_triton
@pytest.mark.slow
@pytest.mark.parametrize("capability", [80, 90])
def test_every_kernel_compiles_for_gpus(capability):
    assert kernels_in(in_process(str(HERE / "triton_compile.py"), str(capability), TRITON_INTERPRET="0")) == KERNELS


def kernels_in(out):
    return {line.split()[0] for line in out.splitlines()}


def test_a_cpu_is_refused_in_words(monkeypatch):
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    assert "not on cpu" in (triton_backend.why_not(CPU) or "")
    if not has_triton():
        monkeypatch.setenv("TRITON_INTERPRET", "1")
        assert "pip install" in (triton_backend.why_not(CPU) or "")


def test_what_the_kernels_cannot_hold_is_refused_in_words():
    assert "not float64" in (triton_backend.unsupported(torch.zeros(1, 1, 1, dtype=torch.float64), torch.zeros(1, 1)) or "")
    assert "at most 256 states" in (triton_backend.unsupported(torch.zeros(1, 1, 1), torch.zeros(1, 257)) or "")


@pytest.mark.parametrize(
    ("orders", "length", "says"),
    [
        ((time_major(2), time_major(3), FORWARD), 6, r"same number of frames, not \[2, 3\]"),
        ((time_major(4),), 6, "6 tokens do not divide into 4"),
    ],
)
def test_orders_that_do_not_fit_are_refused(orders, length, says):
    u, B = torch.zeros(1, length, 3), torch.zeros(1, length, 3, 2)
    with pytest.raises(ValueError, match=says):
        triton_backend.scan(ScanInputs(u, u, torch.zeros(3, 2), B, B, orders=orders))


@pytest.mark.parametrize(("batch", "length"), [(0, 5), (2, 0)])
def test_nothing_in_gives_nothing_out(batch, length):
    u, B, start = torch.zeros(batch, length, 3), torch.zeros(batch, length, 1, 2), torch.ones(batch, 3, 2)
    y, last = triton_backend.scan(ScanInputs(u, u, torch.zeros(3, 2), B, B, initial_state=start))
    assert y.shape == u.shape
    assert torch.equal(last, start)


@pytest.mark.parametrize(
    ("batch", "length", "channels", "groups", "segments"),
    [(256, 50, 128, 1, 1), (256, 200, 512, 1, 1), (1, 25088, 384, 3, 175), (1, 392, 1024, 1, 6), (1, 63, 24, 1, 1)],
)
def test_long_sequences_of_few_channels_are_cut_until_the_machine_is_full(batch, length, channels, groups, segments):
    plan = triton_backend.Plan.of(batch, length, channels, groups, 16, processors=132)
    assert plan.segments == segments
    assert (plan.segments - 1) * plan.segment_length < length <= plan.segments * plan.segment_length


@pytest.mark.parametrize("what", ["seq_idx", "initial_state"])
def test_what_mamba_ssm_cannot_do_is_refused_by_name(what):
    u, B = torch.zeros(1, 4, 3), torch.zeros(1, 4, 1, 2)
    start = torch.zeros(1, 3, 2) if what == "initial_state" else None
    keep = torch.ones(1, 4) if what == "seq_idx" else None
    with pytest.raises(ValueError, match=f"{what}.*Backend.TRITON"):
        mamba.scan(ScanInputs(u, u, torch.zeros(3, 2), B, B, initial_state=start, keep=keep))


def test_mamba_ssm_is_refused_in_words_where_its_operation_does_not_load():
    reason = mamba.why_not(CPU)
    assert reason is not None
    assert "not on cpu" in reason or "pip install" in reason


@pytest.mark.parametrize("orders", [(FORWARD,), (REVERSE,), (FORWARD, REVERSE, time_major(3))])
def test_mamba_ssm_gets_its_own_layout_and_an_unsupported_gradient_is_an_error(orders, monkeypatch):
    """A stand-in for the compiled operation, by its published meaning, that also checks the layout."""
    from vivim.ssm import Backend, selective_scan

    def stand_in(u, delta, A, B, C, D, z, delta_bias, softplus, return_last_state):
        assert u.shape == (2, 6, 9) and B.shape == (2, 3, 4, 9) and B.stride(-1) == 1
        move = lambda x: x.transpose(1, 2)  # noqa: E731
        y, last = selective_scan(
            move(u), move(delta), A, B.permute(0, 3, 1, 2), C.permute(0, 3, 1, 2), D, move(z), delta_bias, softplus, True,
            backend=Backend.REFERENCE,
        )  # fmt: skip
        return (move(y), last) if return_last_state else move(y)

    monkeypatch.setattr(mamba, "_function", lambda: (stand_in, None))
    g = torch.Generator().manual_seed(0)
    normal = lambda *shape: torch.randn(*shape, generator=g)  # noqa: E731
    u, delta, z = normal(2, 9, 6).requires_grad_(), normal(2, 9, 6), normal(2, 9, 6)
    A, B, C, D, bias = -normal(6, 4).exp(), normal(2, 9, 3, 4), normal(2, 9, 3, 4), normal(6), normal(6)
    inputs = ScanInputs(u, delta, A, B, C, D, z, bias, softplus=True, orders=orders)
    y, last = mamba.scan(inputs)
    want, want_last = selective_scan(u, delta, A, B, C, D, z, bias, True, True, order=orders, backend=Backend.REFERENCE)
    torch.testing.assert_close(y, want)
    torch.testing.assert_close(last, want_last)
    torch.testing.assert_close(mamba.scan(inputs, wants_last=False)[0], want)
    y.sum().backward(retain_graph=True)
    with pytest.raises(ValueError, match="last state has no gradient"):
        last.sum().backward()
