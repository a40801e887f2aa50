"""Clips with a mask for every frame, as VTUS (``Train/0002/*.jpg``, ``Train_GT/0002/*.png``) and DAVIS 2016
(``JPEGImages/480p/NAME/*.jpg``, ``Annotations/480p/NAME/*.png``) lay them out.

Legend: T frames of the clip, H and W their size, S side of the square the encoder sees.
"""

import hashlib
import os
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F

from ...errors import InputError
from ...progress import Progress
from ..clip import ClipRef
from ..clips import EXTENSIONS
from ..resize import resize
from .pictures import read_frame, read_mask
from .whole_clip import read_whole

_PICTURES = {".jpg", ".jpeg", ".png", ".bmp"}
_MIN_SIDE = 32


@dataclass(frozen=True)
class MaskedClip:
    """A clip in memory: 4 bytes a pixel.

    Attributes:
        name: of its folder.
        frames_TCHW: uint8 RGB, S x S.
        masks_THW: bool; a frame may be empty of the object.
    """

    name: str
    frames_TCHW: torch.Tensor
    masks_THW: torch.Tensor

    def __post_init__(self) -> None:
        frames, masks = self.frames_TCHW, self.masks_THW
        assert frames.ndim == 4 and frames.shape[1] == 3 and frames.dtype == torch.uint8, (frames.shape, frames.dtype)
        assert masks.shape == (len(frames), *frames.shape[2:]) and masks.dtype == torch.bool, (masks.shape, masks.dtype)

    def __len__(self) -> int:
        return len(self.frames_TCHW)

    def part(self, first: int, last: int) -> "MaskedClip":
        """Frames ``first`` to ``last``, without the latter."""
        return MaskedClip(f"{self.name}[{first}:{last}]", self.frames_TCHW[first:last], self.masks_THW[first:last])


def read_clips(frames: Path, masks: Path, pixels: int, progress: Progress) -> list[MaskedClip]:
    """Read all clips of a folder.

    Args:
        frames: a folder per clip, or the pictures of one clip, or video files.
        masks: the same folders with a mask per frame: same name without extension, same size, 0 for background and 1 or 255 for
            the object; for ``NAME.mp4`` the folder ``NAME`` with as many masks as it has frames. Masks without any object are legal,
            and so are clips of one frame.
        pixels: S; pictures are squeezed to a square, their proportions ignored. A mask pixel is object where at least half of what it
            covers is.

    Raises:
        InputError: a folder, frame or mask is missing, cannot be read, or does not fit the other.
    """
    if os.path.realpath(frames) == os.path.realpath(masks):
        raise InputError(f"--frames and --masks are both {frames}. Give the pictures to the one and their masks to the other.")
    if videos := _videos(frames):
        return _read_videos(videos, frames, masks, pixels, progress)
    folders = _clip_folders(frames, "--frames")
    mask_folders = _clip_folders(masks, "--masks")
    # One clip given directly on either side needs no name in common.
    if len(folders) == len(mask_folders) == 1 and (frames in folders.values() or masks in mask_folders.values()):
        mask_folders = dict(zip(folders, mask_folders.values(), strict=True))
    _refuse_unpaired("clip", folders, mask_folders, frames, masks)
    pairs = {name: _pair(folders[name], mask_folders[name]) for name in folders}
    progress.start("read", sum(map(len, pairs.values())), "frames")
    clips = [_read_clip(name, pair, pixels, progress) for name, pair in pairs.items()]
    progress.finish()
    return clips


def _videos(root: Path) -> dict[str, Path]:
    """Video files directly in a folder, by name without extension; empty if there are none, or no such folder."""
    return {path.stem: path for path in _entries(root) if path.suffix.lower() in EXTENSIONS} if os.path.isdir(root) else {}


def _read_videos(videos: dict[str, Path], frames: Path, masks: Path, pixels: int, progress: Progress) -> list[MaskedClip]:
    mixed = [path.name for path in _entries(frames) if os.path.isdir(path) or _is_picture(path)]
    if mixed:
        raise InputError(f"--frames: {frames} holds videos and {mixed[0]}; give one kind.")
    mask_folders = _clip_folders(masks, "--masks")
    _refuse_unpaired("clip", videos, mask_folders, frames, masks)
    progress.start("read", len(videos), "clips")
    whole = read_whole([ClipRef(name, path) for name, path in videos.items()], pixels)
    clips = []
    for name, path in videos.items():
        files = [file for _, file in sorted(_by_stem(mask_folders[name]).items(), key=lambda entry: _natural(entry[0]))]
        clip = whole[name]
        if len(files) != len(clip.frames_TCHW):
            raise InputError(
                f"{path} has {len(clip.frames_TCHW)} frames, {mask_folders[name]} {len(files)} masks; every frame needs one. "
                "They are paired in the order of the numbers in the masks' names."
            )
        masks_THW = [_resize_mask(torch.from_numpy(_checked_mask(file, clip.size_HW) > 0), pixels) for file in files]
        clips.append(MaskedClip(name, torch.from_numpy(clip.frames_TCHW), torch.stack(masks_THW)))
        progress.advance()
    progress.finish()
    return clips


def hash_clips(clips: Sequence[MaskedClip]) -> str:
    """sha256 over names and pixels, to tell whether a run goes on with the data it began with."""
    digest = hashlib.sha256()
    for clip in clips:
        digest.update(f"{clip.name} {tuple(clip.frames_TCHW.shape)}\n".encode(errors="surrogateescape"))
        digest.update(clip.frames_TCHW.numpy().tobytes())
        digest.update(clip.masks_THW.numpy().tobytes())
    return digest.hexdigest()


def hold_out(clips: Sequence[MaskedClip], share: float, seed: int) -> tuple[list[MaskedClip], list[MaskedClip]]:
    """Clips to train on and clips to measure on, both in their order.

    At least one clip is held out. Of a single clip its last frames are, which look much like the ones before: such a measurement
    flatters.

    Raises:
        InputError: there is one clip of one frame.
    """
    if len(clips) > 1:
        count = min(max(1, round(share * len(clips))), len(clips) - 1)
        chosen = set(np.random.default_rng(seed).permutation(len(clips))[:count].tolist())
        return [c for i, c in enumerate(clips) if i not in chosen], [c for i, c in enumerate(clips) if i in chosen]
    clip = clips[0]
    if len(clip) < 2:
        raise InputError(
            f"clip {clip.name} has one frame and is the only one; nothing is left to measure on. Give --test-frames and --test-masks."
        )
    cut = len(clip) - min(max(1, round(share * len(clip))), len(clip) - 1)
    return [clip.part(0, cut)], [clip.part(cut, len(clip))]


def _clip_folders(root: Path, option: str) -> dict[str, Path]:
    if not os.path.isdir(root):
        raise InputError(
            f"{option}: {root} is not a folder. Give one that holds a folder of pictures per clip, or the pictures of one clip."
        )
    entries = _entries(root)
    folders = {path.name: path for path in entries if os.path.isdir(path)}
    pictures = [path for path in entries if _is_picture(path)]
    if folders and pictures:
        raise InputError(f"{option}: {root} holds folders and pictures ({pictures[0].name}); put each clip into a folder of its own.")
    if pictures:
        return {root.name: root}
    if not folders:
        raise InputError(f"{option}: {root} holds no folders and {_no_pictures(entries)}")
    return folders


def _pair(frames: Path, masks: Path) -> list[tuple[Path, Path]]:
    """Frames with their masks, in order: 2 before 10."""
    frame_of, mask_of = _by_stem(frames), _by_stem(masks)
    if not frame_of:
        raise InputError(f"{frames} holds {_no_pictures(_entries(frames))}")
    _refuse_unpaired("frame", frame_of, mask_of, frames, masks)
    return [(frame_of[stem], mask_of[stem]) for stem in sorted(frame_of, key=_natural)]


def _by_stem(folder: Path) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for path in _entries(folder):
        if _is_picture(path) and found.setdefault(path.stem, path) != path:
            raise InputError(f"{folder} holds {found[path.stem].name} and {path.name}; a frame's name without extension must be its own.")
    return found


def _entries(folder: Path) -> list[Path]:
    try:
        return sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    except OSError as error:
        raise InputError(f"{folder} cannot be looked into ({error.strerror}). Allow it, or give another folder.") from error


def _no_pictures(entries: list[Path]) -> str:
    found = f" It holds {', '.join(path.name for path in entries[:3])}{', ...' if len(entries) > 3 else ''}." if entries else ""
    return f"no pictures ({', '.join(sorted(_PICTURES))}).{found}"


def _is_picture(path: Path) -> bool:
    return path.suffix.lower() in _PICTURES and os.path.isfile(path)


def _natural(stem: str) -> list[tuple[int, str]]:
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", stem)] + [(-2, stem)]


def _refuse_unpaired(what: str, frames: dict[str, Path], masks: dict[str, Path], frame_root: Path, mask_root: Path) -> None:
    sides = ((frames, masks, mask_root, f"masks of the {what}s"), (masks, frames, frame_root, f"{what}s of the masks"))
    for named, held, where, lacking in sides:
        if missing := named.keys() - held.keys():
            instead = held.keys() - named.keys()
            others = f", and has {_listed(instead)} instead" if instead else ""
            rule = (
                "The folders of a clip's frames and of its masks have the same name."
                if what == "clip"
                else "Frames and masks have the same name without extension; a frame without the object has an empty mask."
            )
            raise InputError(f"{where} lacks the {lacking} {_listed(missing)} ({len(missing)} of {len(named)}){others}. {rule}")


def _listed(names: Collection[str]) -> str:
    return ", ".join(sorted(names, key=_natural)[:5]) + (", ..." if len(names) > 5 else "")


def _read_clip(name: str, pairs: list[tuple[Path, Path]], pixels: int, progress: Progress) -> MaskedClip:
    frames, masks = [], []
    size: tuple[int, ...] | None = None
    for frame_path, mask_path in pairs:
        frame_HWC = read_frame(frame_path)
        mask_HW = _checked_mask(mask_path, frame_HWC.shape[:2])
        if size not in (None, mask_HW.shape):
            raise InputError(f"{frame_path} has {_size(mask_HW.shape)} pixels, the frames before it {_size(size)}; a clip has one size.")
        size = mask_HW.shape
        frames.append(torch.from_numpy(resize(frame_HWC, pixels, "squash")))
        masks.append(_resize_mask(torch.from_numpy(mask_HW > 0), pixels))
        progress.advance()
    return MaskedClip(name, torch.stack(frames), torch.stack(masks))


def _checked_mask(path: Path, size_HW: tuple[int, ...]) -> npt.NDArray[np.uint8]:
    """A mask of a frame of this size, as numbers of which all but 0 mean object."""
    mask_HW = read_mask(path)
    if min(mask_HW.shape) < _MIN_SIDE:
        raise InputError(f"{path} has {_size(mask_HW.shape)} pixels; at least {_MIN_SIDE} x {_MIN_SIDE} are needed.")
    if mask_HW.shape != size_HW:
        raise InputError(f"{path} has {_size(mask_HW.shape)} pixels, its frame {_size(size_HW)}; they must be the same.")
    values = set(np.unique(mask_HW).tolist())
    if not (values <= {0, 255} or values <= {0, 1}):
        listed = ", ".join(map(str, sorted(values)[:6])) + (", ..." if len(values) > 6 else "")
        shown = f"{len(values)} values: {listed}" if len(values) > 1 else f"nothing but {listed}"
        raise InputError(
            f"{path} holds {shown}; allowed are 0 for background and 255 (or 1) for the object. "
            "Masks with several objects must be merged into one; lossy files such as JPEG do not keep masks."
        )
    return mask_HW


def _resize_mask(mask_HW: torch.Tensor, pixels: int) -> torch.Tensor:
    if mask_HW.shape == (pixels, pixels):
        return mask_HW
    return F.interpolate(mask_HW[None, None].float(), (pixels, pixels), mode="bilinear", antialias=True)[0, 0] >= 0.5


def _size(shape: tuple[int, ...] | None) -> str:
    assert shape is not None
    return f"{shape[1]} x {shape[0]}"
