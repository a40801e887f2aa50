"""The scan against its definition: outputs, last state and every gradient, at odd sizes."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from vivim.ssm import FORWARD, REVERSE, Backend, available_backends, selective_scan, time_major

NAMES = ("u", "delta", "A", "B", "C", "D", "z", "delta_bias", "initial_state")
# Backends that compute in single precision here.
SINGLE = [Backend.TORCH] + ([Backend.NATIVE] if available_backends()["native"] == "ok" else [])
SIZES = [
    (2, 1, 5, 1, 1),
    (2, 7, 6, 8, 2),
    (1, 63, 24, 16, 3),
    (3, 128, 5, 4, 1),
    (1, 1000, 4, 16, 1),
    (2, 11, 500, 16, 1),
    (40, 6, 36, 32, 1),
    (2, 70, 70, 3, 1),
    (1, 33, 37, 100, 1),
]


def make(batch, length, channels, state, groups, dtype=torch.float64, scale=1.0, seed=0):
    g = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(*shape, generator=g, dtype=torch.float64)

    tensors = {
        "u": normal(batch, length, channels),
        "delta": normal(batch, length, channels) * scale,
        "A": -torch.rand(channels, state, generator=g, dtype=torch.float64) - 0.1,
        "B": normal(batch, length, groups, state),
        "C": normal(batch, length, groups, state),
        "D": normal(channels),
        "z": normal(batch, length, channels),
        "delta_bias": normal(channels),
        "initial_state": normal(batch, channels, state),
    }
    return {k: v.to(dtype).requires_grad_() for k, v in tensors.items()}


def run(tensors, backend, **kwargs):
    y, last = selective_scan(
        *(tensors[n] for n in NAMES[:5]),
        D=tensors["D"],
        z=tensors["z"],
        delta_bias=tensors["delta_bias"],
        delta_softplus=True,
        return_last_state=True,
        initial_state=tensors["initial_state"],
        backend=backend,
        **kwargs,
    )
    g = torch.Generator().manual_seed(9)
    probe = torch.randn(y.shape, generator=g, dtype=torch.float64).to(y.dtype)
    probe_last = torch.randn(last.shape, generator=g, dtype=torch.float64).to(y.dtype)
    grads = torch.autograd.grad((y * probe).sum() + (last * probe_last).sum(), [tensors[n] for n in NAMES])
    return [y.detach(), last.detach(), *grads]


def relative(a, b):
    return float((a.double() - b.double()).norm() / b.double().norm().clamp_min(1e-30))


def resets(batch, length, every):
    return (torch.arange(length) // every).expand(batch, length)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("case", ["forward", "reverse", "packed", "every-token", "packed-reverse"])
def test_every_backend_equals_the_reference_in_every_output_and_gradient(size, case):
    kwargs = {
        "forward": {},
        "reverse": {"order": REVERSE},
        "packed": {"seq_idx": resets(size[0], size[1], 5)},
        "every-token": {"seq_idx": resets(size[0], size[1], 1)},
        "packed-reverse": {"seq_idx": resets(size[0], size[1], 3), "order": REVERSE},
    }[case]
    want = run(make(*size), Backend.REFERENCE, **kwargs)
    exact = run(make(*size), Backend.TORCH, **kwargs)
    for name, w, e in zip(("y", "last", *NAMES), want, exact, strict=True):
        assert relative(e, w) < 1e-12, name
    for backend in SINGLE:
        single = run(make(*size, dtype=torch.float32), backend, **kwargs)
        for name, w, s in zip(("y", "last", *NAMES), want, single, strict=True):
            assert relative(s, w) < (2e-6 if name == "y" else 5e-6), (backend, name)


@pytest.mark.parametrize("backend", SINGLE)
def test_large_steps_underflow_without_nan(backend):
    tensors = make(1, 200, 4, 16, 1, dtype=torch.float32, scale=200.0)
    want = run(make(1, 200, 4, 16, 1, scale=200.0), Backend.REFERENCE)
    for w, g in zip(want, run(tensors, backend), strict=True):
        assert torch.isfinite(g).all()
        assert relative(g, w) < 1e-5


def test_reference_passes_gradcheck():
    t = make(1, 3, 2, 2, 1)
    args = [t[n] for n in NAMES]

    def f(u, delta, A, B, C, D, z, bias, start):
        return selective_scan(u, delta, A, B, C, D, z, bias, True, True, initial_state=start, backend=Backend.REFERENCE)

    assert torch.autograd.gradcheck(f, args)


@pytest.mark.parametrize("order", [FORWARD, REVERSE, time_major(4)])
@pytest.mark.parametrize("backend", SINGLE)
def test_an_order_is_the_scan_of_reordered_tokens(order, backend):
    t = make(2, 24, 3, 4, 1, dtype=torch.float32)
    y = selective_scan(t["u"], t["delta"], t["A"], t["B"], t["C"], order=order, backend=backend)
    moved = [order.apply(t[n]) for n in ("u", "delta")]
    again = selective_scan(moved[0], moved[1], t["A"], order.apply(t["B"]), order.apply(t["C"]), backend=backend)
    torch.testing.assert_close(order.undo(again), y)


@pytest.mark.parametrize("backend", [Backend.REFERENCE, *SINGLE])
@pytest.mark.parametrize("packed", [False, True])
def test_groups_that_walk_differently_equal_a_scan_each(backend, packed):
    t = make(2, 24, 6, 4, 3, dtype=torch.float32)
    orders = (FORWARD, REVERSE, time_major(4))
    seq_idx = resets(2, 24, 5) if packed else None
    together = run(t, backend, order=orders, seq_idx=seq_idx)
    parts = []
    for g, order in enumerate(orders):
        own = slice(2 * g, 2 * g + 2)
        one = {n: t[n][..., own] for n in ("u", "delta", "D", "z", "delta_bias")}
        one |= {"A": t["A"][own], "initial_state": t["initial_state"][:, own], "B": t["B"][:, :, g], "C": t["C"][:, :, g]}
        parts.append(selective_scan(**one, delta_softplus=True, return_last_state=True, order=order, seq_idx=seq_idx))
    torch.testing.assert_close(together[0], torch.cat([y for y, _ in parts], 2))
    torch.testing.assert_close(together[1], torch.cat([last for _, last in parts], 1))


@pytest.mark.parametrize("backend", [Backend.TORCH, *SINGLE])
def test_gradients_of_groups_that_walk_differently_equal_the_reference(backend):
    orders = (FORWARD, REVERSE, time_major(5))
    options = {"order": orders, "seq_idx": resets(2, 70, 9)}
    want = run(make(2, 70, 9, 5, 3), Backend.REFERENCE, **options)
    for name, w, s in zip(("y", "last", *NAMES), want, run(make(2, 70, 9, 5, 3, dtype=torch.float32), backend, **options), strict=True):
        assert relative(s, w) < 5e-6, name


def test_another_number_of_orders_than_groups_is_refused():
    t = make(1, 6, 3, 2, 3, dtype=torch.float32)
    with pytest.raises(ValueError, match="2 orders do not fit 3 groups"):
        selective_scan(t["u"], t["delta"], t["A"], t["B"], t["C"], order=(FORWARD, REVERSE))


@given(frames=st.integers(1, 6), tokens=st.integers(1, 7))
@settings(max_examples=30, deadline=None)
def test_each_direction_undone_gives_the_input_back(frames, tokens):
    x = torch.arange(frames * tokens * 2.0).view(1, frames * tokens, 2)
    for order in (FORWARD, REVERSE, time_major(frames)):
        assert torch.equal(order.undo(order.apply(x)), x)
    along_time = time_major(frames).apply(x)
    for t in range(frames):
        for n in range(tokens):
            assert torch.equal(along_time[:, n * frames + t], x[:, t * tokens + n])


def test_packed_sequences_equal_separate_ones():
    t = make(1, 12, 3, 4, 1)
    lengths = [5, 4, 3]
    seq_idx = torch.repeat_interleave(torch.arange(3), torch.tensor(lengths))[None]
    packed = selective_scan(t["u"], t["delta"], t["A"], t["B"], t["C"], seq_idx=seq_idx)
    parts = [
        selective_scan(*(x[:, a : a + n] if x.ndim > 2 else x for x in (t["u"], t["delta"], t["A"], t["B"], t["C"])))
        for a, n in zip([0, 5, 9], lengths, strict=True)
    ]
    torch.testing.assert_close(packed, torch.cat(parts, 1))


@pytest.mark.parametrize(("batch", "length"), [(0, 5), (2, 0)])
@pytest.mark.parametrize("backend", [Backend.REFERENCE, *SINGLE])
def test_nothing_in_gives_nothing_out(batch, length, backend):
    t = make(batch, length, 3, 2, 1, dtype=torch.float32)
    y, last = selective_scan(
        t["u"], t["delta"], t["A"], t["B"], t["C"], return_last_state=True, initial_state=t["initial_state"], backend=backend
    )
    assert y.shape == (batch, length, 3)
    assert torch.equal(last, t["initial_state"]) or batch == 0


@pytest.mark.parametrize("backend", [Backend.REFERENCE, *SINGLE])
@pytest.mark.parametrize("softplus", [True, False])
def test_nan_in_delta_reaches_the_output(backend, softplus):
    t = make(1, 9, 3, 2, 1, dtype=torch.float32)
    delta = t["delta"].detach().clone()
    delta[0, 4, 1] = float("nan")
    y = selective_scan(t["u"], delta, t["A"], t["B"], t["C"], delta_softplus=softplus, backend=backend)
    assert not torch.isnan(y[0, :4]).any()
    assert torch.isnan(y[0, 4:, 1]).all()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"delta": torch.zeros(2, 7, 4)}, r"delta must be \(2, 7, 6\)"),
        ({"A": torch.zeros(5, 8)}, r"A must be \(6, N\)"),
        ({"B": torch.zeros(2, 7, 4, 8)}, "G dividing 6 channels"),
        ({"C": torch.zeros(2, 7, 1, 8)}, "C must be"),
        ({"z": torch.zeros(2, 7, 6, dtype=torch.float16)}, "z is torch.float16"),
        ({"u": torch.zeros(7, 6)}, r"u must be \(B, L, D\)"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(change, says):
    t = {k: v.detach().float() for k, v in make(2, 7, 6, 8, 2).items()} | change
    with pytest.raises(ValueError, match=says):
        selective_scan(t["u"], t["delta"], t["A"], t["B"], t["C"], z=t["z"])


def test_bare_scan_equals_the_official_reference(shared_data):
    g = {k: torch.from_numpy(v) for k, v in np.load(shared_data.parent / "golden" / "e2_selective_scan_ref.npz").items()}
    u, delta, z, B, C = (g[k].transpose(-1, -2) for k in ("u", "delta", "z", "B", "C"))
    args = {"D": g["D"], "z": z, "delta_bias": g["delta_bias"], "delta_softplus": True}
    for backend in (Backend.REFERENCE, *SINGLE):
        y, last = selective_scan(u, delta, g["A"], B, C, **args, return_last_state=True, backend=backend)
        assert_near(y.transpose(1, 2), g["out_full"])
        assert_near(last, g["last_state"])
        grouped = (g[k].permute(0, 3, 1, 2) for k in ("B_grouped", "C_grouped"))
        assert_near(selective_scan(u, delta, g["A"], *grouped, **args, backend=backend).transpose(1, 2), g["out_grouped"])


def assert_near(got, want, atol=2e-5):
    assert float((got.detach() - want).abs().max()) <= atol * float(want.abs().max())
