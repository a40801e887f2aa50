"""Small pictures inside the page: what is shown is made small first, and never more than the file has room for.

Shapes: T frames, H, W of a picture.
"""

import base64
import io
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from types import ModuleType
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from ...errors import InputError, MissingExtra

if TYPE_CHECKING:
    from PIL import Image

SIDE_PIXELS = 112
QUALITY = 62
_MB = 1_000_000
_MARKUP_BYTES = 24  # of the page around one picture
_WORDS_BYTES = 400  # of the page about pictures: `Album.words`


@dataclass(frozen=True)
class Frames:
    """What was read of a clip.

    Attributes:
        pictures_THWC: uint8 RGB, as the encoder saw them.
        times_seconds_T: when each was shown.
    """

    pictures_THWC: npt.NDArray[np.uint8]
    times_seconds_T: npt.NDArray[np.float64]


@dataclass(frozen=True)
class Pictures:
    """What there is to show.

    Attributes:
        find: item id -> picture file of any size; None: there is none.
        frames: item id -> its sampled frames, of the clips of the contact sheet.
    """

    find: Callable[[str], bytes | None]
    frames: Mapping[str, Frames] = field(default_factory=dict)


Sheet = list[tuple[str, npt.NDArray[np.float64], list[str]]]
"""Of each clip: id, seconds and data URI of each frame."""


class Album:
    """Pictures as data URIs, as many as the file has room for.

    Args:
        pictures: what there is.
        file_mb: MB of the whole file, at most.
    """

    def __init__(self, pictures: Pictures, file_mb: float) -> None:
        self.frames = pictures.frames
        self._find = pictures.find
        self._file_mb = file_mb
        self._left = int(file_mb * _MB)
        self._uris: dict[str, str] = {}
        self.full = False

    def leave_room(self, rest_bytes: int) -> None:
        """For what the file has beside pictures: theirs is what is left. Before any is taken."""
        assert not self._uris
        self._left = int(self._file_mb * _MB) - rest_bytes - _WORDS_BYTES

    def fill(self, ids: Iterable[str]) -> frozenset[str]:
        """Take the pictures of ``ids`` in, in that order, each as often as its id comes, until one does not fit.

        Returns:
            the ids whose picture may be shown in these places.

        Raises:
            InputError: a file that should be a picture is none.
        """
        taken = set()
        for id_, times in Counter(ids).items():
            if self.full:
                break
            uri = self._uris.get(id_) or self._found(id_)
            if uri is not None and self._fits([uri] * times):
                self._uris[id_] = uri
                taken.add(id_)
        return frozenset(taken)

    def sheet(self) -> Sheet:
        """Clips of the contact sheet, as many as fit."""
        shown = []
        for id_, frames in self.frames.items():
            if not self.full and self._fits(uris := frame_uris(frames)):
                shown.append((id_, frames.times_seconds_T, uris))
        return shown

    def _found(self, id_: str) -> str | None:
        picture = self._find(id_)
        try:
            return None if picture is None else data_uri(shrunk(picture))
        except OSError as error:
            raise InputError(
                f"the thumbnail of {id_!r} is no picture ({error}); make it again, or give another folder with --thumbnails DIR."
            ) from error

    def _fits(self, uris: list[str]) -> bool:
        """Takes the room if it is there."""
        size_bytes = sum(len(uri) + _MARKUP_BYTES for uri in uris)
        self.full = size_bytes > self._left
        self._left -= 0 if self.full else size_bytes
        return not self.full

    @property
    def words(self) -> str:
        """What was left out, in a sentence; empty: nothing."""
        if self._left < 0:
            return f"No pictures: the rest alone is more than {self._file_mb:g} MB (report.size_mb). Fewer report.points weigh less."
        if self.full:
            return f"Pictures end where the file has {self._file_mb:g} MB (report.size_mb); {len(self):,} clips have one."
        return ""

    def uri(self, id_: str) -> str | None:
        """None: there is no picture."""
        return self._uris.get(id_)

    def __len__(self) -> int:
        return len(self._uris)


def shrunk(picture: bytes) -> bytes:
    """A picture file as WebP whose longer side has ``SIDE_PIXELS`` at most.

    Raises:
        OSError: it is no picture.
    """
    image_module = _pillow()
    with image_module.open(io.BytesIO(picture)) as opened:
        image = opened.convert("RGB")
    image.thumbnail((SIDE_PIXELS, SIDE_PIXELS))
    return _webp(image)


def frame_uris(frames: Frames) -> list[str]:
    """Each frame as a small data URI."""
    image_module = _pillow()
    uris = []
    for picture_HWC in frames.pictures_THWC:
        image = image_module.fromarray(picture_HWC)
        image.thumbnail((SIDE_PIXELS, SIDE_PIXELS))
        uris.append(data_uri(_webp(image)))
    return uris


def data_uri(webp: bytes) -> str:
    """A WebP file as the address of itself."""
    return "data:image/webp;base64," + base64.b64encode(webp).decode("ascii")


def _webp(image: "Image.Image") -> bytes:
    out = io.BytesIO()
    image.save(out, "WEBP", quality=QUALITY, method=4)
    return out.getvalue()


def _pillow() -> ModuleType:
    try:
        from PIL import Image
    except ImportError as error:
        raise MissingExtra("pillow", extra="report", why="a report") from error
    return Image
