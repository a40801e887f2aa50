"""Videos to kept frames, without an encoder: for who trains one."""

from collections.abc import Collection
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from ..progress import Progress
from .clip import Clip, Failure
from .config import ExtractConfig
from .decode_pool import DecodePool
from .frame_recipe import FrameRecipe
from .frame_writer import FrameCacheWriter
from .sources import Source


@dataclass(frozen=True)
class Filled:
    """What became of the clips.

    Attributes:
        added: clips that were decoded.
        there: clips whose frames were there already.
        failures: clips that cannot be read.
    """

    added: int
    there: int
    failures: tuple[Failure, ...]


def fill_cache(
    source: Source, folder: Path, recipe: FrameRecipe, config: ExtractConfig, wanted: Collection[str], progress: Progress
) -> Filled:
    """Decode the clips ``wanted`` into the cache ``folder``, as far as it lacks them.

    Stopped at any moment, the next call goes on; a clip whose file has changed is decoded again.

    Raises:
        RecipeMismatch: the folder holds frames that were read another way.
        InputError: another process writes there.
    """
    refs = [ref for ref in source.catalogue.refs if ref.id in wanted]
    failures = [failure for failure in source.catalogue.failures if failure.id in wanted]
    added = there = 0
    pool = DecodePool(source.reader, config.workers, config.timeout_seconds)
    with FrameCacheWriter(folder, recipe) as keep, closing(pool.decode(refs, keep.hashes)) as results:
        progress.start("decode", len(refs), "clips")
        for result in results:
            if isinstance(result, Clip):
                added += keep.add(result)
            elif isinstance(result, Failure):
                failures.append(result)
            else:
                there += 1
            progress.advance(1, f"{len(failures)} failed" if failures else "")
        progress.finish()
    return Filled(added, there, tuple(sorted(failures, key=lambda failure: failure.id)))
