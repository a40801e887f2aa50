"""What can be chosen for stage one."""

from pathlib import Path
from typing import Literal

from pydantic import Field

from ..settings import Settings

PoolingName = Literal["levels", "frames", "unified"]


class FramesConfig(Settings):
    """Which frames of a clip are read.

    Attributes:
        sampler: ``uniform`` takes the centre of each of ``count`` equal spans of the clip; ``middle`` takes ``count`` consecutive
            frames around the middle (MicroLens's own five); ``fps`` takes ``count`` frames ``1 / fps`` seconds apart around the middle.
        count: T, frames per clip.
        fps: frames per second for ``sampler: fps``.
    """

    sampler: Literal["uniform", "middle", "fps"] = "uniform"
    count: int = Field(8, ge=1, le=256)
    fps: float = Field(2.0, gt=0)


class EncoderConfig(Settings):
    """Which encoder makes the vectors.

    Attributes:
        size: ``nano`` (tests, demo), ``b0``..``b5`` (the SegFormer/MiT widths and depths), or ``auto``: that of the weights, and
            ``b0`` where they are random. A file of another size than the one named is refused.
        weights: ``random``, the path of a safetensors file, the folder of a run that trained an encoder, or ``hub:OWNER/NAME``, which
            downloads.
        pooling: ``levels`` (mean of each of the four feature levels), ``frames`` (the same for eight spans of the clip, one after another:
            what ``--items adapter`` learns from) or ``unified`` (eq. 6 of the paper, for trained decoders).
    """

    size: Literal["auto", "nano", "b0", "b1", "b2", "b3", "b4", "b5"] = "auto"
    weights: str = "random"
    pooling: PoolingName = "levels"


class ExtractConfig(Settings):
    """Stage one: a folder of clips to an embedding file.

    Attributes:
        manifest: CSV with columns id,path for clips whose id is not the file stem; None: id = file stem.
        encoder: which encoder.
        frames: which frames.
        image_size: side in pixels of the square the encoder sees.
        resize: ``crop`` (short side to image_size, then centre crop) or ``squash`` (ignore the aspect ratio, as MicroLens does).
        precision: in which the encoder computes, in Lightning Fabric's names; ``bf16-mixed`` see ``MixedPrecision``.
        dtype: of the stored vectors.
        decoder: ``auto`` (decord reads, PyAV rescues) or ``pyav``.
        seek: ``exact``, or ``keyframe``: for every wanted moment the nearest keyframe. Much cheaper on long clips; other frames.
        strict: refuse clips in which a wanted frame is damaged as far as any check of the decoder can tell; PyAV reads.
        engine: ``local``: this machine; ``ray``: a Ray cluster.
        ray_address: of the cluster; None: what the environment says, else a cluster of this machine alone.
        workers: decoding processes, of this machine or of each Ray task; 0: one per CPU core, or 2 per task.
        timeout_seconds: a clip that takes longer to decode is given up and named.
        batch_clips: clips encoded at once.
        shard_clips: clips of a shard, the unit in which work is kept.
        commit_seconds: a shard that is not full is written after so long: no more work than that is ever lost.
        from_cache: folder of cached frames to read in the place of videos.
        from_frames: folder or zip of ``{item}-{number}.jpg`` to read in the place of videos, as MicroLens publishes its frames.
        cache_frames: folder in which the frames are kept, for another encoder or for training.
        thumbnails: folder for a small picture of each clip that is read.
        cache_format: of what is kept: ``raw``, or ``jpeg``, which loses a little.
        max_fail_rate: share of clips that may fail before the run exits with code 3.
    """

    manifest: Path | None = None
    encoder: EncoderConfig = EncoderConfig()
    frames: FramesConfig = FramesConfig()
    image_size: int = Field(224, ge=32, le=1024)
    resize: Literal["crop", "squash"] = "crop"
    precision: Literal["32-true", "bf16-mixed"] = "32-true"
    dtype: Literal["float16", "float32"] = "float16"
    decoder: Literal["auto", "pyav"] = "auto"
    engine: Literal["local", "ray"] = "local"
    ray_address: str | None = None
    seek: Literal["exact", "keyframe"] = "exact"
    strict: bool = False
    workers: int = Field(0, ge=0)
    timeout_seconds: float = Field(30.0, gt=0)
    batch_clips: int = Field(8, ge=1)
    shard_clips: int = Field(256, ge=1)
    commit_seconds: float = Field(60.0, gt=0)
    from_cache: Path | None = None
    from_frames: Path | None = None
    cache_frames: Path | None = None
    thumbnails: Path | None = None
    cache_format: Literal["raw", "jpeg"] = "raw"
    max_fail_rate: float = Field(0.01, ge=0, le=1)
