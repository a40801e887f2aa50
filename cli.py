"""Every command: its options and one call. Rooms are imported inside, so that ``--help`` is instant."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from . import cli_options as opt
from .command_line import Call, command, main

if TYPE_CHECKING:
    from .terminal import Summary

__all__ = ["main"]


@command("pretrain")
def pretrain(
    call: Call,
    frames: opt.MaskFrames = None,
    masks: opt.Masks = None,
    test_frames: opt.TestFrames = None,
    test_masks: opt.TestMasks = None,
    loss: opt.MaskLoss = None,
    clips: opt.Clips = None,
    manifest: opt.Manifest = None,
    workers: opt.PretrainWorkers = None,
    size: opt.Size = None,
    weights: opt.PretrainWeights = None,
    epochs: opt.PretrainEpochs = None,
    pixels: opt.PretrainPixels = None,
    clip_frames: opt.PretrainFrames = None,
    out: Annotated[Path | None, typer.Option(metavar="RUN", help="Folder to write; default: runs/pretrain.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the interrupted run in that folder.")] = False,
) -> "Summary":
    """Train the encoder before it makes vectors: on clips with masks (--frames, --masks), or on clips alone (--clips)."""
    from .stage_pretrain import run_pretrain

    return run_pretrain(call.pipeline, call.progress, clips=clips, out=out, resume=resume)


@command("scan")
def scan(
    call: Call,
    videos: opt.Videos = None,
    interactions: opt.Interactions = None,
    size: opt.Size = None,
    weights: opt.Weights = None,
    frames: opt.Frames = None,
    manifest: opt.Manifest = None,
    workers: opt.Workers = None,
    max_fail_rate: opt.MaxFailRate = None,
    no_timing: Annotated[bool, typer.Option("--no-timing", help="Read headers only; predict no time.")] = False,
    sample: Annotated[int, typer.Option(metavar="N", min=1, help="Clips that are really read, to predict the time.")] = 30,
) -> "Summary":
    """Look at a folder of clips before a long run: what is there, what cannot be read, how long extract will take."""
    from .stage_scan import run_scan

    return run_scan(call.pipeline, call.progress, timing=not no_timing, sample=sample)


@command("extract")
def extract(
    call: Call,
    videos: opt.Videos = None,
    out: Annotated[Path | None, typer.Option(metavar="FILE.h5", help="Embedding file to write; default: runs/embeddings.h5.")] = None,
    interactions: opt.Interactions = None,
    size: opt.Size = None,
    weights: opt.Weights = None,
    frames: opt.Frames = None,
    manifest: opt.Manifest = None,
    workers: opt.Workers = None,
    engine: opt.EngineName = None,
    max_fail_rate: opt.MaxFailRate = None,
    from_cache: opt.FromCache = None,
    from_frames: opt.FromFrames = None,
    cache_frames: opt.CacheFrames = None,
    thumbnails: opt.Thumbnails = None,
    decoder: opt.Decoder = None,
    seek: opt.Seek = None,
    strict: opt.Strict = None,
    shard: Annotated[str | None, typer.Option(metavar="I/N", help="Do only this part of the clips, as in 2/8; then merge.")] = None,
    limit: Annotated[int | None, typer.Option(metavar="N", min=1, help="Do only the first N clips by id.")] = None,
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="Try clips again that failed for good.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and stop.")] = False,
) -> "Summary":
    """Turn a folder of clips into an embedding file."""
    from .stage_extract import ExtractOptions, run_extract

    return run_extract(call.pipeline, call.progress, ExtractOptions(out, shard, limit, retry_failed, dry_run))


@command("merge")
def merge(
    call: Call,
    out: Annotated[Path | None, typer.Argument(metavar="[FILE.h5]", help="Embedding file to make; default: runs/embeddings.h5.")] = None,
) -> "Summary":
    """Make the embedding file from the shards that extract has left beside it."""
    from .stage_extract import run_merge

    return run_merge(call.pipeline, call.progress, out=out)


@command("verify")
def verify(
    call: Call,
    file: Annotated[Path | None, typer.Argument(metavar="FILE.h5", help="Embedding file; default: the one made last.")] = None,
    videos: opt.Videos = None,
    manifest: opt.Manifest = None,
    weights: opt.VerifyWeights = None,
    sample: Annotated[int, typer.Option(metavar="N", min=1, help="Rows to make again, drawn with --seed.")] = 200,
    workers: opt.Workers = None,
) -> "Summary":
    """Make rows of an embedding file again from their clips, and compare."""
    from .stage_verify import run_verify

    return run_verify(call.pipeline, call.progress, file=file, sample=sample)


@command("convert-weights")
def convert_weights(
    call: Call,
    source: Annotated[Path, typer.Argument(metavar="IN", help="Pickled checkpoint: .pth, .pt, .bin, .ckpt.")],
    target: Annotated[Path, typer.Argument(metavar="OUT.safetensors", help="File to write; must not exist.")],
) -> "Summary":
    """Turn a pickled checkpoint into a safetensors file, without running code in it."""
    from .stage_one import run_convert

    return run_convert(source, target)


@command("extract-text")
def extract_text(
    call: Call,
    titles: opt.Titles = None,
    model: opt.TextModel = None,
    out: Annotated[Path | None, typer.Option(metavar="FILE.h5", help="Embedding file to write; default: runs/titles.h5.")] = None,
    interactions: opt.Interactions = None,
) -> "Summary":
    """Turn the titles of items into an embedding file, by a text model."""
    from .stage_content import run_extract_text

    return run_extract_text(call.pipeline, call.progress, out=out)


@command("import-embeddings")
def import_embeddings(
    call: Call,
    vectors: Annotated[Path, typer.Option(metavar="FILE", help="Vectors of items that others have made: .npy, .json or .parquet.")],
    ids: Annotated[Path | None, typer.Option(metavar="FILE", help="Which item each row is: an id per line, or a table.")] = None,
    first_id: Annotated[
        int | None, typer.Option(metavar="N", help="Without --ids: item of the first row, the others follow; default: 1.")
    ] = None,
    name: Annotated[str | None, typer.Option(metavar="TEXT", help="What the vectors are; default: the name of the file.")] = None,
    out: Annotated[Path | None, typer.Option(metavar="FILE.h5", help="Embedding file to write; default: runs/imported.h5.")] = None,
    interactions: opt.Interactions = None,
) -> "Summary":
    """Turn vectors that others have made into an embedding file."""
    from .stage_content import run_import

    return run_import(call.pipeline, call.progress, vectors=vectors, ids=ids, first_id=first_id, name=name, out=out)


@command("train-rec")
def train_rec(
    call: Call,
    interactions: opt.Interactions = None,
    embeddings: opt.Embeddings = None,
    items: opt.Items = None,
    model: opt.Model = None,
    loss: opt.Loss = None,
    epochs: opt.Epochs = None,
    init: opt.Init = None,
    videos: opt.EndToEndVideos = None,
    from_cache: opt.EndToEndFrames = None,
    weights: opt.EndToEndWeights = None,
    size: opt.EndToEndSize = None,
    out: Annotated[Path | None, typer.Option(metavar="RUN", help="Folder to write; default: a new one in runs/.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in --out, or else the one interrupted last.")] = False,
) -> "Summary":
    """Train a recommender on watch histories."""
    from .stage_two import run_train

    return run_train(call.pipeline, call.progress, embeddings=embeddings, out=out, resume=resume)


@command("tune")
def tune(
    call: Call,
    interactions: opt.Interactions = None,
    embeddings: opt.Embeddings = None,
    items: opt.Items = None,
    model: opt.Model = None,
    loss: opt.Loss = None,
    epochs: opt.Epochs = None,
    minutes: opt.Minutes = None,
    trials: opt.Trials = None,
    out: Annotated[Path | None, typer.Option(metavar="DIR", help="Folder of the search; one that is there is gone on with.")] = None,
) -> "Summary":
    """Search hyper-parameters on validation, within a budget of minutes."""
    from .stage_two import run_tune

    return run_tune(call.pipeline, call.progress, embeddings=embeddings, out=out)


@command("evaluate")
def evaluate(
    call: Call,
    run: opt.Run = None,
    k: opt.K = None,
    split: Annotated[opt.SplitName | None, typer.Option(help="Which questions; default: both.")] = None,
    index: opt.Index = None,
    embeddings: Annotated[
        Path | None, typer.Option(metavar="FILE.h5", help="Where diversity is measured; default: what the run was trained on.")
    ] = None,
) -> "Summary":
    """Measure a trained recommender: HR@K, NDCG@K with intervals."""
    from .stage_two import run_evaluate

    return run_evaluate(call.pipeline, call.progress, run=run, split=split.value if split else None, embeddings=embeddings)


@command("benchmark")
def benchmark(
    call: Call,
    action: Annotated[
        opt.BenchmarkAction,
        typer.Argument(help="list: what suites there are; run: train and measure one; table: only make its table."),
    ],
    what: Annotated[
        str | None, typer.Argument(metavar="[SUITE|FOLDER]", help="run: a suite that comes along, or a YAML file; table: a folder.")
    ] = None,
    rows: opt.SuiteRows = None,
    jobs: opt.Jobs = None,
    interactions: opt.Interactions = None,
    embeddings: opt.SuiteEmbeddings = None,
    from_cache: opt.EndToEndFrames = None,
    weights: opt.EndToEndWeights = None,
    size: opt.EndToEndSize = None,
    out: Annotated[Path | None, typer.Option(metavar="DIR", help="run: folder of the runs; one that is there is gone on with.")] = None,
) -> "Summary":
    """Train every row of a table under one protocol, and make the table."""
    from .stage_benchmark import SuiteOptions, list_suites, run_suite, show_table

    if what is None or action is opt.BenchmarkAction.list:
        return list_suites()
    if action is opt.BenchmarkAction.table:
        return show_table(Path(what))
    options = SuiteOptions(tuple(rows or ()), jobs, tuple(embeddings or ()), out, call.typed)
    return run_suite(call.pipeline, call.progress, what, options)


@command("recommend")
def recommend(
    call: Call,
    run: opt.Run = None,
    user: Annotated[str | None, typer.Option(metavar="ID", help="A user of the training data.")] = None,
    k: Annotated[int, typer.Option(metavar="K", min=1, help="How many items.")] = 10,
    history: Annotated[str | None, typer.Option(metavar="ID,ID,...", help="Item ids, oldest first, instead of a user.")] = None,
    everybody: Annotated[bool, typer.Option("--all", help="Every user of the data, into the file --out.")] = False,
    out: Annotated[Path | None, typer.Option(metavar="FILE.parquet", help="With --all: columns user, rank, item, score.")] = None,
    index: opt.ListIndex = None,
) -> "Summary":
    """Recommend items to one user, or to everybody."""
    from .stage_export import RecommendOptions, recommend_as_asked

    items = tuple(history.split(",")) if history else None
    options = RecommendOptions(run, user, items, k, everybody, out, index.value if index else None)
    return recommend_as_asked(call.pipeline, call.progress, options)


@command("export")
def export(
    call: Call,
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder to write; must not exist.")],
    run: opt.Run = None,
    index: opt.ListIndex = None,
) -> "Summary":
    """Write a run as files for other programs: user model as ONNX, item vectors, search index."""
    from .stage_export import run_export

    return run_export(call.pipeline, call.progress, run=run, out=out, index=index.value if index else "flat")


@command("index")
def index(
    call: Call,
    action: Annotated[
        opt.IndexAction,
        typer.Argument(help="add: new clips, recommendable at once; list: what was added; remove: added items out again."),
    ],
    what: Annotated[list[str] | None, typer.Argument(metavar="[CLIP|ID]...", help="add: clips, or folders of them; remove: ids.")] = None,
    run: opt.Run = None,
    replace: Annotated[bool, typer.Option("--replace", help="add: clips that were added before give way.")] = False,
    weights: opt.IndexWeights = None,
    workers: opt.Workers = None,
    max_fail_rate: opt.MaxFailRate = None,
) -> "Summary":
    """Add clips to a trained run without training, list them, remove them."""
    from .stage_index import run_index_add, run_index_list, run_index_remove

    if action is opt.IndexAction.add:
        return run_index_add(call.pipeline, call.progress, [Path(clip) for clip in what or ()], run=run, replace=replace)
    if action is opt.IndexAction.remove:
        return run_index_remove(call.pipeline, call.progress, what or (), run=run)
    return run_index_list(call.pipeline, call.progress, run=run)


@command("serve")
def serve(
    call: Call,
    run: opt.ServedRuns = None,
    videos: opt.Videos = None,
    thumbnails: opt.ServedThumbnails = None,
    titles: opt.Titles = None,
    interactions: opt.Interactions = None,
    host: opt.Host = None,
    port: opt.Port = None,
    allow_host: opt.AllowHost = None,
    allow_origin: opt.AllowOrigin = None,
    token_file: opt.TokenFile = None,
    operator_token_file: opt.OperatorTokenFile = None,
    insecure: Annotated[bool, typer.Option("--insecure", help="Serve other machines without a token.")] = False,
    events: opt.Events = None,
    index: Annotated[
        Path | None, typer.Option(metavar="INDEX.faiss", help="Of `vivim export` of the first run; default: one is made at the start.")
    ] = None,
) -> "Summary":
    """Answer people over HTTP: recommendations, events, and a page to look at."""
    from .stage_serve import ServeOptions, run_serve

    options = ServeOptions(tuple(run or ()), events, token_file, operator_token_file, insecure, index)
    return run_serve(call.pipeline, call.progress, options)


@command("report")
def report(
    call: Call,
    run: opt.Run = None,
    out: Annotated[Path | None, typer.Option(metavar="FILE.html", help="File to write; default: report.html in the run.")] = None,
    interactions: opt.Interactions = None,
    embeddings: Annotated[
        Path | None, typer.Option(metavar="FILE.h5", help="Vectors the run was trained on; default: where they were then.")
    ] = None,
    videos: opt.ReportVideos = None,
    thumbnails: opt.ReportThumbnails = None,
    titles: opt.Titles = None,
) -> "Summary":
    """Write all there is to say about a run into one HTML file: data, clips, vectors, training, metrics, examples."""
    from .stage_report import run_report

    return run_report(call.pipeline, call.progress, run=run, out=out, embeddings=embeddings)


@command("check-data")
def check_data(
    call: Call,
    interactions: opt.Interactions = None,
    videos: opt.Videos = None,
    titles: opt.Titles = None,
    embeddings: opt.Embeddings = None,
) -> "Summary":
    """Describe the data and name every oddity in it."""
    from .stage_one import run_check_data

    return run_check_data(call.pipeline, call.progress, embeddings=embeddings)


@command("doctor")
def doctor(
    call: Call,
    model: Annotated[opt.SizeName | None, typer.Option(help="Say instead what an encoder of this size costs.")] = None,
    frames: opt.Frames = None,
    pixels: opt.Pixels = None,
) -> "Summary":
    """Check this machine: packages, devices, memory, disk; or say what an encoder costs."""
    from .doctor import run_cost, run_doctor

    return run_cost(call.pipeline, model.value) if model else run_doctor(call.pipeline)


@command("demo")
def demo(
    call: Call,
    out: Annotated[Path | None, typer.Option(metavar="DIR", help="Folder to write; default: runs/demo.")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="A smaller world: checks that everything runs, shows little.")] = False,
    serve: Annotated[bool, typer.Option("--serve", help="Serve what was made, with a page to look at, until Ctrl-C.")] = False,
    port: opt.Port = None,
) -> "Summary":
    """Run everything on a small rendered world with a known truth."""
    from .demo_summary import run_demo, serve_demo

    return (serve_demo if serve else run_demo)(call.pipeline, call.progress, out=out, quick=quick)


if __name__ == "__main__":
    sys.exit(main())
