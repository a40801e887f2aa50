"""What scan does: configuration in, summary out. The rooms do the work; this is the wiring between them."""

import os
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .discovery import FOLDER, find_videos
from .errors import TooManyFailures
from .pipeline import Pipeline
from .progress import Progress
from .stage_one import FAILURES_SHOWN, known_interactions, pick_device
from .terminal import Summary, TableOf, byte_size, duration, program

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .extract.clip import Failure
    from .extract.forecast import Forecast
    from .extract.headers import Header
    from .extract.scan import Scan
    from .recommend.coverage import Coverage, Part

IDS_SHOWN = 3
IDS_LISTED = 100
_SIZES_SHOWN = 5


def run_scan(pipeline: Pipeline, progress: Progress, *, timing: bool, sample: int) -> Summary:
    """Look at every clip's header, and say what extraction will meet and take.

    Args:
        timing: read and encode some clips, to predict time.
        sample: how many.

    Raises:
        InputError: what extraction would refuse: no clips, doubtful ids, weights, a device, a decoder; or interactions that cannot be
            read. All of it before any clip is opened.
    """
    from .extract.clips import find_clips
    from .extract.forecast import embedding_file_bytes, forecast, frame_cache_bytes
    from .extract.precision import MixedPrecision
    from .extract.reader import decoder_versions
    from .extract.scan import scan_catalogue
    from .extract.summary import too_many
    from .extract.timing import draw, time_sample
    from .extract.weights import make_encoder
    from .recommend.coverage import cover

    config = pipeline.extract
    device = pick_device(pipeline.device)
    decoder_versions(config.decoder)
    catalogue = find_clips(FOLDER if config.manifest is not None else find_videos(pipeline), config.manifest)
    interactions = known_interactions(pipeline)
    encoder = make_encoder(config.encoder, pipeline.seed)
    weights = encoder.load_report
    encoder.to(device)

    busy = os.getloadavg()[0]
    scan = scan_catalogue(catalogue, config, progress)
    notes = [weights.lines()[0]]
    predicted = None
    drawn = draw(scan.headers, sample, pipeline.seed) if timing else []
    if drawn:
        used = MixedPrecision(encoder) if config.precision == "bf16-mixed" else encoder
        timed = time_sample(drawn, {ref.id: ref for ref in catalogue.refs}, config, used, progress)
        predicted = forecast(scan.headers, timed, config, device, pipeline.seed)
        scan = scan.without(timed.failures)
        notes += _about_sample(timed.failures, drawn, busy)
    ids = [header.id for header in scan.headers]
    disk = _Disk(embedding_file_bytes(ids, encoder.dim, config), frame_cache_bytes(len(ids), config), _free_bytes(pipeline.runs))
    costs = _speed(predicted, len(drawn), f"{weights.size} on {device}") + disk.lines(pipeline, encoder.dim)
    tables = [*_clip_tables(scan), TableOf("Extraction", ("what", "prediction"), costs)]
    covered = None
    if interactions is not None:
        gone = {failure.id for failure in scan.failures if failure.kind == "missing"}
        covered = cover(interactions, readable=set(ids), unreadable={failure.id for failure in scan.failures} - gone)
        tables.insert(-1, _coverage_table(covered))
        notes.insert(0, f"interactions: {covered.source}")
    if len(scan.failures) > FAILURES_SHOWN:
        notes.append(f"{len(scan.failures) - FAILURES_SHOWN:,} more clips cannot be read; --json lists all.")
    if disk.free_bytes < disk.embedding_file_bytes:
        notes.append(
            f"WARNING: too little disk is free at {pipeline.runs}/ for the embedding file; free some, or use extract --out FILE.h5."
        )
    problem = too_many(scan.failures, len(scan), config.max_fail_rate)
    if problem:
        notes.append(f"{problem} extract would end with exit code 3; repair or remove the files, or raise --max-fail-rate.")
    given = f" --manifest {config.manifest}" if config.manifest else f" --videos {pipeline.data.videos}" if pipeline.data.videos else ""
    notes.append(f"next: {program()} extract{given}")
    return Summary(
        headline=_headline(scan, predicted),
        data={
            **_facts(scan),
            "failures": [asdict(failure) for failure in scan.failures],
            "device": device,
            "size": weights.size,
            "weights": weights.words,
            "sampled": [header.id for header in drawn],
            "forecast": None if predicted is None else {**asdict(predicted), "bound": predicted.bound},
            **asdict(disk),
            "coverage": None if covered is None else _coverage_data(covered),
        },
        tables=tables,
        notes=notes,
        exit_code=TooManyFailures.exit_code if problem else 0,
    )


@dataclass(frozen=True)
class _Disk:
    embedding_file_bytes: int
    frame_cache_bytes: int
    free_bytes: int

    def lines(self, pipeline: Pipeline, dim: int) -> list[tuple[str, str]]:
        config = pipeline.extract
        return [
            ("embedding file", f"{byte_size(self.embedding_file_bytes)}, vectors of {dim} in {config.dtype}"),
            (
                "frames, if kept",
                f"{byte_size(self.frame_cache_bytes)}, {config.frames.count} x {config.image_size} x {config.image_size} a clip",
            ),
            ("free disk", f"{byte_size(self.free_bytes)} at {pipeline.runs}/"),
        ]


def _free_bytes(runs: Path) -> int:
    """On the disk of the runs folder, which need not be there yet."""
    return shutil.disk_usage(next(folder for folder in (runs.absolute(), *runs.absolute().parents) if folder.is_dir())).free


def _about_sample(failures: "Sequence[Failure]", drawn: "Sequence[Header]", busy: float) -> list[str]:
    notes = []
    if failures:
        share = len(failures) / len(drawn)
        notes.append(
            f"{len(failures):,} of the {len(drawn):,} clips that were really read cannot be decoded, which their headers do not tell; "
            f"expect about {share:.0%} of the others to fail as well."
        )
    if busy > (os.cpu_count() or 1):
        notes.append(
            f"Other work kept this machine busy (load {busy:.0f} on {os.cpu_count()} cores); the times are those of a busy machine."
        )
    return notes


def _headline(scan: "Scan", predicted: "Forecast | None") -> str:
    from .extract.summary import kinds_in_words

    parts = [f"{len(scan.headers):,} of {len(scan):,} clips can be read"]
    if scan.failures:
        parts[0] += f", {len(scan.failures):,} cannot ({kinds_in_words(scan.failures)})"
    parts.append(f"{duration(scan.seconds)} of film, {byte_size(scan.size_bytes)}")
    if predicted is not None:
        parts.append(f"extraction takes about {_range(predicted)}, {predicted.bound}")
    return "; ".join(parts)


def _range(predicted: "Forecast") -> str:
    middle, low, high = (duration(seconds) for seconds in (predicted.seconds, predicted.low_seconds, predicted.high_seconds))
    return middle if low == high else f"{middle} ({low} to {high})"


def _speed(predicted: "Forecast | None", sampled: int, encoder: str) -> list[tuple[str, str]]:
    if predicted is None:
        return []
    return [
        ("timed sample", f"{sampled:,} clips of all sizes of file"),
        ("decoding", f"{predicted.decode_clips_per_second:,.1f} clips/s with {predicted.workers} workers"),
        ("encoding", f"{predicted.encode_clips_per_second:,.1f} clips/s, {encoder}"),
        ("time", f"{_range(predicted)}, {predicted.bound}"),
    ]


def _clip_tables(scan: "Scan") -> list[TableOf]:
    clips = len(scan.headers)
    if clips == 0:
        return _failure_tables(scan)
    rows = [
        (name if place == 0 else "", value, f"{count:,}", f"{count / clips:.1%}")
        for name, counted in scan.counts().items()
        for place, (value, count) in enumerate(counted.items())
    ]
    sizes = [(size, f"{count:,}", f"{count / clips:.1%}") for size, count in scan.frequent_sizes(_SIZES_SHOWN)]
    return [
        TableOf("Clips that can be read", ("property", "value", "clips", "share"), rows),
        TableOf("Most frequent sizes", ("pixels", "clips", "share"), sizes),
        TableOf("Duration", ("quantile", "duration"), [(name, duration(seconds)) for name, seconds in scan.durations().items()]),
        *_failure_tables(scan),
    ]


def _failure_tables(scan: "Scan") -> list[TableOf]:
    shown = [(failure.id, failure.kind, failure.message) for failure in scan.failures[:FAILURES_SHOWN]]
    return [TableOf("Clips that cannot be read", ("id", "kind", "message"), shown)] if shown else []


def _coverage_table(covered: "Coverage") -> TableOf:
    def row(what: str, part: "Part") -> tuple[str, ...]:
        share = part.interactions / covered.interactions
        return (what, f"{len(part.ids):,}", f"{part.interactions:,}", f"{share:.1%}", ", ".join(part.ids[:IDS_SHOWN]))

    return TableOf(
        f"Interactions: {covered.interactions:,} with {covered.items:,} items",
        ("items", "count", "interactions", "share", "most watched"),
        [
            row("with a clip", covered.readable),
            row("without a clip", covered.missing),
            row("clip cannot be read", covered.unreadable),
            ("clip nobody watched", f"{len(covered.unwatched):,}", "", "", ", ".join(covered.unwatched[:IDS_SHOWN])),
        ],
    )


def _facts(scan: "Scan") -> dict[str, Any]:
    return {
        "total": len(scan),
        "readable": len(scan.headers),
        "unreadable": len(scan.failures),
        "size_bytes": scan.size_bytes,
        "film_seconds": round(scan.seconds, 3),
        **scan.counts(),
        "frame_sizes": dict(scan.frequent_sizes(50)),
        "duration_seconds": scan.durations(),
    }


def _coverage_data(covered: "Coverage") -> dict[str, Any]:
    def data(part: "Part") -> dict[str, Any]:
        return {"items": len(part.ids), "interactions": part.interactions, "ids": list(part.ids[:IDS_LISTED])}

    return {
        "source": covered.source,
        "items": covered.items,
        "interactions": covered.interactions,
        "readable": data(covered.readable),
        "missing": data(covered.missing),
        "unreadable": data(covered.unreadable),
        "unwatched": {"clips": len(covered.unwatched), "ids": list(covered.unwatched[:IDS_LISTED])},
    }
