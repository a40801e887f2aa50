"""Pictures are made small and never exceed their budget."""

import base64
import io

import numpy as np
import pytest
from PIL import Image
from vivim.errors import InputError
from vivim.extract.thumbnails import thumbnail_webp
from vivim.serve.report.pictures import Album, Frames, Pictures, frame_uris, shrunk

NOISE = np.random.default_rng(0).integers(0, 256, (3, 200, 120, 3), np.uint8)


def opened(uri):
    head, data = uri.split(",")
    assert head == "data:image/webp;base64"
    return Image.open(io.BytesIO(base64.b64decode(data)))


def test_a_thumbnail_is_made_smaller_and_keeps_its_proportions():
    assert Image.open(io.BytesIO(thumbnail_webp(NOISE[0]))).size == (120, 200)
    assert Image.open(io.BytesIO(shrunk(thumbnail_webp(NOISE[0])))).size == (67, 112)


def test_frames_keep_their_colours():
    red_blue = np.zeros((2, 64, 64, 3), np.uint8)
    red_blue[0, ..., 0] = red_blue[1, ..., 2] = 250
    first, second = (np.asarray(opened(uri).convert("RGB"), int).mean((0, 1)) for uri in frame_uris(Frames(red_blue, np.arange(2.0))))
    assert first == pytest.approx([250, 0, 0], abs=8)
    assert second == pytest.approx([0, 0, 250], abs=8)


def test_a_file_that_is_no_picture_is_named_by_its_clip():
    with pytest.raises(InputError, match=r"the thumbnail of 'c7' is no picture .*--thumbnails DIR"):
        Album(Pictures({"c7": b"RIFF, and then the power went out"}.get), 1).fill(["c7"])


def test_the_room_holds_and_what_is_shown_twice_counts_twice():
    files = {f"c{k}": thumbnail_webp(picture) for k, picture in enumerate(NOISE)}
    size = len(base64.b64encode(shrunk(files["c0"]))) + 23
    album = Album(Pictures(files.get), 1)
    album.leave_room(1_000_000 - int(2.5 * size))
    assert album.fill(["gone", "c0", "c1", "c0"]) == {"c0"}
    assert album.full
    assert len(album) == 1
    assert album.uri("c1") is None
    assert album.uri("gone") is None
    assert len(album.uri("c0")) == size
    assert "report.size_mb" in album.words
    assert album.fill(["c0"]) == frozenset()  # it is shown elsewhere, and has no room here
    roomy = Album(Pictures(files.get), 1)
    assert roomy.fill(["c0", "c1", "c2"]) == {"c0", "c1", "c2"}
    assert (len(roomy), roomy.words) == (3, "")


def test_frames_of_the_sheet_take_room_clip_by_clip():
    frames = Frames(NOISE[:2], np.arange(2.0))
    size = sum(map(len, frame_uris(frames)))
    album = Album(Pictures({}.get, {"a": frames, "b": frames, "c": frames}), 1)
    album.leave_room(1_000_000 - int(2.5 * size))
    assert [(id_, list(times), len(uris)) for id_, times, uris in album.sheet()] == [("a", [0, 1], 2), ("b", [0, 1], 2)]
    assert album.full


def test_a_file_that_has_no_room_at_all_says_so():
    album = Album(Pictures({"c0": thumbnail_webp(NOISE[0])}.get), 1)
    album.leave_room(2_000_000)
    assert album.fill(["c0"]) == frozenset()
    assert "No pictures" in album.words
