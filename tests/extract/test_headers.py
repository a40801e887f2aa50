"""What headers say of clips that we wrote, and that it is what decoding finds in real ones."""

import csv
import os

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from vivim.extract.clip import ClipRef
from vivim.extract.failures import ClipError
from vivim.extract.headers import Header, HeaderReader, is_variable, track_rotation
from vivim.extract.reader import ClipReader
from vivim.extract.sampling import Uniform


def look(path, frames=8):
    return HeaderReader(Uniform(frames))(ClipRef("x", path))


def kind_of(path):
    with pytest.raises(ClipError) as caught:
        look(path)
    return caught.value.kind


def test_everything_a_header_says(tmp_path, clips):
    path = clips.write(tmp_path / "a.mp4", 40, rate=20, width=80, height=48)
    assert look(path) == Header(
        id="x",
        size_bytes=path.stat().st_size,
        container="mov",
        codec="h264",
        width=80,
        height=48,
        frames=40,
        seconds=2.0,
        variable=False,
        rotation=0,
        bits=8,
        hdr=False,
        short=False,
    )


@pytest.mark.parametrize(
    ("name", "codec", "container", "told"),
    [("a.mkv", "libvpx-vp9", "matroska", "vp9"), ("a.avi", "mpeg4", "avi", "mpeg4"), ("a.webm", "libvpx", "matroska", "vp8")],
)
def test_containers_and_codecs(tmp_path, clips, name, codec, container, told):
    header = look(clips.write(tmp_path / name, 30, rate=10, codec=codec))
    assert (header.container, header.codec, header.frames) == (container, told, 30)
    assert header.seconds == pytest.approx(3.0, abs=0.01)


@pytest.mark.parametrize("degrees", [0, 90, 180, 270])
def test_a_turned_clip_is_as_large_as_players_show_it(tmp_path, clips, degrees):
    header = look(clips.turn(clips.write(tmp_path / "a.mp4", 3, width=80, height=48), degrees))
    assert header.rotation == degrees
    assert (header.width, header.height) == ((48, 80) if degrees in (90, 270) else (80, 48))


def test_a_slanted_matrix_is_ignored_as_decoding_ignores_it(tmp_path, clips):
    path = clips.write(tmp_path / "a.mp4", 3)
    data = bytearray(path.read_bytes())
    matrix = data.index(b"tkhd") + 44
    data[matrix + 4 : matrix + 8] = (1 << 16).to_bytes(4, "big")  # 45 degrees
    path.write_bytes(data)
    assert look(path).rotation == 0


def test_ten_bits(tmp_path, clips):
    header = look(clips.write(tmp_path / "a.mp4", 3, pix_fmt="yuv420p10le"))
    assert (header.bits, header.hdr) == (10, False)


@pytest.mark.parametrize("transfer", ["smpte2084", "arib-std-b67"])
def test_hdr_is_a_transfer_function(tmp_path, clips, transfer):
    options = {"x264-params": f"colorprim=bt2020:transfer={transfer}:colormatrix=bt2020nc"}
    assert look(clips.write(tmp_path / "a.mp4", 3, pix_fmt="yuv420p10le", options=options)).hdr


def test_short_is_what_reading_will_say(tmp_path, clips):
    path = clips.write(tmp_path / "a.mp4", 5)
    for frames in (1, 4, 5, 6, 8):
        assert look(path, frames).short == ClipReader(Uniform(frames), image_size=32)(ClipRef("x", path)).short == (frames > 5)


@pytest.mark.parametrize(
    ("intervals", "expected"),
    [
        ([], False),
        ([40], False),
        ([40, 80], True),
        ([512] * 9, False),
        ([512] * 9 + [1024], True),  # one frame dropped
        ([33, 33, 34] * 9, False),  # 30 per second on Matroska's clock
        ([8, 8, 9] * 9, False),  # 120 per second on it
        ([16, 17, 17, 33] * 9, True),
        ([1] * 9 + [2], True),  # a clock that ticks once per frame
        ([100, 105] * 9, False),
        ([100, 130] * 9, True),
    ],
)
def test_variable_is_any_interval_a_tenth_off(intervals, expected):
    assert is_variable(np.cumsum([7, *intervals]).astype(np.int64)) == expected


def test_what_is_no_clip(tmp_path):
    assert kind_of(tmp_path / "none.mp4") == "missing"
    (tmp_path / "empty.mp4").touch()
    assert kind_of(tmp_path / "empty.mp4") == "empty"
    os.mkfifo(tmp_path / "pipe.mp4")
    assert kind_of(tmp_path / "pipe.mp4") == "not_video"
    (tmp_path / "zeros.mp4").symlink_to("/dev/zero")
    assert kind_of(tmp_path / "zeros.mp4") == "not_video"
    (tmp_path / "list.mp4").write_text("#EXTM3U\nhttp://127.0.0.1:1/a.ts\n")
    assert kind_of(tmp_path / "list.mp4") == "not_video"


@pytest.mark.parametrize(
    "content",
    [
        b"\0\0\0\x08moov" * 50_000,  # nothing but empty boxes
        b"\0\0\0\0moov" + b"\0\0\0\0trak" * 50_000,  # each reaches to the end, none ends
        b"\0\0\0\x01moov\xff\xff\xff\xff\xff\xff\xff\xff",
        b"\0\0\0\x10moov\0\0\0\x08trak" + b"\0\0\0\x14moov\0\0\0\x0ctrak\0\0\0\x07",
        b"\0\0\0\x18moov\0\0\0\x10trak\0\0\0\x08tkhd",
    ],
)
def test_a_track_is_looked_for_in_boxes_that_lie(tmp_path, content):
    path = tmp_path / "a.mp4"
    path.write_bytes(content)
    assert track_rotation(path, 1) == 0


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_damaged_bytes_give_a_header_or_a_class(tmp_path_factory, clips, data):
    folder = tmp_path_factory.mktemp("damage")
    name, codec = data.draw(st.sampled_from([("a.mp4", "libx264"), ("a.mkv", "libvpx"), ("a.avi", "mpeg4"), ("a.ts", "mpeg2video")]))
    path = clips.write(folder / name, 12, codec=codec, rate=25)
    content = bytearray(path.read_bytes())
    for position in data.draw(st.lists(st.integers(0, 2**16), min_size=1, max_size=20)):
        content[position % len(content)] ^= 0xFF
    path.write_bytes(content)
    try:
        header = look(path)
    except ClipError:
        return
    assert header.seconds >= 0 and header.frames >= 1 and header.rotation in (0, 90, 180, 270)


@pytest.mark.shared
def test_real_clips_are_what_the_manifest_and_their_first_frame_say(shared_data):
    with (shared_data / "clips" / "MANIFEST.csv").open(newline="") as file:
        rows = {row["file"]: row for row in csv.DictReader(file)}
    variable = set()
    for name, row in rows.items():
        path = shared_data / "clips" / name
        header = look(path)
        with av.open(str(path)) as opened:
            rotation = next(opened.decode(video=0)).rotation
        assert header.rotation == -rotation % 360, name
        turned = header.rotation in (90, 270)
        assert (header.width, header.height) == ((int(row["h"]), int(row["w"])) if turned else (int(row["w"]), int(row["h"]))), name
        assert header.codec == row["vcodec"], name
        assert (header.bits > 8) == ("10" in row["pix"] or "12" in row["pix"]), name
        if header.variable:
            variable.add(name)
    # Of two the manifest's average rate differs from the usual one; in the two others one interval is twice or half as long.
    assert variable == {
        "gaomingqi-Track-Anything__test-sample2.mp4",
        "sannies-mp4parser__count-video.mp4",
        "intel-iot-devkit-sample-videos__brother.mkv",
        "open-mmlab-mmaction2__part_0.mp4",
    }
