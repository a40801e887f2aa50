"""``vivim convert-weights``: a pickled checkpoint to a safetensors file that can be loaded without fear."""

import os
from pathlib import Path

from safetensors import SafetensorError

from ..errors import InputError
from .load_report import LoadReport
from .pickles import read_pickle
from .weight_files import write_safetensors
from .weights import from_state_dict


def convert_weights(source: Path, target: Path) -> LoadReport:
    """Turn a pickled checkpoint into a safetensors file with the same tensor names.

    The tensors must make an encoder; what the file's containers hold beside them (optimizer, settings) is left behind. Scheme
    and licence are written into the metadata.

    Args:
        source: the checkpoint.
        target: the file to write; must end in ``.safetensors`` and not exist.

    Returns:
        The report that loading ``target`` would give.

    Raises:
        InputError: a bad name, no such file, a file that holds code or is damaged, tensors that make no encoder, or a place that cannot
            be written.
        VivimError: no child process could be started.
    """
    if target.suffix != ".safetensors":
        raise InputError(f"convert-weights: {target} must end in .safetensors, so that other commands take it. Choose such a name.")
    if os.path.lexists(target):
        raise InputError(f"convert-weights: {target} is there already. Delete it, or choose another name.")
    if source.suffix.lower() == ".safetensors":
        raise InputError(f"convert-weights: {source} is a safetensors file already. Give it to --weights as it is.")
    tensors = read_pickle(source)
    report = from_state_dict(tensors, source=source.name).load_report
    metadata = {"format": "pt", "scheme": report.scheme} | ({"licence": report.licence} if report.licence else {})
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        write_safetensors(tensors, target, metadata)
    except (OSError, SafetensorError) as error:
        raise InputError(f"convert-weights: {target} cannot be written ({error}). Choose another place.") from error
    return report
