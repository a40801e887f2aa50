"""Models of histories: the same as slow restatements by loops over places.

Legend: D width, L places of a history.
"""

import math

import pytest
import torch
from torch import nn
from vivim.recommend.config import ModelConfig
from vivim.recommend.models.gru4rec import Gru4RecUserModel
from vivim.recommend.models.nextitnet import NextItNetUserModel
from vivim.recommend.models.sasrec import SasRecUserModel
from vivim.recommend.models.youtube import YoutubeUserModel

D = 6


def normed(norm, vector):
    centred = vector - vector.sum() / len(vector)
    return norm.weight * centred / (centred.square().sum() / len(vector) + norm.eps).sqrt() + norm.bias


def affine(linear, vector):
    found = torch.stack([row @ vector for row in linear.weight])
    return found if linear.bias is None else found + linear.bias


def relu(vector):
    return torch.stack([x if x > 0 else 0 * x for x in vector])


def sigmoid(vector):
    return 1 / (1 + (-vector).exp())


def slow_gru4rec(model, items):
    """Hidasi et al. 2016: update gate z, reset gate r, candidate; here the reset comes after the product, as in cuDNN."""
    outputs = [normed(model.norm_in, item) for item in items]
    for layer in range(model.gru.num_layers):
        w_in, w_own, b_in, b_own = (getattr(model.gru, f"{name}_l{layer}") for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"))
        hidden, inputs, outputs = torch.zeros(D).double(), outputs, []
        for x in inputs:
            of_x, of_h = (w @ v + b for w, v, b in ((w_in, x, b_in), (w_own, hidden, b_own)))
            reset, update = (sigmoid(of_x[g * D : (g + 1) * D] + of_h[g * D : (g + 1) * D]) for g in (0, 1))
            candidate = torch.tanh(of_x[2 * D :] + reset * of_h[2 * D :])
            hidden = (1 - update) * candidate + update * hidden
            outputs.append(hidden)
    return outputs


def slow_nextitnet(model, items):
    """Yuan et al. 2019, residual block (b): two convolutions of kernel 3, the second twice as far; dilations 1, 2 and 4, 8."""

    def convolve(causal, norm, places, dilation):
        weight, bias = causal.conv.weight, causal.conv.bias
        found = []
        for l in range(len(places)):  # noqa: E741
            taps = [(0, l - 2 * dilation), (1, l - dilation), (2, l)]
            total = bias + sum(weight[:, :, tap] @ places[place] for tap, place in taps if place >= 0)
            found.append(relu(normed(norm, total)))
        return found

    places = [normed(model.norm_in, item) for item in items]
    for block, dilation in zip(model.blocks, [1, 4] * (len(model.blocks) // 2), strict=True):
        inner = convolve(block.conv1, block.norm1, places, dilation)
        outer = convolve(block.conv2, block.norm2, inner, 2 * dilation)
        places = [before + after for before, after in zip(places, outer, strict=True)]
    return places


def slow_sasrec(model, items):
    """Kang and McAuley 2018: each place looks at itself and those before it; the norm comes before each part, GELU in the second."""
    places = [normed(model.norm_in, item + position) for item, position in zip(items, model.positions_LD, strict=False)]
    for layer in model.layers:
        heads, size = layer.heads, D // layer.heads
        rows = [affine(layer.qkv, normed(layer.norm1, x)) for x in places]
        attended = []
        for l, x in enumerate(places):  # noqa: E741
            parts = []
            for head in range(heads):
                q, k, v = ([row[part * D + head * size : part * D + (head + 1) * size] for row in rows] for part in range(3))
                weights = [(q[l] @ k[before] / math.sqrt(size)).exp() for before in range(l + 1)]
                parts.append(sum(w * v[before] for before, w in enumerate(weights)) / sum(weights))
            attended.append(x + affine(layer.out, torch.cat(parts)))
        places = []
        for x in attended:
            inner = affine(layer.ffn[0], normed(layer.norm2, x))
            inner = inner * (1 + torch.erf(inner / math.sqrt(2))) / 2
            places.append(x + affine(layer.ffn[3], inner))
    return [normed(model.norm_out, x) for x in places]


def slow_youtube(model, items):
    """Covington et al. 2016: the mean of what was watched through ReLU layers, and a linear one to the user's vector."""
    found = []
    for l in range(len(items)):  # noqa: E741
        x = sum(normed(model.norm_in, item) for item in items[: l + 1]) / (l + 1)
        linears = [part for part in model.tower if isinstance(part, nn.Linear)]
        for linear in linears[:-1]:
            x = relu(affine(linear, x))
        found.append(affine(linears[-1], x))
    return found


MODELS = {
    "gru4rec": (lambda: Gru4RecUserModel(ModelConfig(kind="gru4rec", d_model=D, layers=2)), slow_gru4rec),
    "nextitnet": (lambda: NextItNetUserModel(ModelConfig(kind="nextitnet", d_model=D, layers=2)), slow_nextitnet),
    "sasrec": (lambda: SasRecUserModel(ModelConfig(kind="sasrec", d_model=D, layers=2, heads=2), max_len=40), slow_sasrec),
    "youtube": (lambda: YoutubeUserModel(ModelConfig(kind="youtube", d_model=D, layers=2)), slow_youtube),
}


@pytest.mark.parametrize("name", MODELS)
def test_values_and_every_gradient_equal_loops_over_places(name):
    """40 places: further than any one convolution reaches."""
    make, slow = MODELS[name]
    torch.manual_seed(0)
    model = make().double().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    items = torch.randn(40, D, dtype=torch.float64, requires_grad=True)
    probe = torch.randn(40, D, dtype=torch.float64)
    weights = {"items": items} | dict(model.named_parameters())
    gradients = []
    for found in (model(items[None])[0], torch.stack(slow(model, items))):
        gradients.append((found, torch.autograd.grad((found * probe).sum(), list(weights.values()))))
    (got, got_grads), (want, want_grads) = gradients
    torch.testing.assert_close(got, want)
    for which, one, other in zip(weights, got_grads, want_grads, strict=True):
        torch.testing.assert_close(one, other, msg=lambda text, which=which: f"{which}: {text}")
        assert one.abs().max() > 0, which


def test_the_dilations_of_nextitnet_are_1_2_4_8_and_again():
    model = MODELS["nextitnet"][0]()
    convolutions = [conv.conv for block in model.blocks for conv in (block.conv1, block.conv2)]
    assert [conv.dilation for conv in convolutions] == [(d,) for d in (1, 2, 4, 8)] * 2
    assert {conv.kernel_size for conv in convolutions} == {(3,)}
    assert model.window == 1 + 2 * 2 * (1 + 2 + 4 + 8)
