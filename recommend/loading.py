"""Opening what a run left, as a scorer."""

from typing import Any, cast

import torch

from . import build
from .checkpoint import RunFolder
from .layout import layout_of, require_layout
from .models.pairs import PairModel
from .models.vector_model import VectorModel
from .ranker import Scorer
from .scorers import PairScorer, TableScorer, VectorScorer


def load_scorer(run: RunFolder, device: str = "cpu") -> Scorer:
    """The run's best model, in evaluation mode.

    Raises:
        InputError: files are missing, damaged, or do not belong together.
    """
    config = run.config()
    items, _ = run.catalogue()
    path, tensors = run.path / "model.safetensors", run.read_tensors("model.safetensors")
    if config.model.kind in build.YARDSTICKS:
        require_layout(tensors, build.YARDSTICKS[config.model.kind].layout(len(items)), path)
        return build.YARDSTICKS[config.model.kind].from_tensors(tensors)
    if build.knows_users_by_id(config.model):
        require_layout(tensors, {"users": (torch.float32, (None, None)), "items": (torch.float32, (len(items), None))}, path)
        users_UD, vectors_ND = (tensors[name].to(torch.device(device)) for name in ("users", "items"))
        require_layout({"users": users_UD}, {"users": (torch.float32, (None, vectors_ND.shape[1]))}, path)
        return TableScorer(users_UD, vectors_ND)
    pairs = build.scores_pairs(config.model)
    model = (build.pair_model if pairs else build.user_model)(config.model, config.protocol.max_len)
    wanted = {f"model.{name}": found for name, found in layout_of(model.state_dict()).items()}
    require_layout(tensors, {"items": (torch.float32, (len(items), config.model.d_model))} | wanted, path)
    vectors_ND = tensors.pop("items")
    model.load_state_dict({k.removeprefix("model."): v for k, v in tensors.items()})
    model = model.to(device).eval()
    if pairs:
        return PairScorer(cast(PairModel, model), vectors_ND.to(torch.device(device)))
    return VectorScorer(cast(VectorModel[Any], model), vectors_ND.to(torch.device(device)))
