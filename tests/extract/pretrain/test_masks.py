"""Reading clips with masks: what is read, and what is refused in words."""

import shutil
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from vivim.errors import InputError
from vivim.extract.pretrain.masks import hash_clips, hold_out, read_clips
from vivim.extract.pretrain.pictures import read_frame, read_mask, write_png
from vivim.progress import SILENT

from .conftest import square_clip, write_grey, write_picture


def read(folders, pixels=48):
    return read_clips(*folders, pixels, SILENT)


def test_every_frame_gets_its_mask(folders):
    clips = read(folders)
    assert [(clip.name, len(clip)) for clip in clips] == [("a", 6), ("b", 6)]
    for clip in clips:
        bright = clip.frames_TCHW.float().mean(1) > 120
        assert torch.equal(bright, clip.masks_THW)
        assert clip.masks_THW.sum((1, 2)).tolist() == [18 * 18] * 6


def test_the_pictures_of_one_clip_may_be_given_directly(folders):
    frames, masks = folders
    direct = read((frames / "a", masks / "a"))
    assert torch.equal(direct[0].frames_TCHW, read(folders)[0].frames_TCHW)
    shutil.move(masks / "a", masks.parent / "truth")
    assert hash_clips(read((frames / "a", masks.parent / "truth"))) == hash_clips(direct)


def test_frames_are_ordered_as_numbers(tmp_path):
    for number in (1, 2, 10):
        for folder in ("f", "m"):
            (tmp_path / folder).mkdir(exist_ok=True)
        write_png(tmp_path / "f" / f"{number}.png", np.full((32, 32, 3), number, np.uint8))
        write_grey(tmp_path / "m" / f"{number}.png", np.zeros((32, 32), np.uint8))
    assert read((tmp_path / "f", tmp_path / "m"), 32)[0].frames_TCHW[:, 0, 0, 0].tolist() == [1, 2, 10]


@pytest.mark.parametrize(
    ("values", "pix_fmt"), [((0, 255), "gray"), ((0, 1), "gray"), ((0, 1), "pal8"), ((0, 0), "gray"), ((1, 1), "pal8")]
)
def test_masks_of_both_conventions_palettes_and_empty_ones_are_read(tmp_path, values, pix_fmt):
    mask = np.zeros((40, 56), np.uint8)
    mask[:], mask[8:16, 8:24] = values
    square_clip(tmp_path / "f", tmp_path / "m", count=1)
    write_png(tmp_path / "f" / "0000.png", np.zeros((40, 56, 3), np.uint8))
    write_grey(tmp_path / "m" / "0000.png", mask, pix_fmt)
    assert np.array_equal(read_mask(tmp_path / "m" / "0000.png"), mask)
    found = read((tmp_path / "f", tmp_path / "m"), 64)[0].masks_THW
    assert found.shape == (1, 64, 64)
    assert float(found.float().mean()) == pytest.approx((mask > 0).mean(), abs=0.01)


def test_a_written_picture_reads_back(tmp_path):
    picture = np.random.default_rng(0).integers(0, 256, (33, 47, 3)).astype(np.uint8)
    write_png(tmp_path / "x.png", picture)
    assert np.array_equal(read_frame(tmp_path / "x.png"), picture)


def as_jpeg(picture_HWC, path):
    write_picture(path, av.VideoFrame.from_ndarray(picture_HWC, format="rgb24").reformat(format="yuvj444p"), "mjpeg")


def test_a_picture_is_what_its_content_says_not_its_name(tmp_path, monkeypatch):
    picture = np.kron(np.random.default_rng(0).integers(0, 256, (8, 8, 3)), np.ones((8, 8, 1))).astype(np.uint8)
    as_jpeg(picture, tmp_path / "a.png")
    write_png(tmp_path / "b.jpg", picture)
    assert np.abs(read_frame(tmp_path / "a.png").astype(int) - picture).mean() < 8
    assert np.array_equal(read_frame(tmp_path / "b.jpg"), picture)
    monkeypatch.chdir(tmp_path)
    write_png(Path("concat:x.png"), picture)  # which FFmpeg takes for a protocol
    assert np.array_equal(read_frame(Path("concat:x.png")), picture)


@pytest.mark.parametrize("codec", ["png", "mjpeg"])
def test_a_picture_that_was_cut_short_is_refused(tmp_path, codec):
    noise = np.random.default_rng(0).integers(0, 256, (48, 48, 3)).astype(np.uint8)
    path = tmp_path / "x.png"
    write_png(path, noise) if codec == "png" else as_jpeg(noise, path)
    whole = path.read_bytes()
    for size in (len(whole) // 3, len(whole) // 2, len(whole) - 100):
        path.write_bytes(whole[:size])
        with pytest.raises(InputError, match=r"x\.png cannot be read as a picture: it is (damaged or )?cut short\. Copy it again"):
            read_frame(path)


def test_transparency_and_palettes_that_could_be_read_two_ways_are_refused(tmp_path):
    mask, path = np.zeros((48, 48), np.uint8), tmp_path / "x.png"
    mask[8:16, 8:16] = 255
    white = np.full_like(mask, 255)
    write_picture(path, av.VideoFrame.from_ndarray(np.dstack([mask, mask, mask, white]), format="rgba"))
    assert np.array_equal(read_mask(path), mask)
    for colour in (white, np.zeros_like(mask)):
        write_picture(path, av.VideoFrame.from_ndarray(np.dstack([colour, colour, colour, mask]), format="rgba"))
        with pytest.raises(InputError, match="is transparent in places"):
            read_mask(path)
    write_grey(path, mask // 255, "pal8", [(255, 0, 0, 0), (255, 128, 0, 0)])  # as DAVIS has it
    assert np.array_equal(read_mask(path), mask // 255)
    write_grey(path, mask // 255, "pal8", [(255, 255, 255, 255), (255, 0, 0, 0)])
    with pytest.raises(InputError, match="a palette whose number 1 is darker than its number 0"):
        read_mask(path)


def grey_mask(folders, values):
    write_grey(folders[1] / "a" / "0003.png", values)


def small(folders):
    write_png(folders[0] / "a" / "0000.png", np.zeros((31, 60, 3), np.uint8))
    write_grey(folders[1] / "a" / "0000.png", np.zeros((31, 60), np.uint8))


def other_size(folders):
    write_png(folders[0] / "a" / "0003.png", np.zeros((64, 48, 3), np.uint8))
    grey_mask(folders, np.zeros((64, 48), np.uint8))


def renamed_masks(folders):
    for path in (folders[1] / "a").iterdir():
        path.rename(path.with_stem(path.stem + "_gt"))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda f: (f[1] / "a" / "0002.png").unlink(), r"lacks the masks of the frames 0002 \(1 of 6\).*empty mask"),
        (lambda f: (f[0] / "a" / "0002.png").unlink(), r"lacks the frames of the masks 0002 \(1 of 6\)"),
        (lambda f: shutil.rmtree(f[1] / "b"), r"lacks the masks of the clips b \(1 of 2\)"),
        (lambda f: shutil.rmtree(f[0] / "b"), r"lacks the clips of the masks b \(1 of 2\)"),
        (lambda f: shutil.copy(f[0] / "a" / "0001.png", f[0] / "a" / "0001.bmp"), r"holds 0001\.bmp and 0001\.png"),
        (lambda f: shutil.copy(f[0] / "a" / "0001.png", f[0] / "0001.png"), r"holds folders and pictures \(0001\.png\)"),
        (lambda f: grey_mask(f, np.tile(np.uint8([0, 128, 255]), (48, 16))), r"0003\.png holds 3 values: 0, 128, 255; allowed are 0"),
        (lambda f: grey_mask(f, np.tile(np.uint8([1, 255, 255]), (48, 16))), r"holds 2 values: 1, 255"),
        (lambda f: grey_mask(f, np.tile(np.arange(48, dtype=np.uint8), (48, 1))), r"holds 48 values: 0, 1, 2, 3, 4, 5, \.\.\."),
        (lambda f: grey_mask(f, np.zeros((48, 40), np.uint8)), r"0003\.png has 40 x 48 pixels, its frame 48 x 48"),
        (lambda f: write_png(f[1] / "a" / "0003.png", np.full((48, 48, 3), [255, 0, 0], np.uint8)), r"0003\.png has colours"),
        (lambda f: (f[0] / "a" / "0003.png").write_bytes(b"no picture"), r"0003\.png is no JPEG, PNG or BMP"),
        (lambda f: (f[0] / "a" / "0003.png").write_bytes(b""), r"0003\.png is no JPEG, PNG or BMP"),
        (lambda f: grey_mask(f, np.full((48, 48), 254, np.uint8)), r"0003\.png holds nothing but 254; allowed are 0"),
        (renamed_masks, r"lacks the masks of the frames 0000, .*0004, \.\.\. \(6 of 6\), and has 0000_gt, .* instead"),
        (lambda f: (f[1] / "a").rename(f[1] / "A"), r"lacks the masks of the clips a \(1 of 2\), and has A instead"),
        (lambda f: write_grey(f[1] / "a" / "0003.png", np.ones((48, 48), np.uint16), "gray16be"), r"0003\.png has 16 bits a pixel"),
        (small, r"0000\.png has 60 x 31 pixels; at least 32 x 32"),
        (other_size, r"0003\.png has 48 x 64 pixels, the frames before it 48 x 48"),
        (lambda f: [shutil.rmtree(f[0] / name) for name in "ab"], r"holds no folders and no pictures"),
        (lambda f: shutil.rmtree(f[0]), r"--frames: .* is not a folder"),
        (lambda f: shutil.rmtree(f[1]), r"--masks: .* is not a folder"),
        (lambda f: [path.unlink() for path in (f[0] / "a").iterdir()], r"a holds no pictures"),
    ],
)
def test_what_does_not_fit_is_refused(folders, spoil, message):
    spoil(folders)
    with pytest.raises(InputError, match=message):
        read(folders)


def test_frames_are_not_their_own_masks(folders):
    with pytest.raises(InputError, match=r"--frames and --masks are both .*masks"):
        read((folders[1], folders[1].parent / "frames" / ".." / "masks"))


def test_a_share_of_the_clips_is_held_out(folders):
    clips = read(folders)
    train, test = hold_out(clips, 0.2, seed=3)
    assert sorted(clip.name for clip in [*train, *test]) == ["a", "b"]
    assert len(test) == 1
    assert {hold_out(clips, 0.2, seed)[1][0].name for seed in range(20)} == {"a", "b"}


def test_of_a_single_clip_the_last_frames_are_held_out(folders):
    clip = read(folders)[0]
    (train,), (test,) = hold_out([clip], 0.34, seed=0)
    assert (len(train), len(test)) == (4, 2)
    assert torch.equal(torch.cat([train.masks_THW, test.masks_THW]), clip.masks_THW)


def test_nothing_can_be_held_out_of_one_frame(folders):
    with pytest.raises(InputError, match="has one frame and is the only one"):
        hold_out([read(folders)[0].part(0, 1)], 0.2, seed=0)


@pytest.fixture
def video_clips(tmp_path, folders):
    """The clips of ``folders`` as lossless videos, with the same masks."""
    frames, masks = folders
    (tmp_path / "videos").mkdir()
    for name in "ab":
        with av.open(str(tmp_path / "videos" / f"{name}.mkv"), "w") as file:
            stream = file.add_stream("ffv1", rate=10)
            stream.width, stream.height, stream.pix_fmt = 48, 48, "bgr0"
            for path in sorted((frames / name).iterdir()):
                file.mux(stream.encode(av.VideoFrame.from_ndarray(read_frame(path), format="rgb24")))
            file.mux(stream.encode(None))
    return tmp_path / "videos", masks


def test_videos_with_masks_are_the_same_clips(folders, video_clips):
    expected = read(folders)
    found = read(video_clips)
    assert [clip.name for clip in found] == ["a", "b"]
    for one, two in zip(expected, found, strict=True):
        assert torch.equal(one.frames_TCHW, two.frames_TCHW) and torch.equal(one.masks_THW, two.masks_THW)


def test_videos_that_do_not_fit_their_masks_are_refused(video_clips, tmp_path):
    (video_clips[1] / "a" / "0005.png").unlink()
    with pytest.raises(InputError, match=r"a\.mkv has 6 frames, .*a 5 masks; every frame needs one"):
        read(video_clips)
    (video_clips[0] / "a.mkv").write_bytes(b"no video at all")
    with pytest.raises(InputError, match=r"a\.mkv cannot be read: not_video"):
        read(video_clips)
    (video_clips[0] / "a.mkv").unlink()
    with pytest.raises(InputError, match="lacks the clips of the masks a"):
        read(video_clips)
    (video_clips[0] / "c").mkdir()
    with pytest.raises(InputError, match="holds videos and c; give one kind"):
        read(video_clips)
