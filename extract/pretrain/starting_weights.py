"""What the encoder and its heads begin with; the one place that reads weights for pretraining."""

from dataclasses import replace
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from ...errors import InputError
from ..vivim import Size, Vivim, VivimConfig


def starting_model(source: str, size: Size, seed: int) -> tuple[Vivim, str]:
    """An encoder with decoder and heads, and one sentence on its weights.

    Args:
        source: ``random``, or a safetensors file with our names; it must hold the stages, and may hold decoder and heads.
        size: of the encoder.
        seed: of random weights.

    Raises:
        InputError: the file is missing, not safetensors, or made for another encoder.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = Vivim(replace(VivimConfig.of_size(size), segmentation=True))
    if source == "random":
        return model, f"The weights begin random (seed {seed})."
    given = read_safetensors(Path(source))
    wanted = model.state_dict()
    wrong = [f"{name} is not a tensor of this model" for name in sorted(given.keys() - wanted.keys())]
    wrong += [f"{name} is missing" for name in sorted(wanted.keys() - given.keys()) if name.startswith("stages.")]
    wrong += [
        f"{name} is {tuple(given[name].shape)}, the model needs {tuple(wanted[name].shape)}"
        for name in sorted(wanted.keys() & given.keys())
        if given[name].shape != wanted[name].shape
    ]
    if wrong:
        raise InputError(
            f"weights: {source} does not fit size {size} ({len(wrong)} tensors): {'; '.join(wrong[:3])}. "
            "Choose the size the weights were made for."
        )
    model.load_state_dict(given, strict=False)
    fresh = sorted({name.partition(".")[0] for name in wanted.keys() - given.keys()})
    return model, f"The weights begin as in {source}" + (f"; {', '.join(fresh)} begin random (seed {seed})." if fresh else ".")


def read_safetensors(path: Path) -> dict[str, torch.Tensor]:
    """The tensors of a file.

    Raises:
        InputError: it is missing, of another kind, damaged, or holds NaN or infinite values.
    """
    if path.suffix != ".safetensors":
        raise InputError(f"weights: {path} is not a .safetensors file. Pickled checkpoints can run code and are not opened.")
    if not path.is_file():
        raise InputError(f"weights: no file {path}. Give 'random', or the path of a safetensors file.")
    try:
        tensors = load_file(path)
    except SafetensorError as error:
        raise InputError(f"weights: {path} is not a readable safetensors file ({error}). Copy or export it again.") from error
    bad = [name for name, tensor in tensors.items() if tensor.is_floating_point() and not torch.isfinite(tensor).all()]
    if bad:
        raise InputError(f"weights: {path} holds NaN or infinite values in {', '.join(bad[:3])}. Copy or export it again.")
    return tensors
