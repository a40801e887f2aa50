"""The Mamba layer: projections, causal convolution, selective scan, gate.

One class serves both stages: with ``CAUSAL`` it reads watch histories and can ``step``; with ``VIDEO`` it is Vivim's
ST-Mamba mixer (eq. 9 of the Vivim paper): one shared in- and out-projection, and convolution, scan and step-size parameters of
its own for each of three walks over the clip, averaged.

Legend: B batch, L tokens, C model width, D inner width, S walks, N state size, K taps, R rank of the step size.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import nn

from .conv import causal_conv1d, conv_step
from .order import FORWARD, REVERSE, Order, Walk, time_major
from .recurrence import selective_step
from .scan import Backend, resolve, selective_scan

CAUSAL = (Walk.FORWARD,)
VIDEO = (Walk.FORWARD, Walk.REVERSE, Walk.TIME_MAJOR)


@dataclass(frozen=True)
class MambaState:
    """What a causal block remembers of a sequence: constant size, whatever the length.

    Attributes:
        conv_BKD: the last K - 1 inputs of the convolution, oldest first.
        ssm_BDN: state of the scan.
    """

    conv_BKD: torch.Tensor
    ssm_BDN: torch.Tensor


Step = Callable[[torch.Tensor, MambaState], tuple[torch.Tensor, MambaState]]
"""One more token per sequence (B, C), and the state before it -> output (B, C), new state."""


class MambaBlock(nn.Module):
    """Mamba-1 mixer over one or more walks.

    Source: Gu and Dao, "Mamba" (2023), section 3.4; Yang et al., "Vivim" (2024), eq. 9, for three walks.

    Args:
        d_model: C.
        d_state: N.
        d_conv: K.
        expand: D = expand * C.
        directions: walks over the tokens; ``CAUSAL`` or ``VIDEO``.
        init: ``"mamba"`` keeps the step-size bias at the softplus inverse of a log-uniform step in [.001, .1];
            ``"vivim"`` is what the official Vivim code ends with: every linear truncated-normal .02, step-size bias 0.
        backend: who computes the scan.
    """

    def __init__(
        self,
        d_model: int,
        d_state: int = 16,
        d_conv: int = 4,
        expand: int = 2,
        directions: tuple[Walk, ...] = CAUSAL,
        init: Literal["mamba", "vivim"] = "mamba",
        backend: Backend = Backend.AUTO,
    ) -> None:
        super().__init__()
        self.d_inner = expand * d_model
        self.d_state = d_state
        self.dt_rank = math.ceil(d_model / 16)
        self.directions = directions
        self.backend = backend
        walks = len(directions)
        self.in_proj = nn.Linear(d_model, 2 * self.d_inner, bias=False)
        self.conv_weight = nn.Parameter(torch.empty(walks, self.d_inner, d_conv))
        self.conv_bias = nn.Parameter(torch.empty(walks, self.d_inner))
        self.x_proj = nn.Parameter(torch.empty(walks, self.dt_rank + 2 * d_state, self.d_inner))
        self.dt_proj = nn.Parameter(torch.empty(walks, self.d_inner, self.dt_rank))
        self.dt_bias = nn.Parameter(torch.empty(walks, self.d_inner))
        self.A_log = nn.Parameter(torch.empty(walks, self.d_inner, d_state))
        self.D = nn.Parameter(torch.empty(walks, self.d_inner))
        self.out_proj = nn.Linear(self.d_inner, d_model, bias=False)
        self.reset_parameters(init)

    @torch.no_grad()
    def reset_parameters(self, init: Literal["mamba", "vivim"]) -> None:
        """Fresh parameters; see ``init`` of the class."""
        taps = self.conv_weight.shape[-1]
        nn.init.uniform_(self.conv_weight, -(taps**-0.5), taps**-0.5)
        nn.init.uniform_(self.conv_bias, -(taps**-0.5), taps**-0.5)
        self.A_log.copy_(torch.log(torch.arange(1, self.d_state + 1)).expand_as(self.A_log))
        nn.init.ones_(self.D)
        if init == "vivim":
            for weight in (self.in_proj.weight, self.x_proj, self.dt_proj, self.out_proj.weight):
                nn.init.trunc_normal_(weight, std=0.02)
            nn.init.zeros_(self.dt_bias)
            return
        nn.init.uniform_(self.x_proj, -(self.d_inner**-0.5), self.d_inner**-0.5)
        nn.init.uniform_(self.dt_proj, -(self.dt_rank**-0.5), self.dt_rank**-0.5)
        dt = torch.exp(torch.empty_like(self.dt_bias).uniform_(math.log(1e-3), math.log(0.1))).clamp_min(1e-4)
        self.dt_bias.copy_(dt + torch.log(-torch.expm1(-dt)))

    def no_weight_decay(self) -> set[str]:
        """Names of parameters that decay would push away from what they mean."""
        return {"A_log", "D", "dt_bias", "conv_bias"}

    def forward(self, x_BLC: torch.Tensor, *, frames: int | None = None, seq_idx: torch.Tensor | None = None) -> torch.Tensor:
        """Mix the tokens.

        Args:
            x_BLC: tokens; for video in frame-major order.
            frames: T, needed by a walk along time.
            seq_idx: (B, L), see ``selective_scan``; causal blocks only.

        Returns:
            (B, L, C).
        """
        orders = [self._order(walk, frames) for walk in self.directions]
        if seq_idx is not None and self.directions != CAUSAL:
            raise ValueError("seq_idx packs several sequences into one row, which only a causal block supports")
        x_BLD, z_BLD = self.in_proj(x_BLC).chunk(2, dim=-1)
        if x_BLD.device.type == "cpu":
            x_BLD = x_BLD.float()  # whatever the autocast: the compiled convolution and scan know nothing else
        y_BLD = self._walk(x_BLD, 0, orders[0], seq_idx)
        for s, order in enumerate(orders[1:], start=1):
            y_BLD += self._walk(x_BLD, s, order, seq_idx)
        return self.out_proj(y_BLD * F.silu(z_BLD))

    def _order(self, walk: Walk, frames: int | None) -> Order:
        match walk:
            case Walk.FORWARD:
                return FORWARD
            case Walk.REVERSE:
                return REVERSE
            case Walk.TIME_MAJOR:
                if frames is None:
                    raise ValueError("a walk along time needs the number of frames of the clip")
                return time_major(frames)

    def _walk(self, x_BLD: torch.Tensor, s: int, order: Order, seq_idx: torch.Tensor | None) -> torch.Tensor:
        """Convolution and scan of walk ``s``; in and out in token order, so that nothing is ever permuted."""
        convolved = causal_conv1d(
            x_BLD, self.conv_weight[s], self.conv_bias[s], silu=True, order=order, seq_idx=seq_idx, backend=self.backend
        )
        y = self._scan(convolved, s, order=order, seq_idx=seq_idx)
        assert isinstance(y, torch.Tensor)
        return y.to(x_BLD.dtype)

    def _scan(self, x_BLD: torch.Tensor, s: int, **options: Any) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
        """The scan of walk ``s`` over the number of walks; its state is fp32 whatever the autocast, and on GPUs what it reads and
        writes has the autocast's type. ``options`` and result as of ``selective_scan``."""
        projected = F.linear(x_BLD, self.x_proj[s])
        low, B, C = projected.split([self.dt_rank, self.d_state, self.d_state], dim=-1)
        # The mean of the walks: y is linear in C and D, which are small.
        share = 1 / len(self.directions)
        delta = F.linear(low, self.dt_proj[s])
        if resolve(self.backend, x_BLD, self.A_log[s]) is not Backend.TRITON:
            x_BLD = x_BLD.float()
        delta, B, C = (tensor.to(x_BLD.dtype) for tensor in (delta, B, C))
        return selective_scan(
            x_BLD,
            delta,
            -torch.exp(self.A_log[s].float()),
            B,
            C * share,
            self.D[s].float() * share,
            delta_bias=self.dt_bias[s].float(),
            delta_softplus=True,
            backend=self.backend,
            **options,
        )

    def initial_state(self, batch: int) -> MambaState:
        """The state of an empty sequence."""
        self._require_causal()
        zeros = self.A_log.new_zeros
        return MambaState(zeros(batch, self.conv_weight.shape[-1] - 1, self.d_inner), zeros(batch, self.d_inner, self.d_state))

    def step(self, x_BC: torch.Tensor, state: MambaState) -> tuple[torch.Tensor, MambaState]:
        """Read one more token in constant time: ``step`` over a sequence equals ``forward`` over it. For answering; it has no gradients.

        Args:
            x_BC: one token per sequence.
            state: from ``initial_state`` or an earlier ``step``.

        Returns:
            (output (B, C), new state); the old state is untouched.

        Raises:
            ValueError: the block walks a clip in several directions, which has no next token.
        """
        return self.stepper()(x_BC, state)

    def stepper(self) -> Step:
        """``step`` with the parameters as they are now, taken out of the module once: a step is so small that finding them is a third
        of what it costs.

        Raises:
            ValueError: as ``step``.
        """
        self._require_causal()
        taps_KD, bias_D = self.conv_weight[0].T.contiguous(), self.conv_bias[0]
        x_proj, dt_proj, dt_bias, A_DN, D_D = self.x_proj[0], self.dt_proj[0], self.dt_bias[0], -torch.exp(self.A_log[0]), self.D[0]
        w_in, w_out, sizes = self.in_proj.weight, self.out_proj.weight, [self.dt_rank, self.d_state, self.d_state]

        def step(x_BC: torch.Tensor, state: MambaState) -> tuple[torch.Tensor, MambaState]:
            x_BD, z_BD = F.linear(x_BC, w_in).float().chunk(2, dim=-1)
            convolved_BD, conv_BKD = conv_step(x_BD, state.conv_BKD, taps_KD, bias_D)
            u_BD = F.silu(convolved_BD)
            low, B_BN, C_BN = F.linear(u_BD, x_proj).split(sizes, dim=-1)
            y_BD, ssm_BDN = selective_step(u_BD, F.linear(low, dt_proj, dt_bias), A_DN, B_BN, C_BN, D_D, state.ssm_BDN)
            return F.linear(y_BD * F.silu(z_BD), w_out), MambaState(conv_BKD, ssm_BDN)

        return step

    def read(self, x_BLC: torch.Tensor, state: MambaState) -> tuple[torch.Tensor, MambaState]:
        """Read many more tokens at once: as ``step`` over them, one after another.

        Args:
            x_BLC: at least one token per sequence.
            state: from ``initial_state``, ``step`` or an earlier ``read``.

        Returns:
            (outputs (B, L, C), new state); the old state is untouched.

        Raises:
            ValueError: the block walks a clip in several directions, which has no next token.
        """
        self._require_causal()
        x_BLD, z_BLD = self.in_proj(x_BLC).chunk(2, dim=-1)
        past = self.conv_weight.shape[-1] - 1
        window_BLD = torch.cat([state.conv_BKD, x_BLD], 1)
        convolved = causal_conv1d(window_BLD, self.conv_weight[0], self.conv_bias[0], silu=True, backend=self.backend)[:, past:]
        result = self._scan(convolved.contiguous(), 0, initial_state=state.ssm_BDN, return_last_state=True)
        assert isinstance(result, tuple)
        y_BLD, ssm_BDN = result
        # A copy: a view would keep the whole window in memory.
        conv_BKD = window_BLD[:, window_BLD.shape[1] - past :].clone()
        return self.out_proj(y_BLD.to(x_BLD.dtype) * F.silu(z_BLD)), MambaState(conv_BKD, ssm_BDN)

    def _require_causal(self) -> None:
        if self.directions != CAUSAL:
            walks = ", ".join(walk.value for walk in self.directions)
            raise ValueError(f"only a causal block has a step; this one walks a whole clip ({walks})")
