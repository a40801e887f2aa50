"""Opening an HDF5 file that may be damaged or hostile: nothing is allocated or followed before it is checked.

HDF5 can point at other files (external storage, external links, virtual datasets), ask for petabytes from a
kilobyte (shapes), and run filters of any kind. Files of ours need none of that.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from ..errors import InputError, VivimError

_MAX_TEXT_BYTES = 60_000


@contextmanager
def open_checked(path: Path) -> Iterator[h5py.File]:
    """The file, open for reading; whatever the HDF5 library throws while it is used becomes an InputError naming it.

    Raises:
        InputError: absent, not HDF5, truncated, or damaged.
    """
    if not path.is_file():
        raise InputError(f"{path} is not there or not a file; give an embedding file made by `vivim extract`.")
    try:
        with h5py.File(path, "r") as file:
            yield file
    except VivimError:
        raise
    except Exception as error:
        raise InputError(
            f"{path} cannot be read as an embedding file: {error}. It is damaged, cut off, or something else; "
            "restore it or run `vivim extract` into a new file."
        ) from error


def check_group(group: h5py.Group, names: set[str], path: Path) -> None:
    """Refuse a group that holds anything but plain hard links to exactly these names.

    Raises:
        InputError: a soft or external link, a missing or an unknown name.
    """
    for name in group:
        if group.id.links.get_info(name.encode()).type != h5py.h5l.TYPE_HARD:
            raise InputError(f"{path}: {name!r} is a soft or external link; embedding files hold their own data only.")
    if set(group) != names:
        missing, extra = sorted(names - set(group)), sorted(set(group) - names)
        raise InputError(f"{path} is not an embedding file of ours: missing {missing}, unknown {extra} in {group.name!r}.")


def read_column(group: h5py.Group, name: str, *, dtypes: str, ndim: int, path: Path) -> npt.NDArray[Any]:
    """A whole dataset, after its rank, dtype, storage, filters and size have been checked.

    Args:
        dtypes: space-separated little-endian numpy dtypes that are allowed, for example ``"<f2 <f4"``; ``S`` allows any
            fixed-length bytes.

    Raises:
        InputError: anything about the dataset is not what our writer makes.
    """
    dataset = group.get(name)
    where = f"{path}: dataset {name!r}"
    if not isinstance(dataset, h5py.Dataset):
        raise InputError(f"{where} is not a dataset.")
    allowed = dtypes.split()
    dtype = dataset.dtype
    if (dtype.kind if dtype.kind == "S" else dtype.str.replace("|", "")) not in allowed:
        raise InputError(f"{where} has the type {dtype}; allowed is {' or '.join(allowed)}.")
    if dataset.ndim != ndim:
        raise InputError(f"{where} has {dataset.ndim} dimensions (shape {dataset.shape}); it needs {ndim}.")
    _check_storage(dataset, path, where)
    data: npt.NDArray[Any] = dataset[()]
    return data


def _check_storage(dataset: h5py.Dataset, path: Path, where: str) -> None:
    if dataset.external or dataset.is_virtual:
        raise InputError(f"{where} takes its values from other files; embedding files hold their own data only.")
    plist = dataset.id.get_create_plist()
    filters = {plist.get_filter(k)[0] for k in range(plist.get_nfilters())}
    if filters - {h5py.h5z.FILTER_FLETCHER32}:
        raise InputError(f"{where} uses HDF5 filters {sorted(filters)}; only the checksum (fletcher32) is allowed.")
    logical_bytes = int(np.prod([int(n) for n in dataset.shape], dtype=object)) * dataset.dtype.itemsize
    if logical_bytes > path.stat().st_size or logical_bytes > dataset.id.get_storage_size():
        raise InputError(f"{where} claims {logical_bytes} bytes, which the file of {path.stat().st_size} bytes does not hold.")


def read_text(file: h5py.File, name: str, path: Path) -> str:
    """A text attribute that is stored inline, with a bounded length.

    Raises:
        InputError: absent, of another type, too long, or not UTF-8.
    """
    if not h5py.h5a.exists(file.id, name.encode()):
        raise InputError(f"{path} has no {name!r}; it is not an embedding file of ours.")
    attribute = h5py.h5a.open(file.id, name.encode())
    kind = attribute.get_type()
    if not isinstance(kind, h5py.h5t.TypeStringID) or kind.is_variable_str() or attribute.shape != () or kind.get_size() > _MAX_TEXT_BYTES:
        raise InputError(f"{path}: attribute {name!r} is not a short text.")
    try:
        return bytes(file.attrs[name]).decode("utf-8")
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: attribute {name!r} is not UTF-8.") from error


def text_attribute(text: str) -> np.bytes_:
    """Text as the inline attribute that ``read_text`` accepts.

    Raises:
        InputError: longer than an attribute may be.
    """
    encoded = text.encode("utf-8")
    if len(encoded) > _MAX_TEXT_BYTES:
        raise InputError(f"a text of {len(encoded)} bytes does not fit into the file's header; at most {_MAX_TEXT_BYTES} do.")
    return np.bytes_(encoded)
