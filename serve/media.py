"""Clips and thumbnails over HTTP: a table from numbers to files. No part of a path comes from a request.

A browser cannot send a token along with a picture. With a token, each address in an answer of the API therefore carries a key, made
from the token and the number of the clip, that opens this clip alone.
"""

import hashlib
import hmac
import re
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args
from urllib.parse import parse_qs

from .asgi import Refusal, Scope
from .catalogue import ItemCatalogue, ItemInfo

if TYPE_CHECKING:
    from starlette.responses import Response

Kind = Literal["clip", "thumbnail"]

# By the ends of names that ``vivim extract`` takes for clips; anything else is bytes, which a browser keeps to itself.
_TYPES = {
    ".mp4": "video/mp4",
    ".m4v": "video/mp4",
    ".mov": "video/quicktime",
    ".webm": "video/webm",
    ".mkv": "video/x-matroska",
    ".ogv": "video/ogg",
    ".mpg": "video/mpeg",
    ".mpeg": "video/mpeg",
    ".webp": "image/webp",
}

_RANGE = re.compile(r"bytes=(?:(?P<first>[0-9]{1,15})-(?P<last>[0-9]{1,15})?|-(?P<suffix>[0-9]{1,15}))", re.ASCII)


@dataclass(frozen=True)
class MediaFiles:
    """What there is of one item."""

    clip: Path | None = None
    thumbnail: Path | None = None


class MediaTable:
    """Files of items, by the number that the catalogue of the service has given each of them.

    Files are looked at when they are asked for: one that has gone, or is no regular file any more, is not found.

    Args:
        catalogue: whose numbers stay the same while the server runs.
        files: by item.
        token: of which the keys are made; None: there are no keys.
    """

    def __init__(self, catalogue: ItemCatalogue, files: Mapping[str, MediaFiles], token: str | None = None) -> None:
        self.catalogue = catalogue
        self.files = dict(files)
        self._key = None if token is None else hashlib.sha256(b"vivim media\0" + token.encode()).digest()

    def put(self, item: str, files: MediaFiles) -> None:
        """Add the files of an item, or give it others."""
        self.files[item] = files

    def address(self, item: ItemInfo, kind: Kind) -> str | None:
        """Where a browser finds a file of an item; None: there is none."""
        of_item = self.files.get(item.item)
        if of_item is None or getattr(of_item, kind) is None:
            return None
        return f"/media/{item.row}/{kind}" + (f"?key={self._signature(item.row)}" if self._key else "")

    def opens(self, scope: Scope) -> bool:
        """Does the address of a request hold the key of its number? Without a token no key is needed."""
        parts = scope["path"].split("/")
        if self._key is None:
            return True
        if len(parts) != 4 or not _is_number(parts[2]):
            return False
        sent = parse_qs(scope["query_string"].decode("latin-1")).get("key", [""])[0]
        return hmac.compare_digest(sent.encode(), self._signature(int(parts[2])).encode())

    def file(self, number: str, kind: str) -> Path:
        """The file behind an address.

        Raises:
            Refusal: 404: no such number or kind, or its file is not there as a regular file.
        """
        if kind in get_args(Kind) and _is_number(number) and int(number) < len(self.catalogue):
            of_item = self.files.get(self.catalogue.id_at(int(number)), MediaFiles())
            path: Path | None = getattr(of_item, kind)
            if path is not None and _is_regular(path):
                return path
        raise Refusal(404, "no_media", "there is no such clip or thumbnail.")

    def _signature(self, number: int) -> str:
        assert self._key is not None
        return hmac.new(self._key, str(number).encode(), hashlib.sha256).hexdigest()[:32]


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) < 10


def _is_regular(path: Path) -> bool:
    """Not through a link: what the table holds was resolved when it was made."""
    try:
        return stat.S_ISREG(path.lstat().st_mode)
    except OSError:
        return False


def answer(path: Path, scope: Scope) -> "Response":
    """The file, the part of it that ``Range`` asks for, or 304. One range at most: who asks for several gets the whole file, so that no
    request makes much work of a short header, and so does who sends something that is no range (RFC 9110, 14.2).

    Raises:
        Refusal: the file has gone; 416: it is shorter than where the range begins.
    """
    from starlette.responses import FileResponse, Response

    try:
        found = path.stat()
    except OSError:
        raise Refusal(404, "no_media", "there is no such clip or thumbnail.") from None
    etag = '"' + hashlib.sha256(f"{found.st_size} {found.st_mtime_ns} {found.st_ino}".encode()).hexdigest()[:32] + '"'
    headers = {"etag": etag, "cache-control": "private, max-age=3600"}
    sent = dict(scope["headers"])
    if etag in [tag.strip() for tag in sent.get(b"if-none-match", b"").decode("latin-1").split(",")]:
        return Response(status_code=304, headers=headers)
    wanted = _RANGE.fullmatch(sent.get(b"range", b"").decode("latin-1"))
    changed = sent.get(b"if-range", etag.encode()) != etag.encode()
    if changed or wanted is None or (wanted["last"] and int(wanted["last"]) < int(wanted["first"])):
        scope["headers"] = [(key, value) for key, value in scope["headers"] if key != b"range"]
    elif int(wanted["first"] or 0) >= found.st_size or int(wanted["suffix"] or 1) == 0:
        message = f"the file has {found.st_size} bytes, and what Range asks for lies behind them."
        raise Refusal(416, "range_not_satisfiable", message, {"content-range": f"bytes */{found.st_size}"})
    return FileResponse(path, headers=headers, media_type=_TYPES.get(path.suffix.lower(), "application/octet-stream"), stat_result=found)
