"""The selective scan and the Mamba layer, shared by both stages; knows neither video nor users."""

from .block import CAUSAL, VIDEO, MambaBlock, MambaState, Step
from .mamba2 import Mamba2Block
from .order import FORWARD, REVERSE, Order, Walk, time_major
from .scan import Backend, available_backends, resolve, selective_scan

__all__ = [
    "CAUSAL",
    "FORWARD",
    "REVERSE",
    "VIDEO",
    "Backend",
    "Mamba2Block",
    "MambaBlock",
    "MambaState",
    "Order",
    "Step",
    "Walk",
    "available_backends",
    "resolve",
    "selective_scan",
    "time_major",
]
