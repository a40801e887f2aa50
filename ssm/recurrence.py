"""One token of the selective scan: its definition, without the loop.

Legend: B batch, D channels, N state size.
"""

import torch
import torch.nn.functional as F


def selective_step(
    u_BD: torch.Tensor,
    delta_BD: torch.Tensor,
    A_DN: torch.Tensor,
    B_BN: torch.Tensor,
    C_BN: torch.Tensor,
    D_D: torch.Tensor,
    state_BDN: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor]:
    """The output (B, D) and the next state (B, D, N): dt = softplus(delta); h = exp(dt A) h + dt u B; y = <h, C> + D u.

    Source: Gu and Dao, "Mamba" (2023), Algorithm 2. As few operations as there can be: a step is so small that calling them is what it
    costs; they work in place, so that no gradient leads back through the state.

    Args:
        u_BD: input.
        delta_BD: step size before the softplus, with its bias.
        A_DN: state matrix, negative.
        B_BN, C_BN: projections of the input and of the output.
        D_D: skip.
        state_BDN: before the token; it is not changed.
    """
    dt_BD = F.softplus(delta_BD)
    kept_BDN = (dt_BD[..., None] * A_DN).exp_().mul_(state_BDN)
    after_BDN = kept_BDN.addcmul_((dt_BD * u_BD)[..., None], B_BN[:, None])
    return torch.addcmul((after_BDN @ C_BN[..., None])[..., 0], D_D, u_BD), after_BDN
