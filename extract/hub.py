"""Weights from the Hugging Face hub, for sources that begin with ``hub:`` and for no other."""

from collections.abc import Callable
from pathlib import Path

import torch

from ..errors import InputError, MissingExtra
from .pickles import read_pickle
from .schemes import NVIDIA_LICENCE
from .weight_files import read_safetensors

HUB = "hub:"
_FILES = ("model.safetensors", "pytorch_model.bin")

Download = Callable[[str, str], Path | None]


def fetch(source: str, download: Download | None = None) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """The tensors and the metadata of a repository's weights, from the local cache of the hub if they are there.

    A pickled file is taken where there is no other, and opened as ``pickles`` does.

    Args:
        source: ``hub:OWNER/NAME``.
        download: (repository, file name) -> path, or None if the repository has no such file; None: the hub.

    Raises:
        InputError: a bad name, no such repository, no network.
        MissingExtra: huggingface_hub is not installed.
    """
    repository = source.removeprefix(HUB)
    owner, slash, name = repository.partition("/")
    if not (owner and slash and name) or "/" in name:
        raise InputError(f"weights: {source} names no repository; write hub:OWNER/NAME, as in hub:nvidia/mit-b3.")
    licence = NVIDIA_LICENCE if owner == "nvidia" else f"see the model card of {repository} on the hub"
    for file in _FILES:
        path = (download or _download)(repository, file)
        if path is None:
            continue
        if path.suffix == ".safetensors":
            tensors, metadata = read_safetensors(path)
        else:
            tensors, metadata = read_pickle(path), {}
        return tensors, {"licence": licence} | metadata
    raise InputError(f"weights: {source} has neither {' nor '.join(_FILES)}. Choose another repository, or download its weights yourself.")


def _download(repository: str, file: str) -> Path | None:
    try:
        from huggingface_hub import hf_hub_download
        from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError, LocalEntryNotFoundError
    except ImportError as error:
        raise MissingExtra("huggingface_hub", extra="hub", why=f"reading hub:{repository}") from error
    try:
        return Path(hf_hub_download(repository, file))
    except LocalEntryNotFoundError as error:
        raise _unreachable(repository, error) from error
    except EntryNotFoundError:
        return None
    except (HfHubHTTPError, OSError, ValueError) as error:
        raise _unreachable(repository, error) from error


def _unreachable(repository: str, error: Exception) -> InputError:
    reason = " ".join(str(error).split())[:300]
    return InputError(
        f"weights: hub:{repository} could not be had: {reason} Check the name and the network; or download the file elsewhere and give "
        "its path."
    )
