"""The encoder against the official model's outputs, and its promises about shapes and time."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from vivim.extract.mit import DropPath
from vivim.extract.schemes import translate
from vivim.extract.temporal import TemporalMambaBlock
from vivim.extract.vivim import Vivim, VivimConfig
from vivim.extract.weights import from_state_dict

OFFICIAL_NANO = VivimConfig(
    channels=(16, 32, 40, 64),
    depths=(1, 2, 1, 1),
    heads=(1, 2, 5, 8),
    decoder_width=32,
    pooling="unified",
    drop_path=0.0,
    segmentation=True,
)


def golden(shared_data, name):
    return {k: torch.from_numpy(v) for k, v in np.load(shared_data.parent / "golden" / name).items()}


def state(data):
    return {k.removeprefix("sd."): v for k, v in data.items() if k.startswith("sd.")}


def assert_near(got, want, tolerance):
    assert float((got.detach() - want).abs().max()) <= tolerance * float(want.abs().max())


def test_every_level_equals_the_official_encoder(shared_data):
    data = golden(shared_data, "c_encoder_decoder_nano_T4_64.npz")
    vivim = from_state_dict(state(data), OFFICIAL_NANO)
    report = vivim.load_report
    with torch.no_grad():
        levels = vivim.forward_features(data["clip"])
        lowres = vivim.mask_head(vivim.decoder(levels))
        logits = vivim.segment(data["clip"])
    for level, name in zip(levels, ("F1", "F2", "F3", "F4"), strict=True):
        assert_near(level, data[name], 1e-4)
    assert_near(lowres, data["logits_lowres"], 1e-4)
    assert_near(logits.mask_BTHW, data["logits"].view(1, 4, 64, 64), 1e-4)
    assert_near(logits.edge_BTHW, data["edge_logits"].view(1, 4, 64, 64), 1e-4)
    assert {drop.what: drop.tensors for drop in report.dropped} == {"stage layer norms": 8, "150-class classifier": 2}
    assert not report.initialised


def test_a_temporal_block_equals_the_official_one_with_gradients(shared_data):
    data = golden(shared_data, "b1_mambalayer_d32_T4_6x5.npz")
    marker = "encoder.downsample_layers.patch_embeddings.0.proj.weight"  # the names of a block alone tell no scheme
    found = translate({f"encoder.stages.0.0.0.{k}": v for k, v in state(data).items()} | {marker: torch.zeros(1)}, "golden")
    assert not found.problems and not found.dropped
    block = TemporalMambaBlock(32, 16, 4, "mamba")
    block.load_state_dict({k.removeprefix("stages.0.temporal.0."): v for k, v in found.ours.items() if "temporal" in k})
    x = data["input"].clone().requires_grad_()
    y = block(x.flatten(2).transpose(1, 2), (4, 6, 5)).transpose(1, 2).unflatten(2, (4, 6, 5))
    assert_near(y, data["output"], 2e-5)
    (y * data["probe"]).sum().backward()
    assert_near(x.grad, data["grad_input"], 1e-4)


def test_the_paper_layout_attends_and_mixes_in_every_block():
    config = VivimConfig(channels=(8, 16, 24, 32), depths=(1, 2, 1, 1), heads=(1, 2, 3, 4), layout="paper", drop_path=0.0)
    stage = Vivim(config).eval().stages[1]
    x = torch.randn(6, 8, 12, 9)
    with torch.no_grad():
        tokens, size = stage.patch_embed(x)
        for block in stage.blocks:
            tokens = tokens + block.attn(block.norm(tokens), size)
            clips = tokens.view(2, 3 * tokens.shape[1], 16)
            clips = clips + block.temporal.mixer(block.temporal.norm1(clips), frames=3)
            clips = clips + block.temporal.ffn(block.temporal.norm2(clips), (3, *size))
            tokens = clips.view(6, -1, 16)
        torch.testing.assert_close(stage(x, 3), tokens.transpose(1, 2).unflatten(2, size))
    assert len(stage.blocks) == 2


@pytest.mark.parametrize("layout", ["official", "paper"])
def test_masks_have_the_size_of_the_frames_and_every_parameter_a_gradient(layout):
    config = VivimConfig(
        channels=(8, 16, 24, 32), depths=(1, 1, 1, 1), heads=(1, 2, 3, 4), decoder_width=16, layout=layout, segmentation=True
    )
    vivim = Vivim(config)
    logits = vivim.segment(torch.randn(2, 3, 3, 40, 64))
    assert logits.mask_BTHW.shape == logits.edge_BTHW.shape == (2, 3, 40, 64)
    (logits.mask_BTHW.square().sum() + logits.edge_BTHW.square().sum()).backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in vivim.parameters())


def test_masks_of_an_encoder_without_heads_are_refused():
    with pytest.raises(ValueError, match="segmentation=True"):
        Vivim(VivimConfig.of_size("nano")).segment(torch.zeros(1, 1, 3, 32, 32))


@pytest.mark.parametrize(("frames", "height", "width"), [(1, 32, 32), (3, 33, 47), (5, 64, 40)])
@pytest.mark.parametrize("pooling", ["levels", "unified"])
def test_any_number_of_frames_and_any_size_from_32(frames, height, width, pooling):
    vivim = Vivim(VivimConfig.of_size("nano", pooling)).eval()
    clip = torch.randn(2, frames, 3, height, width)
    with torch.no_grad():
        levels = vivim.forward_features(clip)
        vectors = vivim.embed(clip)
    for i, level in enumerate(levels):
        halved = [-(-side // (4 * 2**i)) for side in (height, width)]
        assert level.shape == (2 * frames, vivim.config.channels[i], *halved)
    assert vectors.shape == (2, vivim.dim)
    assert torch.isfinite(vectors).all()


def test_a_clip_does_not_see_its_neighbours_in_the_batch():
    vivim = Vivim(VivimConfig.of_size("nano")).eval()
    clips = torch.randn(3, 4, 3, 32, 32)
    with torch.no_grad():
        together = vivim.embed(clips)
        alone = torch.cat([vivim.embed(clip[None]) for clip in clips])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("size", ["nano", "b0"])
def test_a_row_is_the_same_to_a_millionth_of_its_length_in_any_batch(size):
    """On the CPUs this was written on, to the bit; another library of matrix products may sum in another order."""
    vivim = Vivim(VivimConfig.of_size(size)).eval()
    clips = torch.randint(0, 256, (5, 4, 3, 96, 96), dtype=torch.uint8)
    with torch.inference_mode():
        alone = torch.cat([vivim.embed_uint8(clip[None]) for clip in clips])
        for cut in ([5], [2, 3], [4, 1]):
            together = torch.cat([vivim.embed_uint8(part) for part in clips.split(cut)])
            assert float((together - alone).norm(dim=1).max()) <= 1e-6 * float(alone.norm(dim=1).min())


def test_the_order_of_frames_matters():
    vivim = Vivim(VivimConfig.of_size("nano")).eval()
    clip = torch.randn(1, 6, 3, 32, 32)
    with torch.no_grad():
        assert not torch.allclose(vivim.embed(clip), vivim.embed(clip.flip(1)), atol=1e-4)


@pytest.mark.parametrize("shape", [(1, 2, 3, 31, 64), (1, 2, 4, 64, 64), (2, 3, 64, 64)])
def test_a_clip_that_does_not_fit_is_refused(shape):
    with pytest.raises(ValueError, match=r"32 x 32|a clip is"):
        Vivim(VivimConfig.of_size("nano")).forward_features(torch.zeros(shape))


def test_bfloat16_gradients_do_not_depend_on_what_lay_in_memory():
    """A kernel of torch's does (see ``DetailFFN``); here every buffer that is used again holds NaN."""
    config = replace(VivimConfig.of_size("nano"), drop_path=0.0)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        vivim = Vivim(config)
        clip = torch.randn(2, 2, 3, 32, 32)

    def gradients(before):
        for kib in (2**k for k in range(14)):
            spoilt = [torch.full((256 * kib,), before) for _ in range(6)]
            del spoilt
        vivim.zero_grad(set_to_none=True)
        with torch.autocast("cpu", torch.bfloat16):
            vectors = vivim.embed(clip)
        vectors.float().square().sum().backward()
        return {name: parameter.grad.clone() for name, parameter in vivim.named_parameters() if parameter.grad is not None}

    expected = gradients(0.0)
    for _ in range(6):
        assert all(torch.equal(gradient, expected[name]) for name, gradient in gradients(float("nan")).items())


# Encoder parameters in millions: MiT, Temporal Mamba Blocks; without decoder.
@pytest.mark.parametrize(("size", "mit", "mamba"), [("b0", 3.32, 3.30), ("b1", 13.15, 12.28), ("b3", 44.07, 12.28), ("b5", 81.44, 12.28)])
def test_parameter_counts_are_the_published_ones(size, mit, mamba):
    with torch.device("meta"):
        vivim = Vivim(VivimConfig.of_size(size))
    temporal = sum(p.numel() for name, p in vivim.named_parameters() if ".temporal." in name)
    frames = sum(p.numel() for name, p in vivim.named_parameters() if ".temporal." not in name)
    # The published MiT count includes the four stage norms that Vivim never applies.
    assert (frames + 2 * sum(vivim.config.channels)) / 1e6 == pytest.approx(mit, abs=0.006)
    assert temporal / 1e6 == pytest.approx(mamba, abs=0.006)


def test_drop_path_grows_over_the_layers_and_can_be_changed():
    encoder = Vivim(VivimConfig.of_size("b0"))
    rates = [module.rate for module in encoder.modules() if isinstance(module, DropPath)]
    assert rates == pytest.approx([0.1 * layer / 7 for layer in range(8)])
    encoder.set_drop_path(0.35)
    assert [module.rate for module in encoder.modules() if isinstance(module, DropPath)] == pytest.approx([0.05 * k for k in range(8)])
