"""Beginning with the weights of another run, as far as they fit: a rung of the ladder starts where the one below ended."""

from collections.abc import Iterator, Mapping

import torch
from torch import nn

from ..errors import InputError
from .checkpoint import RunFolder
from .learner import OverItems


def begin_with(learner: OverItems, run: RunFolder, catalogue_sha256: str) -> Iterator[str]:
    """Take over what has the same name and shape: the user model, projections, and tables of ids where the catalogue is the same.

    Args:
        catalogue_sha256: mapping hash of the items of this one.

    Returns:
        Lines that say what was taken.

    Raises:
        InputError: the run is damaged, or nothing of it fits.
    """
    tensors = run.read_tensors("model.safetensors")
    of_model = {name.removeprefix("model."): tensor for name, tensor in tensors.items() if name.startswith("model.")}
    of_items = run.read_tensors("items.safetensors") if (run.path / "items.safetensors").exists() else {"table": tensors["items"]}
    same_catalogue = run.info().get("catalogue_sha256") == catalogue_sha256
    taken = {
        "user model": _take(learner.model, of_model),
        "item encoder": _take(learner.encoder, of_items if same_catalogue else _without_tables(of_items)),
    }
    if not any(taken.values()):
        raise InputError(f"nothing of the run {run.path} fits this one; give a run with the same model and d_model.")
    for part, count in taken.items():
        total = len((learner.model if part == "user model" else learner.encoder).state_dict())
        yield f"begins with {count} of {total} tensors of the {part} of {run.path}"


def _take(module: nn.Module, tensors: Mapping[str, torch.Tensor]) -> int:
    """How many tensors of a module were replaced. ``content.`` in front of a name is where an id table is beside the content."""
    count = 0
    for name, own in module.state_dict().items():
        for known in (name, name.removeprefix("content."), f"content.{name}"):
            if known in tensors and tensors[known].shape == own.shape:
                with torch.no_grad():
                    own.copy_(tensors[known])
                count += 1
                break
    return count


def _without_tables(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: tensor for name, tensor in tensors.items() if not name.endswith("table")}
