"""The one step of an install that pyproject.toml cannot say: compiling the scan, if there is a compiler.

An editable install compiles nothing; there the library is built on first use (ssm/native/library.py).
"""

import importlib.util
import platform
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from setuptools import setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_py import build_py

# By path: importing vivim would need torch, which is not there while a wheel is built.
_spec = importlib.util.spec_from_file_location("vivim_native_build", Path(__file__).with_name("ssm") / "native" / "build.py")
build = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(build)


class BuildWithLibraries(build_py):
    """Adds the compiled scan; without a compiler only that file is missing."""

    def run(self):
        super().run()
        if not self.editable_mode:
            compile_into(libraries_folder(self))

    def find_package_modules(self, package, package_dir):
        # The root folder is the package, but this file is no module of it.
        return [found for found in super().find_package_modules(package, package_dir) if found[:2] != ("vivim", "setup")]


class PlatformWheel(bdist_wheel):
    """A wheel with compiled files is one of this platform, for every Python: they know nothing of Python."""

    def run(self):
        self.run_command("build")
        folder = libraries_folder(self.get_finalized_command("build_py"))
        self.root_is_pure = not any((folder / name).exists() for name in build.variants())
        self.distribution.has_ext_modules = lambda: not self.root_is_pure
        super().run()

    def get_tag(self):
        return ("py3", "none", super().get_tag()[2])


def libraries_folder(command):
    return Path(command.build_lib) / "vivim" / "ssm" / "native"


def compile_into(folder):
    for name in build.variants():
        # A folder that an earlier build left must not lend its libraries to this one.
        (folder / name).unlink(missing_ok=True)
        build.stamp_of(folder / name).unlink(missing_ok=True)
    try:
        if platform.system() != "Linux":
            raise build.BuildError(f"this is {platform.system()}, not Linux")
        compiler = build.find_compiler()
    except build.BuildError as reason:
        return say(f"the scan is not compiled: {reason}")

    def compile_one(name, flags):
        try:
            build.compile_scan(compiler, flags, folder / name, build.key_of(*flags))
        except (build.BuildError, OSError) as reason:
            say(f"{name} is not compiled: {reason}")

    with ThreadPoolExecutor() as pool:
        list(pool.map(compile_one, *zip(*build.variants().items(), strict=True)))
    return None


def say(line):
    print(f"vivim: {line}", file=sys.stderr)  # noqa: T201


setup(cmdclass={"build_py": BuildWithLibraries, "bdist_wheel": PlatformWheel})
