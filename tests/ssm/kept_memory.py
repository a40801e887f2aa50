"""python kept_memory.py BACKEND: how many numbers a scan makes room for, where a backward can follow and where none can."""

import sys

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from vivim.ssm import Backend, selective_scan


class NewFloats(TorchDispatchMode):
    """How many numbers the empty tensors hold that were made meanwhile."""

    count = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        made = function(*args, **(kwargs or {}))
        if "empty" in function.overloadpacket.__name__:
            self.count += made.numel()
        return made


def new_floats(backend, *, parameters):
    """In a scan of (1, 64, 4, 16), whose arguments are parameters or not."""
    u, delta, A, B, C = (
        torch.ones(*shape, requires_grad=parameters) for shape in ((1, 64, 4), (1, 64, 4), (4, 16), (1, 64, 16), (1, 64, 16))
    )
    with NewFloats() as new:
        selective_scan(u, delta, A, B, C, backend=backend)
    return new.count


def counts(backend):
    """Without any parameters; with parameters under ``no_grad`` and ``inference_mode``; with parameters, as a training does."""
    plain = new_floats(backend, parameters=False)
    off = []
    for mode in (torch.no_grad(), torch.inference_mode()):
        with mode:
            off.append(new_floats(backend, parameters=True))
    return [plain, *off, new_floats(backend, parameters=True)]


if __name__ == "__main__":
    sys.stdout.write(" ".join(map(str, counts(Backend(sys.argv[1])))))
