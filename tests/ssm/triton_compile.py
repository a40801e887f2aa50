"""Compile every kernel of the Triton scan for a GPU that need not be here: ``triton_compile.py CAPABILITY [quick]``.

The launches of real calls are recorded, and each is compiled for the types and options that it was launched with. One line per
kernel: its name, the registers of a thread and the bytes spilled.
"""

import re
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from vivim.ssm import FORWARD, REVERSE, time_major, triton_adjoints, triton_kernels, triton_parts
from vivim.ssm import triton_scan as backend
from vivim.ssm.inputs import ScanInputs

TYPES = {torch.float32: "*fp32", torch.bfloat16: "*bf16", torch.float16: "*fp16", torch.uint8: "*u8"}
TOOLS = Path(triton.__file__).parent / "backends" / "nvidia" / "bin"


class Recorder:
    """Stands in for the kernels; keeps (name, arguments, options) of each launch."""

    def __init__(self):
        self.launches = []

    def __getattr__(self, name):
        return _Launcher(self.launches, name)


class _Launcher:
    def __init__(self, launches, name):
        self.launches, self.name = launches, name

    def __getitem__(self, grid):
        return lambda *arguments, **options: self.launches.append((self.name, arguments, options))


def launches(size, dtype, *, segments, full, orders, keep):
    """The launches of a forward and a backward; nothing is computed."""
    batch, length, channels, states, groups = size
    plan = backend.Plan.of(batch, length, channels, groups, states, 132 if segments else 0)
    assert (plan.segments > 1) == segments

    def empty(*shape, dtype=dtype):
        return torch.empty(*shape, dtype=dtype)

    f = torch.float32
    wide, narrow = (batch, length, channels), (batch, length, groups, states)
    extras = [empty(channels, dtype=f), empty(*wide), empty(channels, dtype=f), empty(batch, channels, states, dtype=f)]
    recorder = Recorder()
    backend._kernels = backend._adjoints = lambda: recorder
    inputs = ScanInputs(
        *(empty(*wide), empty(*wide), empty(channels, states, dtype=f), empty(*narrow), empty(*narrow)),
        *(extras if full else [None] * 4),
        torch.ones(batch, length) if keep else None,
        full,
        orders,
    )
    call = backend._Call(inputs, backend.Walks.of(orders, length, groups), plan)
    y, last, checkpoints = call.forward(True)
    call.backward(checkpoints, y, last)
    return recorder.launches


def compiled(name, arguments, options, capability):
    kernel = getattr(triton_kernels, name, None) or getattr(triton_adjoints, name)
    types, constants, attributes = {}, {}, {}
    for i, (parameter, value) in enumerate(zip(kernel.arg_names, arguments, strict=False)):
        fixed = isinstance(value, int) and parameter not in triton_parts.ANY_NUMBER
        if value is None or (fixed and value == 1):
            types[parameter], constants[parameter] = "constexpr", value
            continue
        is_tensor = isinstance(value, torch.Tensor)
        types[parameter] = TYPES[value.dtype] if is_tensor else "i32"
        if is_tensor or (fixed and value % 16 == 0):
            attributes[(i,)] = [["tt.divisibility", 16]]
    for parameter in options.keys() & set(kernel.arg_names):
        types[parameter], constants[parameter] = "constexpr", options[parameter]
    source = ASTSource(kernel, types, constants, attributes)
    return triton.compile(source, target=GPUTarget("cuda", capability, 32), options={"num_warps": options["num_warps"]})


def resources(cubin):
    """(registers, stack bytes), as the disassembler that comes with triton reads them."""
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        said = subprocess.run([TOOLS / "cuobjdump", "-res-usage", file.name], capture_output=True, text=True, check=True)
    found = re.search(r"REG:(\d+) STACK:(\d+)", said.stdout + said.stderr)
    assert found, said.stdout
    return found.groups()


VARIANTS = {
    "stage 1, bf16, resets": ((1, 25088, 384, 16, 3), torch.bfloat16, True, True, (FORWARD, REVERSE, time_major(8)), True),
    "histories, fp32": ((256, 50, 128, 16, 1), torch.float32, False, True, (FORWARD,), True),
    "bare, N = 1": ((256, 50, 24, 1, 1), torch.float32, False, False, (REVERSE,), False),
    "N = 256, fp16": ((64, 50, 128, 256, 1), torch.float16, False, True, (FORWARD,), True),
}


def main():
    capability = int(sys.argv[1])
    names = ["stage 1, bf16, resets"] if "quick" in sys.argv else list(VARIANTS)
    for variant in names:
        size, dtype, segments, full, orders, keep = VARIANTS[variant]
        for name, arguments, options in launches(size, dtype, segments=segments, full=full, orders=orders, keep=keep):
            registers, stack = resources(compiled(name, arguments, options, capability).asm["cubin"])
            sys.stdout.write(f"{name} [{variant}] sm_{capability}: {registers} registers, {stack} bytes of stack\n")


if __name__ == "__main__":
    main()
