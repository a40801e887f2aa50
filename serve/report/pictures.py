"""Small pictures inside the page: what is shown is made small first, and never more than a stated number of bytes.

Shapes: T frames, H, W of a picture.
"""

import base64
import io
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


class Album:
    """Pictures as data URIs, as many as the budget allows.

    Args:
        pictures: what there is.
        budget_mb: MB of all URIs together, each counted as often as it is shown.
    """

    def __init__(self, pictures: Pictures, budget_mb: float) -> None:
        self.frames = pictures.frames
        self._find = pictures.find
        self._budget_mb = budget_mb
        self._left = int(budget_mb * _MB)
        self._uris: dict[str, str] = {}

    def fill(self, ids: Iterable[str]) -> None:
        """Take the pictures of ``ids`` in, in that order, each as often as its id comes; the rest is left out when no more fit.

        Raises:
            InputError: a file that should be a picture is none.
        """
        for id_ in ids:
            if self.full:
                return
            if id_ not in self._uris and (picture := self._find(id_)) is not None:
                self._uris[id_] = data_uri(self._shrunk(id_, picture))
            self._left -= len(self._uris.get(id_, ""))

    @staticmethod
    def _shrunk(id_: str, picture: bytes) -> bytes:
        try:
            return shrunk(picture)
        except OSError as error:
            raise InputError(
                f"the thumbnail of {id_!r} is no picture ({error}); make it again, or give another folder with --thumbnails DIR."
            ) from error

    @property
    def full(self) -> bool:
        """Whether the budget is used up."""
        return self._left <= 0

    @property
    def words(self) -> str:
        """What was left out, in a sentence; empty: nothing."""
        return f"Pictures end at {self._budget_mb:g} MB (report.pictures_mb); {len(self):,} clips have one." if self.full else ""

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
