"""The command line. A command is its options and one call; rooms are imported inside, so that ``--help`` is instant.

Every option that changes the configuration names its key with ``Sets``; the decorator ``command`` adds the options that all
commands share, reads the configuration and hands the command a ``Call``.
"""

import inspect
import os
import signal
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer
from typer.core import TyperCommand

from . import cli_options as opt

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


_Command = TypeVar("_Command", bound=Callable[..., "Summary"])


def command(name: str) -> Callable[[_Command], _Command]:
    """Register ``function(call, **its own options) -> Summary`` as a command."""

    def register(function: _Command) -> _Command:
        _, *own = inspect.signature(function).parameters.values()
        shared = list(inspect.signature(_shared).parameters.values())
        marks = {p.name: mark for p in (*own, *shared) for mark in getattr(p.annotation, "__metadata__", ()) if isinstance(mark, opt.Sets)}

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
            if os.environ.get("RANK", "0") == "0" or "TORCHELASTIC_RUN_ID" not in os.environ:  # of several processes one speaks
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
    config: opt.Config = None,
    set_: opt.Set = None,
    seed: opt.Seed = None,
    device: opt.Device = None,
    json_: opt.Json = False,
    print_config: opt.PrintConfig = False,
    debug: opt.Debug = False,
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
    frames_from: opt.FramesFrom = None,
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
) -> "Summary":
    """Measure a trained recommender: HR@K, NDCG@K with intervals."""
    from .stage_two import run_evaluate

    return run_evaluate(call.pipeline, call.progress, run=run, split=split.value if split else None)


@command("recommend")
def recommend(
    call: Call,
    run: opt.Run = None,
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
