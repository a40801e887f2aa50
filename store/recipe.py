"""How the vectors of an embedding file were made: what must be equal for two rows to be comparable.

Vectors come from clips (``Recipe``), from titles (``TextRecipe``) or from a file that others made (``ImportedRecipe``).
"""

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import ClassVar, Literal, Self

from pydantic import Field, JsonValue, ValidationError

from .. import __version__
from ..errors import InputError
from ..settings import Settings

_UNCOMPARED = ("created_by", "created_at")
_ABSENT = "(absent)"
_CREATED_BY = f"vivim {__version__}"

Dtype = Literal["float16", "float32"]


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


class BaseRecipe(Settings, ABC):
    """What all recipes can do. They hold JSON values only, so that a recipe survives a round trip unchanged."""

    made_from: ClassVar[str]
    """What the vectors were made from, in words."""
    made_by: ClassVar[str]
    """What ``origin`` tells of, in words."""

    @property
    def sha256(self) -> str:
        """Hash of all that is compared: equal for files whose vectors may be mixed."""
        compared = self.model_dump(mode="json", exclude=set(_UNCOMPARED))
        return hashlib.sha256(json.dumps(compared, sort_keys=True).encode()).hexdigest()

    @property
    @abstractmethod
    def origin(self) -> dict[str, JsonValue]:
        """What made the vectors, with ``source`` for people and ``sha256`` of its bytes."""

    @property
    def origin_words(self) -> str:
        """The same in a few words."""
        return f"{self.made_by}: {self.origin['source']}"

    @property
    def spans(self) -> bool:
        """Is a stored vector made of those of several spans of a clip, in the order of time?"""
        return False

    def to_json(self) -> str:
        """The recipe as one line of JSON."""
        return self.model_dump_json()

    @classmethod
    def from_json(cls, text: str) -> Self:
        """The recipe that ``to_json`` wrote.

        Raises:
            InputError: not JSON, or unknown, missing or wrongly typed fields; the message lists them.
        """
        try:
            return cls.model_validate_json(text)
        except ValidationError as error:
            fields = "; ".join(f"{'.'.join(map(str, e['loc'])) or 'recipe'}: {e['msg']}" for e in error.errors())
            raise InputError(f"the recipe cannot be read: {fields}") from error


class Recipe(BaseRecipe):
    """What went into every vector that was made from a clip.

    Attributes:
        encoder: the encoder's config: size, pooling, dimensions.
        weights: ``source`` (``"random seed 42"``, a file's name, a hub repository) and ``sha256`` of the encoder's tensors; of a file
            also ``scheme``, ``norm_eps``, what was ``initialised`` beside it, and ``licence`` where known.
        frames: sampler, count, fps.
        preprocessing: image_size, resize, mean, std.
        dtype: of the stored vectors.
        decoder: policy (``auto`` or ``pyav``) and the versions of the libraries that read frames.
        created_by: version of vivim; not compared.
        created_at: UTC, ISO 8601, seconds; not compared. Empty in a merged file, whose bytes follow from its content alone.
    """

    made_from: ClassVar[str] = "clips"
    made_by: ClassVar[str] = "encoder weights"

    encoder: dict[str, JsonValue]
    weights: dict[str, JsonValue]
    frames: dict[str, JsonValue]
    preprocessing: dict[str, JsonValue]
    dtype: Dtype
    decoder: dict[str, JsonValue]
    created_by: str = _CREATED_BY
    created_at: str = Field(default_factory=_now)

    @property
    def origin(self) -> dict[str, JsonValue]:
        return self.weights

    @property
    def spans(self) -> bool:
        return self.encoder.get("pooling") == "frames"


class TextRecipe(BaseRecipe):
    """What went into every vector that was made from a title.

    Attributes:
        kind: tells it from other recipes; those of clips have none.
        encoder: ``kind`` of model, its architecture, the ``modules`` a text passes with their configuration, ``max_tokens`` after which
            a text is cut, ``prompt`` that is put before it.
        weights: ``source`` (a package with its version, a folder's name, a hub repository), ``sha256`` of the weights file, and
            ``files_sha256`` of the tokenizer and the configuration beside it.
        dtype: of the stored vectors.
        libraries: version of everything between a text and its vector.
        created_by, created_at: as in ``Recipe``; not compared.
    """

    made_from: ClassVar[str] = "titles"
    made_by: ClassVar[str] = "text model"

    kind: Literal["text"] = "text"
    encoder: dict[str, JsonValue]
    weights: dict[str, JsonValue]
    dtype: Dtype
    libraries: dict[str, JsonValue]
    created_by: str = _CREATED_BY
    created_at: str = Field(default_factory=_now)

    @property
    def origin(self) -> dict[str, JsonValue]:
        return self.weights


class ImportedRecipe(BaseRecipe):
    """Where vectors come from that others have made.

    Attributes:
        kind: tells it from other recipes.
        vectors: ``source``, what they are said to be or the name of their file, ``file`` and its ``sha256``.
        ids: how rows got their ids: ``first`` of consecutive numbers, or the ``file`` they stand in and its ``sha256``.
        dtype: of the stored vectors.
        created_by, created_at: as in ``Recipe``; not compared.
    """

    made_from: ClassVar[str] = "a file of vectors"
    made_by: ClassVar[str] = "imported vectors"

    kind: Literal["imported"] = "imported"
    vectors: dict[str, JsonValue]
    ids: dict[str, JsonValue]
    dtype: Dtype
    created_by: str = _CREATED_BY
    created_at: str = Field(default_factory=_now)

    @property
    def origin(self) -> dict[str, JsonValue]:
        return self.vectors


AnyRecipe = Recipe | TextRecipe | ImportedRecipe

_KINDS: dict[str, type[AnyRecipe]] = {"text": TextRecipe, "imported": ImportedRecipe}


def read_recipe(text: str) -> AnyRecipe:
    """The recipe that any ``to_json`` wrote: its ``kind`` says which; without one it is of clips, as in files of every age.

    Raises:
        InputError: as ``from_json``, or a kind that this version does not know.
    """
    try:
        said = json.loads(text)
    except (ValueError, RecursionError):
        said = None  # what is wrong with it, the recipe of clips says
    kind = said.get("kind") if isinstance(said, dict) else None
    if kind is None:
        return Recipe.from_json(text)
    if not isinstance(kind, str) or kind not in _KINDS:
        known = ", ".join(_KINDS)
        raise InputError(f"the recipe cannot be read: kind {kind!r}; this vivim knows {known}, and none for clips. Update vivim.")
    return _KINDS[kind].from_json(text)


def differences(old: Settings, new: Settings) -> list[tuple[str, JsonValue, JsonValue]]:
    """Every field in which two recipes, or the same part of two, differ, as (dotted name, old value, new value).

    Who created the file and when are not compared. A field that only one of them has shows as ``"(absent)"`` in the other.
    """
    old_fields, new_fields = (dict(_flatten(recipe.model_dump(mode="json", exclude=set(_UNCOMPARED)))) for recipe in (old, new))
    names = [*old_fields, *(name for name in new_fields if name not in old_fields)]
    pairs = ((name, old_fields.get(name, _ABSENT), new_fields.get(name, _ABSENT)) for name in names)
    return [(name, a, b) for name, a, b in pairs if a != b]


def _flatten(value: JsonValue, prefix: str = "") -> Iterator[tuple[str, JsonValue]]:
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            yield from _flatten(inner, f"{prefix}.{key}" if prefix else key)
    else:
        yield prefix, value
