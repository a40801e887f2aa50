"""Clips without files, for `kills.py`: a module of its own, because decoding processes import it."""

import numpy as np
from vivim.extract.clip import Clip, ClipRef
from vivim.extract.failures import ClipError
from vivim.extract.reader import Unchanged


class MadeUp:
    """A clip whose pixels follow from its id; every seventh cannot be read."""

    frame_bytes = 2 * 3 * 32 * 32

    def __call__(self, ref: ClipRef, known_sha256: str | None = None) -> Clip | Unchanged:
        if int(ref.id) % 7 == 3:
            raise ClipError("truncated", "made so")
        if known_sha256 == ref.id * 16:
            return Unchanged(ref.id)
        frames = np.full((2, 3, 32, 32), int(ref.id), np.uint8)
        return Clip(ref.id, frames, np.arange(2.0), "pyav", ref.id * 16)
