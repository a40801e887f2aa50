"""Headers and packets of clips whose timing is known because we wrote them."""

import av
import numpy as np
import pytest
from vivim.extract.failures import ClipError
from vivim.extract.probe import Limits, probe_clip


def fails(path, container="mov", limits=None):
    with pytest.raises(ClipError) as caught:
        probe_clip(path, container, limits or Limits())
    return caught.value


def test_times_come_from_the_packets_in_display_order(tmp_path, clips):
    path = clips.write(tmp_path / "a.mp4", 30, rate=20, options={"bf": "2", "g": "10"})
    probe = probe_clip(path, "mov", Limits())
    assert np.allclose(probe.times_seconds, np.arange(30) / 20)
    assert probe.end_seconds == pytest.approx(1.5)
    assert np.allclose(probe.keyframe_pts / probe.pts[1] / 1.0, [0, 10, 20])
    assert (probe.width, probe.height, probe.codec, probe.plain, probe.timed) == (64, 48, "h264", True, True)


def test_variable_frame_rate_and_a_late_start(tmp_path, clips):
    pts = [10, 11, 12, 20, 40, 41]
    probe = probe_clip(clips.write(tmp_path / "a.mkv", 6, rate=20, pts=pts), "matroska", Limits())
    assert np.allclose(probe.times_seconds, np.array(pts) / 20, atol=1e-3)


def test_frames_before_the_cut_of_an_edit_list_are_not_shown(tmp_path, clips):
    whole = clips.write(tmp_path / "whole.mp4", 40, rate=20, options={"bf": "0", "g": "20"})
    path = tmp_path / "cut.mp4"
    with av.open(str(whole)) as source, av.open(str(path), "w") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        quarter_second = int(0.25 / source.streams.video[0].time_base)
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.pts, packet.dts, packet.stream = packet.pts - quarter_second, packet.dts - quarter_second, stream
                target.mux(packet)
    probe = probe_clip(path, "mov", Limits())
    assert len(probe.pts) == 35
    assert probe.times_seconds[0] == pytest.approx(0.0)
    assert not probe.plain


def test_avi_has_no_timestamps_so_frames_are_counted(tmp_path, clips):
    probe = probe_clip(clips.write(tmp_path / "a.avi", 25, rate=10, codec="mpeg4", options={"bf": "2"}), "avi", Limits())
    assert not probe.timed
    assert np.allclose(probe.times_seconds, np.arange(25) / 10)
    assert probe.end_seconds == pytest.approx(2.5)


def test_guessed_timestamps_are_no_place_to_jump_to(tmp_path, clips):
    # A program stream times packets of 2 kB; of the small frames in one only the first has a time of its own.
    path = clips.write(tmp_path / "a.mpg", 60, codec="mpeg2video", rate=10, options={"g": "3", "bf": "2"})
    probe = probe_clip(path, "mpeg", Limits())
    assert probe.timed
    assert not probe.seekable
    assert probe_clip(clips.write(tmp_path / "a.ts", 60, options={"g": "3"}), "mpegts", Limits()).seekable


def test_several_films_are_not_plain(tmp_path, clips):
    assert not probe_clip(clips.write(tmp_path / "a.mp4", 5, tracks=2), "mov", Limits()).plain


def test_sound_only(tmp_path):
    path = tmp_path / "sound.mp4"
    with av.open(str(path), "w") as file:
        stream = file.add_stream("aac", rate=8000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 8000
        file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
    error = fails(path)
    assert error.kind == "no_video_stream"
    assert "audio" in error.message


def test_limits_are_checked_before_decoding(tmp_path, clips):
    path = clips.write(tmp_path / "a.mp4", 40, rate=20)
    assert fails(path, limits=Limits(max_side_pixels=63)).kind == "too_large"
    assert fails(path, limits=Limits(max_pixels=64 * 47)).kind == "too_large"
    assert fails(path, limits=Limits(max_seconds=1.9)).kind == "too_long"
    assert fails(path, limits=Limits(max_frames=39)).kind == "too_long"
    assert fails(path, limits=Limits(max_streams=0)).kind == "too_large"
    assert len(probe_clip(path, "mov", Limits(64, 64 * 48, 2.0, 40, 1)).pts) == 40


def test_a_header_of_noise(tmp_path):
    path = tmp_path / "a.mp4"
    path.write_bytes(b"\0\0\0\x18ftypisom" + bytes(range(256)) * 10)
    assert fails(path).kind in {"decode_error", "truncated"}


def test_a_flash_video_that_was_cut_is_truncated(tmp_path, clips):
    path = clips.write(tmp_path / "a.flv", 60, codec="flv", rate=20)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 3])
    assert fails(path, "flv").kind == "truncated"


def test_an_unknown_codec_is_named_unsupported(tmp_path, clips):
    path = clips.write(tmp_path / "a.mp4", 5)
    path.write_bytes(path.read_bytes().replace(b"avc1", b"zzzz"))
    assert fails(path).kind == "unsupported_codec"
