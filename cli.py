"""The command line. A command is its options and one call; rooms are imported inside, so that ``--help`` is instant.

Every option that changes the configuration names its key with ``Sets``; the decorator ``command`` adds the options that all
commands share, reads the configuration and hands the command a ``Call``.
"""

import inspect
import os
import signal
import sys
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer
from typer.core import TyperCommand

if TYPE_CHECKING:
    from .pipeline import Pipeline
    from .terminal import Summary, TerminalProgress

EXIT_CODES = (
    "Exit codes: 0 done, 1 our fault, 2 bad input, 3 too many clips failed, 4 verification failed, "
    "130 interrupted (extract goes on when run again, pretrain and train-rec with --resume)."
)

app = typer.Typer(
    help="The short-video recommender that looks at the video.",
    epilog=EXIT_CODES,
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


class SizeName(StrEnum):
    """Which encoder."""

    nano = "nano"
    b0 = "b0"
    b1 = "b1"
    b2 = "b2"
    b3 = "b3"
    b4 = "b4"
    b5 = "b5"


class SplitName(StrEnum):
    """Which questions are asked."""

    test = "test"
    validation = "validation"


@dataclass(frozen=True)
class Sets:
    """Marks an option that sets the configuration key ``key``; its text is checked there, with one message for all ways to set it.

    Attributes:
        key: what it sets.
        with_clips: what it sets instead where the command is also given ``--clips``; None: the same.
    """

    key: str
    with_clips: str | None = None

    def key_among(self, given: Mapping[str, Any]) -> str:
        """The key it sets beside the other options ``given``."""
        return self.with_clips if self.with_clips and given.get("clips") is not None else self.key


@dataclass(frozen=True)
class Call:
    """What every command receives.

    Attributes:
        pipeline: the configuration, with the named options already in it.
        progress: where to tell what is going on.
    """

    pipeline: "Pipeline"
    progress: "TerminalProgress"


class SpreadCommand(TyperCommand):
    """A command whose repeatable options take several values after one flag: ``--k 10 20`` is ``--k 10 --k 20`` and ``--k 10,20``."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        flags = {flag for option in self.params if getattr(option, "multiple", False) for flag in option.opts}
        return super().parse_args(ctx, spread(args, flags))

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            from .errors import Interrupted

            raise Interrupted("interrupted.") from None
        except BrokenPipeError as error:  # typer would end quietly; only our own printing may, see _print
            raise RuntimeError(f"the pipe to another process broke: {error}") from error


def spread(args: list[str], flags: set[str]) -> list[str]:
    """Repeat each of ``flags`` before every further value that follows it; comma lists of whole numbers are taken apart."""
    out: list[str] = []
    flag: str | None = None
    bare = False  # the next argument is the first value of flag and needs no repeated flag
    for arg in args:
        name, equals, value = arg.partition("=")
        if name in flags:
            flag, bare = name, not equals
            if bare:
                continue
            values = [value]
        elif flag is not None and (bare or not arg.startswith("-")):
            bare, values = False, [arg]
        else:
            flag, values = None, []
            out.append(arg)
        for value in values:
            parts = value.split(",") if value.replace(",", "").isdigit() else [value]
            out.extend(token for part in parts if part for token in (flag or "", part))
    return [*out, flag] if bare and flag is not None else out


Config = Annotated[Path | None, typer.Option(metavar="FILE", help="Configuration; default: pipeline.yaml here, if there is one.")]
Set = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Set any option of pipeline.yaml, as in train.lr=3e-4. Repeatable.")
]
Seed = Annotated[str | None, typer.Option(metavar="N", help="Seed of every random choice; default: 1."), Sets("seed")]
Device = Annotated[
    str | None, typer.Option(metavar="auto|cpu|cuda", help="Where to compute; default: auto, a GPU if there is one."), Sets("device")
]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
PrintConfig = Annotated[bool, typer.Option("--print-config", help="Print the configuration this command would use, and stop.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]

Videos = Annotated[str | None, typer.Option(metavar="DIR", help="Folder of clips; default: found in data/."), Sets("data.videos")]
Interactions = Annotated[
    str | None,
    typer.Option(metavar="FILE", help="Who watched what: MicroLens pairs, CSV, Parquet, RecBole .inter; default: found in data/."),
    Sets("data.interactions"),
]
Titles = Annotated[str | None, typer.Option(metavar="FILE", help="CSV item,title; default: found in data/."), Sets("data.titles")]
Embeddings = Annotated[Path | None, typer.Option(metavar="FILE.h5", help="Embedding file; default: the one made last.")]
Run = Annotated[Path | None, typer.Option(metavar="RUN", help="Folder of a training run; default: the one made last.")]

Size = Annotated[
    str | None,
    typer.Option(metavar="auto|nano|b0..b5", help="Size of the encoder; default: auto, that of the weights; b0 if random."),
    Sets("extract.encoder.size"),
]
Weights = Annotated[
    str | None,
    typer.Option(
        metavar="PATH|hub:OWNER/NAME|random",
        help="Weights of the encoder: a .safetensors file, or a repository to download; default: random, from the seed.",
    ),
    Sets("extract.encoder.weights"),
]
VerifyWeights = Annotated[
    str | None,
    typer.Option("--weights", metavar="PATH|hub:OWNER/NAME", help="The weights the file was made with, unless they are random."),
    Sets("extract.encoder.weights"),
]
Frames = Annotated[str | None, typer.Option(metavar="T", help="Frames per clip; default: 8."), Sets("extract.frames.count")]
Pixels = Annotated[str | None, typer.Option(metavar="N", help="Side of the encoder's picture; default: 224."), Sets("extract.image_size")]
Manifest = Annotated[
    str | None, typer.Option(metavar="CSV", help="Columns id,path, for ids that are not file names."), Sets("extract.manifest")
]
Workers = Annotated[str | None, typer.Option(metavar="N", help="Decoding processes; default: 0, one per core."), Sets("extract.workers")]
FromCache = Annotated[
    str | None, typer.Option(metavar="DIR", help="Read cached frames in the place of videos."), Sets("extract.from_cache")
]
FromFrames = Annotated[
    str | None,
    typer.Option(metavar="DIR|ZIP", help="Read ITEM-NUMBER.jpg in the place of videos, as MicroLens publishes frames."),
    Sets("extract.from_frames"),
]
CacheFrames = Annotated[
    str | None,
    typer.Option(metavar="DIR", help="Keep the frames there, for another encoder or for training."),
    Sets("extract.cache_frames"),
]
Thumbnails = Annotated[
    str | None, typer.Option(metavar="DIR", help="Write a small picture of each clip that is read there."), Sets("extract.thumbnails")
]
Seek = Annotated[
    str | None,
    typer.Option(metavar="exact|keyframe", help="keyframe: the keyframe nearest to each wanted moment; default: exact."),
    Sets("extract.seek"),
]
Decoder = Annotated[
    str | None,
    typer.Option(metavar="auto|pyav", help="Who reads; default: auto, decord, and PyAV where it fails."),
    Sets("extract.decoder"),
]
Strict = Annotated[bool | None, typer.Option("--strict", help="Refuse clips in which a wanted frame is damaged."), Sets("extract.strict")]
EngineName = Annotated[
    str | None,
    typer.Option("--engine", metavar="local|ray", help="Where clips are read and encoded; default: local."),
    Sets("extract.engine"),
]
MaxFailRate = Annotated[
    str | None,
    typer.Option(metavar="SHARE", help="Share of clips that may fail before exit code 3; default: 0.01."),
    Sets("extract.max_fail_rate"),
]

Items = Annotated[
    str | None,
    typer.Option(
        metavar="ids|frozen|ids+frozen",
        help="What an item is: a learned id, its stored clip vector, or both; default: auto, both if there is an embedding file, else ids.",
    ),
    Sets("items.kind"),
]
Model = Annotated[
    str | None,
    typer.Option(metavar="mamba|mamba2|sasrec|popularity|item-knn", help="What turns a history into a user; default: mamba."),
    Sets("model.kind"),
]
Loss = Annotated[
    str | None,
    typer.Option(metavar="full|in-batch", help="What is minimised; default: full, softmax over the whole catalogue."),
    Sets("loss.kind"),
]
Epochs = Annotated[
    str | None,
    typer.Option(metavar="N", help="Passes over the data, at most; fewer if validation stops rising; default: 30."),
    Sets("train.epochs"),
]
K = Annotated[list[str] | None, typer.Option(metavar="K...", help="List lengths; default: 10 20."), Sets("evaluate.k")]
Index = Annotated[
    str | None,
    typer.Option(metavar="flat|hnsw|ivf", help="FAISS index that makes the lists; default: flat, which is exact."),
    Sets("evaluate.index"),
]

MaskFrames = Annotated[
    str | None,
    typer.Option("--frames", metavar="DIR", help="Clips with masks: a folder of pictures per clip, the pictures of one clip, or videos."),
    Sets("pretrain.frames"),
]
Masks = Annotated[str | None, typer.Option(metavar="DIR", help="Their masks, laid out like --frames."), Sets("pretrain.masks")]
TestFrames = Annotated[
    str | None,
    typer.Option(metavar="DIR", help="Clips to measure on; without them a share of the clips is held out."),
    Sets("pretrain.test_frames"),
]
TestMasks = Annotated[str | None, typer.Option(metavar="DIR", help="Their masks."), Sets("pretrain.test_masks")]
MaskLoss = Annotated[
    str | None,
    typer.Option("--loss", metavar="ours|official", help="What is minimised on masks; default: ours."),
    Sets("pretrain.loss.kind"),
]
Clips = Annotated[Path | None, typer.Option(metavar="DIR", help="Clips without masks: a folder of videos, as extract takes it.")]
PretrainWeights = Annotated[
    str | None,
    typer.Option("--weights", metavar="PATH|random", help="What to begin with, a .safetensors file; default: random, from the seed."),
    Sets("pretrain.weights", with_clips="selfsup.weights"),
]
PretrainEpochs = Annotated[
    str | None,
    typer.Option("--epochs", metavar="N", help="Passes over the data; default: 50; with --clips 30."),
    Sets("pretrain.epochs", with_clips="selfsup.epochs"),
]
PretrainPixels = Annotated[
    str | None,
    typer.Option("--pixels", metavar="S", help="Side of the square the encoder sees; default: 256; with --clips 112."),
    Sets("pretrain.pixels", with_clips="selfsup.image_size"),
]
PretrainFrames = Annotated[
    str | None,
    typer.Option("--clip-frames", metavar="T", help="Frames seen at once; default: 5; with --clips 8."),
    Sets("pretrain.clip_frames", with_clips="selfsup.frames"),
]
PretrainWorkers = Annotated[
    str | None,
    typer.Option("--workers", metavar="N", help="Decoding processes with --clips; default: 0, one per core."),
    Sets("selfsup.workers"),
]

_Command = TypeVar("_Command", bound=Callable[..., "Summary"])


def command(name: str) -> Callable[[_Command], _Command]:
    """Register ``function(call, **its own options) -> Summary`` as a command."""

    def register(function: _Command) -> _Command:
        _, *own = inspect.signature(function).parameters.values()
        shared = list(inspect.signature(_shared).parameters.values())
        marks = {p.name: mark for p in (*own, *shared) for mark in getattr(p.annotation, "__metadata__", ()) if isinstance(mark, Sets)}

        def run(**given: Any) -> None:
            from .pipeline import Override, as_yaml, load_pipeline
            from .terminal import TerminalProgress, print_json, print_text, show

            common = {p.name: given.pop(p.name) for p in shared}
            named = {k: v for k, v in {**given, **common}.items() if k in marks and v not in (None, [])}
            options = [Override(marks[k].key_among(given), v, "--" + k.replace("_", "-")) for k, v in named.items()]
            pipeline = load_pipeline(common["config"], common["set_"] or (), options)
            if common["print_config"]:
                _print(lambda: print_json(pipeline.model_dump(mode="json")) if common["json_"] else print_text(as_yaml(pipeline)))
                return
            progress = TerminalProgress()
            try:
                summary = function(Call(pipeline, progress), **{k: v for k, v in given.items() if k not in marks})
            finally:
                progress.close()
            _print(lambda: show(summary, as_json=common["json_"]))
            if summary.exit_code:
                raise typer.Exit(summary.exit_code)

        signature = inspect.Signature([p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in (*own, *shared)])
        run.__signature__ = signature  # type: ignore[attr-defined]
        run.__annotations__ = {p.name: p.annotation for p in signature.parameters.values()}
        run.__doc__ = function.__doc__
        app.command(name, cls=SpreadCommand, epilog=EXIT_CODES)(run)
        return function

    return register


def _shared(
    config: Config = None,
    set_: Set = None,
    seed: Seed = None,
    device: Device = None,
    json_: Json = False,
    print_config: PrintConfig = False,
    debug: Debug = False,
) -> None:
    """The options of every command; never called."""


@app.callback(invoke_without_command=True)
def _top(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    if version:
        from . import __version__

        typer.echo(f"vivim {__version__}")
        raise typer.Exit


@command("pretrain")
def pretrain(
    call: Call,
    frames: MaskFrames = None,
    masks: Masks = None,
    test_frames: TestFrames = None,
    test_masks: TestMasks = None,
    loss: MaskLoss = None,
    clips: Clips = None,
    manifest: Manifest = None,
    workers: PretrainWorkers = None,
    size: Size = None,
    weights: PretrainWeights = None,
    epochs: PretrainEpochs = None,
    pixels: PretrainPixels = None,
    clip_frames: PretrainFrames = None,
    out: Annotated[Path | None, typer.Option(metavar="RUN", help="Folder to write; default: runs/pretrain.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the interrupted run in that folder.")] = False,
) -> "Summary":
    """Train the encoder before it makes vectors: on clips with masks (--frames, --masks), or on clips alone (--clips)."""
    from .stage_pretrain import run_pretrain

    return run_pretrain(call.pipeline, call.progress, clips=clips, out=out, resume=resume)


@command("scan")
def scan(
    call: Call,
    videos: Videos = None,
    interactions: Interactions = None,
    size: Size = None,
    weights: Weights = None,
    frames: Frames = None,
    manifest: Manifest = None,
    workers: Workers = None,
    max_fail_rate: MaxFailRate = None,
    no_timing: Annotated[bool, typer.Option("--no-timing", help="Read headers only; predict no time.")] = False,
    sample: Annotated[int, typer.Option(metavar="N", min=1, help="Clips that are really read, to predict the time.")] = 30,
) -> "Summary":
    """Look at a folder of clips before a long run: what is there, what cannot be read, how long extract will take."""
    from .stage_scan import run_scan

    return run_scan(call.pipeline, call.progress, timing=not no_timing, sample=sample)


@command("extract")
def extract(
    call: Call,
    videos: Videos = None,
    out: Annotated[Path | None, typer.Option(metavar="FILE.h5", help="Embedding file to write; default: runs/embeddings.h5.")] = None,
    size: Size = None,
    weights: Weights = None,
    frames: Frames = None,
    manifest: Manifest = None,
    workers: Workers = None,
    engine: EngineName = None,
    max_fail_rate: MaxFailRate = None,
    from_cache: FromCache = None,
    from_frames: FromFrames = None,
    cache_frames: CacheFrames = None,
    thumbnails: Thumbnails = None,
    decoder: Decoder = None,
    seek: Seek = None,
    strict: Strict = None,
    shard: Annotated[str | None, typer.Option(metavar="I/N", help="Do only this part of the clips, as in 2/8; then merge.")] = None,
    limit: Annotated[int | None, typer.Option(metavar="N", min=1, help="Do only the first N clips by id.")] = None,
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="Try clips again that failed for good.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and stop.")] = False,
) -> "Summary":
    """Turn a folder of clips into an embedding file."""
    from .stage_one import ExtractOptions, run_extract

    return run_extract(call.pipeline, call.progress, ExtractOptions(out, shard, limit, retry_failed, dry_run))


@command("merge")
def merge(
    call: Call,
    out: Annotated[Path | None, typer.Argument(metavar="[FILE.h5]", help="Embedding file to make; default: runs/embeddings.h5.")] = None,
) -> "Summary":
    """Make the embedding file from the shards that extract has left beside it."""
    from .stage_one import run_merge

    return run_merge(call.pipeline, call.progress, out=out)


@command("verify")
def verify(
    call: Call,
    file: Annotated[Path | None, typer.Argument(metavar="FILE.h5", help="Embedding file; default: the one made last.")] = None,
    videos: Videos = None,
    manifest: Manifest = None,
    weights: VerifyWeights = None,
    sample: Annotated[int, typer.Option(metavar="N", min=1, help="Rows to make again, drawn with --seed.")] = 200,
    workers: Workers = None,
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


@command("train-rec")
def train_rec(
    call: Call,
    interactions: Interactions = None,
    embeddings: Embeddings = None,
    items: Items = None,
    model: Model = None,
    loss: Loss = None,
    epochs: Epochs = None,
    out: Annotated[Path | None, typer.Option(metavar="RUN", help="Folder to write; default: a new one in runs/.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in --out, or else the one interrupted last.")] = False,
) -> "Summary":
    """Train a recommender on watch histories."""
    from .stage_two import run_train

    return run_train(call.pipeline, call.progress, embeddings=embeddings, out=out, resume=resume)


@command("evaluate")
def evaluate(
    call: Call,
    run: Run = None,
    k: K = None,
    split: Annotated[SplitName | None, typer.Option(help="Which questions; default: both.")] = None,
    index: Index = None,
) -> "Summary":
    """Measure a trained recommender: HR@K, NDCG@K with intervals."""
    from .stage_two import run_evaluate

    return run_evaluate(call.pipeline, call.progress, run=run, split=split.value if split else None)


@command("recommend")
def recommend(
    call: Call,
    run: Run = None,
    user: Annotated[str | None, typer.Option(metavar="ID", help="A user of the training data.")] = None,
    k: Annotated[int, typer.Option(metavar="K", min=1, help="How many items.")] = 10,
    history: Annotated[str | None, typer.Option(metavar="ID,ID,...", help="Item ids, oldest first, instead of a user.")] = None,
) -> "Summary":
    """Recommend items to one user."""
    from .stage_two import run_recommend

    return run_recommend(call.pipeline, call.progress, run=run, user=user, k=k, history=history.split(",") if history else None)


@command("check-data")
def check_data(
    call: Call,
    interactions: Interactions = None,
    videos: Videos = None,
    titles: Titles = None,
    embeddings: Embeddings = None,
) -> "Summary":
    """Describe the data and name every oddity in it."""
    from .stage_one import run_check_data

    return run_check_data(call.pipeline, call.progress, embeddings=embeddings)


@command("doctor")
def doctor(
    call: Call,
    model: Annotated[SizeName | None, typer.Option(help="Say instead what an encoder of this size costs.")] = None,
    frames: Frames = None,
    pixels: Pixels = None,
) -> "Summary":
    """Check this machine: packages, devices, memory, disk; or say what an encoder costs."""
    from .doctor import run_cost, run_doctor

    return run_cost(call.pipeline, model.value) if model else run_doctor(call.pipeline)


@command("demo")
def demo(
    call: Call,
    out: Annotated[Path | None, typer.Option(metavar="DIR", help="Folder to write; default: runs/demo.")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="A smaller world: checks that everything runs, shows little.")] = False,
) -> "Summary":
    """Run everything on a small rendered world with a known truth."""
    from .demo_summary import run_demo

    return run_demo(call.pipeline, call.progress, out=out, quick=quick)


def main(args: list[str] | None = None) -> int:
    """The console script: run a command; every error becomes one line and an exit code."""
    from .allocator import keep_freed_memory
    from .errors import VivimError

    args = sys.argv[1:] if args is None else args
    debug = "--debug" in args
    # Read when torch is loaded. Threads that spin while they wait cost ten times their work when the cores are shared.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    keep_freed_memory()
    _prepare_streams()
    previous = signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends like Ctrl-C: saved, exit code 130
    try:
        typer.main.get_command(app).main(args=args, prog_name="vivim")
    except SystemExit as done:
        return done.code if isinstance(done.code, int) else int(done.code is not None)
    except VivimError as error:
        _tell(str(error), debug)
        return error.exit_code
    except KeyboardInterrupt:
        _tell("interrupted.", debug)
        return 130
    except Exception as error:
        _tell(f"internal error, {type(error).__name__}: {error}" + ("" if debug else "\nRun again with --debug to see where."), debug)
        return 1
    finally:
        signal.signal(signal.SIGTERM, previous)
    return 0


def _print(write: Callable[[], None]) -> None:
    """Write to stdout; ends quietly when its reader has left, as ``head`` does."""
    try:
        write()
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python complains when it flushes at exit
        raise typer.Exit(128 + 13) from None


def _prepare_streams() -> None:
    """A closed stream swallows what is written; a character that an encoding lacks is shown escaped."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115 - stays open until the process ends
        elif hasattr(getattr(sys, name), "reconfigure"):
            getattr(sys, name).reconfigure(errors="backslashreplace")


def _tell(message: str, debug: bool) -> None:
    from .terminal import print_error

    if debug:
        traceback.print_exc()
    print_error(message)


if __name__ == "__main__":
    sys.exit(main())
