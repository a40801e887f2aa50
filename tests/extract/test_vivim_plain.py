"""The plain restatement against the official model's outputs."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch

_spec = importlib.util.spec_from_file_location("plain_vivim", Path(__file__).with_name("plain_vivim.py"))
plain = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(plain)


@pytest.fixture(autouse=True)
def one_thread():
    """Thousands of tiny operations only lose by a second thread."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def golden(shared_data, name):
    """The arrays of a golden file, and the official state dict among them, in double precision."""
    data = {k: torch.from_numpy(v).double() for k, v in np.load(shared_data.parent / "golden" / name).items()}
    return data, {k.removeprefix("sd."): v for k, v in data.items() if k.startswith("sd.")}


def error(got, want):
    """The largest difference, as a part of the largest wanted number."""
    return float((got - want).detach().abs().max() / want.detach().abs().max())


@pytest.mark.shared
def test_the_restatement_equals_the_official_model(shared_data):
    data, tensors = golden(shared_data, "c_encoder_decoder_nano_T4_64.npz")
    levels = plain.plain_features(tensors, data["clip"], heads=(1, 2, 5, 8))
    found = [*levels, *plain.plain_logits(tensors, levels, (64, 64))]
    for name, got in zip(("F1", "F2", "F3", "F4", "logits", "edge_logits"), found, strict=True):
        assert error(got, data[name]) <= 5e-6, name  # measured: 1e-6


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
