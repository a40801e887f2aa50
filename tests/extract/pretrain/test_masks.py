"""Reading clips with masks: what is read, and what is refused in words."""

import shutil

import numpy as np
import pytest
import torch
from vivim.errors import InputError
from vivim.extract.pretrain.masks import hash_clips, hold_out, read_clips
from vivim.extract.pretrain.pictures import read_frame, read_mask, write_png
from vivim.progress import SILENT

from .conftest import square_clip, write_grey


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


def grey_mask(folders, values):
    write_grey(folders[1] / "a" / "0003.png", values)


def small(folders):
    write_png(folders[0] / "a" / "0000.png", np.zeros((31, 60, 3), np.uint8))
    write_grey(folders[1] / "a" / "0000.png", np.zeros((31, 60), np.uint8))


def other_size(folders):
    write_png(folders[0] / "a" / "0003.png", np.zeros((64, 48, 3), np.uint8))
    grey_mask(folders, np.zeros((64, 48), np.uint8))


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
        (lambda f: (f[0] / "a" / "0003.png").write_bytes(b"no picture"), r"0003\.png cannot be read as a picture"),
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
