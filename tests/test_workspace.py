"""What the commands remember between each other."""

import json
import os
from pathlib import Path

import pytest
from vivim.errors import InputError
from vivim.workspace import Workspace


def unsaid(line: str) -> None:
    raise AssertionError(line)


def trained(path: Path, at: int = 1, catalogue: bool = True, finished: bool = True, weights: bool = True) -> Path:
    """A run that was finished at a time."""
    path.mkdir(parents=True, exist_ok=True)
    (path / "run.json").write_text(json.dumps(({"catalogue_sha256": "0"} if catalogue else {}) | {"finished": finished}))
    os.utime(path / "run.json", (at, at))
    if weights:
        (path / "model.safetensors").touch()
    return path


def test_nothing_is_made_before_something_is_written(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path / "runs")
    assert workspace.embeddings_path() == tmp_path / "runs" / "embeddings.h5"
    with pytest.raises(InputError, match="run 'vivim train-rec' first"):
        workspace.last_run(unsaid)
    with pytest.raises(InputError, match="run 'vivim extract' first"):
        workspace.last_embeddings()
    assert not (tmp_path / "runs").exists()


def test_the_last_run_and_the_last_embeddings_are_remembered(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path / "runs")
    first, second = workspace.new_run("mamba-ids"), workspace.new_run("mamba-ids")
    assert first != second
    assert first.is_dir()
    assert second.is_dir()
    for path in (second, first):
        workspace.remember_run(trained(path))
    assert workspace.last_run(unsaid) == first
    assert (tmp_path / "runs" / "latest").read_text() == first.name + "\n"

    workspace.embeddings_path().touch()
    workspace.remember_embeddings(workspace.embeddings_path())
    assert Workspace(tmp_path / "runs").last_embeddings() == workspace.embeddings_path()


def test_the_folder_can_be_moved_and_other_places_are_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    workspace = Workspace(Path("runs"))
    workspace.remember_run(trained(workspace.new_run("a")))
    elsewhere = tmp_path / "elsewhere ä.h5"
    elsewhere.touch()
    workspace.remember_embeddings(Path("elsewhere ä.h5"))
    Path("runs").rename("moved")
    moved = Workspace(tmp_path / "moved")
    assert moved.last_run(unsaid).parent == tmp_path / "moved"
    assert moved.last_embeddings() == elsewhere


def test_what_is_gone_is_named(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path / "runs")
    run = workspace.new_run("a")
    workspace.remember_run(run)
    run.rmdir()
    with pytest.raises(InputError, match=rf"the run made last, {run}, is gone"):
        workspace.last_run(unsaid)
    workspace.remember_embeddings(tmp_path / "gone.h5")
    with pytest.raises(InputError, match=r"gone\.h5, is gone; run 'vivim extract' again"):
        workspace.last_embeddings()


@pytest.mark.parametrize(
    ("latest", "says"),
    [("gone\n", "gone, is gone"), ("empty\n", "empty, is no run"), ("\n", "no run is remembered"), (None, "no run is remembered")],
)
def test_the_newest_finished_run_is_taken_where_the_last_is_not_there(tmp_path: Path, latest: str | None, says: str) -> None:
    runs = tmp_path / "runs"
    newest = trained(runs / "a", at=20)
    trained(runs / "b", at=10)
    trained(runs / "c", at=30, finished=False)
    trained(runs / "d", at=30, catalogue=False)  # of an encoder
    trained(runs / "e", at=30, weights=False)
    trained(runs / "tune" / "trial-0000", at=30)
    trained(runs / "f", at=30)
    (runs / "f" / "run.json").write_text("torn")
    (runs / "empty").mkdir()
    if latest is not None:
        (runs / "latest").write_text(latest)
    said: list[str] = []
    assert Workspace(runs).last_run(said.append) == newest
    assert len(said) == 1
    assert says in said[0]
    assert f"taking {newest}" in said[0]


def test_an_empty_memory_is_none(tmp_path: Path) -> None:
    (tmp_path / "latest").touch()
    with pytest.raises(InputError, match="no run is remembered"):
        Workspace(tmp_path).last_run(unsaid)


def test_a_runs_folder_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("")
    with pytest.raises(InputError, match="runs"):
        Workspace(tmp_path / "runs").new_run("a")
    with pytest.raises(InputError, match="cannot write"):
        Workspace(tmp_path / "runs").remember_run(tmp_path)
    with pytest.raises(InputError, match="run 'vivim train-rec' first"):
        Workspace(tmp_path / "runs").last_run(unsaid)
