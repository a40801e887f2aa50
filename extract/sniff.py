"""What a file is, by its first bytes; the decoders are only ever shown files that begin like a video.

FFmpeg guesses formats generously: a playlist named .mp4 makes it read other files and addresses, a JPEG becomes a
one-frame film. So nothing is opened before its container is known, and then only as that container.
"""

from collections.abc import Callable
from pathlib import Path

from .failures import ClipError

HEAD_BYTES = 4096
_TAIL_BYTES = 1 << 17

_ISO_BOXES = (b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide", b"pnot", b"styp", b"moof", b"sidx", b"uuid")
_ISO_PICTURES = (b"heic", b"heix", b"mif1", b"avif")
_CONTAINERS: dict[str, Callable[[bytes], bool]] = {
    "mov": lambda head: head[4:8] in _ISO_BOXES and head[8:12] not in _ISO_PICTURES,
    "matroska": lambda head: head.startswith(b"\x1aE\xdf\xa3"),
    "avi": lambda head: head.startswith(b"RIFF") and head[8:12] == b"AVI ",
    "flv": lambda head: head.startswith(b"FLV\x01"),
    "ogg": lambda head: head.startswith(b"OggS"),
    "asf": lambda head: head.startswith(b"0&\xb2u\x8ef\xcf\x11"),
    "mpegts": lambda head: _every(head, 188, 0) or _every(head, 192, 4),
    "mpeg": lambda head: head.startswith(b"\x00\x00\x01\xba"),
    "mpegvideo": lambda head: head.startswith(b"\x00\x00\x01\xb3"),
    "gif": lambda head: head.startswith((b"GIF87a", b"GIF89a")),
}
"""FFmpeg's name of each container that is read -> whether a file begins like it."""

_LOOKS_LIKE: tuple[tuple[str, Callable[[bytes], bool]], ...] = (
    ("an HLS playlist", lambda head: head.startswith(b"#EXTM3U")),
    ("an FFmpeg concat script", lambda head: head.startswith(b"ffconcat")),
    ("a Git LFS pointer; fetch the real file with `git lfs pull`", lambda head: head.startswith(b"version https://git-lfs")),
    ("a web page", lambda head: head.lower().startswith((b"<!doctype html", b"<html", b"<head"))),
    ("XML", lambda head: head.startswith((b"<?xml", b"<Error", b"<MPD"))),
    ("JSON", lambda head: head.startswith((b"{", b"["))),
    ("a JPEG picture", lambda head: head.startswith(b"\xff\xd8\xff")),
    ("a PNG picture", lambda head: head.startswith(b"\x89PNG")),
    ("a WebP picture", lambda head: head.startswith(b"RIFF") and head[8:12] == b"WEBP"),
    ("a HEIF or AVIF picture", lambda head: head[4:8] == b"ftyp" and head[8:12] in _ISO_PICTURES),
    ("a WAV sound", lambda head: head.startswith(b"RIFF") and head[8:12] == b"WAVE"),
    ("an MP3 sound", lambda head: head.startswith((b"ID3", b"\xff\xfb"))),
    ("a PDF document", lambda head: head.startswith(b"%PDF")),
    ("a ZIP archive", lambda head: head.startswith(b"PK\x03\x04")),
    ("a gzip archive", lambda head: head.startswith(b"\x1f\x8b")),
    ("an HDF5 file", lambda head: head.startswith(b"\x89HDF")),
)


def container_of(head: bytes) -> str:
    """FFmpeg's name of the container that a file begins like.

    Args:
        head: the first ``HEAD_BYTES`` bytes of the file, or all of it.

    Raises:
        ClipError: not_video, saying what it looks like instead.
    """
    for container, matches in _CONTAINERS.items():
        if matches(head):
            return container
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    for name, matches in _LOOKS_LIKE:
        if matches(head) or matches(text):
            raise ClipError("not_video", f"it looks like {name}")
    if not head.strip(b"\0"):
        raise ClipError("not_video", "it begins with nothing but zeros")
    if all(byte >= 32 or byte in b"\t\n\r\f" for byte in head):
        raise ClipError("not_video", f"it looks like text: {head[:40].decode('utf-8', 'replace').split(chr(10))[0]!r}")
    raise ClipError("not_video", f"it begins like no video container: {head[:8].hex(' ')}")


def check_size(path: Path, container: str, size_bytes: int) -> None:
    """Refuse a file that is shorter than its container says, where the container says so.

    Raises:
        ClipError: truncated.
    """
    if container == "mov":
        _check_boxes(path, size_bytes)
        return
    with path.open("rb") as file:
        head = file.read(HEAD_BYTES)
        file.seek(max(0, size_bytes - _TAIL_BYTES))
        tail = file.read()
    if container == "gif" and not tail.rstrip(b"\0").endswith(b";"):
        raise ClipError("truncated", "it lacks the byte that ends a GIF file")
    if container == "ogg" and not _ends_with_a_whole_page(tail):
        raise ClipError("truncated", "the file ends inside an Ogg page")
    promised = _matroska_size(head) if container == "matroska" else None
    if container == "avi":
        promised = 8 + int.from_bytes(head[4:8], "little")
    if promised is not None and promised > size_bytes:
        raise ClipError("truncated", f"the file has {size_bytes} bytes of the {promised} that its header promises")


def _check_boxes(path: Path, size_bytes: int) -> None:
    """Walk the outermost boxes of an MP4 or MOV file; none that matters may reach beyond the end, and an index must be there."""
    offset, seen = 0, set()
    with path.open("rb") as file:
        while offset + 8 <= size_bytes:
            file.seek(offset)
            header = file.read(16)
            length, name = int.from_bytes(header[:4], "big"), header[4:8]
            if length == 1:
                length = int.from_bytes(header[8:16], "big")
            elif length == 0:
                length = size_bytes - offset
            if length < 8:
                break
            seen.add(name)
            if offset + length > size_bytes and name in (b"moov", b"mdat", b"moof"):
                missing = offset + length - size_bytes
                raise ClipError("truncated", f"the file ends inside its {name.decode()!r} box, {missing} bytes short")
            offset += length
    if b"mdat" in seen and not seen & {b"moov", b"moof"}:
        raise ClipError("truncated", "it has pictures but no index (moov); it was cut off or is still being written")


def _ends_with_a_whole_page(tail: bytes) -> bool:
    """Whether the last Ogg page in these bytes is complete; a page is at most 65307 bytes long."""
    page = tail[tail.rfind(b"OggS") :]
    segments = page[27 : 27 + page[26]] if len(page) > 26 else b""
    return len(page) > 26 and len(segments) == page[26] and len(page) >= 27 + len(segments) + sum(segments)


def _matroska_size(head: bytes) -> int | None:
    """Size in bytes that a Matroska or WebM file promises: its EBML header and one Segment; None where it does not say."""
    header, start = _ebml_length(head, 4)
    if header is None or head[start + header : start + header + 4] != b"\x18\x53\x80\x67":
        return None
    segment, after = _ebml_length(head, start + header + 4)
    return None if segment is None else after + segment


def _ebml_length(data: bytes, offset: int) -> tuple[int | None, int]:
    """A variable-length size and the offset behind it; None for "unknown", as live streams write it."""
    first = data[offset] if offset < len(data) else 0
    width = 9 - first.bit_length()
    if width > 8:
        return None, offset
    value = int.from_bytes(data[offset : offset + width], "big") & ((1 << 7 * width) - 1)
    return (None if value == (1 << 7 * width) - 1 else value), offset + width


def _every(head: bytes, step: int, start: int) -> bool:
    """Whether a transport stream's sync byte begins the first packets; one packet is too little to tell."""
    marks = head[start::step][:5]
    return len(marks) >= 2 and set(marks) == {0x47}
