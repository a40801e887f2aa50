"""The selective scan in plain torch, without ever holding (B, L, D, N): the backend that needs no compiler.

Time is cut into chunks that run side by side, so that a long sequence of few channels is not one small operation per
token: a first pass finds each chunk's end state from a zero start, a prefix over the chunks gives the true starts, a
second pass gives the outputs. The backward recomputes the states from checkpoints.

Legend: as in ``reference``; S chunks of K steps (L <= S * K).
"""

import math
from typing import Any

import torch
import torch.nn.functional as F

# State elements worth one vectorised step; below that, python's overhead per step dominates.
_ELEMENTS_PER_STEP = 1 << 17


def scan(
    u_BLGE: torch.Tensor,
    dt_BLGE: torch.Tensor,
    A_GEN: torch.Tensor,
    B_BLGN: torch.Tensor,
    C_BLGN: torch.Tensor,
    start_BGEN: torch.Tensor,
    keep_BL: torch.Tensor | None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Same contract as ``reference.scan``."""
    if u_BLGE.shape[1] == 0:
        return u_BLGE, start_BGEN
    y, last = _TorchScan.apply(u_BLGE, dt_BLGE, A_GEN, B_BLGN, C_BLGN, start_BGEN, keep_BL)  # type: ignore[no-untyped-call]
    return y, last


def _num_chunks(length: int, elements: int) -> int:
    return max(1, min(math.isqrt(length), _ELEMENTS_PER_STEP // max(elements, 1)))


class _Chunks:
    """The inputs cut into S chunks of K steps; padding has dt = 0, which leaves the state alone."""

    def __init__(
        self,
        u: torch.Tensor,
        dt: torch.Tensor,
        A: torch.Tensor,
        B: torch.Tensor,
        C: torch.Tensor,
        keep: torch.Tensor | None,
    ) -> None:
        self.length = u.shape[1]
        self.S = _num_chunks(self.length, u.shape[0] * A.numel())
        self.K = -(-self.length // self.S)
        self.S = -(-self.length // self.K)
        self.A = A
        self.u, self.dt, self.B, self.C = (self.cut(x) for x in (u, dt, B, C))
        self.keep = None if keep is None else self.cut(keep.to(u.dtype), 1.0)

    def cut(self, x_BL: torch.Tensor, fill: float = 0.0) -> torch.Tensor:
        """(B, L, ...) -> (K, B, S, ...), one step of every chunk at each index of the first axis."""
        missing = self.S * self.K - self.length
        if missing:
            x_BL = F.pad(x_BL, [0, 0] * (x_BL.ndim - 2) + [0, missing], value=fill)
        return x_BL.unflatten(1, (self.S, self.K)).movedim(2, 0)

    def join(self, x_KBS: torch.Tensor) -> torch.Tensor:
        """The inverse of ``cut``."""
        return x_KBS.movedim(0, 2).flatten(1, 2)[:, : self.length]

    def decay(self, k: int) -> torch.Tensor:
        decay = torch.mul(self.dt[k][..., None], self.A).exp_()
        if self.keep is not None:
            decay.mul_(self.keep[k][..., None, None, None])
        return decay

    def step(self, h: torch.Tensor, k: int) -> torch.Tensor:
        """h after step k; a new tensor."""
        h = self.decay(k).mul_(h)
        return h.addcmul_((self.dt[k] * self.u[k])[..., None], self.B[k][..., None, :])

    def starts(self, start_BGEN: torch.Tensor) -> torch.Tensor:
        """True state before each chunk and after the last: (B, S + 1, G, E, N)."""
        states = [start_BGEN]
        if self.S > 1:
            ends = self.zeros(start_BGEN)
            for k in range(self.K):
                ends = self.step(ends, k)
            total = self.total_decay()
            for s in range(self.S - 1):
                states.append(total[:, s] * states[s] + ends[:, s])
        return torch.stack(states, 1)

    def total_decay(self) -> torch.Tensor:
        """What is left of a chunk's start state at its end: (B, S, G, E, N)."""
        total = torch.mul(self.dt.sum(0)[..., None], self.A).exp_()
        if self.keep is not None:
            total.mul_(self.keep.prod(0)[..., None, None, None])
        return total

    def zeros(self, like_BGEN: torch.Tensor) -> torch.Tensor:
        return like_BGEN.new_zeros(like_BGEN.shape[0], self.S, *like_BGEN.shape[1:])


class _TorchScan(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        u: torch.Tensor,
        dt: torch.Tensor,
        A: torch.Tensor,
        B: torch.Tensor,
        C: torch.Tensor,
        start: torch.Tensor,
        keep: torch.Tensor | None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        chunks = _Chunks(u, dt, A, B, C, keep)
        starts = chunks.starts(start)
        h = starts
        y = torch.empty_like(chunks.u, memory_format=torch.contiguous_format)
        for k in range(chunks.K):
            h = chunks.step(h, k)
            torch.sum(h * chunks.C[k][..., None, :], -1, out=y[k])
        ctx.save_for_backward(u, dt, A, B, C, keep, starts)
        return chunks.join(y), h[:, -1].contiguous()

    @staticmethod
    def backward(ctx: Any, grad_y: torch.Tensor, grad_last: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        u, dt, A, B, C, keep, starts = ctx.saved_tensors
        chunks = _Chunks(u, dt, A, B, C, keep)
        dy = chunks.cut(grad_y)
        grads = {name: torch.empty_like(getattr(chunks, name), memory_format=torch.contiguous_format) for name in ("u", "dt", "B", "C")}
        grad_A = torch.zeros_like(A)
        q = _incoming(chunks, dy, grad_last)
        stride = max(1, math.isqrt(chunks.K))
        h, checkpoints = starts, []
        for k in range(chunks.K):
            if k % stride == 0:
                checkpoints.append(h)
            h = chunks.step(h, k)
        for block in reversed(range(len(checkpoints))):
            first, last = block * stride, min((block + 1) * stride, chunks.K)
            states = [checkpoints[block]]
            for k in range(first, last):
                states.append(chunks.step(states[-1], k))
            for k in reversed(range(first, last)):
                q = _step_back(chunks, k, states[k - first], states[k - first + 1], dy[k], q, grads, grad_A)
        joined = [chunks.join(grads[name]) for name in ("u", "dt")]
        return joined[0], joined[1], grad_A, chunks.join(grads["B"]), chunks.join(grads["C"]), q[:, 0], None


def _incoming(chunks: _Chunks, dy: torch.Tensor, grad_last_BGEN: torch.Tensor) -> torch.Tensor:
    """Gradient that reaches the end state of each chunk from all that comes after it: (B, S, G, E, N)."""
    incoming = [grad_last_BGEN]
    if chunks.S > 1:
        q = chunks.zeros(grad_last_BGEN)
        for k in reversed(range(chunks.K)):
            q = chunks.decay(k).mul_(q + dy[k][..., None] * chunks.C[k][..., None, :])
        total = chunks.total_decay()
        for s in reversed(range(1, chunks.S)):
            incoming.append(q[:, s] + total[:, s] * incoming[-1])
    return torch.stack(incoming[::-1], 1)


def _step_back(
    chunks: _Chunks,
    k: int,
    before: torch.Tensor,
    after: torch.Tensor,
    dy: torch.Tensor,
    q: torch.Tensor,
    grads: dict[str, torch.Tensor],
    grad_A: torch.Tensor,
) -> torch.Tensor:
    """One step of the adjoint: fills the gradients of step k, returns the gradient of the state before it."""
    dt, u, B = chunks.dt[k], chunks.u[k], chunks.B[k]
    g = torch.addcmul(q, dy[..., None], chunks.C[k][..., None, :])
    grads["C"][k] = (after * dy[..., None]).sum(-2)
    grads["B"][k] = (g * (dt * u)[..., None]).sum(-2)
    along_B = (g * B[..., None, :]).sum(-1)
    grads["u"][k] = dt * along_B
    q = chunks.decay(k).mul_(g)
    through_decay = q * before
    grads["dt"][k] = u * along_B + (through_decay * chunks.A).sum(-1)
    grad_A += (through_decay * dt[..., None]).sum((0, 1))
    return q
