"""What ``vivim serve`` does: opens runs, histories, titles, clips and the log of events, and answers over HTTP until it is stopped."""

import logging
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from .discovery import find_titles, thumbnail_folder
from .errors import InputError, MissingExtra
from .pipeline import Pipeline
from .progress import Progress
from .stage_serve_clips import NewClips, find_media, runs_that_take_clips
from .stage_two import folder_of_data, interactions_of, trained_users
from .terminal import Summary
from .workspace import Workspace

if TYPE_CHECKING:
    from .recommend.checkpoint import RunFolder
    from .recommend.sequences import Interactions
    from .serve.config import ServeConfig
    from .serve.desk import Desk
    from .serve.doors import Tokens
    from .serve.histories import BaseHistories
    from .serve.served_run import ServedRun

_SHORTEST_TOKEN = 16


@dataclass(frozen=True)
class ServeOptions:
    """What is served, and to whom.

    Attributes:
        runs: folders; none: the run made last.
        events: SQLite file; None: in the first run.
        token_file: holds the token that everybody is asked for; None: the environment, or no token.
        operator_token_file: holds the token of who changes what is served.
        insecure: serve other machines without a token.
        index: that ``vivim export`` made of the first run: its approximate search begins with it.
    """

    runs: tuple[Path, ...] = ()
    events: Path | None = None
    token_file: Path | None = None
    operator_token_file: Path | None = None
    insecure: bool = False
    index: Path | None = None


def run_serve(pipeline: Pipeline, progress: Progress, options: ServeOptions) -> Summary:
    """Serve until a signal comes.

    Raises:
        InputError: a run, its data or the log cannot be opened; the address is taken, or open to others without a token.
        MissingExtra: FastAPI, uvicorn or prometheus_client is not installed.
    """
    require_packages()
    from .serve import server
    from .serve.api import create_app
    from .serve.doors import is_loopback
    from .serve.threads import settled

    config = pipeline.serve
    tokens = _tokens(options)
    if tokens.user is None and not is_loopback(config.http.host) and not options.insecure:
        raise InputError(
            f"--host {config.http.host} opens the server to other machines. Give --token-file FILE with a token that they must send, or "
            "say --insecure if everybody who can reach it may ask."
        )
    with server.listen(config.http.host, config.http.port) as listening:
        desk, words = open_desk(pipeline, progress, options, tokens)
        address = server.address_of(listening, config.http.host)
        access = "this machine only" if is_loopback(config.http.host) else "every machine that reaches this one"
        words.append(f"access    {access}, {'with the token' if tokens.user else 'no token'}; calls: {address}docs")
        _log_to_stderr()

        def started() -> None:
            desk.opened.set()
            for line in (f"serving {address}", *words, "Ctrl-C stops it"):
                progress.say(line)

        try:
            with settled():
                server.run(server.make_server(create_app(desk, tokens), config.http, started), listening)
        finally:
            desk.service.close()
    served, events = desk.meters.totals()
    return Summary(
        headline=f"stopped after {served:,} requests and {events:,} events; every event that was acknowledged is kept",
        data={"address": address, "requests": served, "events": events},
        exit_code=130,
    )


def open_desk(pipeline: Pipeline, progress: Progress, options: ServeOptions, tokens: "Tokens") -> tuple["Desk", list[str]]:
    """Everything that answers, and what of it is worth saying."""
    from .recommend.checkpoint import RunFolder
    from .recommend.titles import read_titles
    from .serve.desk import Desk
    from .serve.event_log import EventLog
    from .serve.media import MediaTable
    from .serve.metrics import Meters, numbers_of
    from .serve.service import Service
    from .serve.threads import model_thread

    folders = [RunFolder.open(path) for path in options.runs or (Workspace(pipeline.runs).last_run(progress.say),)]
    histories = _Histories(pipeline)
    names = _names(folders)
    runs: list[ServedRun] = []
    for name, folder in zip(names, folders, strict=True):
        progress.say(f"opening {folder.path}")
        runs.append(_served(name, folder, histories, pipeline.serve, None if runs else options.index))
    beside = folder_of_data(pipeline, folders[0])
    titles = find_titles(pipeline, beside)
    by_id = read_titles(titles).by_id if titles else {}
    files, of_files = find_media(pipeline, beside, folders, progress)
    takers = runs_that_take_clips(folders, progress) if tokens.operator else []
    pictures = thumbnail_folder(pipeline, beside)
    events = options.events or folders[0].path / "events.sqlite"
    # Last of what may be refused: nobody else would let go of it.
    service = Service(runs, EventLog(events), pipeline.serve, by_id)
    media = MediaTable(service.catalogue, files, tokens.user)
    add = NewClips(takers, pipeline, progress, pictures, media, service.reload) if takers else None
    desk = Desk(service, media, Meters(numbers_of(service)), pipeline.serve.http, add, model=model_thread(pipeline.serve.cores))
    words = [_run_words(run, default=run is runs[0]) for run in runs]
    words += [] if options.index is None else [f"index     {options.index}, of {runs[0].name}"]
    return desk, [*words, *of_files, f"titles    {titles or 'none; --titles FILE shows them'}", f"events    {events}"]


class _Histories:
    """The interactions of runs, each file read once."""

    def __init__(self, pipeline: Pipeline) -> None:
        self.pipeline = pipeline
        self.read: dict[str, Interactions] = {}

    def of(self, run: "RunFolder") -> "BaseHistories":
        from .serve.histories import BaseHistories

        location = str(sorted(run.data().items(), key=str))
        if location not in self.read:
            self.read[location] = interactions_of(self.pipeline, run)
        interactions = self.read[location]
        return BaseHistories(interactions, trained_users(run, interactions))


def _served(name: str, folder: "RunFolder", histories: _Histories, config: "ServeConfig", index: Path | None) -> "ServedRun":
    from .serve.served_run import ServedRun
    from .serve.snapshot import Snapshot

    base = histories.of(folder)
    return ServedRun(name, lambda before: Snapshot.load(folder, base, ann=config.ann, index=index, before=before))


def _names(folders: Sequence["RunFolder"]) -> list[str]:
    names = [folder.path.resolve().name for folder in folders]
    twins = sorted({name for name in names if names.count(name) > 1})
    if twins:
        raise InputError(f"two runs are called {twins[0]!r}; a run is asked for by the name of its folder, so rename one.")
    return names


def _run_words(run: "ServedRun", *, default: bool) -> str:
    snapshot = run.snapshot
    kind = f"{snapshot.kind} over {snapshot.items_kind}, {len(snapshot.recommender.items):,} items"
    return f"run       {run.name}: {kind}{' (answers by default)' if default else ''}"


def _tokens(options: ServeOptions) -> "Tokens":
    from .serve.doors import Tokens

    user = _token(options.token_file, "VIVIM_TOKEN", os.environ)
    operator = _token(options.operator_token_file, "VIVIM_OPERATOR_TOKEN", os.environ)
    if user is not None and user == operator:
        raise InputError("the operator's token is the token of everybody; make another one.")
    return Tokens(user, operator)


def _token(file: Path | None, variable: str, environment: Mapping[str, str]) -> str | None:
    """A secret from a file or the environment; never from the command line, which every user of the machine can read."""
    if file is None:
        text, where = environment.get(variable), variable
        if text is None:
            return None
    else:
        try:
            text, where = file.read_text(encoding="ascii"), str(file)
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"the token in {file} cannot be read: {error}. It must be a line of ASCII.") from None
    token = text.strip()
    if len(token) < _SHORTEST_TOKEN or not token.isascii() or not token.isprintable() or " " in token:
        raise InputError(
            f"{where} holds {len(token)} characters; a token has {_SHORTEST_TOKEN} or more, ASCII without spaces. One is made by: "
            "python3 -c 'import secrets; print(secrets.token_urlsafe(24))'"
        )
    return token


def require_packages() -> None:
    """Raise ``MissingExtra`` unless what the server stands on is installed."""
    try:
        import fastapi  # noqa: F401
        import prometheus_client  # noqa: F401
        import uvicorn  # noqa: F401
    except ModuleNotFoundError as error:
        raise MissingExtra(error.name or "fastapi", extra="serve", why="vivim serve") from None


def _log_to_stderr() -> None:
    """The log of requests, and faults of the server; junk that somebody sends is answered, and not worth a line each time."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
    for name, level in (("vivim.serve", logging.INFO), ("uvicorn.error", logging.ERROR)):
        logger = logging.getLogger(name)
        logger.setLevel(level)
        logger.handlers = [handler]
        logger.propagate = False
