"""Finding the input in ``data/`` when it is not given.

Two candidates for one thing are an error that names both: guessing would give somebody numbers about other data.
"""

import hashlib
import os
from collections.abc import Iterable
from pathlib import Path

from .errors import InputError
from .pipeline import Pipeline

FOLDER = Path("data")

_INTERACTIONS = ("*_pairs.tsv", "*_pairs.csv", "*.inter", "interactions.csv", "interactions.tsv", "interactions.parquet")

_TITLES = ("*_titles.csv", "*_title_en.csv", "titles.csv")


def find_data(pipeline: Pipeline, folder: Path = FOLDER) -> Pipeline:
    """The pipeline with ``data.videos``, ``data.interactions`` and ``data.titles`` filled in where ``folder`` holds them.

    What is given stays; what is not there stays None.

    Raises:
        InputError: more than one candidate for one of them.
    """
    data = pipeline.data
    found = {
        "videos": videos_if_any(pipeline, folder),
        "interactions": interactions_if_any(pipeline, folder),
        "titles": find_titles(pipeline, folder),
    }
    return pipeline.model_copy(update={"data": data.model_copy(update=found)})


def find_videos(pipeline: Pipeline, folder: Path = FOLDER) -> Path:
    """The folder of clips.

    Raises:
        InputError: not given and not found, or more than one candidate.
    """
    found = videos_if_any(pipeline, folder)
    if found is None:
        raise InputError(f"no clips are given and neither {folder / 'videos'}/ nor clips in {folder}/ were found; give --videos DIR.")
    return found


def videos_if_any(pipeline: Pipeline, folder: Path = FOLDER) -> Path | None:
    """The folder of clips, or None if there is none.

    Raises:
        InputError: more than one candidate.
    """
    return pipeline.data.videos or _videos(folder)


def thumbnail_folder(pipeline: Pipeline, beside: Path) -> Path:
    """Where small pictures of clips are: in the folder given, else in ``thumbnails`` beside the interactions, else in the runs.

    Args:
        beside: folder of the interactions; ids of other data are other clips, so that in the runs its pictures have a folder of their own.
    """
    with_data = beside / "thumbnails"
    own = hashlib.sha256(os.fsencode(beside.resolve())).hexdigest()[:12]
    return pipeline.extract.thumbnails or (with_data if with_data.is_dir() else pipeline.runs / f"thumbnails-{own}")


def find_interactions(pipeline: Pipeline, folder: Path = FOLDER) -> Path:
    """The interactions file.

    Raises:
        InputError: not given and not found, or more than one candidate.
    """
    found = interactions_if_any(pipeline, folder)
    if found is None:
        raise InputError(f"no interactions are given and {folder}/ holds none of {', '.join(_INTERACTIONS)}; give --interactions FILE.")
    return found


def interactions_if_any(pipeline: Pipeline, folder: Path = FOLDER) -> Path | None:
    """The interactions file, or None if there is none.

    Raises:
        InputError: more than one candidate.
    """
    return pipeline.data.interactions or _only(_files(folder, _INTERACTIONS), "interactions files", "--interactions FILE")


def find_titles(pipeline: Pipeline, folder: Path = FOLDER) -> Path | None:
    """The titles file, or None if there is none.

    Raises:
        InputError: more than one candidate.
    """
    return pipeline.data.titles or _only(_files(folder, _TITLES), "titles files", "--set data.titles=FILE")


def _files(folder: Path, patterns: Iterable[str]) -> list[Path]:
    return sorted({path for pattern in patterns for path in folder.glob(pattern) if path.is_file()})


def _videos(folder: Path) -> Path | None:
    from .extract.clips import EXTENSIONS

    candidates = sorted({path for pattern in ("videos", "*_videos") for path in folder.glob(pattern) if path.is_dir()})
    if not candidates and folder.is_dir() and any(path.suffix.lower() in EXTENSIONS for path in folder.iterdir()):
        return folder
    return _only(candidates, "folders of clips", "--videos DIR")


def _only(candidates: list[Path], what: str, option: str) -> Path | None:
    if len(candidates) > 1:
        raise InputError(f"{len(candidates)} {what} fit: {', '.join(map(str, candidates))}. Choose one with {option}.")
    return candidates[0] if candidates else None
