"""The rung between frozen and end-to-end: a small temporal Mamba learns what to make of the course of a clip.

Stage one keeps eight vectors of every clip, in the order of time (``extract.encoder.pooling: frames``). Reading them again costs
little more than reading one; no frame is decoded and no encoder runs. The idea of training beside cached features: Fu et al.,
"IISAN" (SIGIR 2024).

Legend: N items of the catalogue, R some of them, S spans of a clip, V width of a span's vector, D model width.
"""

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from .config import ModelConfig
from .item_encoders import Standardisation, StoredContent
from .models.mamba import MambaLayer, mamba1

_ITEMS_AT_ONCE = 2048


class AdapterItems(StoredContent):
    """Span by span through a projection and causal Mamba layers; the mean of what comes out, through a last projection.

    Args:
        vectors_NSV: stored vectors; the content of rows that are not ``present_N`` is never looked at.
        present_N: bool.
        config: width, state and dropout of the layers.
        layers: how many.
        standard: of another catalogue; None: of this one.
    """

    spans_NSV: torch.Tensor
    present_N: torch.Tensor

    def __init__(
        self,
        vectors_NSV: torch.Tensor,
        present_N: torch.Tensor,
        config: ModelConfig,
        layers: int = 1,
        standard: Standardisation | None = None,
    ) -> None:
        standard = standard or Standardisation.of(vectors_NSV[present_N].float(), (0, 1))
        super().__init__(len(vectors_NSV), config.d_model, standard)
        spans = torch.where(present_N[:, None, None], self.standardise(vectors_NSV), 0.0)
        self.register_buffer("spans_NSV", spans, persistent=False)
        self.register_buffer("present_N", present_N.clone(), persistent=False)
        self.embed = nn.Linear(vectors_NSV.shape[2], config.d_model)
        self.layers = nn.ModuleList(MambaLayer(config, mamba1(config)) for _ in range(layers))
        self.norm = nn.LayerNorm(config.d_model)
        self.project = nn.Linear(config.d_model, config.d_model)
        nn.init.normal_(self.project.weight, std=0.02)
        nn.init.zeros_(self.project.bias)

    def forward(self, rows_R: torch.Tensor) -> torch.Tensor:
        parts = [self._encode(part) for part in rows_R.flatten().split(_ITEMS_AT_ONCE)]
        return torch.cat(parts).unflatten(0, rows_R.shape) if parts else self.unknown_D.new_zeros(*rows_R.shape, len(self.unknown_D))

    def all(self) -> torch.Tensor:
        return self(torch.arange(self.num_items, device=self.present_N.device))

    def _encode(self, rows_R: torch.Tensor) -> torch.Tensor:
        """Some items at a time, so that activations of the whole catalogue never exist at once."""
        if not torch.is_grad_enabled() or len(rows_R) < _ITEMS_AT_ONCE:
            return self._clips(rows_R)
        encoded: torch.Tensor = checkpoint(self._clips, rows_R, use_reentrant=False)
        return encoded

    def new(self, stored_R: torch.Tensor) -> torch.Tensor:
        """(R, D).

        Args:
            stored_R: (R, S * V), the spans of each clip one after another, as they stand in an embedding file.
        """
        spans_RSV = stored_R.float().unflatten(1, (-1, len(self.stored_mean_V)))
        return torch.cat([self._read(self.standardise(some_RSV)) for some_RSV in spans_RSV.split(_ITEMS_AT_ONCE)])

    def _clips(self, rows_R: torch.Tensor) -> torch.Tensor:
        return torch.where(self.present_N[rows_R][:, None], self._read(self.spans_NSV[rows_R]), self.unknown_D)

    def _read(self, spans_RSV: torch.Tensor) -> torch.Tensor:
        x_RSD = self.embed(spans_RSV)
        for layer in self.layers:
            x_RSD = layer(x_RSD, None)
        clips_RD: torch.Tensor = self.project(self.norm(x_RSD).mean(1))
        return clips_RD
