"""One token without a loop: by hand, and as a round of the reference."""

import math

import torch
from vivim.ssm import Backend, selective_scan
from vivim.ssm.recurrence import selective_step


def test_one_channel_and_one_state_by_hand():
    """dt = softplus(0) = ln 2, so that exp(dt A) is a half at A = -1: h = 8 / 2 + 3 ln 2 * 5, y = 7 h + 2 * 3."""
    of = {"u_BD": [[3.0]], "delta_BD": [[0.0]], "A_DN": [[-1.0]], "B_BN": [[5.0]], "C_BN": [[7.0]], "D_D": [2.0], "state_BDN": [[[8.0]]]}
    y, after = selective_step(**{name: torch.tensor(value, dtype=torch.float64) for name, value in of.items()})
    h = 4 + 15 * math.log(2)
    torch.testing.assert_close(after, torch.tensor([[[h]]], dtype=torch.float64))
    torch.testing.assert_close(y, torch.tensor([[7 * h + 6]], dtype=torch.float64))


def test_it_equals_the_reference_over_one_token_and_leaves_the_state_before_alone():
    torch.manual_seed(0)
    u, delta, before = torch.randn(3, 5), torch.randn(3, 5), torch.randn(3, 5, 4)
    A, B, C, D = -torch.rand(5, 4), torch.randn(3, 4), torch.randn(3, 4), torch.randn(5)
    kept = before.clone()
    y, after = selective_step(u, delta, A, B, C, D, before)
    want, last = selective_scan(
        u[:, None],
        delta[:, None],
        A,
        B[:, None],
        C[:, None],
        D=D,
        delta_softplus=True,
        initial_state=before,
        return_last_state=True,
        backend=Backend.REFERENCE,
    )
    torch.testing.assert_close(y, want[:, 0])
    torch.testing.assert_close(after, last)
    assert torch.equal(before, kept)
