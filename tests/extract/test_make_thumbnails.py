"""Thumbnails of clips that were extracted without."""

import av
import numpy as np
import pytest
from vivim.errors import InputError
from vivim.extract.clip import ClipRef
from vivim.extract.config import ExtractConfig
from vivim.extract.make_thumbnails import make_thumbnails
from vivim.extract.thumbnails import thumbnail_path
from vivim.progress import SILENT


def test_the_picture_is_the_middle_of_the_clip_and_what_cannot_be_read_is_named(tmp_path):
    """A clip that is red, then green, then blue gives a green picture of its own proportions."""
    with av.open(str(tmp_path / "a.mp4"), "w") as file:
        stream = file.add_stream("mpeg4", rate=8)
        stream.width, stream.height, stream.pix_fmt = 128, 64, "yuv420p"
        for number in range(9):
            picture = np.zeros((64, 128, 3), np.uint8)
            picture[..., number // 3] = 200
            file.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        file.mux(stream.encode())
    (tmp_path / "b.mp4").write_text("<html>")
    refs = [ClipRef("../a", tmp_path / "a.mp4"), ClipRef("b", tmp_path / "b.mp4")]
    [failure] = make_thumbnails(refs, tmp_path / "pictures", ExtractConfig(workers=1), SILENT)
    assert (failure.id, failure.kind) == ("b", "not_video")
    [made] = (tmp_path / "pictures").glob("*/*")
    assert made == thumbnail_path(tmp_path / "pictures", "../a")
    with av.open(str(made)) as file:
        picture = next(file.decode(video=0)).to_ndarray(format="rgb24")
    assert picture.shape == (64, 128, 3)
    red, green, blue = picture[32, 64]
    assert green > 150
    assert max(red, blue) < 60
    with pytest.raises(InputError, match=r"cannot be written to .*a.mp4.*--thumbnails DIR"):
        make_thumbnails(refs[:1], tmp_path / "a.mp4", ExtractConfig(workers=1), SILENT)
