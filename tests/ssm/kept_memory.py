"""python kept_memory.py BACKEND: no states are written where no backward can follow, though the parameters of a model require gradients."""

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


def check(backend):
    plain = new_floats(backend, parameters=False)
    for off in (torch.no_grad(), torch.inference_mode()):
        with off:
            assert new_floats(backend, parameters=True) == plain, off
    assert new_floats(backend, parameters=True) > plain


if __name__ == "__main__":
    check(Backend(sys.argv[1]))
