"""Whose names the tensors of a weights file carry, and the same tensors under ours.

A scheme is recognised by one name that only it has. Sources of the names: NVlabs/SegFormer (``mit_bX.pth`` and its mmsegmentation
checkpoints), transformers 4 and 5 (SegFormer), scott-yjyang/Vivim (whose per-frame half carries the names of transformers 4).
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import torch

from ..errors import InputError

_Renames = tuple[tuple[str, str], ...]

NVIDIA_LICENCE = "NVIDIA Source Code License: research and evaluation only, not commercial"
_IF_NVIDIA = f"{NVIDIA_LICENCE}; if these are NVIDIA's published weights or were trained on from them"

# Of last.safetensors, whose optimizer gives it away.
STATE = "It is what a run resumes from: give the encoder.safetensors beside it."

# Wrappers of training code: DistributedDataParallel, a LightningModule's attribute, torch.compile.
_WRAPPERS = re.compile(r"(?:(?:module|model|_orig_mod)\.)+")

# What the three walks of a mixer are called behind a name, in the order in which ours stacks them.
_WALKS = ("", "_b", "_s")


@dataclass(frozen=True)
class Scheme:
    """Names of one family of files.

    Attributes:
        name: short, for recipes and metadata.
        words: for people.
        marker: a name that only files of this family have.
        renames: (pattern of a whole name, our name); in our name ``@`` stands before a walk's suffix.
        drops: (pattern, what it is, why it has no place here).
        norm_eps: of the norms inside SegFormer layers with which such weights were trained; None: the file's metadata says it.
        licence: under which such weights are usually had, in words; None: not known from the names.
    """

    name: str
    words: str
    marker: str
    renames: _Renames
    drops: tuple[tuple[str, str, str], ...] = ()
    norm_eps: float | None = 1e-5
    licence: str | None = _IF_NVIDIA


@dataclass
class Translation:
    """Tensors under our names.

    Attributes:
        scheme: whose names they had.
        ours: our name -> tensor.
        origins: our name -> the names it came from.
        dropped: (what, why) -> the names that have no place here.
        problems: in words, what is wrong with single tensors.
    """

    scheme: Scheme
    ours: dict[str, torch.Tensor] = field(default_factory=dict)
    origins: dict[str, tuple[str, ...]] = field(default_factory=dict)
    dropped: dict[tuple[str, str], list[str]] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)


def translate(tensors: Mapping[str, torch.Tensor], source: str) -> Translation:
    """Recognise the scheme from the names and rename every tensor.

    Args:
        tensors: as a file or ``state_dict`` has them; wrappers such as ``module.`` before the names are taken off.
        source: what messages call the file.

    Raises:
        InputError: no known scheme, or two names that are one without their wrappers.
    """
    bare = _unwrap(tensors, source)
    found = Translation(recognise(bare, source))
    walks: dict[str, dict[str, str]] = {}
    for name in bare:
        ours = _rename(name, found.scheme.renames)
        if ours is not None and "@" in ours:
            stacked, _, walk = ours.partition("@")
            walks.setdefault(stacked, {})[walk] = name
        elif ours is not None and ".attn.kv." in ours:
            _split(found, ours, name, bare[name])
        elif ours is not None:
            found.ours[ours], found.origins[ours] = bare[name], (name,)
        elif (drop := _drop(name, found.scheme)) is not None:
            found.dropped.setdefault(drop, []).append(name)
        else:
            found.problems.append(f"{name} is not a tensor that {found.scheme.words} files have")
    for ours, names in walks.items():
        _stack(found, ours, names, bare)
    return found


def recognise(names: Iterable[str], source: str) -> Scheme:
    """The scheme of bare names.

    Raises:
        InputError: none fits.
    """
    names = list(names)
    held = set(names)
    for scheme in SCHEMES:
        if scheme.marker in held:
            return scheme
    known = ", ".join(dict.fromkeys(scheme.words for scheme in SCHEMES))
    if not names:
        raise InputError(f"weights: {source} holds no tensors at all. Give the weights of an encoder: {known}.")
    shown = ", ".join(sorted(names)[:3])
    todo = STATE if any(name.startswith("optimizer.") for name in names) else "Give weights of one of these."
    raise InputError(f"weights: {source} has names of no known scheme ({shown}, ...). Known: {known}. {todo}")


def _unwrap(tensors: Mapping[str, torch.Tensor], source: str) -> dict[str, torch.Tensor]:
    bare: dict[str, torch.Tensor] = {}
    for name, tensor in sorted(tensors.items()):  # a file's order is no one's choice
        wrapper = _WRAPPERS.match(name)
        short = name[wrapper.end() :] if wrapper else name
        if short in bare:
            raise InputError(f"weights: {source} holds {short} twice, with and without a wrapper such as 'module.'. Save one model alone.")
        bare[short] = tensor
    return bare


def _rename(name: str, renames: _Renames) -> str | None:
    for pattern, replacement in renames:
        match = re.fullmatch(pattern, name)
        if match:
            return match.expand(replacement)
    return None


def _drop(name: str, scheme: Scheme) -> tuple[str, str] | None:
    return next(((what, why) for pattern, what, why in scheme.drops if re.fullmatch(pattern, name)), None)


def _split(found: Translation, ours: str, name: str, tensor: torch.Tensor) -> None:
    """NVlabs keeps keys and values in one linear: the upper half of its rows makes keys, the lower values."""
    if tensor.ndim == 0 or len(tensor) % 2:
        found.problems.append(f"{name} is {tuple(tensor.shape)}; an even number of rows is needed, keys above values")
        return
    for letter, half in zip("kv", tensor.chunk(2), strict=True):
        half_name = ours.replace(".kv.", f".{letter}.")
        found.ours[half_name], found.origins[half_name] = half, (name,)


def _stack(found: Translation, ours: str, names: Mapping[str, str], bare: Mapping[str, torch.Tensor]) -> None:
    """Our mixer keeps the three walks in one tensor; the official code names them apart."""
    here = next(iter(names.values()))
    if len(names) < len(_WALKS):
        found.problems.append(f"{here} stands for {len(names)} of the 3 walks over a clip; {ours} needs all")
        return
    parts = [bare[names[walk]] for walk in _WALKS]
    if len({part.shape for part in parts}) > 1:
        found.problems.append(f"{here} and its other walks have different shapes: {[tuple(part.shape) for part in parts]}")
        return
    stacked = torch.stack(parts)
    if ours.endswith("conv_weight") and stacked.ndim == 4:
        stacked = stacked[:, :, 0]
    found.ours[ours], found.origins[ours] = stacked, tuple(names[walk] for walk in _WALKS)


_LAYER = r"stages.\1.layers.\2."

# The per-frame half of transformers 4, without its prefix.
_HF4: _Renames = (
    (r"patch_embeddings\.(\d)\.proj\.(\w+)", r"stages.\1.patch_embed.proj.\2"),
    (r"patch_embeddings\.(\d)\.layer_norm\.(\w+)", r"stages.\1.patch_embed.norm.\2"),
    (r"block\.(\d)\.(\d+)\.layer_norm_([12])\.(\w+)", _LAYER + r"norm\3.\4"),
    (r"block\.(\d)\.(\d+)\.attention\.self\.query\.(\w+)", _LAYER + r"attn.q.\3"),
    (r"block\.(\d)\.(\d+)\.attention\.self\.key\.(\w+)", _LAYER + r"attn.k.\3"),
    (r"block\.(\d)\.(\d+)\.attention\.self\.value\.(\w+)", _LAYER + r"attn.v.\3"),
    (r"block\.(\d)\.(\d+)\.attention\.self\.sr\.(\w+)", _LAYER + r"attn.sr.\3"),
    (r"block\.(\d)\.(\d+)\.attention\.self\.layer_norm\.(\w+)", _LAYER + r"attn.sr_norm.\3"),
    (r"block\.(\d)\.(\d+)\.attention\.output\.dense\.(\w+)", _LAYER + r"attn.out.\3"),
    (r"block\.(\d)\.(\d+)\.mlp\.dense([12])\.(\w+)", _LAYER + r"ffn.fc\3.\4"),
    (r"block\.(\d)\.(\d+)\.mlp\.dwconv\.dwconv\.(\w+)", _LAYER + r"ffn.dwconv.\3"),
)

_HF5: _Renames = (
    (r"stages\.(\d)\.patch_embeddings\.proj\.(\w+)", r"stages.\1.patch_embed.proj.\2"),
    (r"stages\.(\d)\.patch_embeddings\.layer_norm\.(\w+)", r"stages.\1.patch_embed.norm.\2"),
    (r"stages\.(\d)\.blocks\.(\d+)\.layernorm_before\.(\w+)", _LAYER + r"norm1.\3"),
    (r"stages\.(\d)\.blocks\.(\d+)\.layernorm_after\.(\w+)", _LAYER + r"norm2.\3"),
    (r"stages\.(\d)\.blocks\.(\d+)\.attention\.([qkv])_proj\.(\w+)", _LAYER + r"attn.\3.\4"),
    (r"stages\.(\d)\.blocks\.(\d+)\.attention\.o_proj\.(\w+)", _LAYER + r"attn.out.\3"),
    (r"stages\.(\d)\.blocks\.(\d+)\.attention\.sequence_reduction\.sequence_reduction\.(\w+)", _LAYER + r"attn.sr.\3"),
    (r"stages\.(\d)\.blocks\.(\d+)\.attention\.sequence_reduction\.layer_norm\.(\w+)", _LAYER + r"attn.sr_norm.\3"),
    (r"stages\.(\d)\.blocks\.(\d+)\.mlp\.fc([12])\.(\w+)", _LAYER + r"ffn.fc\3.\4"),
    (r"stages\.(\d)\.blocks\.(\d+)\.mlp\.dwconv\.dwconv\.(\w+)", _LAYER + r"ffn.dwconv.\3"),
)

# NVlabs counts stages from 1.
_NVLABS: _Renames = tuple(
    (pattern.replace("N", str(stage + 1), 1), replacement.replace("N", str(stage), 1))
    for stage in range(4)
    for pattern, replacement in (
        (r"patch_embedN\.(proj|norm)\.(\w+)", r"stages.N.patch_embed.\1.\2"),
        (r"blockN\.(\d+)\.norm([12])\.(\w+)", r"stages.N.layers.\1.norm\2.\3"),
        (r"blockN\.(\d+)\.attn\.(q|kv|sr)\.(\w+)", r"stages.N.layers.\1.attn.\2.\3"),
        (r"blockN\.(\d+)\.attn\.norm\.(\w+)", r"stages.N.layers.\1.attn.sr_norm.\2"),
        (r"blockN\.(\d+)\.attn\.proj\.(\w+)", r"stages.N.layers.\1.attn.out.\2"),
        (r"blockN\.(\d+)\.mlp\.(fc[12])\.(\w+)", r"stages.N.layers.\1.ffn.\2.\3"),
        (r"blockN\.(\d+)\.mlp\.dwconv\.dwconv\.(\w+)", r"stages.N.layers.\1.ffn.dwconv.\2"),
    )
)

_BLOCK = r"stages.\1.temporal.\2."
_MIXER = r"encoder\.stages\.(\d)\.(\d+)\.0\.mamba\."
_OFFICIAL_TEMPORAL: _Renames = (
    (r"encoder\.stages\.(\d)\.(\d+)\.0\.norm([12])\.(\w+)", _BLOCK + r"norm\3.\4"),
    (r"encoder\.stages\.(\d)\.(\d+)\.0\.mlp\.(fc[12])\.(\w+)", _BLOCK + r"ffn.\3.\4"),
    (r"encoder\.stages\.(\d)\.(\d+)\.0\.mlp\.dwconv\.dwconv\.(\w+)", _BLOCK + r"ffn.dwconv.\3"),
    (_MIXER + r"(in_proj|out_proj)\.weight", _BLOCK + r"mixer.\3.weight"),
    (_MIXER + r"conv1d(|_b|_s)\.(weight|bias)", _BLOCK + r"mixer.conv_\4@\3"),
    (_MIXER + r"x_proj(|_b|_s)\.weight", _BLOCK + r"mixer.x_proj@\3"),
    (_MIXER + r"dt_proj(|_b|_s)\.weight", _BLOCK + r"mixer.dt_proj@\3"),
    (_MIXER + r"dt_proj(|_b|_s)\.bias", _BLOCK + r"mixer.dt_bias@\3"),
    (_MIXER + r"A(|_b|_s)_log", _BLOCK + r"mixer.A_log@\3"),
    (_MIXER + r"D(|_b|_s)", _BLOCK + r"mixer.D@\3"),
)

_NEVER_APPLIED = "Vivim never applies them"
_CLASSIFIER = ("classifier behind the decoder", "its classes are not ours")
_IMAGENET = ("ImageNet classifier", "an encoder has none")


def _behind(prefix: str, renames: _Renames) -> _Renames:
    return tuple((re.escape(prefix) + pattern, replacement) for pattern, replacement in renames)


def _hugging_face_decoder(prefix: str, projections: str) -> _Renames:
    return (
        (rf"{prefix}\.{projections}\.(\d)\.proj\.(\w+)", r"decoder.linear.\1.\2"),
        (rf"{prefix}\.linear_fuse\.weight", r"decoder.fuse.weight"),
        (rf"{prefix}\.batch_norm\.(\w+)", r"decoder.norm.\1"),
    )


def _hugging_face(version: int, prefix: str) -> Scheme:
    p = re.escape(prefix)
    four = version == 4
    norms = rf"{p}layer_norm\.\d\.\w+" if four else rf"{p}stages\.\d\.layer_norm\.\w+"
    return Scheme(
        name=f"hugging-face-{version}",
        words=f"Hugging Face SegFormer (transformers {version})",
        marker=prefix + ("patch_embeddings.0.proj.weight" if four else "stages.0.patch_embeddings.proj.weight"),
        renames=_behind(prefix, _HF4 if four else _HF5)
        + _hugging_face_decoder("decode_head", "linear_c" if four else "linear_projections"),
        drops=(
            (norms, "stage layer norms", _NEVER_APPLIED),
            (r"decode_head\.classifier\.\w+", *_CLASSIFIER),
            (r"classifier\.\w+", *_IMAGENET),
        ),
    )


def _nvlabs(name: str, words: str, prefix: str) -> Scheme:
    p = re.escape(prefix)
    linears = tuple((rf"decode_head\.linear_c{n + 1}\.proj\.(\w+)", rf"decoder.linear.{n}.\1") for n in range(4))
    return Scheme(
        name=name,
        words=words,
        marker=prefix + "patch_embed1.proj.weight",
        renames=(
            *_behind(prefix, _NVLABS),
            *linears,
            (r"decode_head\.linear_fuse\.conv\.weight", r"decoder.fuse.weight"),
            (r"decode_head\.linear_fuse\.bn\.(\w+)", r"decoder.norm.\1"),
        ),
        drops=(
            (rf"{p}norm[1-4]\.\w+", "stage layer norms", _NEVER_APPLIED),
            (rf"{p}head\.\w+", *_IMAGENET),
            (r"decode_head\.linear_pred\.\w+", *_CLASSIFIER),
            (r"decode_head\.conv_seg\.\w+", "unused convolution of mmsegmentation", "its own code never applies it"),
        ),
        norm_eps=1e-6,
    )


OURS = Scheme(
    "vivim", "vivim", "stages.0.patch_embed.proj.weight", ((r"((?:stages|decoder|mask_head|edge_head)\..+)", r"\1"),), (), None, None
)

OFFICIAL = Scheme(
    name="official-vivim",
    words="official Vivim",
    marker="encoder.downsample_layers.patch_embeddings.0.proj.weight",
    renames=(
        *_behind("encoder.downsample_layers.", _HF4),
        *_OFFICIAL_TEMPORAL,
        *_hugging_face_decoder("decoder", "linear_c"),
        (r"out\.(\w+)", r"mask_head.\1"),
        (r"edgeocr_cls_head\.(\w+)", r"edge_head.\1"),
    ),
    drops=(
        (r"encoder\.downsample_layers\.layer_norm\.\d\.\w+", "stage layer norms", _NEVER_APPLIED),
        (r"decoder\.classifier\.\w+", "150-class classifier", "the official model never applies it"),
        (r"criterion\..+", "network of the training loss (InverseForm)", "an encoder has no loss"),
    ),
    licence=f"CC BY-NC 4.0 code trained on from NVIDIA's weights ({NVIDIA_LICENCE}), if made with the official code",
)

SCHEMES: tuple[Scheme, ...] = (
    OURS,
    OFFICIAL,
    _nvlabs("nvlabs-mit", "NVlabs MiT", ""),
    _nvlabs("nvlabs-segformer", "NVlabs SegFormer", "backbone."),
    # The whole model, its encoder with and without the outer name.
    *(_hugging_face(4, prefix) for prefix in ("segformer.encoder.", "encoder.", "")),
    *(_hugging_face(5, prefix) for prefix in ("segformer.", "")),
)
