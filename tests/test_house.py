"""The house keeps its shape: imports go one way, packages are listed, optional packages stay optional."""

import ast
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
ROOMS = ("ssm", "store", "extract", "recommend", "suites", "content", "serve", "demo")
FOUNDATION = {"", "errors", "progress", "settings"}  # "" is the package itself, for its version

MAY_IMPORT = {
    "ssm": set(),
    "store": set(),
    "suites": {"store", "recommend", "allocator"},
    "content": {"store", "recommend"},
    "extract": {"ssm", "store"},
    "recommend": {"ssm", "store"},
    "serve": {"recommend", "store"},
    "demo": {"ssm", "store", "extract", "recommend", "serve", "pipeline", "discovery", "workspace", "stage_one", "stage_two"},
}
DOORS = {"recommend/end_to_end.py": {"extract"}}

OPTIONAL = {
    "mamba_ssm",
    "causal_conv1d",
    "triton",
    "ray",
    "fastapi",
    "uvicorn",
    "starlette",
    "prometheus_client",
    "matplotlib",
    "tensorboard",
    "umap",
    "torchcodec",
    "huggingface_hub",
    "sentence_transformers",
    "transformers",
    "optuna",
    "onnx",
    "onnxscript",
    "onnxruntime",
    "bokeh",
    "jinja2",
    "PIL",
}

# Kernels can only be written with triton at hand; the file is itself imported where it is used.
KERNELS = {"ssm/triton_parts.py", "ssm/triton_kernels.py", "ssm/triton_adjoints.py", "ssm/conv_kernels.py"}

# What is written in terms of the web framework, imported by stage_serve once it has looked whether that is there.
HTTP = {
    *(f"serve/{name}.py" for name in ("api", "document", "metrics", "protocol")),
    *(f"serve/calls_of_{those}.py" for those in ("events", "lists", "items", "operators", "pages")),
}


def own_imports(source: str, path: Path) -> Iterator[tuple[int, str]]:
    """(line, dotted name below ``vivim``) of every import of ours; an absolute one comes as ``vivim...``."""
    package = path.parent.parts  # of the module, below the root
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names if alias.name.split(".")[0] == "vivim")
        elif isinstance(node, ast.ImportFrom):
            module = node.module or ""
            if node.level == 0:
                if module.split(".")[0] == "vivim":
                    yield node.lineno, module
                continue
            base = package[: len(package) - (node.level - 1)]
            assert node.level - 1 <= len(package), f"{path}:{node.lineno} leaves the package"
            for alias in node.names:
                yield node.lineno, ".".join([*base, *([module] if module else []), alias.name])


def violations(source: str, path: Path) -> list[str]:
    """What is wrong with the imports of one file of a room."""
    room = path.parts[0]
    allowed = {room} | MAY_IMPORT[room] | DOORS.get(path.as_posix(), set()) | FOUNDATION
    found = []
    for line, name in own_imports(source, path):
        first = name.split(".")[0]
        if first == "vivim":
            found.append(f"{path}:{line} imports {name} absolutely; write a relative import")
        elif first.startswith("__"):  # from .. import __version__
            continue
        elif first not in allowed:
            found.append(f"{path}:{line} imports {name}; {room} may import {sorted(allowed - FOUNDATION)}")
    return found


def module_level_imports(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Imports that run when the module is imported: not those inside functions or under TYPE_CHECKING."""
    waiting: list[ast.AST] = [tree]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            waiting.extend(node.orelse)
            continue
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name.split(".")[0]) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield node.lineno, (node.module or "").split(".")[0]
        waiting.extend(ast.iter_child_nodes(node))


def files_of(*folders: str) -> list[Path]:
    return sorted(path.relative_to(ROOT) for folder in folders for path in (ROOT / folder).rglob("*.py"))


@pytest.mark.parametrize("room", ROOMS)
def test_imports_of_rooms_go_one_way(room: str) -> None:
    found = [problem for path in files_of(room) for problem in violations((ROOT / path).read_text("utf-8"), path)]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    ("path", "source", "wrong"),
    [
        ("ssm/scan.py", "from ..errors import InputError", False),
        ("ssm/scan.py", "from . import order\nfrom .order import Order", False),
        ("ssm/scan.py", "from ..store.item_index import ItemIndex", True),
        ("ssm/scan.py", "from .. import store", True),
        ("extract/run.py", "from ..store.item_index import ItemIndex", False),
        ("extract/run.py", "def f():\n    from ..recommend import config", True),
        ("extract/pretrain/run.py", "from ...ssm.scan import Order\nfrom ..clip import Clip", False),
        ("extract/pretrain/run.py", "from ...recommend.config import ItemsConfig", True),
        ("recommend/training.py", "from ..extract.vivim import Vivim", True),
        ("recommend/end_to_end.py", "from ..extract.vivim import Vivim", False),
        ("recommend/models/mamba.py", "from ...pipeline import Pipeline", True),
        ("store/file.py", "import vivim.errors", True),
        ("store/file.py", "from vivim.errors import InputError", True),
        ("store/file.py", "from .. import __version__", False),
        ("demo/run.py", "from ..cli import app", True),
        ("demo/run.py", "from ..terminal import show", True),
    ],
)
def test_the_import_check_sees_what_it_should(path: str, source: str, wrong: bool) -> None:
    assert bool(violations(source, Path(path))) == wrong


@pytest.mark.parametrize("name", ["__init__.py", "errors.py", "progress.py", "settings.py"])
def test_the_foundation_imports_nothing_of_ours(name: str) -> None:
    assert list(own_imports((ROOT / name).read_text("utf-8"), Path(name))) == []


def test_root_modules_import_relatively() -> None:
    absolute = [
        (path.name, name)
        for path in ROOT.glob("*.py")
        for _, name in own_imports(path.read_text("utf-8"), Path(path.name))
        if name.startswith("vivim")
    ]
    assert absolute == []


def test_optional_packages_are_imported_where_they_are_used() -> None:
    found = [
        f"{path}:{line} imports {name}"
        for path in [*files_of(*ROOMS), *(Path(path.name) for path in ROOT.glob("*.py"))]
        for line, name in module_level_imports(ast.parse((ROOT / path).read_text("utf-8")))
        if name in OPTIONAL and path.as_posix() not in KERNELS | HTTP
    ]
    assert not found, "\n".join(found)


def test_the_optional_check_sees_what_it_should() -> None:
    source = """
from typing import TYPE_CHECKING
if TYPE_CHECKING:
    import ray
try:
    import triton
except ImportError:
    triton = None
def f():
    import matplotlib
class C:
    from umap import UMAP
"""
    assert {name for _, name in module_level_imports(ast.parse(source))} == {"typing", "triton", "umap"}


def test_pyproject_lists_every_package() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    tree = {"vivim"} | {
        ".".join(["vivim", *path.parent.relative_to(ROOT).parts]) for room in ROOMS for path in (ROOT / room).rglob("__init__.py")
    }
    assert set(project["tool"]["setuptools"]["packages"]) == tree


def test_every_folder_with_modules_is_a_package() -> None:
    assert not {path.parent for path in files_of(*ROOMS) if not (ROOT / path.parent / "__init__.py").is_file()}


def test_every_root_module_is_type_checked() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    modules = {f"vivim.{path.stem}" for path in ROOT.glob("*.py")} - {"vivim.__init__", "vivim.setup"}
    assert modules <= set(project["tool"]["mypy"]["modules"])


def test_pickles_are_opened_in_one_place_and_without_code() -> None:
    opens = [
        (path.as_posix(), ast.unparse(node))
        for path in [*files_of(*ROOMS), *(Path(path.name) for path in ROOT.glob("*.py"))]
        for node in ast.walk(ast.parse((ROOT / path).read_text("utf-8")))
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("torch.load", "pickle.load", "pickle.loads", "np.load", "numpy.load")
    ]
    assert opens == [("extract/pickle_child.py", "torch.load(source, map_location='cpu', weights_only=True)")]
