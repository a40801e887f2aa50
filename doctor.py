"""``vivim doctor``: what this machine offers, what is wrong with it, and how to mend it."""

import importlib
import importlib.metadata
import os
import platform
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from .pipeline import Pipeline
from .terminal import Summary, TableOf, byte_size

if TYPE_CHECKING:
    from .extract.vivim import Size

GIB = 2**30
MIN_FREE_DISK_BYTES = 2 * GIB
MIN_RAM_BYTES = 4 * GIB
MIN_SHM_BYTES = 64 * 2**20

# Import name -> (package, extra or None, what it is for). An import takes the path a user's run would take.
_OPTIONAL = {
    "mamba_ssm": ("mamba-ssm", "cuda", "the scan on NVIDIA GPUs"),
    "triton": ("triton", "cuda", "the scan on NVIDIA GPUs"),
    "huggingface_hub": ("huggingface_hub", "hub", "weights from the Hugging Face hub"),
    "sentence_transformers": ("sentence-transformers", "text", "vectors of titles"),
    "ray": ("ray", "ray", "extraction on many machines"),
    "fastapi": ("fastapi", "serve", "serving over HTTP"),
    "matplotlib": ("matplotlib", "viz", "drawing charts"),
}

_CODECS = {
    "H.264": ("h264",),
    "HEVC": ("hevc",),
    "AV1": ("libdav1d", "libaom-av1", "libgav1"),
    "VP9": ("vp9", "libvpx-vp9"),
    "VP8": ("vp8", "libvpx"),
    "MPEG-4": ("mpeg4",),
    "MPEG-2": ("mpeg2video",),
}


@dataclass(frozen=True)
class Check:
    """One line of the report.

    Attributes:
        name: what was looked at.
        status: OK; WARN: works, but something is missing or slow; FAIL: a command of vivim will not work.
        found: what is there.
        fix: what to do about it; empty if OK.
    """

    name: str
    status: Literal["OK", "WARN", "FAIL"]
    found: str
    fix: str = ""


def run_doctor(pipeline: Pipeline) -> Summary:
    """Look at everything; exit code 1 if something fails."""
    checks = list(examine(pipeline.runs))
    counts = {status: sum(check.status == status for check in checks) for status in ("OK", "WARN", "FAIL")}
    verdict = "vivim works here" if not counts["FAIL"] else "vivim does not work here"
    return Summary(
        headline=f"{verdict}: {counts['OK']} OK, {counts['WARN']} warnings, {counts['FAIL']} failures",
        data={"checks": [asdict(check) for check in checks], "counts": counts},
        tables=[TableOf("", ("check", "status", "found", "fix"), [(c.name, c.status, c.found, c.fix) for c in checks])],
        exit_code=1 if counts["FAIL"] else 0,
    )


def run_cost(pipeline: Pipeline, size: "Size") -> Summary:
    """What an encoder of this size costs for clips as the configuration has them."""
    from .extract.cost import cost_of
    from .extract.vivim import VivimConfig

    frames, pixels, clips = pipeline.extract.frames.count, pipeline.extract.image_size, pipeline.extract.batch_clips
    cost = cost_of(VivimConfig.of_size(size), frames, pixels)
    whole, decoded = sum(cost.parameters.values()), sum(cost.macs.values())
    batch_bytes = cost.weights_bytes + clips * cost.clip_bytes
    parts = [(part, f"{count:,}") for part, count in cost.parameters.items()]
    kinds = [(kind, f"{count / 1e9:.2f}", f"{count / decoded:.0%}") for kind, count in cost.macs.items()]
    return Summary(
        headline=f"{size}, {frames} frames of {pixels} pixels: {cost.encoder_parameters / 1e6:.2f} M parameters, "
        f"{cost.encoder_macs / 1e9:.1f} G multiply-adds a clip; with decoder and heads {whole / 1e6:.2f} M, {decoded / 1e9:.1f} G",
        data={
            "size": size,
            "frames": frames,
            "pixels": pixels,
            "batch_clips": clips,
            "encoder_parameters": cost.encoder_parameters,
            "encoder_macs": cost.encoder_macs,
            "batch_bytes": batch_bytes,
            **asdict(cost),
        },
        tables=[TableOf("Parameters", ("part", "numbers"), parts), TableOf("Multiply-adds", ("work", "G a clip", "share"), kinds)],
        notes=[
            f"memory: about {byte_size(batch_bytes)} for vectors of {clips} clips at once (weights {byte_size(cost.weights_bytes)}, each "
            f"clip {byte_size(cost.clip_bytes)}, with the decoder {byte_size(cost.decoder_clip_bytes)}), float32, beside the program's own",
            "vectors need the decoder with extract.encoder.pooling=unified only",
        ],
    )


def examine(runs: Path) -> Iterator[Check]:
    """Every check, in the order of the report."""
    parts: tuple[Callable[[], Iterable[Check]], ...] = (
        _python,
        _torch,
        _scan,
        _decoders,
        _storage,
        _retrieval,
        _optional_packages,
        _cores,
        _memory,
        lambda: _disk(runs),
    )
    for part in parts:
        yield from part()


def _python() -> Iterator[Check]:
    version = platform.python_version()
    supported = (3, 11) <= sys.version_info[:2] <= (3, 13)
    found = f"{version} on {platform.system()} {platform.machine()}"
    yield Check("python", "OK" if supported else "FAIL", found, "" if supported else "install Python 3.11, 3.12 or 3.13")


def _torch() -> Iterator[Check]:
    try:
        import torch
    except Exception as error:
        yield _broken("torch", error)
        return
    yield Check("torch", "OK", f"{torch.__version__}, {torch.get_num_threads()} threads")
    if torch.cuda.is_available():
        names = ", ".join(torch.cuda.get_device_name(place) for place in range(torch.cuda.device_count()))
        yield Check("cuda", "OK", f"{names}; CUDA {torch.version.cuda}")
    elif torch.version.cuda is None:
        yield Check("cuda", "OK", "none: torch is its CPU build, everything runs on the CPU")
    else:
        yield Check("cuda", "WARN", f"torch was built for CUDA {torch.version.cuda} but sees no GPU", "check the driver with nvidia-smi")


def _scan() -> Iterator[Check]:
    try:
        import torch

        from .ssm.scan import Backend, available_backends, resolve

        backends = available_backends()
        device = "cuda" if torch.cuda.is_available() else "cpu"
        chosen = resolve(Backend.AUTO, torch.zeros(1, 1, 1, device=device), torch.zeros(1, 1, device=device))
    except Exception as error:
        yield _broken("scan", error, package="vivim")
        return
    others = "".join(f"; {name}: {state}" for name, state in backends.items() if state != "ok")
    found = f"{chosen.value} is used on {device}; ready: {', '.join(name for name, state in backends.items() if state == 'ok')}{others}"
    if device == "cpu" and backends[Backend.NATIVE.value] != "ok":
        yield Check("scan", "WARN", found, "mend what native names, often by installing g++; the scan is then more than ten times as fast")
    else:
        yield Check("scan", "OK", found)


def _decoders() -> Iterator[Check]:
    try:
        import av

        codec = ".".join(map(str, av.library_versions["libavcodec"]))
        yield Check("PyAV", "OK", f"{av.__version__} (libavcodec {codec})")
        yield _codecs()
    except Exception as error:
        yield _broken("PyAV", error)
    try:
        import decord

        yield Check("decord", "OK", f"{decord.__version__} (decord2 {_version('decord2')})")
    except Exception as error:
        yield Check("decord", "WARN", _reason(error), "pip install decord2; until then use --set extract.decoder=pyav")


def _codecs() -> Check:
    """Which of the codecs that clips come in this libavcodec decodes without special hardware."""
    from av.codec import Codec
    from av.codec.codec import UnknownCodecError

    def known(decoder: str) -> bool:
        try:
            Codec(decoder, "r")
        except UnknownCodecError:
            return False
        return True

    able = {name: any(map(known, decoders)) for name, decoders in _CODECS.items()}
    lacking = ", ".join(name for name, has in able.items() if not has)
    if lacking:
        return Check("codecs", "WARN", f"no decoder for {lacking}", "such clips fail as unsupported_codec; pip install av has them all")
    return Check("codecs", "OK", ", ".join(able))


def _storage() -> Iterator[Check]:
    try:
        import h5py

        yield Check("h5py", "OK", f"{h5py.__version__} (HDF5 {h5py.version.hdf5_version})")
    except Exception as error:
        yield _broken("h5py", error)


def _retrieval() -> Iterator[Check]:
    try:
        import faiss

        yield Check("faiss", "OK", f"{faiss.__version__}, {faiss.get_num_gpus() if hasattr(faiss, 'get_num_gpus') else 0} GPUs")
    except Exception as error:
        yield _broken("faiss", error, package="faiss-cpu")


def _optional_packages() -> Iterator[Check]:
    for module, (package, extra, purpose) in _OPTIONAL.items():
        try:
            importlib.import_module(module)
        except ModuleNotFoundError as error:
            if error.name == module:  # simply not installed: nothing is wrong
                yield Check(package, "OK", f"not installed; only for {purpose}", f"pip install 'vivim[{extra}]' if you need it")
                continue
            yield Check(package, "WARN", _reason(error), f"pip install --force-reinstall 'vivim[{extra}]'")
        except Exception as error:
            yield Check(package, "WARN", _reason(error), f"pip install --force-reinstall 'vivim[{extra}]'")
        else:
            yield Check(package, "OK", _version(package))


def _cores() -> Iterator[Check]:
    from .extract.decode_pool import usable_cores

    usable = usable_cores()
    quota = cgroup_cores()
    if quota is not None and quota < usable:
        fix = f"set extract.workers to {max(1, int(quota))}; more processes than cores slow each other down"
        yield Check("cores", "WARN", f"{usable} visible, {quota:g} allowed by the container", fix)
    else:
        yield Check("cores", "OK", f"{usable}")


def cgroup_cores(root: Path = Path("/sys/fs/cgroup")) -> float | None:
    """Cores that a container may use (cgroup v2, then v1); None: no limit, or not Linux."""
    quota_period = _words(root / "cpu.max") or [*_words(root / "cpu/cpu.cfs_quota_us"), *_words(root / "cpu/cpu.cfs_period_us")]
    match quota_period:
        case [quota, period] if quota.isdigit() and period.isdigit() and int(period) > 0:
            return int(quota) / int(period)
    return None


def _memory() -> Iterator[Check]:
    from .store.memory import total_bytes

    ram = total_bytes()
    if ram is not None:
        enough = ram >= MIN_RAM_BYTES
        yield Check(
            "memory",
            "OK" if enough else "WARN",
            byte_size(ram),
            "" if enough else "4 GiB or more; lower extract.batch_clips and train.batch",
        )
    shm = Path("/dev/shm")
    if shm.is_dir():
        free = shutil.disk_usage(shm).free
        enough = free >= MIN_SHM_BYTES
        fix = "" if enough else "frames pass through it; in Docker add --shm-size=1g"
        yield Check("/dev/shm", "OK" if enough else "WARN", f"{byte_size(free)} free", fix)


def _disk(runs: Path) -> Iterator[Check]:
    place = next(folder for folder in (runs.absolute(), *runs.absolute().parents) if folder.exists())
    free = shutil.disk_usage(place).free
    if not os.access(place, os.W_OK):
        yield Check("disk", "FAIL", f"{runs}/ cannot be written", "choose another folder with --set runs=DIR")
    elif free < MIN_FREE_DISK_BYTES:
        yield Check("disk", "WARN", f"{byte_size(free)} free at {runs}/", "free some, or choose another folder with --set runs=DIR")
    else:
        yield Check("disk", "OK", f"{byte_size(free)} free at {runs}/")


def _words(path: Path) -> list[str]:
    try:
        return path.read_text().split()
    except OSError:
        return []


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "unknown version"


def _reason(error: Exception) -> str:
    first = str(error).strip().splitlines()[:1]
    return f"{type(error).__name__}: {first[0]}" if first else type(error).__name__


def _broken(name: str, error: Exception, package: str | None = None) -> Check:
    return Check(name, "FAIL", _reason(error), f"pip install --force-reinstall {package or name}")
