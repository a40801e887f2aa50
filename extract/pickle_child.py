"""The other end of ``pickles``: a process that opens one pickled checkpoint, writes its tensors as safetensors, and ends.

torch's restricted unpickler builds tensors and plain containers only; what asks for anything else is refused before it runs.
"""

import json
import re
import sys
import warnings
from pathlib import Path

import torch

from .weight_files import unpack, write_safetensors

_GLOBAL = re.compile(r"GLOBAL (\S+)")
_OPERAND = re.compile(r"Unsupported operand (\d+)")
_PROTOCOL_4 = range(0x8C, 0x99)  # the opcodes that protocols 4 and 5 added


def main(source: str, target: str) -> None:
    """Write the tensors of ``source`` to ``target``; say on stdout, as JSON, what became of it."""
    warnings.simplefilter("ignore")  # an old pickle protocol is no fault
    print(json.dumps(_convert(Path(source), Path(target))))  # noqa: T201 - the parent reads it


def _convert(source: Path, target: Path) -> dict[str, str]:
    try:
        opened = torch.load(source, map_location="cpu", weights_only=True)
    except Exception as error:  # whatever a damaged file provokes
        return _why(error)
    if not isinstance(opened, dict):
        return {"error": "content", "message": type(opened).__name__}
    try:
        tensors = unpack(opened)
        if not tensors:
            return {"error": "content", "message": "a dictionary without tensors"}
        for name, tensor in tensors.items():
            if tensor.layout is not torch.strided or tensor.is_quantized or tensor.is_meta or tensor.is_complex():
                return {"error": "content", "message": f"{name}, which is sparse, quantized, complex or without data"}
        # Tensors that share memory are written apart: safetensors knows no sharing.
        write_safetensors({name: tensor.clone() for name, tensor in tensors.items()}, target, {"format": "pt"})
    except Exception as error:  # a container within itself, a tensor larger than memory, a name that is no text
        return {"error": "damaged", "message": _first_sentence(error)}
    return {}


def _why(error: Exception) -> dict[str, str]:
    text = str(error)
    if asked := _GLOBAL.search(text):
        return {"error": "code", "message": asked[1]}
    if "TorchScript" in text:
        return {"error": "unreadable", "message": "a TorchScript program"}
    if operand := _OPERAND.search(text):
        if int(operand[1]) in _PROTOCOL_4:
            return {"error": "unreadable", "message": "a pickle of protocol 4 or newer"}
        return {"error": "damaged", "message": f"byte {operand[1]} is none of its pickle"}
    return {"error": "damaged", "message": _first_sentence(error)}


def _first_sentence(error: Exception) -> str:
    """torch's errors go on with advice that is not ours to give, such as to open the file without care."""
    sentence = " ".join(str(error).split()).partition(". This ")[0].partition(". The ")[0]
    return f"{type(error).__name__}: {sentence[:200]}" if sentence else type(error).__name__


if __name__ == "__main__":
    main(*sys.argv[1:3])
