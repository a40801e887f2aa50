"""The compiled scan is found or built, whatever has happened to its files; where it cannot be, the reason is said once."""

import os
import shutil
import subprocess
import sys
import zipfile
from importlib.metadata import version
from pathlib import Path

import pytest
from vivim.ssm.native import build, library

ROOT = Path(__file__).resolve().parents[2]
CODE = """
import sys, torch, vivim.ssm
from pathlib import Path
from vivim.ssm.native import library
library.INSTALLED = Path("nowhere")  # what an install may have brought is not what these tests are about
x = torch.ones(1, 3, 2, requires_grad=True)
for _ in range(2):
    state = vivim.ssm.available_backends()["native"]
    B = torch.ones(1, 3, 4)
    y = vivim.ssm.selective_scan(x, torch.ones(1, 3, 2), -torch.ones(2, 4), B, B)
    y.sum().backward()
# h = 4 (1 + e^-1 + e^-2 ...), by hand
torch.testing.assert_close(y[0, :, 0], torch.tensor([4.0, 5.471518, 6.012859]))
print(vivim.ssm.resolve(vivim.ssm.Backend.AUTO, x, torch.ones(2, 4)).value, state, sep="|")
"""

needs_compiler = pytest.mark.skipif(
    not any(shutil.which(name) for name in ("c++", "g++", "clang++")) or sys.platform != "linux", reason="builds the library"
)


def start(cache, code=CODE, **environment):
    kept = {k: v for k, v in os.environ.items() if k not in {"CXX", "VIVIM_NATIVE", "XDG_CACHE_HOME"}}
    env = kept | {"VIVIM_CACHE": str(cache), "OMP_NUM_THREADS": "2"} | environment
    return subprocess.Popen([sys.executable, "-c", code], env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd="/")


def finish(process):
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    backend, _, state = out.strip().partition("|")
    return backend, state, [line for line in err.splitlines() if "the compiled scan is not used" in line]


def run(cache, **environment):
    return finish(start(cache, **environment))


@pytest.fixture
def quick(tmp_path):
    """A compiler that does not optimise, to save time, and counts how often it is called: (environment, count)."""
    log = tmp_path / "calls"
    script = tmp_path / "compiler"
    found = next(path for path in map(shutil.which, ("c++", "g++", "clang++")) if path)
    script.write_text(f'#!/bin/sh\necho x >> "{log}"\nsleep 0.3\nexec "{found}" "$@" -O0\n')
    script.chmod(0o755)
    return {"CXX": str(script)}, lambda: len(log.read_text().split()) if log.exists() else 0


@needs_compiler
def test_it_is_built_once_into_a_folder_that_need_not_exist(tmp_path, quick):
    environment, count = quick
    cache = tmp_path / "a" / "b"
    assert run(cache, **environment) == ("native", "ok", [])
    assert run(cache, **environment) == ("native", "ok", [])
    assert count() == 1
    assert sorted(path.suffix for path in cache.iterdir()) == [".lock", ".so", ".stamp"]


@needs_compiler
def test_a_damaged_library_is_built_again_before_it_is_loaded(tmp_path, quick):
    environment, count = quick
    run(tmp_path / "cache", **environment)
    built = next((tmp_path / "cache").glob("*.so"))
    built.write_bytes(built.read_bytes()[:20_000])
    assert run(tmp_path / "cache", **environment) == ("native", "ok", [])
    assert count() == 2


def cut(built):
    built.write_bytes(built.read_bytes()[:50])


def change_one_byte(built):
    whole = built.read_bytes()
    built.write_bytes(whole[:50] + bytes([whole[50] ^ 255]) + whole[51:])


def stamp_another_source(built):
    stamp = built.with_suffix(".stamp")
    stamp.write_text("0" * 16 + stamp.read_text()[16:])


@pytest.mark.parametrize(
    "damage",
    [
        cut,
        change_one_byte,
        stamp_another_source,
        lambda built: built.write_bytes(b""),
        lambda built: built.with_suffix(".stamp").unlink(),
        lambda built: built.with_suffix(".stamp").write_bytes(b"\xff\xfe"),
        lambda built: built.unlink(),
    ],
    ids=["cut", "one byte", "other source", "empty", "no stamp", "nonsense stamp", "no library"],
)
def test_whatever_is_not_what_the_compiler_wrote_is_built_again(tmp_path, monkeypatch, damage):
    """With a compiler that writes a hundred bytes, so that only the files are looked at."""
    script = tmp_path / "compiler"
    script.write_text('#!/bin/sh\nfor last; do :; done\necho x >> "$0.calls"\nhead -c 100 /dev/zero > "$last"\n')
    script.chmod(0o755)
    monkeypatch.setenv("CXX", str(script))
    monkeypatch.setenv("VIVIM_CACHE", str(tmp_path / "cache"))
    built = library._built(("-O3",))
    stamp = built.with_suffix(".stamp").read_text()
    assert library._built(("-O3",)) == built
    damage(built)
    assert library._built(("-O3",)) == built
    assert built.read_bytes() == bytes(100)
    assert built.with_suffix(".stamp").read_text() == stamp
    assert len(Path(f"{script}.calls").read_text().split()) == 2


@needs_compiler
def test_another_source_or_other_flags_are_another_library(tmp_path, monkeypatch):
    before = build.key_of("-O3")
    assert build.key_of("-O3") == before != build.key_of("-O2")
    changed = tmp_path / "scan.cpp"
    changed.write_text(build.SOURCE.read_text() + "\n// changed\n")
    monkeypatch.setattr(build, "SOURCE", changed)
    assert build.key_of("-O3") != before


@needs_compiler
def test_processes_that_start_together_build_once_and_all_have_it(tmp_path, quick):
    environment, count = quick
    together = [start(tmp_path / "cache", **environment) for _ in range(3)]
    assert [finish(process) for process in together] == [("native", "ok", [])] * 3
    assert count() == 1
    assert len(list((tmp_path / "cache").iterdir())) == 3  # library, stamp, lock: no leftovers


@needs_compiler
@pytest.mark.parametrize("place", ["below a file", "/proc/vivim", "a lock that cannot be"])
def test_a_cache_that_cannot_be_written_costs_one_warning_with_the_reason(tmp_path, quick, place):
    environment, count = quick
    cache = {"below a file": tmp_path / "file" / "vivim", "/proc/vivim": Path(place)}.get(place, tmp_path / "cache")
    (tmp_path / "file").write_text("")
    if place == "a lock that cannot be":
        run(cache, **environment)
        lock = next(cache.glob("*.lock"))
        lock.unlink()
        lock.mkdir()
        assert run(cache, **environment) == ("native", "ok", [])  # a library that is whole needs no lock
        next(cache.glob("*.so")).unlink()
    calls = count()
    backend, state, warnings = run(cache, **environment)
    assert backend == "torch"
    assert state.startswith("the cache folder cannot be used (")
    assert "set VIVIM_CACHE to a writable folder" in state
    assert len(warnings) == 1
    assert state in warnings[0]
    assert count() == calls


def test_without_a_compiler_plain_torch_takes_over_and_says_why(tmp_path):
    (tmp_path / "empty").mkdir()
    backend, state, warnings = run(tmp_path / "cache", PATH=str(tmp_path / "empty"))
    assert (backend, state, len(warnings)) == ("torch", "no C++ compiler is installed (g++ or clang++)", 1)


@pytest.mark.parametrize(
    ("compiler", "says"),
    [
        ("/nowhere/g++", "/nowhere/g++ cannot be run: No such file or directory"),
        ("false", "false failed: exit status 1"),
        ("true --quiet", "true wrote no library"),
        ("sh -c 'echo scan.cpp:1: error: no such thing >&2; exit 1' sh", "sh failed: scan.cpp:1: error: no such thing"),
    ],
)
def test_a_compiler_that_does_not_work_is_named(tmp_path, compiler, says):
    backend, state, warnings = run(tmp_path / "cache", CXX=compiler)
    assert (backend, state, len(warnings)) == ("torch", says, 1)
    assert [path.suffix for path in (tmp_path / "cache").iterdir()] == [".lock"]


def test_it_can_be_switched_off(tmp_path):
    assert run(tmp_path / "cache", VIVIM_NATIVE="0")[:2] == ("torch", "VIVIM_NATIVE=0")
    assert not (tmp_path / "cache").exists()


@needs_compiler
def test_loading_it_does_not_flush_small_numbers_to_zero(tmp_path, quick):
    """-ffast-math at the link step would do that to the whole process; the shipped flags are used, optimisation aside."""
    code = (
        CODE
        + """
import numpy as np
tiny = np.full(64, 1e-39, np.float32)
assert ((tiny * np.float32(0.5)) > 0).all(), "numpy flushes to zero"
assert bool((torch.full((64,), 1e-39) * 0.5 > 0).all()), "torch flushes to zero"
"""
    )
    assert finish(start(tmp_path / "cache", code, **quick[0]))[:2] == ("native", "ok")


def test_every_level_keeps_its_flags_and_none_has_fast_math():
    for name, flags in build.variants().items():
        assert "-ffast-math" not in flags
        assert "-Ofast" not in flags
        assert (name == "_scan.so") == (not any(flag.startswith("-march") for flag in flags))


# Run in an unpacked wheel.
INSTALLED = """
import vivim, torch
from pathlib import Path
from vivim.ssm import available_backends, Backend, resolve
from vivim.ssm.native import library
assert Path(vivim.__file__).parent == Path(PLACE) / "vivim", vivim.__file__
state = available_backends()["native"]
loaded = library.load()
x = torch.ones(1, 3, 2)
print(resolve(Backend.AUTO, x, torch.ones(2, 4)).value, f"{state} {Path(loaded._name).name if loaded else None}", sep="|")
"""


@pytest.fixture
def source(tmp_path):
    """A copy of what an install needs, so that nothing is built inside the checkout."""
    if tuple(map(int, version("setuptools").split(".")[:1])) < (77,):
        pytest.skip("pyproject.toml asks for setuptools 77 to build a wheel")
    unneeded = shutil.ignore_patterns(".*", "build", "*.egg-info", "runs", "tests", "typings", "*.so", "*.stamp")
    shutil.copytree(ROOT, tmp_path / "source", ignore=unneeded)
    return tmp_path / "source"


def wheel_of(source, place, **environment):
    """Build and unpack a wheel: (its name, what it said)."""
    command = [sys.executable, "-m", "pip", "wheel", ".", "--no-deps", "--no-build-isolation", "-v", "-w", str(place / "out")]
    env = {k: v for k, v in os.environ.items() if k != "CXX"} | environment
    built = subprocess.run(command, cwd=source, env=env, capture_output=True, text=True, timeout=600)
    assert built.returncode == 0, built.stderr
    wheel = next((place / "out").iterdir())
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(place)
    return wheel.name, [line.strip() for line in (built.stdout + built.stderr).splitlines() if line.strip().startswith("vivim: ")]


def run_installed(place, **environment):
    return finish(start(place / "cache", INSTALLED.replace("PLACE", repr(str(place))), PYTHONPATH=str(place), **environment))


@pytest.mark.slow
@needs_compiler
def test_a_wheel_holds_a_library_for_every_level_which_needs_no_compiler_and_is_not_trusted_blindly(source, tmp_path, quick):
    name, said = wheel_of(source, tmp_path / "wheel", **quick[0])
    place = tmp_path / "wheel"
    assert "-py3-none-linux_" in name
    assert said == []
    native = place / "vivim" / "ssm" / "native"
    assert {path.name for path in native.glob("*.so")} == set(build.variants())
    assert not (place / "vivim" / "setup.py").exists()
    (tmp_path / "empty").mkdir()
    backend, state, warnings = run_installed(place, PATH=str(tmp_path / "empty"))
    assert (backend, warnings) == ("native", [])
    loaded = state.removeprefix("ok ")
    assert loaded in build.variants()
    assert not (place / "cache").exists()
    # Damaged: the next level takes its place; all stale: the cache, or plain torch.
    (native / loaded).write_bytes(b"damaged")
    backend, state, _ = run_installed(place, PATH=str(tmp_path / "empty"))
    rest = list(build.variants())[list(build.variants()).index(loaded) + 1 :]
    assert (backend, state) == (("native", f"ok {rest[0]}") if rest else ("torch", "no C++ compiler is installed (g++ or clang++) None"))
    with (native / "scan.cpp").open("a") as text:
        text.write("// another source\n")
    assert run_installed(place, PATH=str(tmp_path / "empty"))[0] == "torch"
    backend, state, _ = run_installed(place, **quick[0])
    assert backend == "native"
    assert state.startswith("ok scan-")


@pytest.mark.slow
def test_a_wheel_built_without_a_compiler_only_lacks_the_libraries(source, tmp_path):
    (tmp_path / "empty").mkdir()
    place = tmp_path / "wheel"
    name, said = wheel_of(source, place, PATH=str(tmp_path / "empty"))
    assert name.endswith("-py3-none-any.whl")
    assert said == ["vivim: the scan is not compiled: no C++ compiler is installed (g++ or clang++)"]
    assert list((place / "vivim").rglob("*.so")) == []
    backend, state, warnings = run_installed(place, PATH=str(tmp_path / "empty"))
    assert (backend, state, len(warnings)) == ("torch", "no C++ compiler is installed (g++ or clang++) None", 1)
