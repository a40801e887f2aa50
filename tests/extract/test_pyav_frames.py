"""PyAV gives the frame that was written, or nothing."""

from collections import Counter
from contextlib import contextmanager

import av
import numpy as np
import pytest
from vivim.extract import decord_frames, pyav_frames
from vivim.extract.failures import ClipError
from vivim.extract.probe import Limits, open_clip, probe_clip
from vivim.extract.pyav_frames import read_counted, read_timed


@pytest.fixture
def counted(monkeypatch):
    """How often a clip was opened, sought in, and a packet given to the decoder."""
    counts = Counter()

    class Counting:
        def __init__(self, file):
            self.file, self.streams = file, file.streams

        def seek(self, *arguments, **options):
            counts["sought"] += 1
            return self.file.seek(*arguments, **options)

        def demux(self, stream):
            return self.file.demux(stream)

    @contextmanager
    def opened(path, container):
        counts["opened"] += 1
        with open_clip(path, container) as file:
            yield Counting(file)

    decode = pyav_frames._decode

    def counting(stream, packets, last=None):
        def each():
            for packet in packets:
                counts["decoded"] += bool(packet.size)
                yield packet

        return decode(stream, each(), last)

    monkeypatch.setattr(pyav_frames, "open_clip", opened)
    monkeypatch.setattr(pyav_frames, "_decode", counting)
    return counts


def levels(pictures):
    return {k: round(float(picture.mean())) for k, picture in pictures}


@pytest.mark.parametrize(
    ("name", "codec", "options"),
    [
        ("a.mp4", "libx264", {"bf": "2", "g": "10"}),
        ("b.mp4", "libx264", {"bf": "3", "g": "250"}),
        ("c.webm", "libvpx-vp9", {"g": "10"}),
        ("d.mkv", "libx265", {"x265-params": "log-level=none:keyint=12"}),
        ("e.ts", "libx264", {"g": "8"}),
        ("f.ts", "libx264", {"g": "8", "bf": "2"}),
    ],
)
def test_every_frame_is_the_one_asked_for(tmp_path, clips, name, codec, options):
    path = clips.write(tmp_path / name, 40, codec=codec, options=options)
    container = {"mp4": "mov", "webm": "matroska", "mkv": "matroska", "ts": "mpegts"}[path.suffix[1:]]
    probe = probe_clip(path, container, Limits())
    for wanted in ([0], [39], [11, 12, 13], [3, 27, 38], range(40)):
        got = levels(read_timed(path, probe, wanted))
        assert set(got) == set(wanted)
        assert all(abs(level - clips.grey(k)) <= 2 for k, level in got.items())


@pytest.mark.parametrize(
    ("name", "codec", "options"),
    [
        ("a.mp4", "libx264", {"bf": "2", "g": "10"}),
        ("a.mp4", "libx264", {"bf": "0", "g": "10"}),
        ("a.mkv", "libx264", {"bf": "2", "g": "10"}),
        ("a.ts", "libx264", {"bf": "2", "g": "10"}),
        ("a.flv", "libx264", {"bf": "2", "g": "10"}),
        ("a.wmv", "wmv2", {"g": "10"}),
        ("a.mp4", "mpeg4", {"bf": "2", "g": "10"}),
        ("a.mp4", "libx265", {"x265-params": "keyint=10:log-level=none"}),
        ("a.webm", "libvpx-vp9", {"g": "10"}),
    ],
)
def test_one_seek_per_group_and_no_packet_too_many(tmp_path, clips, counted, name, codec, options):
    path = clips.write(tmp_path / name, 60, codec=codec, options=options)
    containers = {"mp4": "mov", "mkv": "matroska", "webm": "matroska", "ts": "mpegts", "wmv": "asf", "mpg": "mpeg", "flv": "flv"}
    probe = probe_clip(path, containers[path.suffix[1:]], Limits())
    wanted = [5, 25, 28, 47]
    groups = len(set(np.searchsorted(probe.keyframe_pts, probe.pts[wanted], side="right")))
    assert set(dict(read_timed(path, probe, wanted))) == set(wanted)
    assert (counted["opened"], counted["sought"]) == (1, groups)
    assert counted["decoded"] == clips.fewest_packets(path, wanted)


def test_where_timestamps_are_guessed_the_clip_is_read_in_order(tmp_path, clips):
    # After a jump FFmpeg guesses others, and frames 33 to 56 came out for 36 to 59.
    path = clips.write(tmp_path / "a.mpg", 60, codec="mpeg2video", rate=10, options={"g": "3", "bf": "2"})
    got = levels(read_timed(path, probe_clip(path, "mpeg", Limits()), range(57)))
    assert all(abs(level - clips.grey(k)) <= 3 for k, level in got.items())


def test_open_groups_cost_one_group_more_not_the_whole_clip(tmp_path, clips, counted):
    path = clips.write(tmp_path / "a.mp4", 200, options={"g": "10", "bf": "3", "x264-params": "open-gop=1"})
    probe = probe_clip(path, "mov", Limits())
    got = levels(read_timed(path, probe, [5, 185, 188]))
    assert all(abs(level - clips.grey(k)) <= 2 for k, level in got.items())
    assert counted["decoded"] <= 6 + 12 + 30


def test_ten_bits_become_eight_as_in_decord(tmp_path, clips):
    # swscale called directly shifts the colour planes by a part of a pixel
    stripes = np.zeros((48, 64, 3), np.uint8)
    stripes[:, ::8], stripes[:, 1::8], stripes[:, 4::8] = (255, 0, 0), (255, 0, 0), (0, 0, 255)
    path = clips.write(tmp_path / "a.mp4", 3, width=64, height=48, pix_fmt="yuv420p10le", picture=lambda _: stripes)
    probe = probe_clip(path, "mov", Limits())
    assert (dict(read_timed(path, probe, [1]))[1] == dict(decord_frames.read_frames(path, probe, [1]))[1]).all()


def test_a_stream_without_timestamps_is_counted_out(tmp_path, clips):
    path = clips.write(tmp_path / "a.avi", 30, codec="mpeg4", options={"bf": "2", "g": "12"})
    found, count = read_counted(path, probe_clip(path, "avi", Limits()), {0, 7, 29, 400})
    assert count == 30
    assert set(found) == {0, 7, 29}
    assert all(abs(level - clips.grey(k)) <= 3 for k, level in levels(found.items()).items())


@pytest.mark.parametrize("degrees", [90, 180, 270])
def test_turned_clips_come_out_upright(tmp_path, clips, degrees):
    path = clips.turn(clips.write(tmp_path / "a.mp4", 2, picture=clips.two_halves), degrees)
    (_, picture), *_ = read_timed(path, probe_clip(path, "mov", Limits()), [0])
    expected = np.rot90(clips.two_halves(0), -degrees // 90)
    assert picture.shape == expected.shape
    assert np.abs(picture.astype(int) - expected)[4:-4, 4:-4].mean() < 12


def test_damage_spoils_only_the_frames_up_to_the_next_keyframe(tmp_path, clips):
    path = clips.write(tmp_path / "a.mp4", 40, options={"g": "10", "bf": "0"})
    probe = probe_clip(path, "mov", Limits())
    with av.open(str(path)) as file:
        position = [packet.pos for packet in file.demux(video=0) if packet.size][12]
    data = bytearray(path.read_bytes())
    data[position : position + 4] = bytes(byte ^ 0xFF for byte in data[position : position + 4])  # the length of the slice
    path.write_bytes(data)

    assert set(dict(read_timed(path, probe, [0, 9, 10, 20, 25, 39]))) == {0, 9, 10, 20, 25, 39}
    for k in (13, 19):
        with pytest.raises(ClipError) as caught:
            list(read_timed(path, probe, [0, k, 25]))
        assert caught.value.kind == "decode_error"
        assert "1 of 3 wanted frames" in caught.value.message
