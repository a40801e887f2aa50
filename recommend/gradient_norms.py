"""How large the gradients of an epoch's steps are, before they are clipped."""

from dataclasses import dataclass

import lightning_fabric
import torch
from torch import nn


def clip(fabric: lightning_fabric.Fabric, module: nn.Module, optimizer: torch.optim.Optimizer, limit: float) -> torch.Tensor:
    """Scale the gradients of all parameters down to a norm of ``limit``, if they are above it.

    Args:
        optimizer: of these parameters, itself and not as ``fabric`` has wrapped it.
        limit: 0 leaves the gradients as they are.

    Returns:
        (), their Euclidean norm before, without the factor of a loss scaler; on their device, and not waited for.
    """
    if limit:
        norm = fabric.clip_gradients(module, optimizer, max_norm=limit, error_if_nonfinite=False)
        assert norm is not None
        return norm
    fabric.strategy.precision.unscale_gradients(optimizer)
    return nn.utils.get_total_norm([parameter.grad for parameter in module.parameters() if parameter.grad is not None])


@dataclass(frozen=True)
class Norms:
    """Of the steps of an epoch.

    Attributes:
        mean: over the steps whose gradients were finite; None: there are none, or not all steps were seen.
        largest: of them; None likewise.
        overflows: steps whose gradients were NaN or infinite, which a loss scaler leaves out; None: not all steps were seen.
    """

    mean: float | None = None
    largest: float | None = None
    overflows: int | None = None


class GradientNorms:
    """Sums over the steps of an epoch, kept where the gradients are: fetching each would make a GPU wait at every step.

    Attributes:
        sums: (4,) float64; sum and largest of the finite norms, how many of these there were, how many in all.
    """

    def __init__(self, device: torch.device | str) -> None:
        self.sums = torch.zeros(4, dtype=torch.float64, device=device)

    def add(self, norm: torch.Tensor) -> None:
        """Of one step, (); nothing is fetched."""
        total, largest, finite, steps = self.sums.unbind()
        is_finite = norm.isfinite()
        kept = norm.double().where(is_finite, 0.0)
        total += kept
        torch.maximum(largest, kept, out=largest)
        finite += is_finite
        steps += 1

    def fetch(self, steps: int) -> Norms:
        """What there was in an epoch of so many steps. Part of it may have been trained by a version that did not look."""
        total, largest, finite, seen = self.sums.tolist()
        if seen != steps:
            return Norms()
        return Norms(total / finite if finite else None, largest if finite else None, int(seen - finite))
