"""In which arithmetic the encoder computes.

Legend: B clips, T frames, H and W size of the picture, D width of the vectors.
"""

from dataclasses import dataclass

import torch

from .vivim import Vivim


@dataclass(frozen=True)
class MixedPrecision:
    """An encoder under torch's bfloat16 autocast. The state of a scan stays in float32; on a CPU so do all of it and the
    convolution before it.

    Random-weight b0 and nano on a CPU: vectors differ from float32 ones by about 4e-3 of their length, so the two are never mixed in
    one file. Measured to be faster for b0 on a CPU with AVX512_BF16 and on a GPU (H200); other hardware has not been measured.

    Args:
        encoder: computes the vectors.
    """

    encoder: Vivim

    @property
    def dim(self) -> int:
        """D."""
        return self.encoder.dim

    @property
    def device(self) -> torch.device:
        return self.encoder.device

    def embed_uint8(self, frames_BTCHW: torch.Tensor) -> torch.Tensor:
        """(B, D) float32 vectors of (B, T, 3, H, W) uint8 RGB frames."""
        with torch.autocast(self.device.type, torch.bfloat16):
            return self.encoder.embed_uint8(frames_BTCHW)
