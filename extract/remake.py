"""From the recipe of an embedding file back to what makes its vectors: the configuration, the encoder with its weights, the reader."""

import re
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from ..errors import InputError
from ..store import AnyRecipe, Recipe
from .config import ExtractConfig
from .load_report import LoadReport
from .vivim import Vivim, VivimConfig
from .weights import load_weights

RANDOM = "random"


def of_clips(recipe: AnyRecipe, path: Path) -> Recipe:
    """The recipe, if it is one of clips.

    Raises:
        InputError: the vectors of ``path`` were made from something else.
    """
    if not isinstance(recipe, Recipe):
        raise InputError(f"{path} holds vectors made from {recipe.made_from}; only files of vivim extract can be verified.")
    return recipe


def config_of(recipe: AnyRecipe, path: Path) -> ExtractConfig:
    """The configuration that vectors of this recipe are extracted with; what changes no vector has its default.

    Args:
        recipe: of the file.
        path: the file, for messages.

    Raises:
        InputError: the recipe is not one of ``vivim extract``, or of another version of it.
    """
    recipe = of_clips(recipe, path)
    encoder, preprocessing = recipe.encoder, recipe.preprocessing
    if encoder.get("kind") != "vivim":
        raise InputError(f"{path} was made by an encoder of kind {encoder.get('kind')!r}; only files of vivim extract can be verified.")
    size = encoder.get("size")
    values: dict[str, Any] = {
        "encoder": {"size": "auto" if size == "custom" else size, "pooling": encoder.get("pooling")},
        "frames": {key: value for key, value in recipe.frames.items() if key != "seek"},
        "seek": recipe.frames.get("seek", "exact"),
        "strict": recipe.decoder.get("strict", False),
        "image_size": preprocessing.get("image_size"),
        "resize": preprocessing.get("resize"),
        "precision": encoder.get("precision", "32-true"),
        "dtype": recipe.dtype,
        "decoder": recipe.decoder.get("policy"),
    }
    try:
        return ExtractConfig.model_validate(values)
    except ValidationError as error:
        fields = "; ".join(f"{'.'.join(map(str, e['loc']))} = {e['input']!r}: {e['msg']}" for e in error.errors()[:5])
        raise InputError(
            f"{path}: this vivim cannot follow its recipe: {fields}. Use the version that made it ({recipe.created_by})."
        ) from error


def encoder_of(recipe: AnyRecipe, weights: str, path: Path) -> tuple[Vivim, LoadReport]:
    """The encoder of a recipe, in evaluation mode, and where its weights come from.

    Args:
        recipe: of the file.
        weights: where the weights are: ``random`` if the recipe says so, else the path of a safetensors file or ``hub:OWNER/NAME``.
        path: the file, for messages.

    Raises:
        InputError: other weights are needed, or these are not the ones: their tensors have another hash.
    """
    recipe = of_clips(recipe, path)
    source, sha256 = str(recipe.weights.get("source")), str(recipe.weights.get("sha256"))
    config = config_of(recipe, path).encoder
    drawn = re.fullmatch(r"random seed (\d+)", source)
    if drawn:
        if weights != RANDOM:
            raise InputError(
                f"{path} was made with random weights (seed {drawn[1]}), given is {weights}. Leave --weights (extract.encoder.weights) out."
            )
        if config.size == "auto":
            raise InputError(f"{path} says random weights of an encoder without a named size; vivim extract does not make such files.")
        encoder = load_weights(RANDOM, VivimConfig.of_size(config.size, config.pooling), seed=int(drawn[1]))
        report = encoder.load_report
    else:
        if weights == RANDOM:
            raise InputError(f"{path} was made with the weights of {source} (sha256 {sha256[:12]}...); say where they are with --weights.")
        encoder = load_weights(weights, seed=_seed(recipe), pooling=config.pooling, segmentation=False)
        report = encoder.load_report
    if report.sha256 != sha256:
        why = "this version of torch draws other numbers" if drawn else "they are other weights"
        raise InputError(
            f"{path} was made with the weights of {source} (sha256 {sha256[:12]}...); those of {report.source} have the sha256 "
            f"{report.sha256[:12]}...: {why}, and nothing can be compared."
        )
    return encoder, report


def _seed(recipe: Recipe) -> int:
    """Of what a weights file lacked; any if it lacked nothing."""
    found = re.search(r"seed (\d+)$", str(recipe.weights.get("initialised", "")))
    return int(found[1]) if found else 1
