"""Weights from the hub. No network: a folder stands in for the one function that downloads."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from vivim.errors import InputError, MissingExtra
from vivim.extract import hub
from vivim.extract.schemes import NVIDIA_LICENCE
from vivim.extract.vivim import Vivim, VivimConfig
from vivim.extract.weights import load_weights, save_encoder

Folder = Callable[[str, str], Path | None]


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    """What the hub would hand over: the file of that name in ``tmp_path``."""

    def download(repository: str, file: str) -> Path | None:
        path = tmp_path / repository.replace("/", "--") / file
        return path if path.exists() else None

    return download


def repository(tmp_path: Path, name: str) -> Path:
    path = tmp_path / name.replace("/", "--")
    path.mkdir()
    return path


def test_a_repository_is_loaded_and_its_licence_told(tmp_path: Path, folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = Vivim(VivimConfig.of_size("nano"))
    save_encoder(encoder, repository(tmp_path, "nvidia/mit-nano") / "model.safetensors")
    monkeypatch.setattr(hub, "_download", folder)
    vivim = load_weights("hub:nvidia/mit-nano")
    report = vivim.load_report
    for name, tensor in encoder.state_dict().items():
        assert torch.equal(vivim.state_dict()[name], tensor)
    assert report.lines()[-1] == f"  licence: {NVIDIA_LICENCE}"
    assert (report.recipe()["source"], report.recipe()["licence"]) == ("hub:nvidia/mit-nano", NVIDIA_LICENCE)


def test_a_pickled_repository_is_opened_without_running_it(tmp_path: Path, folder: Folder) -> None:
    torch.save({"x": torch.ones(2)}, repository(tmp_path, "someone/model") / "pytorch_model.bin")
    tensors, metadata = hub.fetch("hub:someone/model", folder)
    assert torch.equal(tensors["x"], torch.ones(2))
    assert metadata == {"licence": "see the model card of someone/model on the hub"}


@pytest.mark.parametrize("source", ["hub:", "hub:mit-b3", "hub:/x", "hub:nvidia/", "hub:a/b/c"])
def test_a_name_that_is_none_is_refused(source: str, folder: Folder) -> None:
    with pytest.raises(InputError, match="write hub:OWNER/NAME"):
        hub.fetch(source, folder)


def test_a_repository_without_weights_is_refused(folder: Folder) -> None:
    with pytest.raises(InputError, match=r"has neither model\.safetensors nor pytorch_model\.bin"):
        hub.fetch("hub:nvidia/none", folder)


def test_without_the_package_the_install_command_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(MissingExtra, match=r"reading hub:nvidia/mit-b3 needs huggingface_hub.*pip install 'vivim\[hub\]'"):
        load_weights("hub:nvidia/mit-b3")


def test_a_hub_that_cannot_be_reached_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    huggingface_hub = pytest.importorskip("huggingface_hub", reason="huggingface_hub is not installed (the extra hub)")

    def unreachable(repository: str, file: str) -> str:
        raise huggingface_hub.errors.LocalEntryNotFoundError("no connection")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", unreachable)
    with pytest.raises(InputError, match=r"hub:nvidia/mit-b3 could not be had: no connection.*the network"):
        load_weights("hub:nvidia/mit-b3")
