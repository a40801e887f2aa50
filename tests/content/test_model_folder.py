"""Finding a text model, and refusing what would run code."""

import hashlib
import json
import sys
from pathlib import Path

import pytest
from vivim.content.model_folder import find_model
from vivim.errors import InputError, MissingExtra

MODULES = [{"name": "0", "path": "", "type": "sentence_transformers.models.Transformer"}]


def make_model(folder: Path, modules: object = MODULES, weights: str = "model.safetensors") -> Path:
    folder.mkdir(parents=True)
    (folder / "modules.json").write_text(json.dumps(modules))
    (folder / "tokenizer.json").write_text("{}")
    (folder / weights).write_bytes(b"weights")
    return folder


def make_package(site: Path, name: str, folders: tuple[str, ...]) -> None:
    """An installed distribution that carries models in these folders."""
    info = site / f"{name.replace('-', '_')}-2.5.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 2.5\n")
    for folder in folders:
        make_model(site / folder)
    files = sorted(path.relative_to(site).as_posix() for path in site.rglob("*") if path.is_file())
    (info / "RECORD").write_text("".join(f"{file},,\n" for file in files))


def test_a_folder_is_taken_as_it_is(tmp_path):
    found = find_model(str(make_model(tmp_path / "mine")))
    assert (found.folder, found.source) == (tmp_path / "mine", "mine")


def test_a_package_that_carries_a_model_is_found_by_its_name(tmp_path, monkeypatch):
    make_package(tmp_path, "some-text-model", ("some_text_model/model",))
    monkeypatch.syspath_prepend(tmp_path)
    found = find_model("some-text-model")
    assert (found.folder, found.source) == (tmp_path / "some_text_model/model", "some-text-model 2.5")


@pytest.mark.parametrize(("folders", "held"), [((), "carries none"), (("a", "b"), "/a, .*/b")])
def test_a_package_must_carry_one_model(tmp_path, monkeypatch, folders, held):
    make_package(tmp_path, "odd-package", folders)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(InputError, match=held):
        find_model("odd-package")


def test_the_hash_of_the_weights_is_that_of_their_file(tmp_path):
    told = find_model(str(make_model(tmp_path / "mine"))).told()
    assert told["sha256"] == hashlib.sha256(b"weights").hexdigest()


def test_only_files_that_a_vector_depends_on_are_in_the_hash(tmp_path):
    model = find_model(str(make_model(tmp_path / "mine")))
    before = model.told()
    (model.folder / "README.md").write_text("about")
    (model.folder / "data_config.json").write_text("[]")
    (model.folder / "onnx").mkdir()
    (model.folder / "onnx" / "config.json").write_text("{}")
    (model.folder / ".cache").mkdir()
    (model.folder / ".cache" / "x.json").write_text("{}")
    assert model.told() == before
    (model.folder / "tokenizer.json").write_text('{"other": 1}')
    assert model.told()["files_sha256"] != before["files_sha256"]
    (model.folder / "model.safetensors").write_bytes(b"other")
    assert model.told()["sha256"] != before["sha256"]


def test_only_a_name_that_says_hub_is_downloaded(tmp_path):
    asked = []

    def download(repository: str) -> Path:
        asked.append(repository)
        return make_model(tmp_path / "cache")

    assert find_model("hub:someone/model", download).source == "hub:someone/model"
    assert asked == ["someone/model"]
    with pytest.raises(InputError, match="write hub:someone/model, which downloads it"):
        find_model("someone/model", download)
    assert asked == ["someone/model"]


@pytest.mark.parametrize("name", ["hub:", "hub:model", "hub:/x", "hub:a/", "hub:a/b/c"])
def test_a_name_that_is_no_repository_is_refused(name):
    with pytest.raises(InputError, match="write hub:OWNER/NAME"):
        find_model(name)


def test_without_the_hub_package_its_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(MissingExtra, match=r"pip install 'vivim\[text\]'"):
        find_model("hub:someone/model")


def test_a_hub_that_cannot_be_reached_is_said(monkeypatch):
    constants = pytest.importorskip("huggingface_hub.constants", reason="huggingface_hub is not installed (the extra text)")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(InputError, match=r"hub:someone/no-such-model could not be had: .*give its folder"):
        find_model("hub:someone/no-such-model")


def test_neither_folder_nor_package(tmp_path):
    with pytest.raises(InputError, match="'no-such-model' is no folder and no installed package"):
        find_model("no-such-model")
    with pytest.raises(InputError, match=r"has no modules\.json"):
        find_model(str(tmp_path))


@pytest.mark.parametrize(
    ("modules", "weights", "message"),
    [
        ([{"path": "", "type": "my_code.Evil"}], "model.safetensors", "brings code of its own .my_code.Evil., which is not run"),
        ([{"path": "", "type": "sentence_transformers_evil.X"}], "model.safetensors", "brings code of its own"),
        (MODULES, "pytorch_model.bin", "pickled weights only"),
        (MODULES, "model.onnx", "has no weights"),
        ([{"path": ""}], "model.safetensors", "modules.json cannot be read"),
        (7, "model.safetensors", "modules.json cannot be read"),
    ],
)
def test_what_is_not_safe_or_no_model_is_refused(tmp_path, modules, weights, message):
    with pytest.raises(InputError, match=message):
        find_model(str(make_model(tmp_path / "model", modules, weights)))


def test_modules_that_are_no_json(tmp_path):
    folder = make_model(tmp_path / "model")
    (folder / "modules.json").write_text("[")
    with pytest.raises(InputError, match=r"modules.json cannot be read.*Fetch the model again"):
        find_model(str(folder))
