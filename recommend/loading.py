"""Opening what a run left, as a scorer."""

from typing import Any, cast

import torch

from ..errors import InputError
from . import build
from .checkpoint import RunFolder
from .config import RecommendConfig
from .models.pairs import PairModel
from .models.vector_model import VectorModel
from .ranker import Scorer
from .scorers import PairScorer, TableScorer, VectorScorer


def load_scorer(run: RunFolder, device: str = "cpu") -> Scorer:
    """The run's best model, in evaluation mode.

    Raises:
        InputError: files are missing, damaged, or do not belong together.
    """
    config = RecommendConfig.model_validate(run.info()["config"])
    tensors = run.read_tensors("model.safetensors")
    if config.model.kind in build.YARDSTICKS:
        return build.YARDSTICKS[config.model.kind].from_tensors(tensors)
    items, _ = run.catalogue()
    vectors_ND = tensors.pop("items", None)
    if vectors_ND is None or len(vectors_ND) != len(items):
        found = "none" if vectors_ND is None else f"{len(vectors_ND)}"
        raise InputError(
            f"{run.path / 'model.safetensors'} holds vectors of {found} items, the catalogue has {len(items)}; train the run again."
        )
    if build.knows_users_by_id(config.model):
        return TableScorer(tensors["users"].to(torch.device(device)), vectors_ND.to(torch.device(device)))
    pairs = build.scores_pairs(config.model)
    model = (build.pair_model if pairs else build.user_model)(config.model, config.protocol.max_len)
    try:
        model.load_state_dict({k.removeprefix("model."): v for k, v in tensors.items()})
    except RuntimeError as error:
        raise InputError(f"{run.path / 'model.safetensors'} does not fit the run's configuration: {error}") from error
    model = model.to(device).eval()
    if pairs:
        return PairScorer(cast(PairModel, model), vectors_ND.to(torch.device(device)))
    return VectorScorer(cast(VectorModel[Any], model), vectors_ND.to(torch.device(device)))
