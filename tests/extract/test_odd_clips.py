"""Clips that are whole but odd, and clips that lie about themselves: read as people see them, or refused by class."""

import ctypes
import os
import shutil
import socket
from fractions import Fraction

import av
import numpy as np
import pytest
import torch
from av.stream import Disposition
from vivim.extract.clip import Clip, ClipRef, Failure
from vivim.extract.config import EncoderConfig
from vivim.extract.decode_pool import DecodePool
from vivim.extract.failures import ClipError
from vivim.extract.reader import ClipReader
from vivim.extract.sampling import Uniform
from vivim.extract.weights import make_encoder
from vivim.store import vector_faults


def read(path, count=4, **options):
    clip = ClipReader(Uniform(count), image_size=32, **options)(ClipRef("x", path))
    assert isinstance(clip, Clip)
    return clip


def refused(path, **options):
    with pytest.raises(ClipError) as caught:
        read(path, **options)
    return caught.value.kind, caught.value.message


def in_children(*paths, memory_bytes=1 << 30):
    """What a decoding process makes of each: with a deadline and 1 GB."""
    pool = DecodePool(ClipReader(Uniform(4), image_size=32), workers=1, timeout_seconds=10.0, memory_bytes=memory_bytes)
    results = {result.id: result for result in pool.decode([ClipRef(path.name, path) for path in paths])}
    return [results[path.name] for path in paths]


def levels(clip):
    return clip.frames_TCHW.mean((1, 2, 3))


def noise(k):
    return np.random.default_rng(k).integers(0, 256, (48, 64, 3), dtype=np.uint8)


def quarters(width, height):
    """Red, green, blue and grey quarters, so that no turn and no mirror looks the same."""
    picture = np.zeros((height, width, 3), np.uint8)
    picture[: height // 2, : width // 2] = (230, 20, 20)
    picture[: height // 2, width // 2 :] = (20, 200, 20)
    picture[height // 2 :, : width // 2] = (20, 20, 230)
    picture[height // 2 :, width // 2 :] = (128, 128, 128)
    return picture


def corners(square):
    """(4, 3): mean colour of the inner part of each quarter of a (3, S, S) square."""
    return np.array([square[:, y : y + 8, x : x + 8].mean((1, 2)) for y in (4, 20) for x in (4, 20)])


COLOURS = np.array([(230, 20, 20), (20, 200, 20), (20, 20, 230), (128, 128, 128)])


@pytest.mark.parametrize(
    ("name", "codec"),
    [("a.ts", "libx264"), ("a.mpg", "mpeg2video"), ("a.flv", "libx264"), ("a.wmv", "wmv2"), ("a.m2v", "mpeg2video"), ("a.ogv", "libvpx")],
)
def test_a_cut_inside_the_first_frame_costs_one_clip(tmp_path, clips, name, codec):
    path = clips.write(tmp_path / name, 10, codec=codec, picture=noise)
    with av.open(str(path)) as file:
        first = next(packet for packet in file.demux(video=0) if packet.size)
    (tmp_path / f"cut{path.suffix}").write_bytes(path.read_bytes()[: (first.pos or 0) + first.size // 2])
    cut, whole = in_children(tmp_path / f"cut{path.suffix}", path)
    assert isinstance(cut, Failure)
    assert cut.kind in ("decode_error", "truncated", "too_short")
    assert isinstance(whole, Clip)


@pytest.mark.parametrize("name", ["a.gif", "a.ogv"])
def test_containers_without_a_length_show_their_end(tmp_path, clips, name):
    codec, pix_fmt = ("gif", "rgb8") if name == "a.gif" else ("libvpx", "yuv420p")
    path = clips.write(tmp_path / name, 10, codec=codec, pix_fmt=pix_fmt, picture=noise)
    read(path)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * 0.6)])
    assert refused(path)[0] == "truncated"


def test_a_false_number_of_frames_is_not_believed(tmp_path, clips):
    honest = read(clips.write(tmp_path / "a.mp4", 30))
    data = bytearray((tmp_path / "a.mp4").read_bytes())
    place = data.index(b"stts") + 12
    assert data[place : place + 4] == (30).to_bytes(4, "big")
    data[place : place + 4] = (10**9).to_bytes(4, "big")
    (tmp_path / "b.mp4").write_bytes(data)
    (clip,) = in_children(tmp_path / "b.mp4")  # decord alone asks for memory without end here
    assert isinstance(clip, Clip)
    assert clip.decoder == "pyav"
    assert (clip.frames_TCHW == honest.frames_TCHW).all()
    assert (clip.times_seconds == honest.times_seconds).all()


def test_a_table_of_four_billion_frames_is_refused_at_once(tmp_path, clips):
    path = clips.write(tmp_path / "a.mp4", 30)
    data = bytearray(path.read_bytes())
    place = data.index(b"stsz") + 12
    data[place : place + 4] = b"\xff" * 4
    path.write_bytes(data)
    (failure,) = in_children(path)
    assert (failure.kind, failure.message) == ("decode_error", "its mov header is damaged")


def test_a_trillion_frames_in_a_tag_are_only_a_tag(tmp_path):
    path = tmp_path / "a.mkv"
    with av.open(str(path), "w") as file:
        stream = file.add_stream("libx264", rate=20)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.metadata["NUMBER_OF_FRAMES"] = str(10**12)
        for k in range(20):
            frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), 20 + 4 * k, np.uint8), format="rgb24")
            frame.pts = k
            file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
    assert np.abs(levels(read(path)) - [28, 48, 68, 88]).max() <= 2


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv"])
def test_ten_hours_are_too_long_and_almost_four_cost_a_frame_each(tmp_path, clips, name):
    # 40 frames, 15 minutes apart, then 350 s apart
    long = clips.write(tmp_path / f"long{name}", 40, rate=20, pts=[k * 18_000 for k in range(40)], options={"g": "5"})
    assert refused(long) == ("too_long", "35100 seconds; at most 14400 are allowed")
    clip = read(clips.write(tmp_path / name, 40, rate=20, pts=[k * 7000 for k in range(40)], options={"g": "5"}))
    assert np.abs(clip.times_seconds - [1750, 5250, 8750, 12250]).max() < 360
    assert (clip.times_seconds % 350 < 0.01).all()
    assert np.abs(levels(clip) - [clips.grey(round(t / 350)) for t in clip.times_seconds]).max() <= 2


def test_an_avi_that_promises_four_billion_frames(tmp_path, clips):
    path = clips.write(tmp_path / "a.avi", 20, codec="mpeg4")
    data = bytearray(path.read_bytes())
    for box, offset in ((b"avih", 24), (b"strh", 40)):
        place = data.index(box) + offset
        data[place : place + 4] = b"\xff" * 4
    path.write_bytes(data)
    assert refused(path)[0] == "too_long"


@pytest.mark.parametrize(
    ("name", "codec", "pix_fmt", "width", "height"),
    [
        ("a.mkv", "ffv1", "yuv444p", 1, 1),
        ("a.mp4", "libx264", "yuv444p", 1, 1),
        ("a.mp4", "libx264", "yuv420p", 2, 2),
        ("a.mp4", "libx264", "yuv444p", 359, 641),
        ("a.webm", "libvpx-vp9", "yuv420p", 359, 641),
        ("a.mp4", "mpeg4", "yuv420p", 359, 641),
        ("a.mp4", "libx264", "yuv420p", 16, 4000),
    ],
)
def test_sizes_at_the_edge(tmp_path, clips, name, codec, pix_fmt, width, height):
    path = clips.write(tmp_path / name, 5, codec=codec, pix_fmt=pix_fmt, width=width, height=height)
    for decoder in ("auto", "pyav"):
        assert np.abs(levels(read(path, 5, decoder=decoder)) - [clips.grey(k) for k in range(5)]).max() <= 3


def test_frames_larger_than_the_limit_are_refused_by_their_header(tmp_path, clips):
    path = clips.write(tmp_path / "a.mp4", 2, width=16384, height=16)
    assert refused(path) == ("too_large", "frames of 16384x16; a side may have 8192 pixels, all 35389440")


def test_sizes_that_only_the_container_claims_do_not_matter(tmp_path, clips):
    path = clips.write(tmp_path / "a.mp4", 5)
    data = bytearray(path.read_bytes())
    place = data.index(b"avc1", data.index(b"stsd")) + 28
    assert data[place : place + 4] == b"\x00\x40\x00\x30"
    data[place : place + 4] = b"\x40\x00\x40\x00"
    path.write_bytes(data)
    assert np.abs(levels(read(path, 5)) - [clips.grey(k) for k in range(5)]).max() <= 2


def test_a_frame_that_claims_to_be_huge_costs_one_clip_and_no_memory(tmp_path, clips):
    path = clips.write(tmp_path / "a.webm", 5, codec="libvpx")
    data = bytearray(path.read_bytes())
    place = data.index(b"\x9d\x01\x2a") + 3
    data[place : place + 4] = (16383).to_bytes(2, "little") * 2
    path.write_bytes(data)
    whole = clips.write(tmp_path / "b.webm", 5, codec="libvpx")
    huge, other = in_children(path, whole)
    assert isinstance(huge, Failure)
    assert huge.kind in ("decode_error", "oom")
    assert isinstance(other, Clip)


@pytest.mark.parametrize("first", [0, -100])
def test_timestamps_that_repeat_run_back_or_begin_below_zero(tmp_path, clips, first):
    path = clips.write(tmp_path / "a.mkv", 12, rate=20, options={"g": "12", "bf": "0"})
    with av.open(str(path)) as file:
        places = [packet.pos for packet in file.demux(video=0) if packet.size]
    data = bytearray(path.read_bytes())
    for number, milliseconds in ((0, first), (5, 200), (9, 380)):  # frame 5 together with 4, frame 9 before 8 and after 7
        place = places[number] + 1
        data[place : place + 2] = milliseconds.to_bytes(2, "big", signed=True)
    path.write_bytes(data)
    for decoder in ("auto", "pyav"):
        clip = read(path, 11, decoder=decoder)
        assert (np.diff(clip.times_seconds) >= 0).all()
        assert np.abs(levels(clip)[-1] - clips.grey(11)) <= 2


@pytest.mark.parametrize(
    ("name", "codec", "pix_fmt", "options"),
    [
        ("a.mp4", "libx264", "yuv420p", {}),
        ("a.mp4", "libx264", "yuv444p", {}),
        ("a.mp4", "libx264", "yuv422p10le", {}),
        ("a.mp4", "libx265", "yuv420p10le", {"x265-params": "log-level=none:colorprim=bt2020:transfer=smpte2084:colormatrix=bt2020nc"}),
        ("a.webm", "libvpx-vp9", "yuva420p", {}),
        ("a.mov", "qtrle", "argb", {}),
        ("a.mp4", "libx264", "yuv420p", {"x264-params": "interlaced=1"}),
        ("a.mov", "prores_ks", "yuv422p10le", {}),
        ("a.mkv", "ffv1", "bgr0", {}),
    ],
)
@pytest.mark.parametrize("degrees", [0, 90])
def test_pixels_of_every_kind_are_seen_as_they_were_drawn(tmp_path, name, codec, pix_fmt, options, degrees):
    path = tmp_path / name
    with av.open(str(path), "w") as file:
        stream = file.add_stream(codec, rate=10, options=options)
        stream.width, stream.height, stream.pix_fmt = 128, 128, pix_fmt
        if degrees:
            stream.set_display_rotation(degrees)
        if "smpte2084" in str(options):
            stream.colorspace = 9
        for k in range(3):
            frame = av.VideoFrame.from_ndarray(quarters(128, 128), format="rgb24")
            if "smpte2084" in str(options):
                frame = frame.reformat(format=pix_fmt, dst_colorspace="BT2020")
            frame.pts = k
            file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
    expected = COLOURS[[1, 3, 0, 2]] if degrees else COLOURS  # anticlockwise: what was on the right is on top
    for decoder in ("auto", "pyav"):
        for square in read(path, 3, decoder=decoder).frames_TCHW:
            assert np.abs(corners(square) - expected).max() < 12, corners(square)


def test_pixels_that_are_not_square(tmp_path):
    # 64x64 pixels, each twice as wide as high: seen as 128x64, of which the crop keeps the green middle.
    path = tmp_path / "a.mp4"
    stripes = np.zeros((64, 64, 3), np.uint8)
    stripes[:, :16], stripes[:, 16:48], stripes[:, 48:] = (230, 20, 20), (20, 200, 20), (20, 20, 230)
    with av.open(str(path), "w") as file:
        stream = file.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv444p"
        stream.codec_context.sample_aspect_ratio = Fraction(2, 1)
        frame = av.VideoFrame.from_ndarray(stripes, format="rgb24")
        file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
    for decoder in ("auto", "pyav"):
        square = read(path, 1, decoder=decoder).frames_TCHW[0]
        assert np.abs(square[:, :, 2:-2].mean((1, 2)) - (20, 200, 20)).max() < 12
        squashed = read(path, 1, decoder=decoder, resize="squash").frames_TCHW[0]
        assert np.abs(squashed[:, :, :6].mean((1, 2)) - (230, 20, 20)).max() < 12


def test_the_default_one_of_several_films(tmp_path):
    path = tmp_path / "a.mp4"
    with av.open(str(path), "w") as file:
        streams = [file.add_stream("libx264", rate=10) for _ in range(3)]
        for stream, (width, height) in zip(streams, [(128, 96), (64, 48), (96, 64)], strict=True):
            stream.width, stream.height, stream.pix_fmt, stream.disposition = width, height, "yuv420p", Disposition(0)
        streams[1].disposition = Disposition.default
        for stream, level in zip(streams, (40, 120, 200), strict=True):
            for k in range(4):
                frame = av.VideoFrame.from_ndarray(np.full((stream.height, stream.width, 3), level, np.uint8), format="rgb24")
                frame.pts = k
                file.mux(stream.encode(frame))
            file.mux(stream.encode(None))
    assert np.abs(levels(read(path)) - 120).max() <= 2


@pytest.mark.parametrize(
    ("name", "codec", "old", "new", "named"),
    [
        ("a.mp4", "libx264", b"avc1", b"evc1", "evc1"),
        ("a.mov", "libx264", b"avc1", b"q 1z", "q 1z"),
        ("a.webm", "libvpx-vp9", b"V_VP9", b"V_XY9", "V_XY9"),
        ("a.avi", "mpeg4", b"FMP4", b"QQQQ", "QQQQ"),
    ],
)
def test_a_codec_without_a_decoder_is_named(tmp_path, clips, name, codec, old, new, named):
    path = clips.write(tmp_path / name, 5, codec=codec)
    path.write_bytes(path.read_bytes().replace(old, new))
    kind, message = refused(path)
    assert kind == "unsupported_codec"
    assert message.endswith(f", {named}")


def test_a_size_that_shrinks_on_the_way(tmp_path, clips):
    large = clips.write(tmp_path / "a.ts", 20, rate=20, width=96, height=64)
    small = clips.write(tmp_path / "b.ts", 20, rate=20, pts=range(20, 40), picture=lambda _: np.full((48, 64, 3), 200, np.uint8))
    path = tmp_path / "joined.ts"
    path.write_bytes(large.read_bytes() + small.read_bytes())
    clip = read(path)
    assert clip.frames_TCHW.shape == (4, 3, 32, 32)
    assert np.abs(levels(clip)[2:] - 200).max() <= 3


def test_black_and_unmoving_clips_are_clips(tmp_path, clips):
    path = clips.write(tmp_path / "a.mp4", 10, picture=lambda _: np.zeros((48, 64, 3), np.uint8))
    clip = read(path)
    assert clip.frames_TCHW.max() <= 1
    assert not clip.short
    encoder = make_encoder(EncoderConfig(size="nano"), seed=1)
    with torch.inference_mode():
        vector = encoder.embed_uint8(torch.from_numpy(clip.frames_TCHW)[None]).numpy()
    assert vector_faults(vector) == {}


def test_one_content_under_two_names_is_read_twice(tmp_path, clips):
    path = clips.write(tmp_path / "a.mp4", 10)
    shutil.copy(path, tmp_path / "b.mp4")
    os.link(path, tmp_path / "c.mp4")
    results = in_children(*(tmp_path / name for name in ("a.mp4", "b.mp4", "c.mp4")))
    assert [result.id for result in results] == ["a.mp4", "b.mp4", "c.mp4"]
    assert len({result.sha256 for result in results}) == 1
    assert all((result.frames_TCHW == results[0].frames_TCHW).all() for result in results)


def test_a_file_that_is_replaced_by_one_as_old_and_as_long_is_not_used(tmp_path, clips):
    path = clips.write(tmp_path / "a.mp4", 10)
    twin = tmp_path / "b.mp4"
    shutil.copy2(path, twin)

    class Meddler(Uniform):
        def pick(self, times_seconds, end_seconds):
            os.replace(twin, path)
            return super().pick(times_seconds, end_seconds)

    with pytest.raises(ClipError) as caught:
        ClipReader(Meddler(2), image_size=32)(ClipRef("x", path))
    assert caught.value.kind == "changed"


class Watch:
    """Whether a file is opened, by anyone, in a ``with`` block; asked of the kernel (inotify)."""

    def __init__(self, path):
        self.path, self.opened = path, None

    def __enter__(self):
        libc = ctypes.CDLL(None, use_errno=True)
        self.descriptor = libc.inotify_init1(os.O_NONBLOCK)
        assert libc.inotify_add_watch(self.descriptor, os.fsencode(self.path), 0x20) > 0  # IN_OPEN
        return self

    def __exit__(self, *_):
        try:
            self.opened = bool(os.read(self.descriptor, 4096))
        except BlockingIOError:
            self.opened = False
        os.close(self.descriptor)


def playlists(secret, address):
    return {
        "hls": f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nfile://{secret}\n#EXTINF:1,\n{address}\n#EXT-X-ENDLIST\n",
        "hls after a mark": f"\ufeff#EXTM3U\n#EXTINF:1,\n{secret}\n",
        "concat": f"ffconcat version 1.0\nfile '{secret}'\nfile '{address}'\n",
        "dash": f'<?xml version="1.0"?><MPD profiles="urn:mpeg:dash:profile:isoff-on-demand:2011"><BaseURL>{address}</BaseURL></MPD>',
        "sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 5004 RTP/AVP 96\na=rtpmap:96 H264/90000\n",
        "subtitle": "1\n00:00:00,000 --> 00:00:01,000\nhello\n",
    }


def test_playlists_open_no_other_file_and_no_connection(tmp_path, clips):
    secret = clips.write(tmp_path / "secret.ts", 5)
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"http://127.0.0.1:{server.getsockname()[1]}/x.ts"
        paths = [tmp_path / f"{k}.mp4" for k in range(6)]
        for path, text in zip(paths, playlists(secret, address).values(), strict=True):
            path.write_text(text)
        with Watch(secret) as watch:
            results = in_children(*paths)
        assert [result.kind for result in results] == ["not_video"] * 6
        assert not watch.opened
        server.settimeout(0.05)
        with pytest.raises(TimeoutError):
            server.accept()


def refer_to(path, target):
    """Make an MP4's data come from another file, as QuickTime reference movies do (a Macintosh alias in the box ``dref``)."""
    data = bytearray(path.read_bytes())
    name = os.fsencode(target)
    alias = bytes(10) + b"\0" + bytes(27) + bytes(12) + b"\0" + bytes(63) + bytes(16) + bytes(4) + bytes(16)
    alias += (2).to_bytes(2, "big") + len(name).to_bytes(2, "big") + name + b"\0" * (len(name) % 2) + b"\xff\xff\0\0"
    entry = (12 + len(alias)).to_bytes(4, "big") + b"alis" + bytes(4) + alias
    place = data.index(b"dref") + 12
    old = int.from_bytes(data[place : place + 4], "big")
    for box in (b"moov", b"trak", b"mdia", b"minf", b"dinf", b"dref"):
        size = data.index(box) - 4
        data[size : size + 4] = (int.from_bytes(data[size : size + 4], "big") + len(entry) - old).to_bytes(4, "big")
    data[place : place + old] = entry
    path.write_bytes(data)
    return path


def test_a_reference_movie_does_not_open_what_it_refers_to(tmp_path, clips):
    secret = clips.write(tmp_path / "secret.mp4", 5)
    path = refer_to(clips.write(tmp_path / "a.mp4", 5), secret)
    assert path.read_bytes().index(b"mdat") < path.read_bytes().index(b"moov")  # so that no offset had to be moved
    with Watch(secret) as watch, av.open(str(path), options={"enable_drefs": "1", "use_absolute_path": "1"}):
        pass
    assert watch.opened  # it does refer to it, and Watch sees
    with Watch(secret) as watch:
        in_children(path)
    assert not watch.opened
