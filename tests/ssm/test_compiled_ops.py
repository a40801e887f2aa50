"""``torch.compile`` takes a Mamba block whole, and the graph computes what eager mode does."""

import pytest
import torch
from vivim.ssm import FORWARD, REVERSE, VIDEO, MambaBlock, available_backends, time_major
from vivim.ssm.inputs import ScanInputs
from vivim.ssm.native import scan as native_scan

pytestmark = [
    pytest.mark.skipif(available_backends()["native"] != "ok", reason="there is no compiled scan here"),
    # Dynamo's own.
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning"),
]


def tensors_of(parts, seed=0):
    g = torch.Generator().manual_seed(seed)
    batch, length, channels, state, groups = 2, 70, 6, 5, 2
    shapes = {
        "u": (batch, length, channels),
        "delta": (batch, length, channels),
        "A": (channels, state),
        "B": (batch, length, groups, state),
        "C": (batch, length, groups, state),
        "D": (channels,),
        "z": (batch, length, channels),
        "delta_bias": (channels,),
        "initial_state": (batch, channels, state),
    }
    made = {name: torch.randn(*shape, generator=g) for name, shape in shapes.items()}
    made["A"] = -made["A"].abs() - 0.1
    return [made[name].requires_grad_() if name in (*list(shapes)[:5], *parts) else None for name in shapes]


KEEP = torch.ones(2, 70, dtype=torch.bool).index_fill(1, torch.tensor([3, 40]), False)


@pytest.mark.parametrize("parts", [(), ("D", "delta_bias"), ("D", "z", "delta_bias", "initial_state")])
@pytest.mark.parametrize("orders", [(FORWARD,), (REVERSE,), (time_major(7), REVERSE)])
@pytest.mark.parametrize("keep", [None, KEEP])
def test_the_scan_operator_equals_the_function_with_every_gradient(parts, orders, keep):
    from vivim.ssm import compiled_ops

    results = []
    for run in (native_scan.scan, compiled_ops.scan):
        tensors = tensors_of(parts)
        y, last = run(ScanInputs(*tensors, keep, True, orders))
        grads = torch.autograd.grad((y * y).sum() + last.sum(), [t for t in tensors if t is not None])
        results.append([y, last, *grads])
    for want, got in zip(*results, strict=True):
        assert torch.equal(got, want)


def test_without_gradients_nothing_is_kept_for_them():
    from vivim.ssm import compiled_ops

    tensors = tensors_of(("D",))
    with torch.no_grad():
        y, _ = compiled_ops.scan(ScanInputs(*tensors))
        assert torch.ops.vivim.scan(False, *tensors, None, False, [0, 1])[2].numel() == 0
    assert torch.equal(y, native_scan.scan(ScanInputs(*tensors))[0])


@pytest.mark.slow
def test_torch_finds_nothing_wrong_with_the_operators():
    from vivim.ssm import compiled_ops

    g = torch.Generator().manual_seed(0)
    x, weight, bias = (torch.randn(*shape, generator=g).requires_grad_() for shape in ((2, 9, 6), (6, 4), (6,)))
    torch.library.opcheck(compiled_ops._conv, (x, weight, bias, None, True, "reverse", 1))
    torch.library.opcheck(compiled_ops._conv, (x, weight, None, None, False, "forward", 1))
    torch.library.opcheck(compiled_ops._scan, (True, *tensors_of(("D", "delta_bias")), None, True, [0, 1]))
    torch.library.opcheck(compiled_ops._scan, (True, *tensors_of(("D", "z", "initial_state")), KEEP, True, [2, 7, 1, 1]))


@pytest.mark.parametrize("directions", ["causal", "packed", "video"])
@pytest.mark.parametrize("backend", ["aot_eager", pytest.param("inductor", marks=pytest.mark.slow)])
def test_a_block_is_one_graph_and_equals_eager_mode_with_every_gradient(directions, backend):
    torch.manual_seed(0)
    torch.compiler.reset()
    block = MambaBlock(12, directions=VIDEO) if directions == "video" else MambaBlock(12)
    options = {
        "causal": {},
        "packed": {"seq_idx": torch.tensor([0, 0, 0, 1, 1, 2, 3, 3]).expand(2, 8)},
        "video": {"frames": 4},
    }[directions]
    results = []
    for run in (block, torch.compile(block, fullgraph=True, backend=backend, dynamic=False)):
        x = torch.randn(2, 8, 12, generator=torch.Generator().manual_seed(1)).requires_grad_()
        block.zero_grad()
        y = run(x, **options)
        (y * y).sum().backward()
        results.append([y, x.grad, *(p.grad for p in block.parameters())])
    for want, got in zip(*results, strict=True):
        torch.testing.assert_close(got, want, rtol=1e-5, atol=1e-6)


def test_a_graph_of_any_length_calls_the_operators():
    torch.manual_seed(0)
    torch.compiler.reset()
    block = MambaBlock(12)
    compiled = torch.compile(block, fullgraph=True, backend="aot_eager", dynamic=True)
    for length in (8, 9, 70):
        x = torch.randn(2, length, 12)
        torch.testing.assert_close(compiled(x), block(x), rtol=1e-5, atol=1e-6)
    with torch.profiler.profile() as profile:
        compiled(torch.randn(2, 9, 12)).sum().backward()
    assert {"vivim::scan", "vivim::scan_backward", "vivim::conv", "vivim::conv_backward"} <= {event.name for event in profile.events()}
