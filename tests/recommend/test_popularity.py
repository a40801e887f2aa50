"""Popularity counts, and is what it was after saving."""

from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from vivim.recommend.models.popularity import Popularity
from vivim.recommend.sequences import SequenceBatch, Sequences

TRAIN = Sequences(np.array([0, 3, 5], np.int64), np.array([2, 0, 2, 3, 2], np.int32))
BATCH = SequenceBatch.of(TRAIN, np.array([0, 1]))


def test_counts_are_the_scores_of_everyone() -> None:
    scores = Popularity.fit(TRAIN, 5).score(BATCH)
    assert scores.tolist() == [[1, 0, 3, 1, 0]] * 2


def test_saved_and_loaded_it_scores_the_same(tmp_path: Path) -> None:
    model = Popularity.fit(TRAIN, 5)
    save_file(model.tensors(), tmp_path / "model.safetensors")
    loaded = Popularity.from_tensors(load_file(tmp_path / "model.safetensors"))
    assert torch.equal(loaded.score(BATCH), model.score(BATCH))
