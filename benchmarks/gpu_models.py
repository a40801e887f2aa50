"""Whole encoders on a GPU: their vectors beside the CPU's, and clips per second."""

from collections.abc import Callable
from typing import Any

import torch
from gpu_machine import DEVICE, DRY, milliseconds
from vivim.extract.vivim import Vivim, VivimConfig
from vivim.ssm import Backend, MambaBlock

# (backend, bfloat16 autocast, (encoder, clips at once))
TIMED = (
    (Backend.AUTO, True, ("b0", 1)),
    *((Backend.AUTO, amp, ("b0", 32)) for amp in (False, True)),
    (Backend.AUTO, True, ("b3", 32)),
    (Backend.TORCH, False, ("b0", 32)),
)


def check_vectors() -> list[dict[str, Any]]:
    """The vectors of two clips, on the device beside the CPU; largest difference over the length of a vector."""
    rows = []
    for size in ("nano",) if DRY else ("nano", "b0"):
        torch.manual_seed(0)
        encoder = Vivim(VivimConfig.of_size(size)).eval()  # type: ignore[arg-type]
        frames = torch.randint(0, 256, (2, 2 if DRY else 8, 3, *((32, 32) if DRY else (224, 224))), dtype=torch.uint8)
        with torch.inference_mode():
            want = encoder.embed_uint8(frames)
            encoder.to(DEVICE)
            for precision, tf32 in (("32-true", False), ("32-true", True), ("bf16-mixed", True)):
                torch.backends.cudnn.allow_tf32 = tf32
                with torch.autocast(DEVICE.type, torch.bfloat16, enabled=precision == "bf16-mixed"):
                    got = encoder.embed_uint8(frames).cpu()
                error = float(((got - want).norm(dim=1) / want.norm(dim=1)).max())
                ok = error <= (1e-4 if not tf32 else 2e-2)
                rows.append({"encoder": size, "precision": precision, "cudnn_tf32": tf32, "error": error, "ok": ok})
                print(f"{'within' if ok else 'WRONG '} vectors of {size}, {precision}, TF32 convolutions {tf32}: {error:.1e}", flush=True)
    torch.backends.cudnn.allow_tf32 = True
    return rows


def time_models() -> list[dict[str, Any]]:
    """A Vivim block of stage one, and whole encoders, with our kernels; one also with plain torch."""
    rows = []
    runs = ((Backend.AUTO, False, ("nano", 1)),) if DRY else TIMED
    for backend, amp, (size, clips) in runs:
        model = Vivim(VivimConfig.of_size(size)).to(DEVICE).eval()  # type: ignore[arg-type]
        for module in model.modules():
            if isinstance(module, MambaBlock):
                module.backend = backend
        clip = torch.rand(clips, *((2, 3, 32, 32) if DRY else (8, 3, 224, 224)), device=DEVICE)
        rows.append(_model_row(f"encoder {size}, 8 frames", backend.value, amp, clips, lambda m=model, c=clip: m.embed(c)))
    return rows


def _model_row(what: str, backend: str, amp: bool, clips: int, run: Callable[[], torch.Tensor]) -> dict[str, Any]:
    def mixed() -> torch.Tensor:
        with torch.autocast(DEVICE.type, torch.bfloat16, enabled=amp):
            return run()

    def train() -> None:
        mixed().float().square().mean().backward()

    with torch.inference_mode():
        forward_ms = milliseconds(mixed)
    both_ms = milliseconds(train)
    row = {"what": what, "backend": backend, "autocast": amp, "clips": clips, "forward_ms": forward_ms, "both_ms": both_ms}
    print(
        f"{what} ({backend}{', bf16' * amp}) {clips} clips: {1e3 * clips / forward_ms:.1f} clips/s, training {1e3 * clips / both_ms:.1f}",
        flush=True,
    )
    return row | {"clips_per_second": 1e3 * clips / forward_ms, "training_clips_per_second": 1e3 * clips / both_ms}
