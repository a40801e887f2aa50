"""Dropout whose masks cost little on a CPU."""

import torch
from torch import nn

_VALUES = 2**16  # of 16 bits


class Dropout(nn.Dropout):
    """``nn.Dropout``; on a CPU 64 random bits decide four numbers, where torch draws for each alone.

    The share left out is ``p`` to 2**-17, and what is kept is scaled by exactly that share. Masks are a function of torch's generator and
    the shape, whatever the number of threads. Other devices have torch's own. Source: Srivastava et al., "Dropout" (2014).
    """

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        out_of = round(self.p * _VALUES)
        if not self.training or input.device.type != "cpu" or out_of in (0, _VALUES):
            return super().forward(input)
        count = input.numel()
        bits = torch.empty(-(-count // 4), dtype=torch.int64).random_(-(2**63), None).view(torch.int16)[:count]
        kept = (bits >= out_of - _VALUES // 2).view(input.shape).to(input.dtype)
        return input * kept.mul_(_VALUES / (_VALUES - out_of))
