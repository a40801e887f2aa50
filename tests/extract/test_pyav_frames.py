"""PyAV gives the frame that was written, or nothing."""

import av
import numpy as np
import pytest
from vivim.extract.failures import ClipError
from vivim.extract.probe import Limits, probe_clip
from vivim.extract.pyav_frames import read_counted, read_timed


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
