"""How the vectors of an embedding file were made: what must be equal for two rows to be comparable."""

import hashlib
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Literal

from pydantic import Field, JsonValue, ValidationError

from .. import __version__
from ..errors import InputError
from ..settings import Settings

_UNCOMPARED = ("created_by", "created_at")
_ABSENT = "(absent)"


class Recipe(Settings):
    """What went into every vector of a file. JSON values only, so that it survives a round trip unchanged.

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

    encoder: dict[str, JsonValue]
    weights: dict[str, JsonValue]
    frames: dict[str, JsonValue]
    preprocessing: dict[str, JsonValue]
    dtype: Literal["float16", "float32"]
    decoder: dict[str, JsonValue]
    created_by: str = f"vivim {__version__}"
    created_at: str = Field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))

    @property
    def sha256(self) -> str:
        """Hash of all that is compared: equal for files whose vectors may be mixed."""
        compared = self.model_dump(mode="json", exclude=set(_UNCOMPARED))
        return hashlib.sha256(json.dumps(compared, sort_keys=True).encode()).hexdigest()

    def to_json(self) -> str:
        """The recipe as one line of JSON."""
        return self.model_dump_json()

    @classmethod
    def from_json(cls, text: str) -> "Recipe":
        """The recipe that ``to_json`` wrote.

        Raises:
            InputError: not JSON, or unknown, missing or wrongly typed fields; the message lists them.
        """
        try:
            return cls.model_validate_json(text)
        except ValidationError as error:
            fields = "; ".join(f"{'.'.join(map(str, e['loc'])) or 'recipe'}: {e['msg']}" for e in error.errors())
            raise InputError(f"the recipe cannot be read: {fields}") from error


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
