"""The Mamba layer against the official one, and ``step`` against the whole sequence."""

import math

import numpy as np
import pytest
import torch
from vivim.ssm import CAUSAL, VIDEO, MambaBlock

OFFICIAL = {"": "", "_b": "_b", "_s": "_s"}


def from_official(sd, d_model, directions):
    """A block holding official tensors (numpy, official names)."""
    block = MambaBlock(d_model, directions=directions)
    block.load_state_dict({k: torch.from_numpy(v) for k, v in official_tensors(sd, len(directions)).items()})
    return block


def official_tensors(sd, walks):
    suffixes = ["", "_b", "_s"][:walks]
    stack = lambda names: np.stack([sd[n] for n in names])  # noqa: E731
    return {
        "in_proj.weight": sd["in_proj.weight"],
        "out_proj.weight": sd["out_proj.weight"],
        "conv_weight": stack([f"conv1d{s}.weight" for s in suffixes])[:, :, 0],
        "conv_bias": stack([f"conv1d{s}.bias" for s in suffixes]),
        "x_proj": stack([f"x_proj{s}.weight" for s in suffixes]),
        "dt_proj": stack([f"dt_proj{s}.weight" for s in suffixes]),
        "dt_bias": stack([f"dt_proj{s}.bias" for s in suffixes]),
        "A_log": stack([f"A{s}_log" for s in suffixes]),
        "D": stack([f"D{s}" for s in suffixes]),
    }


def golden(shared_data, name):
    data = dict(np.load(shared_data.parent / "golden" / name))
    return data, {k[3:]: v for k, v in data.items() if k.startswith("sd.")}


def assert_near(got, want, atol):
    want = torch.as_tensor(want)
    assert float((got.detach() - want).abs().max()) <= atol * float(want.abs().max())


@pytest.mark.parametrize(
    ("name", "directions", "frames"), [("e_mamba1_d16_L12.npz", CAUSAL, None), ("a_mixer_v3_d32_T4_6x5.npz", VIDEO, 4)]
)
def test_equals_the_official_mixer_with_every_gradient(shared_data, name, directions, frames):
    data, sd = golden(shared_data, name)
    block = from_official(sd, data["input"].shape[-1], directions)
    x = torch.from_numpy(data["input"]).requires_grad_()
    y = block(x, frames=frames)
    assert_near(y, data["output"], 2e-5)
    (y * torch.from_numpy(data["probe"])).sum().backward()
    assert_near(x.grad, data["grad_input"], 1e-4)
    grads = official_tensors({k[5:]: v for k, v in data.items() if k.startswith("grad.")}, len(directions))
    for key, want in grads.items():
        assert_near(block.get_parameter(key).grad, want, 1e-4)


def test_steps_equal_the_official_steps(shared_data):
    data, sd = golden(shared_data, "e_mamba1_d16_L12.npz")
    block = from_official(sd, 16, CAUSAL)
    state = block.initial_state(2)
    x = torch.from_numpy(data["input"])
    with torch.no_grad():
        for t in range(12):
            y, state = block.step(x[:, t], state)
            assert_near(y, data["step_outputs"][:, t], 2e-5)
            assert_near(state.ssm_BDN, data["step_ssm_states"][t], 2e-5)
            assert_near(state.conv_BKD.transpose(1, 2), data["step_conv_states"][t][:, :, 1:], 2e-5)


@pytest.mark.parametrize("d_conv", [1, 2, 4])
def test_step_equals_the_whole_sequence(d_conv):
    torch.manual_seed(0)
    block = MambaBlock(24, d_state=8, d_conv=d_conv)
    x = torch.randn(3, 17, 24)
    with torch.no_grad():
        whole = block(x)
        state = block.initial_state(3)
        for t in range(17):
            y, state = block.step(x[:, t], state)
            torch.testing.assert_close(y, whole[:, t], rtol=1e-5, atol=1e-6)
        start, stop, parts = block.initial_state(3), None, []
        for part in x.split([1, 9, 2, 5], dim=1):
            y, stop = block.read(part, stop or start)
            parts.append(y)
        torch.testing.assert_close(torch.cat(parts, 1), whole, rtol=1e-5, atol=1e-6)
        torch.testing.assert_close((stop.conv_BKD, stop.ssm_BDN), (state.conv_BKD, state.ssm_BDN), rtol=1e-5, atol=1e-6)
        assert not start.conv_BKD.any() and not start.ssm_BDN.any(), "the old state is untouched"


def test_the_future_does_not_change_the_past():
    torch.manual_seed(0)
    block = MambaBlock(16)
    x = torch.randn(2, 9, 16)
    changed = x.clone()
    changed[:, 5:] = 7.0
    with torch.no_grad():
        torch.testing.assert_close(block(x)[:, :5], block(changed)[:, :5], rtol=0, atol=0)


def test_packed_rows_equal_separate_rows():
    torch.manual_seed(0)
    block = MambaBlock(16)
    parts = [torch.randn(1, n, 16) for n in (4, 1, 6)]
    seq_idx = torch.repeat_interleave(torch.arange(3), torch.tensor([4, 1, 6]))[None]
    with torch.no_grad():
        packed = block(torch.cat(parts, 1), seq_idx=seq_idx)
        torch.testing.assert_close(packed, torch.cat([block(p) for p in parts], 1))


def test_a_video_block_has_no_step_and_needs_the_frame_count():
    block = MambaBlock(8, directions=VIDEO)
    with pytest.raises(ValueError, match="only a causal block has a step"):
        block.initial_state(1)
    with pytest.raises(ValueError, match="number of frames"):
        block(torch.zeros(1, 6, 8))
    with pytest.raises(ValueError, match="do not divide into 4"):
        block(torch.zeros(1, 6, 8), frames=4)


def test_fresh_step_sizes_lie_between_one_thousandth_and_one_tenth():
    torch.manual_seed(0)
    dt = torch.nn.functional.softplus(MambaBlock(64, directions=VIDEO).dt_bias.detach())
    assert 0.9e-3 <= float(dt.min()) < 2e-3
    assert 0.05 < float(dt.max()) <= 0.101
    official = MambaBlock(64, init="vivim")
    assert math.isclose(float(torch.nn.functional.softplus(official.dt_bias.detach()).mean()), math.log(2), rel_tol=1e-6)
