"""How frames were read: the part of an embedding file's recipe that comes before the encoder."""

import hashlib
import json

from pydantic import JsonValue

from ..errors import RecipeMismatch
from ..settings import Settings
from ..store import Recipe, differences

_OF_THE_ENCODER = ("mean", "std")


class FrameRecipe(Settings):
    """What went into every frame of a cache. JSON values only, as in ``store.Recipe``.

    Attributes:
        frames: sampler, count, fps.
        preprocessing: image_size, resize; ``stored`` (format and quality) where storing lost something.
        decoder: policy and the versions of the libraries that read frames.
    """

    frames: dict[str, JsonValue]
    preprocessing: dict[str, JsonValue]
    decoder: dict[str, JsonValue]

    @property
    def sha256(self) -> str:
        """Of its content."""
        return hashlib.sha256(json.dumps(self.model_dump(mode="json"), sort_keys=True).encode()).hexdigest()

    @classmethod
    def of(cls, recipe: Recipe) -> "FrameRecipe":
        """The part of an embedding file's recipe that says how its frames were read."""
        preprocessing = {key: value for key, value in recipe.preprocessing.items() if key not in _OF_THE_ENCODER}
        return cls(frames=recipe.frames, preprocessing=preprocessing, decoder=recipe.decoder)

    def into(self, recipe: Recipe) -> Recipe:
        """The recipe of vectors that are made as ``recipe`` says, but from these frames.

        Frames that were stored without loss give the recipe that reading the videos gives, so that both go into one file.
        """
        of_encoder = {key: value for key, value in recipe.preprocessing.items() if key in _OF_THE_ENCODER}
        parts = {"frames": self.frames, "preprocessing": self.preprocessing | of_encoder, "decoder": self.decoder}
        return recipe.model_copy(update=parts)


def check_same(old: FrameRecipe, new: FrameRecipe, *, where: str, old_is: str, new_is: str, advice: str) -> None:
    """Refuse frames that were read another way.

    Args:
        where: begins the message: what holds the old frames.
        old_is, new_is: words behind each value: ``in the cache``, ``now``.
        advice: what to do.

    Raises:
        RecipeMismatch: the message lists every field that differs.
    """
    fields = [f"  {name}: {before} {old_is}, {after} {new_is}" for name, before, after in differences(old, new)]
    if fields:
        raise RecipeMismatch("\n".join([f"{where}:", *fields, advice]))
