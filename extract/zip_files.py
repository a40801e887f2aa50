"""The files of a zip, read in place and one at a time; nothing is ever unpacked, and no name in it is ever a path of ours."""

import re
import zipfile
import zlib
from pathlib import Path

from ..errors import InputError
from .failures import ClipError

_MAX_FILES = 2_000_000
_ABSOLUTE = re.compile(r"[/\\]|[A-Za-z]:")
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # Python unpacks the others without a bound on what comes out


class ZipFiles:
    """A zip, open for reading.

    Raises:
        InputError: no zip, cut off, one part of several, too many files in it, or names that lead out of it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._zip = zipfile.ZipFile(path)
        except (zipfile.BadZipFile, NotImplementedError, OSError, ValueError) as error:
            raise InputError(f"{path} cannot be read as a zip ({error}). Give a whole zip in one part, or a folder.") from error
        self._entries = {entry.filename: entry for entry in self._zip.infolist() if not entry.is_dir()}
        if len(self._entries) > _MAX_FILES:
            raise InputError(f"{path} holds {len(self._entries)} files; at most {_MAX_FILES} are read from a zip. Unpack it.")
        outside = next((name for name in self._entries if _leads_out(name)), None)
        if outside is not None:
            raise InputError(f"{path} holds a file named {outside!r}, which would lie outside of where it is unpacked; it is not used.")

    def names(self) -> list[str]:
        """All files but hidden ones, and those that macOS adds."""
        return [name for name in self._entries if not any(part.startswith((".", "__MACOSX")) for part in name.split("/"))]

    def read(self, name: str, max_bytes: int) -> bytes:
        """One file, checked against its checksum.

        Raises:
            ClipError: unsupported_codec, too_large, decode_error, or missing.
        """
        entry = self._entries[name]
        if entry.flag_bits & 1:
            raise ClipError("unsupported_codec", f"{name} is encrypted in {self.path.name}")
        if entry.compress_type not in _METHODS:
            raise ClipError("unsupported_codec", f"{name} is packed with method {entry.compress_type}; stored and deflated files are read")
        if entry.file_size > max_bytes:
            raise ClipError("too_large", f"{name} unpacks to {entry.file_size} bytes; at most {max_bytes} are allowed")
        try:
            with self._zip.open(entry) as file:
                return file.read()
        except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as error:
            raise ClipError("decode_error", f"{name} is damaged in {self.path.name}: {error}") from error
        except OSError as error:
            raise ClipError("missing", f"{self.path}: {error.strerror or error}") from error


def _leads_out(name: str) -> bool:
    return bool(_ABSOLUTE.match(name)) or ".." in re.split(r"[/\\]", name)
