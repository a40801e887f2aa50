"""Mamba-2: the chunked form against the plain recurrence, ``step`` against the whole sequence, packed against separate."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from vivim.ssm import Mamba2Block, MambaBlock, reference
from vivim.ssm.mamba2 import ssd

NAMES = ("u", "dt", "A", "B", "C", "initial")


def make(batch, length, heads, width, state, dtype=torch.float64, dt_scale=1.0, seed=0):
    g = torch.Generator().manual_seed(seed)
    tensors = {
        "u": torch.randn(batch, length, heads, width, generator=g, dtype=torch.float64),
        "dt": torch.rand(batch, length, heads, generator=g, dtype=torch.float64) * dt_scale,
        "A": -torch.rand(heads, generator=g, dtype=torch.float64) * 15 - 1,
        "B": torch.randn(batch, length, state, generator=g, dtype=torch.float64),
        "C": torch.randn(batch, length, state, generator=g, dtype=torch.float64),
        "initial": torch.randn(batch, heads, width, state, generator=g, dtype=torch.float64),
    }
    return {k: v.to(dtype).requires_grad_() for k, v in tensors.items()}


def recurrence(u, dt, A, B, C, *, seq_idx, initial_BHPN):
    """The definition: the selective scan's loop, with the one A of a head written out for each channel and state."""
    batch, _, heads, width = u.shape
    keep = None if seq_idx is None else F.pad(seq_idx[:, 1:] == seq_idx[:, :-1], (1, 0), value=True)
    y, last = reference.scan(
        u.flatten(2)[:, :, None],
        dt[..., None].expand_as(u).flatten(2)[:, :, None],
        A[:, None, None].expand(heads, width, B.shape[-1]).flatten(0, 1)[None],
        B[:, :, None],
        C[:, :, None],
        initial_BHPN.flatten(1, 2)[:, None],
        keep,
    )
    return y.unflatten(3, (heads, width))[:, :, 0], last.reshape(batch, heads, width, -1)


def run(compute, t, seq_idx, **kwargs):
    y, last = compute(*(t[n] for n in NAMES[:5]), seq_idx=seq_idx, initial_BHPN=t["initial"], **kwargs)
    g = torch.Generator().manual_seed(9)
    probes = [torch.randn(x.shape, generator=g, dtype=torch.float64).to(x.dtype) for x in (y, last)]
    grads = torch.autograd.grad((y * probes[0]).sum() + (last * probes[1]).sum(), [t[n] for n in NAMES])
    return [y.detach(), last.detach(), *grads]


def relative(a, b):
    return float((a.double() - b.double()).norm() / b.double().norm().clamp_min(1e-30))


def cuts(batch, length, every):
    return None if every is None else (torch.arange(length) // every).expand(batch, length)


@pytest.mark.parametrize("size", [(2, 1, 3, 5, 1), (2, 7, 1, 4, 8), (1, 63, 3, 2, 16), (3, 130, 2, 5, 4), (2, 50, 2, 8, 64)])
@pytest.mark.parametrize("every", [None, 1, 5, 17])
@pytest.mark.parametrize("chunk", [1, 8, 64])
def test_equals_the_recurrence_in_outputs_state_and_every_gradient(size, every, chunk):
    seq_idx = cuts(size[0], size[1], every)
    want = run(recurrence, make(*size), seq_idx)
    for name, w, got in zip(("y", "last", *NAMES), want, run(ssd, make(*size), seq_idx, chunk=chunk), strict=True):
        assert float((got - w).norm()) <= 1e-11 * max(float(w.norm()), 1.0), name
    single = run(ssd, make(*size, dtype=torch.float32), seq_idx, chunk=chunk)
    for name, w, got in zip(("y", "last", *NAMES), want, single, strict=True):
        # What comes through a decay of almost nothing is compared to what the others are.
        assert float((got.double() - w).norm()) <= (2e-6 if name in ("y", "last") else 5e-6) * max(float(w.norm()), 1e-2), name


def test_large_steps_underflow_without_nan():
    t = make(1, 100, 2, 3, 4, dtype=torch.float32, dt_scale=300.0)
    want = run(recurrence, make(1, 100, 2, 3, 4, dt_scale=300.0), None)
    for w, got in zip(want, run(ssd, t, None), strict=True):
        assert torch.isfinite(got).all()
        assert float((got.double() - w).norm()) <= 5e-6 * max(float(w.norm()), 1e-2)


def test_nothing_in_gives_nothing_out():
    t = make(2, 0, 3, 2, 4)
    y, last = ssd(*(t[n] for n in NAMES[:5]), initial_BHPN=t["initial"])
    assert y.shape == (2, 0, 3, 2)
    assert torch.equal(last, t["initial"])
    assert ssd(*(x[:0] if x.ndim > 1 else x for x in (make(1, 5, 3, 2, 4)[n] for n in NAMES[:5])))[0].shape == (0, 5, 3, 2)


@given(lengths=st.lists(st.integers(1, 9), min_size=1, max_size=6), chunk=st.sampled_from([2, 5, 64]), seed=st.integers(0, 99))
@settings(max_examples=25, deadline=None)
def test_packed_equals_separate(lengths, chunk, seed):
    torch.manual_seed(seed)
    block = Mamba2Block(8, d_state=4, headdim=4, chunk=chunk).double()
    parts = [torch.randn(1, n, 8, dtype=torch.float64) for n in lengths]
    seq_idx = torch.repeat_interleave(torch.arange(len(lengths)), torch.tensor(lengths))[None]
    with torch.no_grad():
        packed = block(torch.cat(parts, 1), seq_idx=seq_idx)
        torch.testing.assert_close(packed, torch.cat([block(p) for p in parts], 1), rtol=0, atol=1e-12)


@pytest.mark.parametrize("d_conv", [1, 2, 4])
def test_step_equals_the_whole_sequence(d_conv):
    torch.manual_seed(0)
    block = Mamba2Block(24, d_state=8, d_conv=d_conv, headdim=16, chunk=8)
    x = torch.randn(3, 17, 24)
    with torch.no_grad():
        whole = block(x)
        state = block.initial_state(3)
        for t in range(17):
            before = [state.conv_BKD.clone(), state.ssm_BDN.clone()]
            y, after = block.step(x[:, t], state)
            torch.testing.assert_close(y, whole[:, t], rtol=1e-5, atol=1e-6)
            assert torch.equal(state.conv_BKD, before[0])
            assert torch.equal(state.ssm_BDN, before[1])
            state = after
        stop, parts = block.initial_state(3), []
        for part in x.split([1, 9, 2, 5], dim=1):
            y, stop = block.read(part, stop)
            parts.append(y)
    torch.testing.assert_close(torch.cat(parts, 1), whole, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close((stop.conv_BKD, stop.ssm_BDN), (state.conv_BKD, state.ssm_BDN), rtol=1e-5, atol=1e-6)
    assert state.ssm_BDN.shape == MambaBlock(24, d_state=8).initial_state(3).ssm_BDN.shape


def test_the_future_does_not_change_the_past():
    torch.manual_seed(0)
    block = Mamba2Block(16, d_state=8, headdim=8, chunk=4)
    x = torch.randn(2, 9, 16)
    changed = x.clone()
    changed[:, 5:] = 7.0
    with torch.no_grad():
        torch.testing.assert_close(block(x)[:, :5], block(changed)[:, :5], rtol=0, atol=0)


def test_fresh_parameters_lie_where_mamba_2_puts_them():
    torch.manual_seed(0)
    block = Mamba2Block(512, headdim=1)
    dt = F.softplus(block.dt_bias.detach())
    assert 0.9e-3 <= float(dt.min()) < 1.2e-3
    assert 0.09 < float(dt.max()) <= 0.101
    assert float(dt.median()) == pytest.approx(0.01, rel=0.2)  # log-uniform
    A = block.A_log.detach().exp()
    assert 1 <= float(A.min()) < 1.1
    assert 15.9 < float(A.max()) <= 16
    assert float(A.mean()) == pytest.approx(8.5, rel=0.05)  # uniform
    assert block.no_weight_decay() <= {name for name, _ in block.named_parameters()}


def test_the_state_is_kept_in_single_precision_under_autocast():
    torch.manual_seed(0)
    block = Mamba2Block(16, d_state=8, headdim=8)
    x = torch.randn(2, 40, 16)
    with torch.autocast("cpu", torch.bfloat16):
        low = block(x)
        _, state = block.step(x[:, 0], block.initial_state(2))
    assert state.ssm_BDN.dtype == torch.float32
    assert relative(low.detach(), block(x).detach()) < 2e-2


def test_a_head_that_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="headdim 64 must divide the inner width expand \\* d_model = 48"):
        Mamba2Block(24)
