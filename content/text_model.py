"""A sentence-transformers model, loaded: texts to vectors.

Shapes: B texts, D width of the model's vectors.
"""

import importlib.metadata
import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError

from ..errors import InputError, MissingExtra
from ..store import TextRecipe
from ..store.recipe import Dtype
from .config import TextConfig
from .model_folder import ModelFolder

LIBRARIES = ("sentence-transformers", "transformers", "tokenizers", "torch")
_DEEP = (
    ImportError,
    OSError,
    ValueError,
    KeyError,
    TypeError,
    RuntimeError,
    SafetensorError,
)  # how these libraries say that files do not fit


class TextModel:
    """A text model ready to encode. Its arithmetic is float32.

    Args:
        found: where it lies.
        config: ``max_tokens``, ``prompt`` and ``batch``.
        device: ``cpu`` or ``cuda``.

    Raises:
        MissingExtra: sentence-transformers is not installed.
        InputError: the files make no model, or ``max_tokens`` is more than it can read.
    """

    def __init__(self, found: ModelFolder, config: TextConfig, device: str = "cpu") -> None:
        self._told = found.told()
        self._model = _load(found, device)
        self._batch = config.batch
        own = self._model.max_seq_length
        if config.max_tokens is not None and own is not None and config.max_tokens > own:
            raise InputError(f"text.max_tokens = {config.max_tokens} is more than {found.source} reads; at most {own} is allowed.")
        if config.max_tokens is not None:
            self._model.max_seq_length = config.max_tokens
        default = self._model.prompts.get(self._model.default_prompt_name, "") if self._model.default_prompt_name else ""
        self.prompt = default if config.prompt is None else config.prompt
        self.dim = int(self.encode(["a"]).shape[1])

    @property
    def max_tokens(self) -> int | None:
        """A text is cut after so many tokens; None: never."""
        return None if self._model.max_seq_length is None else int(self._model.max_seq_length)

    def encode(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        """(B, D) vectors of the texts, in their order; what a batch holds beside a text changes its vector by rounding only."""
        vectors = self._model.encode(
            list(texts), batch_size=self._batch, prompt=self.prompt, convert_to_numpy=True, show_progress_bar=False
        )
        return np.asarray(vectors, np.float32)

    def recipe(self, dtype: Dtype) -> TextRecipe:
        """How vectors of this model come about.

        Args:
            dtype: they are stored in: ``float16`` or ``float32``.
        """
        modules = [{"type": type(module).__name__, **_config_of(module)} for module in self._model]
        return TextRecipe(
            encoder={
                "kind": "sentence-transformers",
                "dim": self.dim,
                "max_tokens": self.max_tokens,
                "prompt": self.prompt,
                "modules": {str(place): module for place, module in enumerate(modules)},
            },
            weights=self._told,
            dtype=dtype,
            libraries={name: importlib.metadata.version(name) for name in LIBRARIES},
        )


def _load(found: ModelFolder, device: str) -> Any:
    try:
        from sentence_transformers import SentenceTransformer
        from transformers.utils import logging
    except ImportError as error:
        raise MissingExtra("sentence-transformers", extra="text", why="extract-text") from error
    logging.disable_progress_bar()  # it would draw into ours
    try:
        return SentenceTransformer(
            str(found.folder),
            device=device,
            local_files_only=True,
            trust_remote_code=False,
            model_kwargs={"use_safetensors": True},
        ).eval()
    except _DEEP as error:
        reason = " ".join(str(error).split())[:300]
        raise InputError(f"text.model: {found.folder} could not be loaded: {type(error).__name__}: {reason} Fetch it again.") from error


def _config_of(module: Any) -> dict[str, Any]:
    """What a module says of itself; of the network at the front the files' hash tells more."""
    if type(module).__name__ == "Transformer":
        return {}
    told: dict[str, Any] = json.loads(json.dumps(module.get_config_dict(), default=str)) if hasattr(module, "get_config_dict") else {}
    return told
