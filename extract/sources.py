"""What an extraction reads: videos, frames that an earlier one has kept, or frames that stand as JPEG files."""

from dataclasses import dataclass
from pathlib import Path

from ..errors import InputError
from ..progress import Progress
from ..store import Recipe
from .clips import Catalogue, find_clips
from .config import ExtractConfig
from .decode_child import Reader
from .frame_cache import CachedReader, FrameCache
from .frame_folder import FrameFileReader, find_frames
from .frame_recipe import FrameRecipe
from .reader import ClipReader
from .sampling import make_sampler


@dataclass(frozen=True)
class Source:
    """Clips and how they are read.

    Attributes:
        catalogue: the clips.
        reader: turns one into frames, in a decoding process.
        frames: how they were read, where that is not as the configuration says.
    """

    catalogue: Catalogue
    reader: Reader
    frames: FrameRecipe | None = None

    def recipe(self, recipe: Recipe) -> Recipe:
        """The recipe of vectors made from these frames.

        Args:
            recipe: as the configuration has it.
        """
        return recipe if self.frames is None else self.frames.into(recipe)


def make_reader(config: ExtractConfig) -> ClipReader:
    """What reads a video as the configuration says."""
    return ClipReader(make_sampler(config.frames), config.image_size, config.resize, config.decoder, seek=config.seek, strict=config.strict)


def videos(folder: Path, config: ExtractConfig) -> Source:
    """A folder of videos, or those that the manifest names. Raises as ``find_clips``."""
    return Source(find_clips(folder, config.manifest), make_reader(config))


def cached(folder: Path, config: ExtractConfig, recipe: Recipe, progress: Progress) -> Source:
    """The frames of a cache, which must have been read as ``recipe`` says.

    Raises:
        InputError: there is no cache.
        RecipeMismatch: its frames were read another way.
    """
    cache = FrameCache.open(folder)
    for line in cache.damaged:
        progress.say(line)
    cache.check_recipe(FrameRecipe.of(recipe))
    return Source(cache.catalogue(), CachedReader(config.frames.count * 3 * config.image_size**2), cache.recipe)


def frame_files(path: Path, config: ExtractConfig) -> Source:
    """A folder or zip of ``{item}-{number}.jpg``, as MicroLens publishes its frames.

    Raises:
        InputError: no frames, or a sampler other than the only one that there is for frames without times.
    """
    if config.frames.sampler != "uniform":
        raise InputError(f"frames.sampler {config.frames.sampler} needs to know when frames are shown; files do not say. Use uniform.")
    reader = FrameFileReader(config.frames.count, config.image_size, config.resize)
    return Source(find_frames(path), reader, reader.recipe)
