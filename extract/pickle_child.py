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


def main(source: str, target: str) -> None:
    """Write the tensors of ``source`` to ``target``; say on stdout, as JSON, what became of it."""
    warnings.simplefilter("ignore")  # an old pickle protocol is no fault
    print(json.dumps(_convert(Path(source), Path(target))))  # noqa: T201 - the parent reads it


def _convert(source: Path, target: Path) -> dict[str, str]:
    try:
        opened = torch.load(source, map_location="cpu", weights_only=True)
    except Exception as error:  # whatever a damaged file provokes
        asked = _GLOBAL.search(str(error))
        if asked:
            return {"error": "code", "message": asked[1]}
        return {"error": "damaged", "message": f"{type(error).__name__}: {error}"}
    if not isinstance(opened, dict):
        return {"error": "content", "message": type(opened).__name__}
    tensors = unpack(opened)
    if not tensors:
        return {"error": "content", "message": "a dictionary without tensors"}
    # Tensors that share memory are written apart: safetensors knows no sharing.
    write_safetensors({name: tensor.clone() for name, tensor in tensors.items()}, target, {"format": "pt"})
    return {}


if __name__ == "__main__":
    main(*sys.argv[1:3])
