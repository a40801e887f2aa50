"""Build mamba-ssm's selective scan, and nothing else of it, for the GPU check to compare with.

    python benchmarks/mamba_ssm_build.py mamba_ssm-2.3.2.post1.tar.gz FOLDER [--arch 9.0]
    PYTHONPATH=FOLDER python benchmarks/gpu_check.py --only against_mamba_ssm

The archive is the one on PyPI. Needs nvcc of torch's CUDA version, a C++ compiler and ninja, but no GPU. The sources are compiled as they
are, with the flags of the package's setup.py but for one architecture instead of nine; one core is busy for ten minutes,
``MAX_JOBS`` says how many files at once. FOLDER/build.json says what was built with what.
"""

import argparse
import hashlib
import json
import os
import subprocess
import tarfile
from pathlib import Path

import torch
from torch.utils.cpp_extension import CUDA_HOME, load

FLAGS = ("-O3", "-std=c++17")
# setup.py's, but for the architectures and --ptxas-options=-v.
CUDA_FLAGS = (
    *FLAGS,
    *(f"-U__CUDA_NO_{what}__" for what in ("HALF_OPERATORS", "HALF_CONVERSIONS", "BFLOAT16_OPERATORS", "BFLOAT16_CONVERSIONS")),
    *(f"-U__CUDA_NO_{what}__" for what in ("BFLOAT162_OPERATORS", "BFLOAT162_CONVERSIONS")),
    *("--expt-relaxed-constexpr", "--expt-extended-lambda", "--use_fast_math", "-lineinfo"),
)


def build(archive: Path, folder: Path, arch: str) -> None:
    """Leave the package ``mamba_ssm`` and the module ``selective_scan_cuda`` in ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    with tarfile.open(archive) as tar:
        tar.extractall(folder, filter="data")
    unpacked = folder / archive.name.removesuffix(".tar.gz")
    package = folder / "mamba_ssm"
    if not package.exists():
        package.symlink_to(Path(unpacked.name) / "mamba_ssm")
    sources = unpacked / "csrc" / "selective_scan"
    os.environ["TORCH_CUDA_ARCH_LIST"] = arch
    load(
        "selective_scan_cuda",
        [str(sources / "selective_scan.cpp"), *(str(path) for path in sorted(sources.glob("*.cu")))],
        extra_cflags=list(FLAGS),
        extra_cuda_cflags=list(CUDA_FLAGS),
        extra_include_paths=[str(sources)],
        build_directory=str(folder),
        verbose=True,
    )
    assert CUDA_HOME is not None
    nvcc = subprocess.run([f"{CUDA_HOME}/bin/nvcc", "--version"], capture_output=True, text=True, check=True).stdout
    about = {
        "archive": archive.name,
        "sha256": hashlib.sha256(archive.read_bytes()).hexdigest(),
        "nvcc": nvcc.splitlines()[3],
        "torch": torch.__version__,
        "arch": arch,
        "flags": list(CUDA_FLAGS),
    }
    (folder / "build.json").write_text(json.dumps(about, indent=1) + "\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("archive", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--arch", default="9.0", help="compute capability; 9.0: H100 and H200")
    args = parser.parse_args()
    build(args.archive, args.folder, args.arch)
