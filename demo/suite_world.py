"""The demo world as a suite takes it: clips, histories, two embedding files and the kept frames."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import JsonValue, ValidationError

from ..errors import InputError, VivimError
from ..extract.config import PoolingName
from ..extract.frame_recipe import FrameRecipe
from ..extract.frame_writer import FrameCacheWriter
from ..extract.run import extract_catalogue
from ..extract.sources import videos
from ..extract.weights import make_encoder
from ..progress import Progress
from ..stage_one import make_recipe
from .render import render_world, world_sha256
from .run import extract_config
from .viewers import build_world
from .world import WorldConfig, WorldFiles

ENCODER_SEED = 1  # also that of the encoders that are trained along with seed 1, which begin where these vectors come from
_POOLINGS: tuple[PoolingName, ...] = ("levels", "frames")


@dataclass(frozen=True)
class SuiteWorld:
    """Where everything is.

    Attributes:
        pairs: who watched what.
        vectors: ``levels`` (whole clips) and ``frames`` (eight spans of each) -> embedding file.
        frames: folder of kept frames.
    """

    pairs: Path
    vectors: Mapping[str, Path]
    frames: Path


def make_world(content: Mapping[str, JsonValue], folder: Path, device: str, progress: Progress) -> SuiteWorld:
    """Render a world and embed its clips, as far as that is not done.

    Args:
        content: of ``WorldConfig``; what is left out has its default.
        folder: a folder in it, named after the world, holds everything.

    Raises:
        InputError: no such world.
        Interrupted: Ctrl-C; the next call goes on.
        VivimError: a rendered clip could not be embedded: something is wrong with this installation.
    """
    try:
        config = WorldConfig.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        raise InputError(f"world: {'.'.join(str(part) for part in first['loc'])}: {first['msg']}") from error
    place = folder / f"world-{world_sha256(config)[:12]}"
    files = render_world(build_world(config), place, progress=progress)
    vectors: dict[str, Path] = {pooling: _embed(files, place, pooling, device, progress) for pooling in _POOLINGS}
    return SuiteWorld(files.pairs, vectors, _frames(place))


def _embed(files: WorldFiles, place: Path, pooling: PoolingName, device: str, progress: Progress) -> Path:
    """An embedding file of the world's clips by a random nano encoder, whose frames are kept."""
    config = extract_config()
    config = config.model_copy(update={"encoder": config.encoder.model_copy(update={"pooling": pooling})})
    out = place / f"{pooling}.h5"
    encoder = make_encoder(config.encoder, ENCODER_SEED)
    recipe = make_recipe(config, encoder, encoder.load_report)
    # Whether it is done is for stage one to say: a file may be there whose clips' frames are not.
    with FrameCacheWriter(_frames(place), FrameRecipe.of(recipe)) as keep:
        done = extract_catalogue(videos(files.videos, config), out, config, encoder.to(device), recipe, progress, keep=keep)
    if done.failures:
        raise VivimError(f"{len(done.failures)} clips of the demo's own failed: {done.failures[0].message}. Run 'vivim doctor'.")
    return out


def _frames(place: Path) -> Path:
    return place / "kept-frames"
