"""The selective scan as its definition reads: one loop over time, any float dtype. Every fast version is judged by it.

Source: Gu and Dao, "Mamba: Linear-Time Sequence Modeling with Selective State Spaces" (2023), Algorithm 2; zero-order
hold for A, Euler for B, as the published code does.

Legend: B batch, L tokens, G groups, E channels of a group (D = G * E), N state size.
"""

import torch


def scan(
    u_BLGE: torch.Tensor,
    dt_BLGE: torch.Tensor,
    A_GEN: torch.Tensor,
    B_BLGN: torch.Tensor,
    C_BLGN: torch.Tensor,
    start_BGEN: torch.Tensor,
    keep_BL: torch.Tensor | None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """h_t = exp(dt_t A) h_{t-1} + dt_t u_t B_t;  y_t = <h_t, C_t>.

    Args:
        u_BLGE: input.
        dt_BLGE: step size, already positive.
        A_GEN: state matrix (negative).
        B_BLGN: input projection.
        C_BLGN: output projection.
        start_BGEN: h before the first token.
        keep_BL: 0 where the state is emptied before the token is read (a new sequence begins), else 1; None: never.

    Returns:
        (y_BLGE, last state BGEN), with gradients to every argument.
    """
    h = start_BGEN
    outputs = []
    steps = zip(u_BLGE.unbind(1), dt_BLGE.unbind(1), B_BLGN.unbind(1), C_BLGN.unbind(1), strict=True)
    for t, (u, dt, b, c) in enumerate(steps):
        decay = torch.exp(dt[..., None] * A_GEN)
        if keep_BL is not None:
            decay = decay * keep_BL[:, t, None, None, None]
        h = decay * h + (dt * u)[..., None] * b[:, :, None, :]
        outputs.append((h * c[:, :, None, :]).sum(-1))
    return (torch.stack(outputs, 1) if outputs else u_BLGE), h
