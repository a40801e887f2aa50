"""The encoder against its plain restatement, where the golden arrays do not reach: sizes, batches, numbers of frames.

The restatement computes in double precision, so that what is measured is the encoder's own rounding. It is itself proved by the
golden arrays of the official model.
"""

import importlib.util
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from vivim.extract.schemes import translate
from vivim.extract.vivim import Vivim
from vivim.extract.weights import from_state_dict

_spec = importlib.util.spec_from_file_location("plain_vivim", Path(__file__).with_name("plain_vivim.py"))
plain = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(plain)

OUTPUTS = ("F1", "F2", "F3", "F4", "mask", "edge")
WALKS = ("", "_b", "_s")
TOLERANCE = 1e-5
GRADIENT_TOLERANCE = 3e-5


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """Thousands of tiny operations only lose by a second thread."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@dataclass(frozen=True)
class Shapes:
    """What decides the tensors of an official model: C, SegFormer layers and heads per stage, Mamba layers in each, decoder width E."""

    channels: tuple[int, ...]
    depths: tuple[int, ...]
    heads: tuple[int, ...]
    mamba_depth: int
    width: int

    def tensors(self) -> dict[str, tuple[int, ...]]:
        """Name -> shape, after section 2 of the description."""
        found: dict[str, tuple[int, ...]] = {}

        def biased(name: str, *shape: int) -> None:
            found[f"{name}.weight"], found[f"{name}.bias"] = shape, shape[:1]

        for i, (C, C_in, sr) in enumerate(zip(self.channels, (3, *self.channels), (8, 4, 2, 1), strict=False)):
            kernel = 3 if i else 7
            biased(f"encoder.downsample_layers.patch_embeddings.{i}.proj", C, C_in, kernel, kernel)
            biased(f"encoder.downsample_layers.patch_embeddings.{i}.layer_norm", C)
            biased(f"encoder.downsample_layers.layer_norm.{i}", C)
            biased(f"decoder.linear_c.{i}.proj", self.width, C)
            for j in range(self.depths[i]):
                layer = f"encoder.downsample_layers.block.{i}.{j}"
                for linear in ("self.query", "self.key", "self.value", "output.dense"):
                    biased(f"{layer}.attention.{linear}", C, C)
                if sr > 1:
                    biased(f"{layer}.attention.self.sr", C, C, sr, sr)
                    biased(f"{layer}.attention.self.layer_norm", C)
                biased(f"{layer}.layer_norm_1", C)
                biased(f"{layer}.layer_norm_2", C)
                biased(f"{layer}.mlp.dense1", 4 * C, C)
                biased(f"{layer}.mlp.dwconv.dwconv", 4 * C, 1, 3, 3)
                biased(f"{layer}.mlp.dense2", C, 4 * C)
            for j in range(self.mamba_depth):
                block, rank = f"encoder.stages.{i}.{j}.0", math.ceil(C / 16)
                biased(f"{block}.norm1", C)
                biased(f"{block}.norm2", C)
                biased(f"{block}.mlp.fc1", 4 * C, C)
                biased(f"{block}.mlp.dwconv.dwconv", 4 * C, 1, 3, 3, 3)
                biased(f"{block}.mlp.fc2", C, 4 * C)
                found |= {f"{block}.mamba.in_proj.weight": (4 * C, C), f"{block}.mamba.out_proj.weight": (C, 2 * C)}
                for walk in WALKS:
                    found |= {f"{block}.mamba.A{walk}_log": (2 * C, 16), f"{block}.mamba.D{walk}": (2 * C,)}
                    found[f"{block}.mamba.x_proj{walk}.weight"] = (rank + 32, 2 * C)
                    biased(f"{block}.mamba.conv1d{walk}", 2 * C, 1, 4)
                    biased(f"{block}.mamba.dt_proj{walk}", 2 * C, rank)
        found["decoder.linear_fuse.weight"] = (self.width, 4 * self.width, 1, 1)
        biased("decoder.batch_norm", self.width)
        found |= {"decoder.batch_norm.running_mean": (self.width,), "decoder.batch_norm.running_var": (self.width,)}
        found["decoder.batch_norm.num_batches_tracked"] = ()
        biased("decoder.classifier", 150, self.width, 1, 1)
        biased("out", 1, self.width, 1, 1)
        biased("edgeocr_cls_head", 1, self.channels[0], 1, 1)
        return found


NANO = Shapes((16, 32, 64, 128), (1, 1, 1, 1), (1, 2, 4, 8), 1, 64)
B0 = Shapes((32, 64, 160, 256), (2, 2, 2, 2), (1, 2, 5, 8), 2, 256)
B3 = Shapes((64, 128, 320, 512), (3, 4, 18, 3), (1, 2, 5, 8), 2, 768)


def draw(name: str, shape: tuple[int, ...]) -> torch.Tensor:
    """A value of one tensor such that it matters: none is trivially 0 or 1, and signals keep their size from layer to layer."""
    x = torch.randn(shape)
    if name.endswith("num_batches_tracked"):
        return torch.tensor(7)
    if name.endswith("_log"):
        return torch.log(torch.arange(1.0, 17)) + 0.3 * x
    if "dt_proj" in name and name.endswith("bias"):
        return x - 2  # steps of .02 to .7: states that forget soon and states that remember the clip
    if name.endswith("running_var"):
        return x.exp()
    if len(shape) > 1:
        return x / math.prod(shape[1:]) ** 0.5
    return 0.3 * x + (name.split(".")[-1] in ("weight", "D", "D_b", "D_s"))


@dataclass(frozen=True)
class Case:
    """Tensors, a batch of two clips, and what the restatement makes of them."""

    shapes: Shapes
    tensors: dict[str, torch.Tensor]
    clip_BTCHW: torch.Tensor
    outputs: tuple[torch.Tensor, ...]

    @classmethod
    def of(cls, shapes: Shapes, size: tuple[int, int], frames: int) -> "Case":
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(frames)
            tensors = {name: draw(name, shape) for name, shape in shapes.tensors().items()}
            clip_BTCHW = torch.randn(2, frames, 3, *size)
        return cls(shapes, tensors, clip_BTCHW, restated(shapes, tensors, clip_BTCHW))


def restated(shapes: Shapes, tensors: dict[str, torch.Tensor], clip_BTCHW: torch.Tensor) -> tuple[torch.Tensor, ...]:
    exact = {name: tensor.double() for name, tensor in tensors.items()}
    levels = plain.plain_features(exact, clip_BTCHW.double(), shapes.heads)
    return (*levels, *plain.plain_logits(exact, levels, clip_BTCHW.shape[3:]))


def encoder(tensors: dict[str, torch.Tensor]) -> Vivim:
    vivim = from_state_dict(tensors, segmentation=True)
    report = vivim.load_report
    assert not vivim.training
    assert not report.initialised
    return vivim


def encoded(vivim: Vivim, clip_BTCHW: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """The outputs of the encoder's public functions, in the shapes of the restatement's."""
    logits = vivim.segment(clip_BTCHW)
    return (*vivim.forward_features(clip_BTCHW), *(x.flatten(0, 1)[:, None] for x in logits))


def error(got: torch.Tensor, want: torch.Tensor) -> float:
    """The largest difference, as a part of the largest wanted number."""
    assert got.shape == want.shape
    return float((got - want).detach().abs().max() / want.detach().abs().max())


def errors(got: Sequence[torch.Tensor], want: Sequence[torch.Tensor]) -> dict[str, float]:
    return dict(zip(OUTPUTS, map(error, got, want), strict=True))


# Every size leaves two keys or more in every stage: with one, attention would be constant and nothing would judge it.
CASES = {
    **{f"nano-{h}x{w}-T{frames}": (NANO, (h, w), frames) for h, w in ((64, 96), (72, 40)) for frames in (1, 2, 3, 8)},
    "nano-75x90-T3": (NANO, (75, 90), 3),
    "b0-40x72-T2": (B0, (40, 72), 2),
}


@pytest.fixture(scope="module")
def small():
    return Case.of(NANO, (72, 64), 2)


@pytest.fixture(scope="module")
def small_encoded(small):
    with torch.no_grad():
        return encoded(encoder(small.tensors), small.clip_BTCHW)


@pytest.mark.parametrize("name", CASES)
def test_levels_and_logits_equal_the_restatement(name):
    case = Case.of(*CASES[name])
    with torch.no_grad():
        found = errors(encoded(encoder(case.tensors), case.clip_BTCHW), case.outputs)
    assert max(found.values()) <= TOLERANCE, found  # measured: 2.3e-6 (F1), 2.0e-6 (edge), 1.4e-6 (the others)


@pytest.mark.parametrize("pooling", ["levels", "unified"])
def test_vectors_equal_the_restatement(small, pooling):
    levels = small.outputs[:4]
    if pooling == "levels":
        means = [level.unflatten(0, (2, -1)).mean((1, 3, 4)) for level in levels]
        plain_scale = {"weight": torch.ones(()), "bias": torch.zeros(())}
        want = torch.cat([plain.layer_norm(plain_scale, mean) for mean in means], 1)
    else:
        unified = plain.plain_decoder({name: tensor.double() for name, tensor in small.tensors.items()}, levels)
        want = unified.unflatten(0, (2, -1)).mean((1, 3, 4))
    vivim = from_state_dict(small.tensors, pooling=pooling)
    with torch.no_grad():
        assert error(vivim.embed(small.clip_BTCHW), want) <= TOLERANCE  # measured: 4e-7


def test_every_gradient_equals_the_restatement(small):
    exact = {name: tensor.double().requires_grad_(tensor.is_floating_point()) for name, tensor in small.tensors.items()}
    exact_clip, clip = small.clip_BTCHW.double().requires_grad_(), small.clip_BTCHW.clone().requires_grad_()
    vivim = encoder(small.tensors)
    generator = torch.Generator().manual_seed(0)
    probes = [torch.randn(x.shape, generator=generator) for x in small.outputs]
    for outputs in (restated(small.shapes, exact, exact_clip), encoded(vivim, clip)):
        torch.autograd.backward([(x * probe).sum() for x, probe in zip(outputs, probes, strict=True)])

    unused = {name for name, tensor in exact.items() if tensor.grad is None}
    assert unused == {n for n in exact if re.search(r"downsample_layers\.layer_norm\.|classifier|num_batches_tracked", n)}
    want = translate({name: tensor.grad for name, tensor in exact.items() if name not in unused}, "the gradients").ours
    assert error(clip.grad, exact_clip.grad) <= GRADIENT_TOLERANCE
    for name, parameter in vivim.named_parameters():
        if name.endswith("attn.k.bias"):  # adds the same to every score of a query, which softmax takes away again
            scale = want[name.replace(".k.", ".q.")].abs().max()
            assert parameter.grad.abs().max() <= GRADIENT_TOLERANCE * scale
            continue
        three_walks = ".mixer." in name and not name.endswith(".weight")
        for got, right in zip(parameter.grad, want[name], strict=True) if three_walks else [(parameter.grad, want[name])]:
            assert right.abs().max() > 0.01, name  # it matters
            assert error(got, right) <= GRADIENT_TOLERANCE, name  # measured: 8.1e-6 (a dt_proj)


def test_the_restatement_takes_every_clip_for_itself(small):
    """Golden arrays of the whole encoder hold one clip; a batch is what each of its clips is alone."""
    alone = [restated(small.shapes, small.tensors, clip[None]) for clip in small.clip_BTCHW]
    for together, *clips in zip(small.outputs, *alone, strict=True):
        assert error(torch.cat(clips), together) <= 1e-12


@pytest.mark.parametrize("walk", WALKS)
def test_a_walk_backwards_would_be_seen(small, small_encoded, monkeypatch, walk):
    walks = plain.walks
    monkeypatch.setattr(plain, "walks", lambda *size: (orders := walks(*size)) | {walk: orders[walk].flip(0)})
    found = errors(small_encoded, restated(small.shapes, small.tensors, small.clip_BTCHW))
    assert min(found.values()) > 100 * TOLERANCE, found


@pytest.mark.parametrize(
    "name",
    [
        "encoder.downsample_layers.patch_embeddings.3.proj.weight",
        "encoder.downsample_layers.block.0.0.attention.self.query.weight",
        "encoder.downsample_layers.block.1.0.attention.self.sr.bias",
        "encoder.downsample_layers.block.2.0.layer_norm_2.bias",
        "encoder.stages.0.0.0.mamba.A_log",
        "encoder.stages.1.0.0.mamba.D_b",
        "encoder.stages.2.0.0.mamba.conv1d_s.bias",
        "encoder.stages.3.0.0.mamba.dt_proj.bias",
        "encoder.stages.3.0.0.mlp.dwconv.dwconv.weight",
        "decoder.batch_norm.running_var",
        "edgeocr_cls_head.bias",
    ],
)
def test_a_parameter_one_percent_off_would_be_seen(small, small_encoded, name):
    off = small.tensors | {name: 1.01 * small.tensors[name]}
    found = errors(small_encoded, restated(small.shapes, off, small.clip_BTCHW))
    assert max(found.values()) > 10 * TOLERANCE, found


def golden(shared_data, name):
    """The arrays of a golden file, and the official state dict among them, in double precision."""
    data = {k: torch.from_numpy(v).double() for k, v in np.load(shared_data.parent / "golden" / name).items()}
    return data, {k.removeprefix("sd."): v for k, v in data.items() if k.startswith("sd.")}


@pytest.mark.shared
def test_the_restatement_equals_the_official_model(shared_data):
    data, tensors = golden(shared_data, "c_encoder_decoder_nano_T4_64.npz")
    levels = plain.plain_features(tensors, data["clip"], heads=(1, 2, 5, 8))
    found = errors(
        [*levels, *plain.plain_logits(tensors, levels, (64, 64))], [data[k] for k in ("F1", "F2", "F3", "F4", "logits", "edge_logits")]
    )
    assert max(found.values()) <= 5e-6, found  # measured: 1e-6, the rounding of the official model


@pytest.mark.shared
def test_the_restated_mixer_equals_the_official_one_with_every_gradient(shared_data):
    data, tensors = golden(shared_data, "a_mixer_v3_d32_T4_6x5.npz")
    x = data["input"].requires_grad_()
    y = plain.mixer({name: tensor.requires_grad_() for name, tensor in tensors.items()}, x, frames=4)
    (y * data["probe"]).sum().backward()
    assert error(y, data["output"]) <= 2e-6  # measured: 3e-7
    assert error(x.grad, data["grad_input"]) <= 2e-6
    for name, tensor in tensors.items():
        assert error(tensor.grad, data[f"grad.{name}"]) <= 2e-6, name  # measured: 4e-7


@pytest.mark.shared
def test_the_drawn_tensors_are_those_of_an_official_model(shared_data):
    lines = (shared_data.parent / "golden" / "vivim_b3_official_state_dict.txt").read_text("utf-8").splitlines()
    official = {name: tuple(map(int, re.findall(r"\d+", shape))) for name, shape, _ in (line.split("\t") for line in lines)}
    assert B3.tensors() == official
