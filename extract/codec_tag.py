"""The name a container gives its video codec. FFmpeg's bindings keep it to themselves where they know no decoder for it."""

import re
from pathlib import Path

_HEADER_BYTES = 1 << 16
_INDEX_BYTES = 1 << 24
_LONGEST_NAME = 64


def codec_tag(path: Path, container: str) -> str | None:
    """The codec's tag as the container writes it: ``evc1``, ``V_QUICKTIME``, ``DIVX``; None where it is not found or has none.

    Args:
        container: as ``sniff.container_of`` named it.
    """
    match container:
        case "mov":
            tag = _of_track(_index(path))
        case "matroska":
            tag = _of_codec_id(_head(path))
        case "avi":
            tag = _of_bitmap(_head(path))
        case _:
            tag = None
    return tag.decode("latin-1").strip("\0 ") or None if tag else None


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(_HEADER_BYTES)


def _index(path: Path) -> bytes:
    """The movie box of an MP4 or MOV file; empty if there is none."""
    size = path.stat().st_size
    place = 0
    with path.open("rb") as file:
        while place + 8 <= size:
            file.seek(place)
            header = file.read(16)
            length = int.from_bytes(header[:4], "big")
            if length == 1:
                length = int.from_bytes(header[8:16], "big")
            if header[4:8] == b"moov":
                file.seek(place)
                return file.read(min(length or size, _INDEX_BYTES))
            if length < 8:
                break
            place += length
    return b""


def _of_track(index: bytes) -> bytes | None:
    """The sample entry's type of the first track whose handler is video."""
    for track in index.split(b"trak")[1:]:
        entry = re.search(rb"stsd\0\0\0\0.{8}(.{4})", track, re.DOTALL)
        if b"vide" in track and entry:
            return entry[1]
    return None


def _of_codec_id(head: bytes) -> bytes | None:
    """The text of a Matroska CodecID element (0x86) that names a video codec."""
    for found in re.finditer(rb"\x86([\x82-\xbf])(?=V_)", head):
        return head[found.end() : found.end() + min(found[1][0] & 0x7F, _LONGEST_NAME)]
    return None


def _of_bitmap(head: bytes) -> bytes | None:
    """The compression field of the first video stream's format (``strf``) of an AVI file."""
    found = re.search(rb"vids.*?strf.{4}.{16}(.{4})", head, re.DOTALL)
    return found[1] if found else None
