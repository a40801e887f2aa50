"""What bfloat16 does to the vectors, judged by those of float32."""

import torch
from vivim.extract.precision import MixedPrecision
from vivim.extract.vivim import VivimConfig
from vivim.extract.weights import load_weights

BFLOAT16_STEP = 2.0**-8


def test_bfloat16_vectors_are_float32_ones_within_its_rounding() -> None:
    encoder = load_weights("random", VivimConfig.of_size("nano"))
    frames = torch.randint(0, 255, (2, 3, 3, 64, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        exact = encoder.embed_uint8(frames)
        mixed = MixedPrecision(encoder).embed_uint8(frames)
        again = encoder.embed_uint8(frames)
    assert mixed.dtype == torch.float32
    assert 0 < float((mixed - exact).norm() / exact.norm()) < 4 * BFLOAT16_STEP
    torch.testing.assert_close(again, exact, rtol=0, atol=0)
