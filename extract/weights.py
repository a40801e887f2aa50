"""Where an encoder's weights come from, said in words and by hash.

Nothing is ever downloaded, and no pickle is opened: a source is ``random`` or the path of a safetensors file.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from ..errors import InputError
from .vivim import Vivim, VivimConfig


@dataclass(frozen=True)
class WeightsInfo:
    """What the recipe and the summary say of the weights.

    Attributes:
        source: ``random seed 42`` or the file's name.
        sha256: hash over names, shapes and bytes of all tensors.
        words: one plain sentence.
    """

    source: str
    sha256: str
    words: str


def load_encoder(source: str, config: VivimConfig, seed: int) -> tuple[Vivim, WeightsInfo]:
    """An encoder in evaluation mode.

    Args:
        source: ``random``, or the path of a safetensors file with our names.
        config: shapes of the encoder.
        seed: of the random weights.

    Raises:
        InputError: the file is missing, not safetensors, or does not fit the configuration.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        encoder = Vivim(config).eval()
    if source == "random":
        digest = hash_tensors(encoder.state_dict())
        words = f"The encoder's weights are random (seed {seed}): it was never trained, its vectors are random features of the frames."
        return encoder, WeightsInfo(f"random seed {seed}", digest, words)
    tensors = _read(Path(source))
    _refuse_misfits(tensors, encoder.state_dict(), source)
    encoder.load_state_dict(tensors)
    digest = hash_tensors(tensors)
    return encoder, WeightsInfo(Path(source).name, digest, f"The encoder's weights come from {source} (sha256 {digest[:12]}).")


def save_encoder(encoder: Vivim, path: Path) -> None:
    """Write the weights as safetensors, atomically."""
    temporary = path.with_name(path.name + ".tmp")
    save_file({k: v.detach().cpu().contiguous() for k, v in encoder.state_dict().items()}, temporary)
    temporary.replace(path)


def hash_tensors(tensors: dict[str, torch.Tensor]) -> str:
    """sha256 over name, dtype, shape and bytes of every tensor, in the order of the names."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _read(path: Path) -> dict[str, torch.Tensor]:
    if not path.is_file():
        raise InputError(f"weights: no file {path}. Give --weights random, or the path of a safetensors file.")
    if path.suffix != ".safetensors":
        raise InputError(f"weights: {path.name} is not a .safetensors file. Pickled checkpoints can run code and are not opened.")
    try:
        return load_file(path)
    except SafetensorError as error:
        raise InputError(f"weights: {path} is not a readable safetensors file ({error}). Copy or export it again.") from error


def _refuse_misfits(tensors: dict[str, torch.Tensor], wanted: dict[str, torch.Tensor], source: str) -> None:
    problems = [f"{name} is missing" for name in sorted(wanted.keys() - tensors.keys())]
    problems += [f"{name} is not a tensor of this encoder" for name in sorted(tensors.keys() - wanted.keys())]
    for name in sorted(wanted.keys() & tensors.keys()):
        if tensors[name].shape != wanted[name].shape:
            problems.append(f"{name} is {tuple(tensors[name].shape)}, the encoder needs {tuple(wanted[name].shape)}")
        elif tensors[name].is_floating_point() and not torch.isfinite(tensors[name]).all():
            problems.append(f"{name} holds NaN or infinite values")
    if problems:
        shown = "; ".join(problems[:5])
        raise InputError(
            f"weights: {source} does not fit the encoder ({len(problems)} tensors): {shown}. Choose the size the weights were made for."
        )
