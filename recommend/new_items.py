"""Items that training did not know, placed by what they look like.

Legend: R new items, V numbers that are stored of each, D model width.
"""

import json
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from ..errors import InputError, RecipeMismatch
from ..store import AnyRecipe, differences, read_recipe
from . import build
from .checkpoint import RunFolder
from .config import ItemsConfig, RecommendConfig
from .content import SPANS, CatalogueVectors
from .item_encoders import STANDARDISATION, EncodesNew, Standardisation
from .neighbours import Neighbours

# What tells where equal weights came from, not what they are.
_NAMES = {"weights.source", "weights.scheme", "weights.licence"}


class NewItems:
    """The item encoder of a run, for stored vectors of items outside its catalogue; made by ``NewItems.open``.

    Args:
        encoder: in evaluation mode, or neighbours.
        recipe: of the stored vectors that the run was trained on.
        width: V.
        source: the run, for messages.
    """

    def __init__(self, encoder: EncodesNew, recipe: AnyRecipe, width: int, source: str) -> None:
        self.encoder = encoder
        self.recipe = recipe
        self.width = width
        self.source = source

    @staticmethod
    def open(run: RunFolder) -> "NewItems":
        """What a run left to encode new items with.

        Raises:
            InputError: its items are ids, or its model has no place for a new one; or the run is damaged, or of a version of vivim that
                did not keep what is needed.
        """
        info = run.info()
        config = run.config()
        _require_content(run, config)
        tensors = run.read_tensors("items.safetensors")
        standard = _standardisation(run, tensors)
        width = len(standard.mean_V) * _spans(config.items)
        if build.has_neighbours(config.items):
            return NewItems(_neighbours(run, tensors), _recipe(run, config.items, info), width, str(run.path))
        nothing = CatalogueVectors(
            torch.empty(0, width), torch.empty(0, dtype=torch.bool), "", spans=_spans(config.items), standard=standard
        )
        # Frames that went through the video encoder are stored vectors from here on; whoever has those needs no frames.
        encoder = build.item_encoder(config.items, config.model, 0, nothing)
        _load(encoder, tensors, run)
        return NewItems(cast(EncodesNew, encoder.eval()), _recipe(run, config.items, info), width, str(run.path))

    def check(self, recipe: AnyRecipe, width: int) -> None:
        """Refuse vectors that were made in another way than those the run was trained on.

        Args:
            recipe: of the vectors.
            width: their V.

        Raises:
            RecipeMismatch: with every field that differs. Names of equal weights may differ.
        """
        fields = [f"  {name}: {old} in the run, {new} now" for name, old, new in differences(self.recipe, recipe) if name not in _NAMES]
        if self.recipe.made_from != recipe.made_from:
            fields = [f"  made from: {self.recipe.made_from} in the run, {recipe.made_from} now"]
        if width != self.width:
            fields.append(f"  numbers of an item: {self.width} in the run, {width} now")
        if fields:
            advice = "Make them as the run's were made, or train a run on the new ones."
            raise RecipeMismatch("\n".join([f"{self.source} was trained on vectors of another recipe:", *fields, advice]))

    @torch.inference_mode()
    def encode(self, stored_RV: npt.NDArray[np.floating[Any]]) -> torch.Tensor:
        """(R, D) float32 vectors of the items, by which the run's model reads and scores them.

        Args:
            stored_RV: as an embedding file of the run's recipe has them (``check`` says whether it is).
        """
        stored = torch.from_numpy(np.ascontiguousarray(stored_RV, dtype=np.float32))
        assert stored.ndim == 2 and stored.shape[1] == self.width, (stored.shape, self.width)
        return self.encoder.new(stored)


def _require_content(run: RunFolder, config: RecommendConfig) -> None:
    model, items = config.model.kind, config.items.kind
    if not build.takes_new_items(config.model):
        raise InputError(
            f"{run.path} is a run of {model}, which knows an item by who watched it and has no place for a new one; train a model that "
            "scores by item vectors, such as mamba, with --items frozen."
        )
    if not build.has_content(config.items):
        raise InputError(
            f"the items of {run.path} are ids alone ({items}), which say nothing of a clip that nobody watched; train with --items frozen "
            "or ids+frozen, and new clips can be added."
        )


def _spans(items: ItemsConfig) -> int:
    return SPANS if "adapter" in items.kind else 1


def _standardisation(run: RunFolder, tensors: dict[str, torch.Tensor]) -> Standardisation:
    """As kept beside the weights; end to end they are among them."""
    found = {name.rpartition(".")[2].removeprefix("stored_"): tensor for name, tensor in tensors.items()}
    if not {"mean_V", "std_V"} <= found.keys():
        raise InputError(
            f"{run.path} does not hold how its stored vectors were standardised ({' and '.join(STANDARDISATION)} in items.safetensors): it "
            "is of an earlier version of vivim. Train it again, and new clips can be added."
        )
    return Standardisation(found["mean_V"], found["std_V"])


def _neighbours(run: RunFolder, tensors: dict[str, torch.Tensor]) -> Neighbours:
    try:
        return Neighbours.from_tensors(tensors)
    except KeyError as error:
        raise InputError(
            f"{run.path / 'items.safetensors'} does not hold the neighbours of new items ({error}): it is of an earlier version of vivim; "
            "train it again, and new clips can be added."
        ) from error


def _load(encoder: nn.Module, tensors: dict[str, torch.Tensor], run: RunFolder) -> None:
    """Everything but what belongs to single items of the catalogue."""
    wanted = {name for name in encoder.state_dict() if not name.endswith("table")}
    try:
        encoder.load_state_dict({name: tensors[name] for name in wanted}, strict=False)
    except (KeyError, RuntimeError) as error:
        raise InputError(f"{run.path / 'items.safetensors'} does not fit the run's configuration: {error}; train the run again.") from error


def _recipe(run: RunFolder, items: ItemsConfig, info: dict[str, Any]) -> AnyRecipe:
    if build.needs_frames(items):
        from .end_to_end import trained_recipe

        return trained_recipe(run)
    made = (info.get("embeddings") or {}).get("recipe")
    if made is None:
        raise InputError(f"{run.path} does not say how its item vectors were made: it is of an earlier version of vivim; train it again.")
    return read_recipe(json.dumps(made))
