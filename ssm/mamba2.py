"""The Mamba-2 layer: one scalar A per head, so that a chunk of tokens is a masked product of matrices, in plain torch.

Legend: B batch, L tokens, C model width, H heads, P channels of a head (D = H * P inner width), N state size, K taps, E = D + 2 N
channels of the convolution, S chunks of Q tokens.
"""

import math

import torch
import torch.nn.functional as F
from torch import nn

from .block import MambaState, Step
from .conv import causal_conv1d, conv_step
from .inputs import starts_kept
from .order import FORWARD


def ssd(
    u_BLHP: torch.Tensor,
    dt_BLH: torch.Tensor,
    A_H: torch.Tensor,
    B_BLN: torch.Tensor,
    C_BLN: torch.Tensor,
    *,
    seq_idx: torch.Tensor | None = None,
    initial_BHPN: torch.Tensor | None = None,
    chunk: int = 64,
) -> tuple[torch.Tensor, torch.Tensor]:
    """h_t = exp(dt_t A) h_{t-1} + dt_t u_t B_t; y_t = <h_t, C_t>: the selective scan with one A per head.

    Source: Dao and Gu, "Transformers are SSMs" (2024), section 6: outputs inside a chunk by a masked product, between chunks
    by their states. Any length; any float dtype; what is accumulated stays in the dtype of the arguments, whatever the autocast.

    Args:
        u_BLHP: input.
        dt_BLH: step size, already positive.
        A_H: negative.
        B_BLN: input projection, shared by the heads.
        C_BLN: output projection.
        seq_idx: (B, L) integers; where the value changes the state is emptied.
        initial_BHPN: state before the first token; zeros if None.
        chunk: Q; time and memory inside a chunk grow with its square.

    Returns:
        (y_BLHP, last state BHPN), with gradients to every float argument.
    """
    batch, length, heads, width = u_BLHP.shape
    state = u_BLHP.new_zeros(batch, heads, width, B_BLN.shape[-1]) if initial_BHPN is None else initial_BHPN
    if length == 0:
        return u_BLHP, state
    with torch.autocast(u_BLHP.device.type, enabled=False):
        # Equal chunks waste the least; what is still missing at the end has dt = 0, which leaves the state alone.
        size = -(-length // -(-length // chunk))
        missing = -length % size
        u_BSHQP, C_BSQN, B_BSQN = (
            _cut(u_BLHP * dt_BLH[..., None], size, missing).transpose(2, 3),
            _cut(C_BLN, size, missing),
            _cut(B_BLN, size, missing),
        )
        # Differences of these sums are what counts, and single precision would lose them where the sums are large.
        logs_BSHQ = _cut(dt_BLH.double() * A_H.double(), size, missing).transpose(2, 3).cumsum(-1)
        resets_BSQ = None if seq_idx is None else _cut(~starts_kept(seq_idx, (FORWARD,)), size, missing).cumsum(-1)
        inside = _decay_inside(logs_BSHQ, resets_BSQ, u_BLHP.dtype) * (C_BSQN @ B_BSQN.mT)[:, :, None]
        y_BSHQP = inside @ u_BSHQP
        from_start_BSHQ = logs_BSHQ.to(u_BLHP.dtype).exp()
        to_end_BSHQ = (logs_BSHQ[..., -1:] - logs_BSHQ).to(u_BLHP.dtype).exp()
        if resets_BSQ is not None:
            from_start_BSHQ = from_start_BSHQ * (resets_BSQ == 0)[:, :, None]
            to_end_BSHQ = to_end_BSHQ * (resets_BSQ == resets_BSQ[..., -1:])[:, :, None]
        added_BSHPN = (u_BSHQP * to_end_BSHQ[..., None]).mT @ B_BSQN[:, :, None]
        starts = []
        for s in range(added_BSHPN.shape[1]):
            starts.append(state)
            state = from_start_BSHQ[:, s, :, -1, None, None] * state + added_BSHPN[:, s]
        if len(starts) > 1 or initial_BHPN is not None:
            y_BSHQP = y_BSHQP + from_start_BSHQ[..., None] * (C_BSQN[:, :, None] @ torch.stack(starts, 1).mT)
    return y_BSHQP.transpose(2, 3).flatten(1, 2)[:, :length], state


def _cut(x_BL: torch.Tensor, size: int, missing: int) -> torch.Tensor:
    """(B, L, ...) -> (B, S, Q, ...)."""
    if missing:
        x_BL = F.pad(x_BL, [0, 0] * (x_BL.ndim - 2) + [0, missing])
    return x_BL.unflatten(1, (-1, size))


def _decay_inside(logs_BSHQ: torch.Tensor, resets_BSQ: torch.Tensor | None, dtype: torch.dtype) -> torch.Tensor:
    """(B, S, H, Q, Q) what is left at token q of what came in at token k <= q of the same chunk and sequence."""
    size = logs_BSHQ.shape[-1]
    seen = torch.ones(size, size, dtype=torch.bool, device=logs_BSHQ.device).tril()
    if resets_BSQ is not None:
        seen = (seen & (resets_BSQ[..., :, None] == resets_BSQ[..., None, :]))[:, :, None]
    # Masked before exp: above the diagonal it would overflow.
    return (logs_BSHQ[..., :, None] - logs_BSHQ[..., None, :]).to(dtype).masked_fill(~seen, -torch.inf).exp()


class Mamba2Block(nn.Module):
    """Mamba-2 mixer, causal, behind the interface of a causal ``MambaBlock``.

    Source: Dao and Gu, "Transformers are SSMs" (2024), section 7; initialisation as documented for mamba-ssm's ``Mamba2``: A uniform
    in [1, 16] per head, step size log-uniform in [.001, .1], D = 1, gated RMSNorm with eps 1e-5.

    Args:
        d_model: C.
        d_state: N.
        d_conv: K.
        expand: D = expand * C.
        headdim: P, must divide D.
        chunk: tokens that are treated as one product of matrices.

    Raises:
        ValueError: ``headdim`` does not divide D.
    """

    def __init__(self, d_model: int, d_state: int = 64, d_conv: int = 4, expand: int = 2, headdim: int = 64, chunk: int = 64) -> None:
        super().__init__()
        self.d_inner = expand * d_model
        if self.d_inner % headdim:
            raise ValueError(f"headdim {headdim} must divide the inner width expand * d_model = {self.d_inner}")
        self.d_state, self.headdim, self.chunk = d_state, headdim, chunk
        self.heads = self.d_inner // headdim
        self.d_conved = self.d_inner + 2 * d_state
        self.in_proj = nn.Linear(d_model, self.d_inner + self.d_conved + self.heads, bias=False)
        self.conv_weight = nn.Parameter(torch.empty(self.d_conved, d_conv))
        self.conv_bias = nn.Parameter(torch.empty(self.d_conved))
        self.dt_bias = nn.Parameter(torch.empty(self.heads))
        self.A_log = nn.Parameter(torch.empty(self.heads))
        self.D = nn.Parameter(torch.empty(self.heads))
        self.norm_weight = nn.Parameter(torch.empty(self.d_inner))
        self.out_proj = nn.Linear(self.d_inner, d_model, bias=False)
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Fresh parameters, except for the projections."""
        bound = self.conv_weight.shape[-1] ** -0.5
        nn.init.uniform_(self.conv_weight, -bound, bound)
        nn.init.uniform_(self.conv_bias, -bound, bound)
        self.A_log.copy_(torch.empty_like(self.A_log).uniform_(1, 16).log())
        nn.init.ones_(self.D)
        nn.init.ones_(self.norm_weight)
        dt = torch.exp(torch.empty_like(self.dt_bias).uniform_(math.log(1e-3), math.log(0.1))).clamp_min(1e-4)
        self.dt_bias.copy_(dt + torch.log(-torch.expm1(-dt)))

    def no_weight_decay(self) -> set[str]:
        """Names of parameters that decay would push away from what they mean."""
        return {"A_log", "D", "dt_bias", "conv_bias", "norm_weight"}

    def forward(self, x_BLC: torch.Tensor, *, seq_idx: torch.Tensor | None = None) -> torch.Tensor:
        """Mix the tokens.

        Args:
            x_BLC: tokens.
            seq_idx: (B, L) integers; where the value changes another sequence begins.

        Returns:
            (B, L, C).
        """
        z_BLD, x_BLE, dt_BLH = self._project(x_BLC)
        convolved = causal_conv1d(x_BLE, self.conv_weight, self.conv_bias, silu=True, seq_idx=seq_idx)
        u_BLHP, B_BLN, C_BLN = self._split(convolved)
        y_BLHP, _ = ssd(u_BLHP, dt_BLH, self._A(), B_BLN, C_BLN, seq_idx=seq_idx, chunk=self.chunk)
        return self._finish(y_BLHP, u_BLHP, z_BLD)

    def initial_state(self, batch: int) -> MambaState:
        """The state of an empty sequence; its ``conv_BKD`` has the E channels of the convolution."""
        zeros = self.conv_weight.new_zeros
        return MambaState(zeros(batch, self.conv_weight.shape[-1] - 1, self.d_conved), zeros(batch, self.d_inner, self.d_state))

    def step(self, x_BC: torch.Tensor, state: MambaState) -> tuple[torch.Tensor, MambaState]:
        """Read one more token in constant time: ``step`` over a sequence equals ``forward`` over it.

        Args:
            x_BC: one token per sequence.
            state: from ``initial_state`` or an earlier ``step``.

        Returns:
            (output (B, C), new state); the old state is untouched.
        """
        z_BD, x_BE, dt_BH = self._project(x_BC)
        convolved, conv_BKE = conv_step(x_BE, state.conv_BKD, self.conv_weight.T, self.conv_bias)
        u_BHP, B_BN, C_BN = self._split(F.silu(convolved))
        start_BHPN = state.ssm_BDN.unflatten(1, (self.heads, -1))
        y_B1HP, last_BHPN = ssd(u_BHP[:, None], dt_BH[:, None], self._A(), B_BN[:, None], C_BN[:, None], initial_BHPN=start_BHPN)
        return self._finish(y_B1HP[:, 0], u_BHP, z_BD), MambaState(conv_BKE, last_BHPN.flatten(1, 2))

    def stepper(self) -> Step:
        """``step``; see ``MambaBlock.stepper``."""
        return self.step

    def read(self, x_BLC: torch.Tensor, state: MambaState) -> tuple[torch.Tensor, MambaState]:
        """Read many more tokens at once: as ``step`` over them, one after another.

        Args:
            x_BLC: at least one token per sequence.
            state: from ``initial_state``, ``step`` or an earlier ``read``.

        Returns:
            (outputs (B, L, C), new state); the old state is untouched.
        """
        z_BLD, x_BLE, dt_BLH = self._project(x_BLC)
        past = self.conv_weight.shape[-1] - 1
        window_BLE = torch.cat([state.conv_BKD, x_BLE], 1)
        u_BLHP, B_BLN, C_BLN = self._split(causal_conv1d(window_BLE, self.conv_weight, self.conv_bias, silu=True)[:, past:])
        start_BHPN = state.ssm_BDN.unflatten(1, (self.heads, -1))
        y_BLHP, last_BHPN = ssd(u_BLHP, dt_BLH, self._A(), B_BLN, C_BLN, initial_BHPN=start_BHPN, chunk=self.chunk)
        # A copy: a view would keep the whole window in memory.
        conv_BKE = window_BLE[:, window_BLE.shape[1] - past :].clone()
        return self._finish(y_BLHP, u_BLHP, z_BLD), MambaState(conv_BKE, last_BHPN.flatten(1, 2))

    def _project(self, x_C: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """(gate z, what is convolved, positive step size); the order of mamba-ssm's in_proj."""
        z, x, dt = self.in_proj(x_C).split([self.d_inner, self.d_conved, self.heads], -1)
        return z, x, F.softplus(_wide(dt) + _wide(self.dt_bias))

    def _split(self, convolved_E: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        u, B, C = _wide(convolved_E).split([self.d_inner, self.d_state, self.d_state], -1)
        return u.unflatten(-1, (self.heads, self.headdim)), B, C

    def _A(self) -> torch.Tensor:
        return -torch.exp(_wide(self.A_log))

    def _finish(self, y_HP: torch.Tensor, u_HP: torch.Tensor, z_D: torch.Tensor) -> torch.Tensor:
        """Skip, gate, norm, projection."""
        y_D = (y_HP + _wide(self.D)[:, None] * u_HP).flatten(-2) * F.silu(_wide(z_D))
        return self.out_proj(F.rms_norm(y_D, (self.d_inner,), _wide(self.norm_weight), eps=1e-5).to(z_D.dtype))


def _wide(x: torch.Tensor) -> torch.Tensor:
    """At least single precision, whatever the autocast."""
    return x if x.dtype == torch.float64 else x.float()
