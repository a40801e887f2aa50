"""What the commands remember between each other."""

from pathlib import Path

import pytest
from vivim.errors import InputError
from vivim.workspace import Workspace


def test_nothing_is_made_before_something_is_written(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path / "runs")
    assert workspace.embeddings_path() == tmp_path / "runs" / "embeddings.h5"
    with pytest.raises(InputError, match="run 'vivim train-rec' first"):
        workspace.last_run()
    with pytest.raises(InputError, match="run 'vivim extract' first"):
        workspace.last_embeddings()
    assert not (tmp_path / "runs").exists()


def test_the_last_run_and_the_last_embeddings_are_remembered(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path / "runs")
    first, second = workspace.new_run("mamba-ids"), workspace.new_run("mamba-ids")
    assert first != second
    assert first.is_dir()
    assert second.is_dir()
    workspace.remember_run(second)
    workspace.remember_run(first)
    assert workspace.last_run() == first
    assert (tmp_path / "runs" / "latest").read_text() == first.name + "\n"

    workspace.embeddings_path().touch()
    workspace.remember_embeddings(workspace.embeddings_path())
    assert Workspace(tmp_path / "runs").last_embeddings() == workspace.embeddings_path()


def test_the_folder_can_be_moved_and_other_places_are_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    workspace = Workspace(Path("runs"))
    workspace.remember_run(workspace.new_run("a"))
    elsewhere = tmp_path / "elsewhere ä.h5"
    elsewhere.touch()
    workspace.remember_embeddings(Path("elsewhere ä.h5"))
    Path("runs").rename("moved")
    moved = Workspace(tmp_path / "moved")
    assert moved.last_run().parent == tmp_path / "moved"
    assert moved.last_embeddings() == elsewhere


def test_what_is_gone_is_named(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path / "runs")
    run = workspace.new_run("a")
    workspace.remember_run(run)
    run.rmdir()
    with pytest.raises(InputError, match=rf"the run made last, {run}, is gone"):
        workspace.last_run()
    workspace.remember_embeddings(tmp_path / "gone.h5")
    with pytest.raises(InputError, match=r"gone\.h5, is gone; run 'vivim extract' again"):
        workspace.last_embeddings()


def test_a_runs_folder_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("")
    with pytest.raises(InputError, match="runs"):
        Workspace(tmp_path / "runs").new_run("a")
    with pytest.raises(InputError, match="cannot write"):
        Workspace(tmp_path / "runs").remember_run(tmp_path)
    with pytest.raises(InputError, match="run 'vivim train-rec' first"):
        Workspace(tmp_path / "runs").last_run()
