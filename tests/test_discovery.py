"""Finding the input in ``data/``."""

from pathlib import Path

import pytest
from vivim.discovery import find_data, find_interactions, find_videos, interactions_if_any, thumbnail_folder
from vivim.errors import InputError
from vivim.pipeline import Pipeline, load_pipeline


def make(folder: Path, *names: str) -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def test_the_microlens_layout(tmp_path: Path) -> None:
    make(tmp_path, "MicroLens-50k_pairs.tsv", "MicroLens-50k_titles.csv", "MicroLens-50k_videos/1002.mp4")
    data = find_data(Pipeline(), tmp_path).data
    assert data.videos == tmp_path / "MicroLens-50k_videos"
    assert data.interactions == tmp_path / "MicroLens-50k_pairs.tsv"
    assert data.titles == tmp_path / "MicroLens-50k_titles.csv"


@pytest.mark.parametrize("name", ["x_pairs.tsv", "x_pairs.csv", "ml-100k.inter", "interactions.csv", "interactions.parquet"])
def test_names_of_interactions(name: str, tmp_path: Path) -> None:
    make(tmp_path, name)
    assert find_interactions(Pipeline(), tmp_path) == tmp_path / name


def test_clips_lie_in_videos_or_directly_in_the_folder(tmp_path: Path) -> None:
    make(tmp_path, "a.MP4", "notes.txt")
    assert find_videos(Pipeline(), tmp_path) == tmp_path
    make(tmp_path, "videos/b.mp4")
    assert find_videos(Pipeline(), tmp_path) == tmp_path / "videos"


def test_what_is_given_wins_and_is_not_looked_for(tmp_path: Path) -> None:
    make(tmp_path, "a_pairs.tsv", "b_pairs.tsv", "videos/a.mp4", "x_videos/a.mp4")
    given = load_pipeline(None, ["data.interactions=mine.csv", "data.videos=clips"])
    data = find_data(given, tmp_path).data
    assert (data.interactions, data.videos, data.titles) == (Path("mine.csv"), Path("clips"), None)


def test_two_candidates_are_named_and_refused(tmp_path: Path) -> None:
    make(tmp_path, "a_pairs.tsv", "b.inter", "videos/a.mp4", "x_videos/a.mp4", "a_titles.csv", "b_titles.csv")
    with pytest.raises(InputError, match=r"a_pairs\.tsv, .*b\.inter\. Choose one with --interactions FILE"):
        find_interactions(Pipeline(), tmp_path)
    with pytest.raises(InputError, match=r"videos, .*x_videos\. Choose one with --videos DIR"):
        find_videos(Pipeline(), tmp_path)
    with pytest.raises(InputError, match="Choose one"):
        find_data(Pipeline(), tmp_path)


@pytest.mark.parametrize("folder", ["empty", "nowhere"])
def test_nothing_there(folder: str, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="give --videos DIR"):
        find_videos(Pipeline(), tmp_path / folder)
    with pytest.raises(InputError, match="give --interactions FILE"):
        find_interactions(Pipeline(), tmp_path / folder)
    assert find_data(Pipeline(), tmp_path / folder) == Pipeline()


def test_interactions_may_be_absent_but_not_ambiguous(tmp_path: Path) -> None:
    assert interactions_if_any(Pipeline(), tmp_path) is None
    make(tmp_path, "interactions.csv")
    assert interactions_if_any(Pipeline(), tmp_path) == tmp_path / "interactions.csv"
    make(tmp_path, "x_pairs.tsv")
    with pytest.raises(InputError, match="2 interactions files fit"):
        interactions_if_any(Pipeline(), tmp_path)
    assert interactions_if_any(load_pipeline(None, ["data.interactions=mine.tsv"]), tmp_path) == Path("mine.tsv")


def test_thumbnails_of_two_data_sets_never_share_a_folder(tmp_path: Path) -> None:
    make(tmp_path, "a/x_pairs.tsv", "b/x_pairs.tsv", "c/thumbnails/00/x.webp")
    a, again, b, c = (thumbnail_folder(Pipeline(), tmp_path / name) for name in ("a", "a", "b", "c"))
    assert a == again != b
    assert a.parent == b.parent == Pipeline().runs
    assert c == tmp_path / "c" / "thumbnails"
    given = load_pipeline(None, [f"extract.thumbnails={tmp_path / 'g'}"])
    assert thumbnail_folder(given, tmp_path / "c") == tmp_path / "g"
