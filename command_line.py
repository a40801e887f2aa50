"""What all commands share: their options, reading the configuration, and how a result or an error becomes text and an exit code.

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
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer
from typer.core import TyperCommand

from . import cli_options as opt

if TYPE_CHECKING:
    from .pipeline import Override, Pipeline
    from .terminal import Summary, TerminalProgress

EXIT_CODES = (
    "Exit codes: 0 done, 1 our fault, 2 bad input, 3 too many clips failed, 4 verification failed, "
    "130 interrupted (extract and benchmark run go on when run again, pretrain and train-rec with --resume)."
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
        typed: what was set on the command line, by ``--set`` and by named options.
    """

    pipeline: "Pipeline"
    progress: "TerminalProgress"
    typed: "tuple[Override, ...]" = ()


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
            from .recommend.torchrun import is_first
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
                typed = (*map(Override.parse, common["set_"] or ()), *options)
                summary = function(Call(pipeline, progress, typed), **{k: v for k, v in given.items() if k not in marks})
            finally:
                progress.close()
            if is_first():
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


def main(args: list[str] | None = None) -> int:
    """The console script: run a command; every error becomes one line and an exit code."""
    from .allocator import keep_freed_memory
    from .errors import VivimError

    args = sys.argv[1:] if args is None else args
    debug = "--debug" in args
    # Read when torch is loaded. Threads that spin while they wait cost ten times their work when the cores are shared. A step of a
    # recommender is hundreds of small operations on cores of its own: a third of a millisecond of spinning saves it 7 % of its time.
    if "OMP_WAIT_POLICY" not in os.environ and {"train-rec", "tune", "benchmark"} & set(args):
        os.environ.setdefault("GOMP_SPINCOUNT", "10000")
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
