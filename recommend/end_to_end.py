"""The rung where the video encoder is trained along: the one door from this room to stage one.

An item's vector is what the encoder makes of its frames, through a projection. A step encodes each distinct clip of its batch once;
before every validation all clips are encoded anew, once. Several processes share both, so that all of them must ask, for the same.
MicroLens (Ni et al., 2023) found that training the encoder doubles what its frozen features give, and that training its last layers
alone often gives more than training all.

Legend: N items of the catalogue, R some of them, B clips at once, T frames, V width of the encoder's vectors, D model width.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from torch.utils.checkpoint import checkpoint

from ..errors import InputError
from ..extract.frame_cache import FrameCache
from ..extract.frame_recipe import FrameRecipe
from ..extract.load_report import LoadReport
from ..extract.vivim import MEAN, STD, Vivim, VivimConfig
from ..extract.weights import load_weights, save_encoder
from ..store import ItemIndex, Recipe
from .checkpoint import RunFolder
from .config import EndToEndConfig
from .content import require_coverage
from .item_encoders import ContentVectors, projection
from .processes import Processes

_CALIBRATION_CLIPS = 256
_READERS = 4


class CatalogueFrames:
    """The kept frames of every catalogue item, and who has none.

    Args:
        cache: of frames.
        catalogue: the items.
    """

    def __init__(self, cache: FrameCache, catalogue: ItemIndex) -> None:
        self.cache = cache
        self.ids = catalogue.ids
        self.present_N = torch.tensor([id_ in cache for id_ in catalogue.ids], dtype=torch.bool)

    def __call__(self, rows_B: Sequence[int]) -> torch.Tensor:
        """(B, T, 3, S, S) uint8 frames of items that have some.

        Raises:
            InputError: a stored clip is damaged.
        """
        with ThreadPoolExecutor(_READERS) as readers:
            clips = list(readers.map(lambda row: self.cache.read(self.ids[row]).frames_TCHW, rows_B))
        return torch.from_numpy(np.stack(clips))

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self  # files on a disk; a running mean of weights needs no second ones

    @property
    def missing(self) -> int:
        return int((~self.present_N).sum())

    @property
    def coverage(self) -> float:
        """Share of the catalogue that has frames."""
        return float(self.present_N.float().mean())


def find_frames(config: EndToEndConfig, catalogue: ItemIndex, min_coverage: float) -> CatalogueFrames:
    """The frames of the catalogue.

    Raises:
        InputError: none are given, or fewer than ``min_coverage`` of the items have some.
    """
    if config.frames is None:
        raise InputError(
            "--items end-to-end needs the clips: give --videos DIR, or the frames that `vivim extract --cache-frames DIR` has kept, with "
            "--from-cache DIR."
        )
    found = CatalogueFrames(FrameCache.open(config.frames), catalogue)
    advice = "Keep the frames of the missing clips, or lower items.min_coverage."
    require_coverage(found.present_N, catalogue, min_coverage, f"frames in {config.frames}", found.cache.ids, advice)
    return found


def frames_sha256(folder: Path) -> str:
    """Hash of the frames that are kept in a folder, as a run that was trained on them has it.

    Raises:
        InputError: there are none.
    """
    return FrameCache.open(folder).sha256


class EndToEndItems(ContentVectors):
    """Frames through the video encoder, standardised as its vectors were before training, through a projection.

    Args:
        encoder: its last ``config.stages`` stages are trained.
        frames: of the catalogue.
        d_model: D.
        config: see ``EndToEndConfig``.
    """

    present_N: torch.Tensor
    mean_V: torch.Tensor
    std_V: torch.Tensor

    def __init__(self, encoder: Vivim, frames: CatalogueFrames, d_model: int, config: EndToEndConfig) -> None:
        super().__init__(len(frames.present_N), d_model)
        self.vivim = encoder
        self.frames = frames
        self.config = config
        self.report: LoadReport = encoder.load_report
        self.first = len(encoder.stages) - config.stages
        encoder.stages[: self.first].requires_grad_(False)
        # What the optimizer does with this part, see ``Learner.parameter_groups``.
        encoder.training_options = {"lr": config.lr, "weight_decay": config.weight_decay}
        self.processes = Processes()
        self.register_buffer("present_N", frames.present_N.clone(), persistent=False)
        self.register_buffer("mean_V", torch.zeros(encoder.dim))
        self.register_buffer("std_V", torch.ones(encoder.dim))
        self.project = projection(encoder.dim, d_model)

    @torch.no_grad()
    def calibrate(self) -> None:
        """Take mean and deviation of each dimension from some clips, evenly spread over the catalogue."""
        present = self.present_N.nonzero()[:, 0]
        some = present[torch.linspace(0, len(present) - 1, min(len(present), _CALIBRATION_CLIPS)).long()]
        training = self.training
        vectors = self.eval().clip_vectors(some)
        self.train(training)
        self.mean_V.copy_(vectors.mean(0))
        self.std_V.copy_(vectors.std(0, correction=0).clamp_min(1e-6))

    def train(self, mode: bool = True) -> Self:
        super().train(mode)
        self.vivim.stages[: self.first].eval()  # what is not trained is not disturbed either
        return self

    def forward(self, rows_R: torch.Tensor) -> torch.Tensor:
        flat = rows_R.flatten()
        present = self.present_N[flat]
        wanted = flat[present]
        if self.processes.count > 1:  # all of them ask for the same clips, at a step and before a validation
            mine = wanted[self.processes.rank :: self.processes.count]
            vectors = self.processes.gather(self.clip_vectors(mine), len(wanted))
        else:
            vectors = self.clip_vectors(wanted)
        clips = self.project((vectors - self.mean_V) / self.std_V)
        encoded = self.unknown_D.expand(len(flat), -1).to(clips.dtype).index_put((present.nonzero()[:, 0],), clips)
        return encoded.unflatten(0, rows_R.shape)

    def all(self) -> torch.Tensor:
        assert not torch.is_grad_enabled(), "all clips of a catalogue at once are for answering, not for training"
        return self(torch.arange(self.num_items, device=self.present_N.device))

    def clip_vectors(self, rows_R: torch.Tensor) -> torch.Tensor:
        """(R, V) float32, what ``vivim extract`` with these weights would store of the items ``rows_R``."""
        vectors = [self._embed(part) for part in rows_R.split(self.config.clips_at_once)] if len(rows_R) else []
        return torch.cat(vectors) if vectors else self.mean_V.new_zeros(0, len(self.mean_V))

    def _embed(self, rows_B: torch.Tensor) -> torch.Tensor:
        frames_BTCHW = self.frames(rows_B.tolist()).to(self.mean_V.device, non_blocking=True)
        if not (self.config.checkpointing and torch.is_grad_enabled()):
            return self._encode(frames_BTCHW)
        vectors: torch.Tensor = checkpoint(self._encode, frames_BTCHW, use_reentrant=False)
        return vectors

    def _encode(self, frames_BTCHW: torch.Tensor) -> torch.Tensor:
        """``Vivim.embed_uint8``, without a graph for what is not trained."""
        return self.vivim.embed_uint8(frames_BTCHW, frozen_stages=self.first)

    def write(self, folder: Path) -> None:
        """The encoder as a file that ``--weights`` takes."""
        save_encoder(self.vivim, folder / "encoder.safetensors", self.report.licence, stages_only=True)


def make_end_to_end(config: EndToEndConfig, frames: CatalogueFrames, d_model: int, seed: int) -> EndToEndItems:
    """The encoder that is asked for, with its standardisation from clips.

    Raises:
        InputError: weights that do not fit.
    """
    wanted = None if config.size == "auto" else VivimConfig.of_size(config.size)
    encoder = load_weights(config.weights, wanted, seed=seed, segmentation=False)
    encoder.set_drop_path(config.drop_path)
    items = EndToEndItems(encoder, frames, d_model, config)
    items.calibrate()
    return items


def trained_recipe(run: RunFolder) -> Recipe:
    """How the vectors of a run come about whose encoder was trained along: its encoder, and the frames it was trained on.

    ``vivim extract --weights RUN --set extract.dtype=float32`` over the same frames makes them.

    Raises:
        InputError: the encoder is missing or damaged.
    """
    encoder = load_weights(str(run.path / "encoder.safetensors"), segmentation=False)
    report = encoder.load_report
    recipe = Recipe(
        encoder={"kind": "vivim", "size": report.size, "pooling": encoder.config.pooling, "dim": encoder.dim},
        weights=dict(report.recipe()),
        frames={},
        preprocessing={"mean": list(MEAN), "std": list(STD)},
        dtype="float32",
        decoder={},
    )
    return FrameRecipe.model_validate(run.info()["embeddings"]["frames"]).into(recipe)
