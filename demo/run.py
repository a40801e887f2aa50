"""The three stages on the small rendered world, ending with a table and a page to look at."""

import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import VivimError
from ..extract.config import EncoderConfig, ExtractConfig
from ..extract.parts import parts_of
from ..extract.run import extract_catalogue
from ..extract.sources import videos
from ..extract.weights import make_encoder
from ..progress import Progress
from ..recommend.checkpoint import RunFolder
from ..recommend.config import EvaluateConfig, RecommendConfig
from ..recommend.evaluation import evaluate_run
from ..recommend.readers import read_interactions
from ..recommend.recommender import Recommender
from ..recommend.report import SplitResult
from ..recommend.sequences import Interactions
from ..recommend.train import train_run
from ..stage_one import make_recipe
from ..store import EmbeddingStore
from .contact_sheet import SheetClip, write_contact_sheet
from .render import render_world
from .viewers import build_world
from .world import World, WorldConfig, WorldFiles

K = 10
TRIED = 50
FOUND = (
    f"This viewer was picked to show what video can do: the first one whose next clip is new and stands in the top {K} of ids + video. "
    "How often that happens is in the demo's table, under cold."
)
NOT_FOUND = f"This is the first viewer whose next clip is new; for none of the first {TRIED} such viewers did ids + video find it."
NO_NEW_CLIP = "This is the first viewer; nobody's next clip is new in this world."

# Name in the table -> what is trained. The learned ones share everything but how an item becomes a vector.
ROWS: dict[str, dict[str, str]] = {
    "popularity": {"model": "popularity", "items": "ids"},
    "item-knn": {"model": "item-knn", "items": "ids"},
    "ids": {"model": "mamba", "items": "ids"},
    "frozen video": {"model": "mamba", "items": "frozen"},
    "ids + video": {"model": "mamba", "items": "ids+frozen"},
}


@dataclass(frozen=True)
class DemoRow:
    """One line of the table: test results of one recommender."""

    name: str
    run: Path
    result: SplitResult

    @property
    def cold(self) -> Any:
        """HR@10 on clips that nobody watched in training, or None if no question asks for one."""
        return next((group.metrics[f"hit_rate@{K}"] for group in self.result.groups if group.name == "0"), None)


@dataclass(frozen=True)
class DemoResult:
    """What the demo made.

    Attributes:
        rows: the table.
        page: contact sheet of one viewer.
        seconds: per stage: ``render``, ``extract``, ``train``, ``evaluate``.
        weights: what the encoder's weights are, in words.
        clips: how many were rendered, and embedded.
        viewers: how many were asked.
    """

    rows: tuple[DemoRow, ...]
    page: Path
    seconds: dict[str, float]
    weights: str
    clips: int
    viewers: int


def world_config(seed: int, quick: bool) -> WorldConfig:
    """The world the demo shows; ``quick`` is a tenth of it."""
    return WorldConfig(clips=60, viewers=200, seed=seed) if quick else WorldConfig(seed=seed)


def extract_config() -> ExtractConfig:
    """Stage one on small clips: the nano encoder at 64 pixels."""
    return ExtractConfig(encoder=EncoderConfig(size="nano"), image_size=64, batch_clips=16, workers=2)


def recommend_config(row: str, quick: bool) -> RecommendConfig:
    """Stage two on a small world."""
    return RecommendConfig.model_validate(
        {
            "model": {"kind": ROWS[row]["model"], "d_model": 64, "layers": 2, "dropout": 0.3},
            "items": {"kind": ROWS[row]["items"]},
            "train": {"epochs": 2 if quick else 15, "batch": 128, "lr": 2e-3, "patience": 3},
        }
    )


def run_demo_world(out: Path, *, seed: int, device: str, quick: bool, progress: Progress) -> DemoResult:
    """Render, extract, train five recommenders, evaluate, draw.

    Raises:
        VivimError: a rendered clip could not be embedded: something is wrong with this installation.
    """
    clock, seconds = time.monotonic, {}
    started = clock()
    world = build_world(world_config(seed, quick))
    files = render_world(world, out / "world", progress=progress)
    seconds["render"], started = clock() - started, clock()

    config = extract_config().model_copy(update={"thumbnails": files.thumbnails})
    encoder = make_encoder(config.encoder, seed)
    weights = encoder.load_report
    encoder.to(device)
    embeddings = out / "embeddings.h5"
    embeddings.unlink(missing_ok=True)
    shutil.rmtree(parts_of(embeddings), ignore_errors=True)
    done = extract_catalogue(videos(files.videos, config), embeddings, config, encoder, make_recipe(config, encoder, weights), progress)
    if done.failures:
        raise VivimError(f"{len(done.failures)} clips of the demo's own failed: {done.failures[0].message}. Run 'vivim doctor'.")
    seconds["extract"], started = clock() - started, clock()

    interactions = read_interactions(files.pairs)
    store = EmbeddingStore.open(embeddings)
    runs = {name: _train(name, interactions, store, out, files, seed, device, quick, progress) for name in ROWS}
    seconds["train"], started = clock() - started, clock()
    rows = tuple(_evaluate(name, run, interactions, device, progress) for name, run in runs.items())
    page = out / "contact_sheet.html"
    draw_page(page, world, files, interactions, {row.name: row.run for row in rows})
    seconds["evaluate"] = clock() - started
    return DemoResult(rows, page, seconds, weights.words, len(world.clips), rows[0].result.questions)


def run_name(row: str) -> str:
    """Folder of a row's run, in ``runs``."""
    return row.replace(" ", "")


def _train(
    name: str,
    interactions: Interactions,
    store: EmbeddingStore,
    out: Path,
    files: WorldFiles,
    seed: int,
    device: str,
    quick: bool,
    progress: Progress,
) -> Path:
    folder = out / "runs" / run_name(name)
    _clear_run(folder)
    progress.say(f"training {name}")
    train_run(
        interactions,
        store,
        recommend_config(name, quick),
        folder,
        seed=seed,
        device=device,
        resume=False,
        progress=progress,
        data_location={"path": str(files.pairs.resolve()), "user_column": None, "item_column": None, "time_column": None},
    )
    return folder


def _clear_run(folder: Path) -> None:
    """The demo's own runs are made anew each time."""
    if (folder / "run.json").exists():
        shutil.rmtree(folder)


def _evaluate(name: str, run: Path, interactions: Interactions, device: str, progress: Progress) -> DemoRow:
    report = evaluate_run(RunFolder.open(run), interactions, EvaluateConfig(k=(K,)), splits=("test",), device=device, progress=progress)
    return DemoRow(name, run, report.splits[0])


def draw_page(path: Path, world: World, files: WorldFiles, interactions: Interactions, runs: dict[str, Path]) -> None:
    """The contact sheet of the first viewer whose next clip is cold and whom the video finds, or else of any viewer with a cold clip."""
    by_id = {clip.id: clip for clip in world.clips}

    def shown(id_: str, target: str, score: float | None = None) -> SheetClip:
        return SheetClip(id_, by_id[id_].title, files.video(id_), score, watched_next=id_ == target, cold=by_id[id_].cold)

    viewer, history, note = _viewer_to_show(world, interactions, Recommender.open(runs["ids + video"]))
    target = history[-1]
    rows = {}
    for name, run in runs.items():
        recommender = Recommender.open(run)
        best = recommender.top_k(recommender.state(history[:-1][-recommender.max_len :]), K)
        rows[name] = [shown(id_, target, score) for id_, score in best]
    write_contact_sheet(path, viewer, [shown(id_, target) for id_ in history], rows, note)


def _viewer_to_show(world: World, interactions: Interactions, recommender: Recommender) -> tuple[str, list[str], str]:
    """A viewer, their history, and how they were chosen: a reader must not take a picked example for an average one."""
    candidates = []
    for viewer, rows in zip(interactions.users.ids, interactions.histories, strict=True):
        history = [interactions.items.ids[row] for row in rows]
        if history[-1] in world.cold_ids:
            candidates.append((viewer, history))
    for viewer, history in candidates[:TRIED]:
        state = recommender.state(history[:-1][-recommender.max_len :])
        if history[-1] in {id_ for id_, _ in recommender.top_k(state, K)}:
            return viewer, history, FOUND
    if candidates:
        return *candidates[0], NOT_FOUND
    return interactions.users.ids[0], [interactions.items.ids[row] for row in interactions.histories[0]], NO_NEW_CLIP
