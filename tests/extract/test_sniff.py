"""Files are known by their first bytes."""

import av
import pytest
from hypothesis import given
from hypothesis import strategies as st
from vivim.extract.failures import ClipError
from vivim.extract.sniff import check_size, container_of


@pytest.mark.parametrize(
    ("name", "codec", "container"),
    [
        ("a.mp4", "libx264", "mov"),
        ("a.mov", "libx264", "mov"),
        ("a.mkv", "libx264", "matroska"),
        ("a.webm", "libvpx", "matroska"),
        ("a.avi", "mpeg4", "avi"),
        ("a.flv", "flv", "flv"),
        ("a.ts", "libx264", "mpegts"),
        ("a.mpg", "mpeg2video", "mpeg"),
        ("a.wmv", "wmv2", "asf"),
        ("a.ogv", "libvpx", "ogg"),
    ],
)
def test_containers(tmp_path, clips, name, codec, container):
    path = clips.write(tmp_path / name, 30, codec=codec, rate=25)
    assert container_of(path.read_bytes()[:4096]) == container


@pytest.mark.parametrize(
    ("head", "looks_like"),
    [
        (b"<!DOCTYPE html><html><body>404", "web page"),
        (b"\n\n  <html>", "web page"),
        (b"\xef\xbb\xbf<?xml version='1.0'?>", "XML"),
        (b"#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n", "HLS playlist"),
        (b"ffconcat version 1.0\nfile /etc/passwd\n", "concat script"),
        (b"version https://git-lfs.github.com/spec/v1\noid", "git lfs pull"),
        (b"\xff\xd8\xff\xe0\x00\x10JFIF\x00", "JPEG"),
        (b"\x89PNG\r\n\x1a\n", "PNG"),
        (b"RIFF\x00\x00\x00\x00WEBPVP8 ", "WebP"),
        (b"RIFF\x00\x00\x00\x00WAVEfmt ", "WAV"),
        (b"\x00\x00\x00\x1cftypavif\x00", "AVIF"),
        (b"%PDF-1.7", "PDF"),
        (b"PK\x03\x04", "ZIP"),
        (b'{"error": "quota"}', "JSON"),
        (b"hello, this is no film\nat all", "hello, this is no film"),
        (b"\x00" * 100, "zeros"),
        (b"\x8f\x11\x03\x99\xfe\x00\x01\x02\x03", "8f 11 03"),
    ],
)
def test_what_is_no_video_is_named(head, looks_like):
    with pytest.raises(ClipError) as caught:
        container_of(head)
    assert caught.value.kind == "not_video"
    assert looks_like in caught.value.message


@given(st.binary(min_size=1, max_size=600))
def test_any_bytes_are_a_container_or_not_video(head):
    try:
        outcome = container_of(head)
    except ClipError as error:
        outcome = error.kind
    assert outcome in {"not_video", "mov", "matroska", "avi", "flv", "ogg", "asf", "mpegts", "mpeg", "mpegvideo", "gif"}


@pytest.mark.parametrize("share", [0.1, 0.5, 0.99])
@pytest.mark.parametrize("faststart", [False, True])
def test_an_mp4_that_was_cut_is_truncated(tmp_path, clips, share, faststart):
    options = {"movflags": "faststart"} if faststart else {}
    path = tmp_path / "a.mp4"
    whole = clips.write(tmp_path / "whole.mp4", 40)
    if faststart:
        with av.open(str(whole)) as source, av.open(str(path), "w", options=options) as target:
            stream = target.add_stream_from_template(source.streams.video[0])
            for packet in source.demux(video=0):
                if packet.dts is not None:
                    packet.stream = stream
                    target.mux(packet)
        whole = path
    data = whole.read_bytes()
    assert (data.index(b"moov") < data.index(b"mdat")) == faststart
    check_size(whole, "mov", len(data))
    path.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(ClipError) as caught:
        check_size(path, "mov", int(len(data) * share))
    assert caught.value.kind == "truncated"


@pytest.mark.parametrize(("name", "codec", "container"), [("a.mkv", "libx264", "matroska"), ("a.avi", "mpeg4", "avi")])
def test_matroska_and_avi_say_how_long_they_are(tmp_path, clips, name, codec, container):
    path = clips.write(tmp_path / name, codec=codec)
    size = path.stat().st_size
    check_size(path, container, size)
    path.write_bytes(path.read_bytes()[: size - 200])
    with pytest.raises(ClipError, match="promises"):
        check_size(path, container, size - 200)


def test_a_live_matroska_promises_nothing(tmp_path):
    path = tmp_path / "live.mkv"
    path.write_bytes(b"\x1aE\xdf\xa3\x84\x42\x86\x81\x01" + b"\x18\x53\x80\x67\x01" + b"\xff" * 7 + b"\x00" * 50)
    check_size(path, "matroska", path.stat().st_size)
