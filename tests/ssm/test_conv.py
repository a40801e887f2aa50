"""The causal convolution: by hand, against torch's own, and the compiled one against plain torch with every gradient."""

import pytest
import torch
import torch.nn.functional as F
from vivim.ssm import FORWARD, REVERSE, Backend, available_backends, time_major
from vivim.ssm.conv import causal_conv1d, conv_step

BACKENDS = [Backend.TORCH] + ([Backend.NATIVE] if available_backends()["native"] == "ok" else [])


def make(batch, length, channels, taps, dtype=torch.float32):
    g = torch.Generator().manual_seed(0)
    shapes = ((batch, length, channels), (channels, taps), (channels,))
    return [torch.randn(*shape, generator=g, dtype=torch.float64).to(dtype).requires_grad_() for shape in shapes]


def with_gradients(x, weight, bias, **kwargs):
    y = causal_conv1d(x, weight, bias, **kwargs)
    probe = torch.randn(y.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64).to(y.dtype)
    return [y.detach(), *torch.autograd.grad((y * probe).sum(), [x, weight, bias])]


@pytest.mark.parametrize("backend", BACKENDS)
def test_by_hand(backend):
    x = torch.tensor([[[1.0], [2.0], [4.0]]])
    weight = torch.tensor([[10.0, 1.0]])
    bias = torch.tensor([0.5])
    assert causal_conv1d(x, weight, bias, backend=backend).flatten().tolist() == [1.5, 12.5, 24.5]
    assert causal_conv1d(x, weight, bias, order=REVERSE, backend=backend).flatten().tolist() == [21.5, 42.5, 4.5]
    packed = causal_conv1d(x, weight, bias, seq_idx=torch.tensor([[0, 1, 1]]), backend=backend)
    assert packed.flatten().tolist() == [1.5, 2.5, 24.5]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("size", [(2, 9, 5, 4), (1, 3, 20, 4), (3, 1, 16, 2), (2, 33, 40, 1)])
def test_equals_torchs_own_convolution(size, backend):
    x, weight, bias = make(*size)
    taps = size[3]
    want = F.conv1d(F.pad(x.transpose(1, 2), (taps - 1, 0)), weight[:, None], bias, groups=size[2]).transpose(1, 2)
    torch.testing.assert_close(causal_conv1d(x, weight, bias, backend=backend), want, rtol=1e-5, atol=1e-6)


@pytest.mark.skipif(available_backends()["native"] != "ok", reason=f"no compiled library: {available_backends()['native']}")
@pytest.mark.parametrize("size", [(2, 24, 5, 4), (40, 12, 36, 4), (1, 24, 17, 8), (3, 12, 16, 1)])
@pytest.mark.parametrize("silu", [False, True])
@pytest.mark.parametrize("order", [FORWARD, REVERSE, time_major(4)])
@pytest.mark.parametrize("every", [None, 1, 5])
def test_the_compiled_convolution_equals_plain_torch_in_double_with_every_gradient(size, silu, order, every):
    seq_idx = None if every is None else (torch.arange(size[1]) // every).expand(size[0], size[1])
    kwargs = {"silu": silu, "order": order, "seq_idx": seq_idx}
    want = with_gradients(*make(*size, dtype=torch.float64), backend=Backend.TORCH, **kwargs)
    got = with_gradients(*make(*size), backend=Backend.NATIVE, **kwargs)
    for w, g in zip(want, got, strict=True):
        assert float((g - w).norm() / w.norm().clamp_min(1e-30)) < 2e-6


def test_strided_input_is_read_as_it_lies():
    x, weight, bias = make(2, 9, 32, 4)
    half = x[:, :, 16:]
    for backend in BACKENDS:
        got = causal_conv1d(half, weight[16:], bias[16:], backend=backend)
        torch.testing.assert_close(got, causal_conv1d(half.contiguous(), weight[16:].contiguous(), bias[16:], backend=Backend.TORCH))


def test_steps_equal_the_whole():
    x, weight, bias = make(2, 7, 6, 3)
    whole = causal_conv1d(x, weight, bias)
    before = x.new_zeros(2, 2, 6)
    for t in range(7):
        y, before = conv_step(x[:, t], before, weight.T, bias)
        torch.testing.assert_close(y, whole[:, t], rtol=1e-5, atol=1e-6)
