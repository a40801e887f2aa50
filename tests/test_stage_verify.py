"""vivim verify: what it finds by itself, what it prints, its exit codes."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import av
import pytest
from vivim import cli
from vivim.extract.config import EncoderConfig
from vivim.extract.weights import make_encoder, save_encoder
from vivim.store import EmbeddingStore, write_embeddings

SMALL = ["--workers", "1", "--device", "cpu"]


@pytest.fixture(scope="module")
def extracted(write_clip: Callable[[Path, int], None], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working directory after ``vivim extract``: three clips in ``data/videos``, vectors of random nano at 64 px."""
    folder = tmp_path_factory.mktemp("work")
    (folder / "data/videos").mkdir(parents=True)
    for name in ("007", "7", "8"):
        write_clip(folder / f"data/videos/{name}.mp4", int(name + str(len(name))))
    small = ["--size", "nano", "--frames", "2", "--seed", "3", "--set", "extract.image_size=64", f"runs={folder / 'runs'}"]
    assert cli.main(["extract", "--videos", str(folder / "data/videos"), *small, *SMALL]) == 0
    return folder


@pytest.fixture
def work(extracted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Path:
    """A copy that may be spoilt, as the working directory."""
    shutil.copytree(extracted, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    capsys.readouterr()
    return tmp_path / "runs/embeddings.h5"


def respoil(path: Path, recipe: dict[str, dict[str, object]] | None = None, **columns: object) -> None:
    """Rewrite the file, validly, with other columns or parts of the recipe."""
    store = EmbeddingStore.open(path)
    changed = store.recipe.model_copy(update={part: {**getattr(store.recipe, part), **fields} for part, fields in (recipe or {}).items()})
    write_embeddings(path, changed, replace(store.rows, **columns), store.failures)


def test_the_file_made_last_is_verified_with_the_clips_in_the_data_folder(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["verify", *SMALL]) == 0  # the seed of the weights is the file's, not --seed
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("3 of 3 rows are what their clips give; off by ")
    assert lines[1:] == [
        "3 of 3 rows were drawn, 3 compared with every row.",
        "The encoder's weights are random (seed 3): it was never trained, its vectors are random features of the frames.",
    ]


def test_swapped_rows_end_with_exit_code_4(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    vectors = EmbeddingStore.open(work).rows.vectors_ND
    respoil(work, vectors_ND=vectors[[1, 0, 2]])
    assert cli.main(["verify", str(work), *SMALL]) == 4
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "FAILED: 2 of 3 rows are not what their clips give, 2 of them the vector of another clip"
    assert any(line.split()[0] == "007" and line.split()[-1] == "7" for line in lines if line.strip())
    assert lines[-1] == "Do not train on this file. Extract again into another one, and verify that."

    # The manifest leaves one clip to draw from; its row is compared with all the same.
    Path("one.csv").write_text("id,path\n7,data/videos/7.mp4\n")
    assert cli.main(["verify", str(work), "--manifest", "one.csv", "--json", *SMALL]) == 4
    told = json.loads(capsys.readouterr().out)
    assert [(wrong["id"], wrong["nearest_id"]) for wrong in told["wrong"]] == [("7", "007")]
    assert (told["passed"], told["compared"], told["without_clip"], told["file"]) == (False, 1, 2, str(work))


def test_other_versions_of_decoders_are_told(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    respoil(work, recipe={"decoder": {"av": "1.2.3"}})
    assert cli.main(["verify", "--sample", "1", *SMALL]) == 0
    out = capsys.readouterr().out
    assert "1 of 3 rows were drawn" in out
    assert f"other versions than at extraction (av 1.2.3 then, {av.__version__} now): their pixels may differ." in out


def test_weights_may_have_another_name_but_not_other_tensors(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, seed in (("renamed", 3), ("other", 4)):
        encoder = make_encoder(EncoderConfig(size="nano"), seed)
        save_encoder(encoder, Path(f"{name}.safetensors"), licence="CC0")
    respoil(work, recipe={"weights": {"source": "mine.safetensors", "scheme": "vivim", "norm_eps": 1e-5}})
    assert cli.main(["verify", "--weights", "renamed.safetensors", "--sample", "1", *SMALL]) == 0
    assert "1 of 1 rows is what its clip gives" in capsys.readouterr().out
    assert cli.main(["verify", "--weights", "other.safetensors", *SMALL]) == 2
    assert "they are other weights, and nothing can be compared" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        ({"preprocessing": {"mean": [0, 0, 0]}}, "cannot be followed here: preprocessing.mean: [0, 0, 0] in the file"),
        ({"weights": {"source": "mine.safetensors"}}, "say where they are with --weights"),
        ({"weights": {"sha256": "0" * 64}}, "nothing can be compared"),
    ],
)
def test_what_cannot_be_made_again_is_bad_input(
    recipe: dict[str, dict[str, object]], message: str, work: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    respoil(work, recipe=recipe)
    assert cli.main(["verify", *SMALL]) == 2
    assert message in capsys.readouterr().err


def test_without_a_file_the_message_says_how_to_name_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.main(["verify"]) == 2
    assert "vivim verify FILE.h5" in capsys.readouterr().err
