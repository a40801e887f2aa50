"""What verify does: an embedding file and its clips in, a verdict out."""

from pathlib import Path
from typing import TYPE_CHECKING

from .discovery import FOLDER, find_videos
from .errors import InputError, VerificationFailed
from .pipeline import Pipeline
from .progress import Progress
from .stage_one import make_recipe, pick_device
from .terminal import Summary, TableOf
from .workspace import Workspace

if TYPE_CHECKING:
    from .extract.config import ExtractConfig
    from .extract.load_report import LoadReport
    from .extract.verification import Verification
    from .extract.vivim import Vivim
    from .store import EmbeddingStore

WRONG_SHOWN = 20
# What tells where equal tensors came from, not what they are.
_NAMES = ("weights.source", "weights.scheme", "weights.licence")


def run_verify(pipeline: Pipeline, progress: Progress, *, file: Path | None, sample: int) -> Summary:
    """Make ``sample`` rows of ``file`` again by its own recipe, from the clips it was made of; None: of the file made last.

    Of the configuration only what changes no vector is used: workers, deadline, batch, device, seed of the sample.

    Raises:
        InputError: no file, no clips, other weights than the recipe's, or a recipe that cannot be followed here.
    """
    from .extract.clips import find_clips
    from .extract.decode_pool import DecodePool
    from .extract.precision import MixedPrecision
    from .extract.remake import config_of, encoder_of
    from .extract.sources import make_reader
    from .extract.verify import verify_rows
    from .store import EmbeddingStore

    given = pipeline.extract
    store = EmbeddingStore.open(file or _made_last(pipeline))
    config = config_of(store.recipe, store.path)
    catalogue = find_clips(FOLDER if given.manifest else find_videos(pipeline), given.manifest)
    encoder, weights = encoder_of(store.recipe, given.encoder.weights, store.path)
    versions = _check_recipe(store, config, encoder, weights)
    device = pick_device(pipeline.device)
    encoder.to(device)
    found = verify_rows(
        store,
        catalogue,
        DecodePool(make_reader(config), given.workers, given.timeout_seconds, ahead=2 * given.batch_clips).decode,
        MixedPrecision(encoder) if config.precision == "bf16-mixed" else encoder,
        sample=sample,
        seed=pipeline.seed,
        batch_clips=given.batch_clips,
        progress=progress,
    )
    return _summary(store, found, weights, versions, device)


def _made_last(pipeline: Pipeline) -> Path:
    workspace = Workspace(pipeline.runs)
    if not workspace.has_embeddings():
        raise InputError(f"no embedding file is remembered in {pipeline.runs}/, or it is gone; name one: vivim verify FILE.h5.")
    return workspace.last_embeddings()


def _check_recipe(store: "EmbeddingStore", config: "ExtractConfig", encoder: "Vivim", weights: "LoadReport") -> list[str]:
    """In words, which libraries that read frames have another version than at extraction.

    Raises:
        InputError: what would be made here is by another recipe than the file's.
    """
    from .store import differences

    apart = differences(store.recipe, make_recipe(config, encoder, weights))
    other = [f"{name}: {old} in the file, {new} here" for name, old, new in apart if not name.startswith("decoder.") and name not in _NAMES]
    if other:
        raise InputError(f"{store.path} was made by a recipe that cannot be followed here: {'; '.join(other)}.")
    return [f"{name.removeprefix('decoder.')} {old} then, {new} now" for name, old, new in apart if name.startswith("decoder.")]


def _summary(store: "EmbeddingStore", found: "Verification", weights: "LoadReport", versions: list[str], device: str) -> Summary:
    notes = [*found.notes(), weights.words]
    if versions:
        notes.append(f"Frames are read by other versions than at extraction ({'; '.join(versions)}): their pixels may differ.")
    exit_code = 0
    try:
        found.raise_if_wrong()
    except VerificationFailed as error:
        notes.append(str(error))
        exit_code = error.exit_code
    shown = [
        (check.id, f"{check.deviation:.2g}", f"{check.cosine:.5f}", check.nearest_id if check.misplaced else "")
        for check in found.wrong[:WRONG_SHOWN]
    ]
    shown += [(id_, "", "", holder) for id_, holder in list(found.exchanged.items())[: WRONG_SHOWN - len(shown)]]
    hidden = len(found.wrong) + len(found.exchanged) - len(shown)
    if hidden:
        notes.insert(0, f"{hidden:,} more rows are wrong; --json lists all.")
    return Summary(
        headline=found.first_line(),
        data={
            **found.as_dict(),
            "file": str(store.path),
            "sha256": store.sha256,
            "weights": weights.words,
            "device": device,
            "decoder_versions": versions,
        },
        tables=[TableOf("Wrong rows", ("clip", "deviation", "cosine", "its vector is at"), shown)] if shown else (),
        notes=notes,
        exit_code=exit_code,
    )
