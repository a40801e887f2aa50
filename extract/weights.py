"""Weights for the encoder: from the seed, from a safetensors file under any known names, or from the hub when asked for.

No pickle is opened here, see ``pickles``; nothing is downloaded unless the source begins with ``hub:``, see ``hub``.
"""

import math
import os
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from ..errors import InputError
from ..store.tensor_files import hash_tensors
from .config import EncoderConfig, PoolingName
from .hub import HUB, fetch
from .load_report import Dropped, LoadReport, part_of
from .schemes import STATE, Translation, translate
from .shapes import config_of, describe
from .vivim import Vivim, VivimConfig
from .weight_files import read_safetensors, unpack, write_safetensors

_PROBLEMS_SHOWN = 5
_OF_A_RUN = "encoder.safetensors"
_HEADS = re.compile(r"[1-9][0-9]{0,5}(,[1-9][0-9]{0,5}){3}")


def load_weights(
    source: str,
    config: VivimConfig | None = None,
    *,
    seed: int = 1,
    pooling: PoolingName = "levels",
    segmentation: bool | None = None,
    heads: tuple[int, ...] | None = None,
) -> Vivim:
    """An encoder in evaluation mode; its ``load_report`` says where its weights come from.

    Args:
        source: ``random``, the path of a safetensors file, the folder of a run that trained an encoder, or ``hub:OWNER/NAME``.
        config: the encoder wanted, which the file must fit; None: the one the file is of (``random``: b0). The epsilon of the norms
            is the file's in either case, where it is known.
        seed: of random weights, and of what a file lacks and may lack.
        pooling: with ``config=None``; see ``VivimConfig``.
        segmentation: with ``config=None``; with mask and edge heads. None: where the file has a mask head.
        heads: with ``config=None``; attention heads per stage, where the channels are not those of a named size.

    Raises:
        InputError: the file is missing, not safetensors, of no known scheme, or does not fit; the message names the tensors.
        MissingExtra: a hub source, and huggingface_hub is not installed.
    """
    if source == "random":
        return _random(config or replace(VivimConfig.of_size("b0", pooling), segmentation=bool(segmentation)), seed)
    if not source.strip() or "://" in source:
        named = f"{source} is an address, and only hub:OWNER/NAME is downloaded" if source.strip() else "the name is empty"
        raise InputError(f"weights: {named}. Give random, or the path of a .safetensors file.")
    if source.startswith(HUB):
        tensors, metadata = fetch(source)
        name = source
    else:
        path = Path(source)
        if os.path.isfile(path / _OF_A_RUN):
            path = path / _OF_A_RUN
        tensors, metadata = read_safetensors(path)
        name = path.name
    return from_state_dict(
        tensors, config, seed=seed, pooling=pooling, segmentation=segmentation, heads=heads, source=name, metadata=metadata
    )


def from_state_dict(
    tensors: Mapping[str, Any],
    config: VivimConfig | None = None,
    *,
    seed: int = 1,
    pooling: PoolingName = "levels",
    segmentation: bool | None = None,
    heads: tuple[int, ...] | None = None,
    source: str = "the state dict",
    metadata: Mapping[str, str] | None = None,
) -> Vivim:
    """An encoder in evaluation mode from tensors at hand, with its ``load_report``.

    Args:
        tensors: name -> tensor, under the names of any scheme; a container such as ``{"state_dict": ...}`` is opened.
        source: what messages and the report call them.
        metadata: of the safetensors file they come from, as ``save_encoder`` writes it.
        config, seed, pooling, segmentation, heads: as ``load_weights``.

    Raises:
        InputError: no known scheme, or a tensor is missing, too many, of another shape or kind, or not finite.
    """
    metadata = metadata or {}
    found = translate(unpack(tensors), source)
    known_eps = _norm_eps(found, metadata, source)
    known_heads = _heads(metadata, source)
    if config is None:
        if segmentation is None:
            segmentation = "mask_head.weight" in found.ours
        eps, heads = known_eps or 1e-5, heads or known_heads
        config = config_of(found.ours, source, pooling=pooling, segmentation=segmentation, norm_eps=eps, heads=heads)
    else:
        if known_heads not in (None, config.heads):
            found.problems.append(f"it was made with {known_heads} attention heads, asked for are {config.heads}")
        config = replace(config, norm_eps=known_eps or config.norm_eps)
    with torch.device("meta"):
        wanted = Vivim(config).state_dict()
    absent = _may_be_absent(found, wanted, config)
    unused = _drop_unused(found, wanted, config)
    problems = [*found.problems, *_misfits(found, wanted, absent)]
    if problems:
        raise InputError(_refusal(problems, found, config, source))
    encoder = Vivim.empty(config)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        encoder.draw(absent)
    encoder.load_state_dict(found.ours, strict=False)
    encoder.load_report = LoadReport(
        source=source,
        sha256=hash_tensors(encoder.state_dict()),
        size=config.size,
        scheme=found.scheme.name,
        scheme_words=found.scheme.words,
        norm_eps=config.norm_eps,
        seed=seed if absent else None,
        loaded=dict(Counter(part_of(name) for name in wanted if name not in absent)),
        initialised=dict(Counter(part_of(name) for name in wanted if name in absent)),
        dropped=tuple(Dropped(what, why, len(names)) for (what, why), names in (found.dropped | unused).items()),
        licence=metadata.get("licence", found.scheme.licence),
    )
    return encoder


def make_encoder(options: EncoderConfig, seed: int) -> Vivim:
    """The encoder that a configuration asks for; errors as ``load_weights``."""
    config = None if options.size == "auto" else VivimConfig.of_size(options.size, options.pooling)
    return load_weights(options.weights, config, seed=seed, pooling=options.pooling, segmentation=False)


def save_encoder(encoder: Vivim, path: Path, licence: str | None = None, *, stages_only: bool = False) -> None:
    """Write the weights as safetensors, atomically, and beside them what no shape tells: heads, epsilon, licence if known.

    Args:
        licence: of the weights it began with, which binds what was made of them too.
        stages_only: without decoder and heads: all that makes vectors.
    """
    metadata = {"format": "pt", "scheme": "vivim", "norm_eps": repr(encoder.config.norm_eps)}
    metadata["heads"] = ",".join(map(str, encoder.config.heads))
    tensors = {name: tensor for name, tensor in encoder.state_dict().items() if not stages_only or name.startswith("stages.")}
    write_safetensors(tensors, path, metadata | ({"licence": licence} if licence else {}))


def _random(config: VivimConfig, seed: int) -> Vivim:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        encoder = Vivim(config).eval()
    tensors = encoder.state_dict()
    encoder.load_report = LoadReport(
        source=f"random seed {seed}",
        sha256=hash_tensors(tensors),
        size=config.size,
        scheme="random",
        scheme_words="random",
        norm_eps=config.norm_eps,
        seed=seed,
        initialised=dict(Counter(map(part_of, tensors))),
    )
    return encoder


def _norm_eps(found: Translation, metadata: Mapping[str, str], source: str) -> float | None:
    if found.scheme.norm_eps is not None:
        return found.scheme.norm_eps
    if "norm_eps" not in metadata:
        return None
    try:
        eps = float(metadata["norm_eps"])
    except ValueError:
        eps = math.nan
    if not 0 < eps < math.inf:
        raise InputError(f"weights: {source} says norm_eps {metadata['norm_eps']!r}; a number above 0 is needed. Export it again.")
    return eps


def _heads(metadata: Mapping[str, str], source: str) -> tuple[int, ...] | None:
    text = metadata.get("heads", "")
    if not text:
        return None
    if not _HEADS.fullmatch(text):
        raise InputError(f"weights: {source} says heads {text[:50]!r}; four numbers are needed. Export it again.")
    return tuple(map(int, text.split(",")))


def _may_be_absent(found: Translation, wanted: Mapping[str, torch.Tensor], config: VivimConfig) -> set[str]:
    """Names of whole parts that the file lacks and that are drawn from the seed: blocks over time, which no image model has, and
    what is there to be trained for masks."""
    parts = ["Temporal Mamba Blocks"] if config.layout == "official" else []
    parts += ["decoder", "mask head", "edge head"] if config.segmentation else []
    missing = [part for part in parts if part not in set(map(part_of, found.ours))]
    return {name for name in wanted if part_of(name) in missing}


def _drop_unused(found: Translation, wanted: Mapping[str, torch.Tensor], config: VivimConfig) -> dict[tuple[str, str], list[str]]:
    """Decoder and heads of a file that an encoder for vectors has no use for."""
    why = {
        "decoder": f"pooling {config.pooling} does not use it",
        "mask head": "vectors need no masks",
        "edge head": "vectors need no edges",
    }
    unused: dict[tuple[str, str], list[str]] = {}
    have = set(map(part_of, wanted))
    for name in found.ours:
        part = part_of(name)
        if part in why and part not in have:
            unused.setdefault((part, why[part]), []).append(name)
    for names in unused.values():
        for name in names:
            del found.ours[name]
    return unused


def _misfits(found: Translation, wanted: Mapping[str, torch.Tensor], absent: set[str]) -> list[str]:
    problems = [f"{name} is missing" for name in wanted if name not in found.ours and name not in absent]
    for name, tensor in found.ours.items():
        called = " + ".join(found.origins[name])
        if name not in wanted:
            problems.append(f"{called} is not a tensor of this encoder")
        elif tensor.shape != wanted[name].shape:
            problems.append(f"{called} is {tuple(tensor.shape)}, the encoder needs {tuple(wanted[name].shape)}")
        elif tensor.is_floating_point() != wanted[name].is_floating_point():
            problems.append(f"{called} is {tensor.dtype}, the encoder needs {wanted[name].dtype}")
        elif tensor.is_floating_point() and not _finite(tensor):
            problems.append(f"{called} holds NaN or infinite values")
    return problems


def _finite(tensor: torch.Tensor) -> bool:
    """A finite sum has finite terms, and is ten times as quick as looking at each."""
    values = tensor.float()
    return bool(values.sum().isfinite() or values.isfinite().all())


def _refusal(problems: list[str], found: Translation, config: VivimConfig, source: str) -> str:
    more = len(problems) - _PROBLEMS_SHOWN
    shown = "; ".join(problems[:_PROBLEMS_SHOWN]) + (f"; and {more} more" if more > 0 else "")
    count = f"{len(problems)} misfit{'s' if len(problems) > 1 else ''}"
    if (held := _other_size(found, config, source)) is not None:
        # A named size is no accident, and explains every misfit.
        damage = f" {count}: {shown}." if held.size == "custom" else ""
        return (
            f"weights: {source} is of size {describe(held)}, asked for is {describe(config)}. Leave the size to the file (--size auto), or "
            f"give other weights.{damage}"
        )
    todo = "Export it again."
    if any(problem.startswith("optimizer.") for problem in problems):
        todo = STATE
    if config.pooling == "unified" and not config.segmentation and not any(name.startswith("decoder.") for name in found.ours):
        todo = "It has no decoder, and pooling unified needs a trained one: choose pooling levels."
    return f"weights: {source} does not fit the encoder ({count}): {shown}. {todo}"


def _other_size(found: Translation, config: VivimConfig, source: str) -> VivimConfig | None:
    """What the file is of, if that is another size than the one asked for."""
    try:
        held = config_of(found.ours, source, heads=(1, 1, 1, 1))  # which tell no size
    except InputError:  # too damaged to tell
        return None
    same = (held.channels, held.depths, held.layout) == (config.channels, config.depths, config.layout)
    return None if same else held
