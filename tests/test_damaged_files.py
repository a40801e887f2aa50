"""Every file that ``vivim serve`` reads, with some bytes changed or cut out: it opens and answers, or is refused in words."""

import asyncio
import json
import shutil
import sqlite3
from contextlib import closing
from itertools import takewhile

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from vivim.errors import InputError, VivimError
from vivim.extract.thumbnails import thumbnail_path, thumbnail_webp, write_thumbnail
from vivim.pipeline import load_pipeline
from vivim.progress import SILENT
from vivim.recommend.additions import Additions, add
from vivim.recommend.checkpoint import RunFolder
from vivim.recommend.config import RecommendConfig
from vivim.recommend.readers import read_interactions
from vivim.recommend.titles import read_titles
from vivim.recommend.train import train_run
from vivim.serve import media
from vivim.serve.asgi import Refusal
from vivim.serve.doors import Tokens
from vivim.serve.event_log import EventLog
from vivim.serve.schemas import time_text
from vivim.serve.snapshot import Snapshot
from vivim.stage_serve import ServeOptions, open_desk

# (what is done, where as a share of the file, how many bytes or which bit)
EDITS = st.lists(
    st.tuples(st.sampled_from(["flip", "cut", "fill"]), st.floats(0, 1, exclude_max=True), st.integers(0, 255)), min_size=1, max_size=4
)
# No time limit but this one: a machine that does other work may take seconds for one of them, a hang takes for ever.
FUZZ = settings(deadline=60_000, derandomize=True, database=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def edited(whole, edits):
    data = bytearray(whole)
    for kind, share, number in edits:
        at = int(share * len(data))
        match kind:
            case "flip" if data:
                data[at] ^= 1 << number % 8
            case "cut":
                del data[at : at + (number if number < 250 else len(data))]
            case "fill":
                data[at : at + 4] = bytes([number]) * len(data[at : at + 4])
    return bytes(data)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A run over a ring of 30 items, one item that was added, events, titles, and a clip with its thumbnail."""
    folder = tmp_path_factory.mktemp("damaged")
    lines = [f"u{u:02d},i{(u + n) % 30:02d},{1_700_000_000_000 + n * 1000}" for u in range(40) for n in range(8)]
    (folder / "ring_pairs.csv").write_text("\n".join(["user,item,timestamp", *lines]) + "\n")
    (folder / "titles.csv").write_text("item,title\n" + "".join(f'i{i:02d},"Clip {i}, ""größer"""\n' for i in range(30)))
    (folder / "videos").mkdir()
    (folder / "videos" / "i00.mp4").write_bytes(b"film")
    write_thumbnail(folder / "thumbnails", "i00", thumbnail_webp(np.zeros((64, 64, 3), np.uint8)))
    config = RecommendConfig.model_validate({"model": {"d_model": 16, "layers": 1, "d_state": 8}, "train": {"epochs": 1, "batch": 16}})
    data = read_interactions(folder / "ring_pairs.csv")
    location = {"path": str(folder / "ring_pairs.csv"), "user_column": None, "item_column": None, "time_column": None}
    train_run(data, None, config, folder / "run", seed=0, device="cpu", resume=False, progress=SILENT, data_location=location)
    add(RunFolder.open(folder / "run"), Additions.now(["späť/1"], np.ones((1, 16), np.float32)))
    with EventLog(folder / "run" / "events.sqlite") as log:
        for n in range(12):
            log.append(f"ada{n % 3}", str(n), f"i{n:02d}", 1_700_000_000_000 + n)
        log.remove("ada0", "3")
        # As a server that was killed leaves it: the newest events stand in the write-ahead log alone.
        (folder / "killed").mkdir()
        for name in ("events.sqlite", "events.sqlite-wal"):
            shutil.copy(folder / "run" / name, folder / "killed" / name)
    return folder


@pytest.fixture
def copy(world, tmp_path):
    return shutil.copytree(world, tmp_path / "world")


def outcome(ask):
    """(what it answers, "") or (None, the words in which it is refused); any other error is the test's end."""
    try:
        return ask(), ""
    except VivimError as error:
        return None, str(error)


def in_words(said, about):
    """Whether a refusal is a sentence that names what it is about: a file, or what is done with it."""
    return len(said.split()) > 2 and any(name in said for name in about)


def served(copy):
    """Everything that serve opens; how many clips it finds for a question of every kind."""
    pipeline = load_pipeline(None, [f"data.titles={copy / 'titles.csv'}", f"extract.thumbnails={copy / 'thumbnails'}", "serve.ann=none"])
    desk, _ = open_desk(pipeline, SILENT, ServeOptions((copy / "run",)), Tokens())
    with closing(desk.service) as service:
        lists = (
            service.recommend_user("u03", 5, exclude_seen=True, search="exact", run=None).items,
            service.recommend_history(["i04", "späť/1"], 5, exclude_seen=True, search="exact", run=None).items,
            service.similar("i05", 5, None).items,
            service.items("größer", 0, 5)[1],
            service.history("ada0", 3),
        )
    return [len(found) for found in lists]


WHOLE = [5, 5, 5, 5, 3]
"""What ``served`` finds in the world as it is."""


def logged(folder):
    """Whether an event that is added is new, and what of each user is otherwise once it is taken back."""
    with EventLog(folder / "events.sqlite") as log:
        users = ("ada0", "ada1", "ada2")
        before = [log.since(user, 0) for user in users]
        assert all(time_text(event.time_ms) for user in users for event in log.newest(user, 100)), "each time is a date"
        log.users("ada", 10)
        added = log.append("ada1", "new", "i05")
        log.remove("ada1", "new")
        after = [log.since(user, 0) for user in users]
    changed = [
        user
        for user, (head, events), (head_after, events_after) in zip(users, before, after, strict=True)
        if (head.events, head.digest, events) != (head_after.events, head_after.digest, events_after)
    ]
    return added.new, changed


def ranked(copy):
    """How many places two lists of a run have."""
    snapshot = Snapshot.load(RunFolder.open(copy / "run"))
    state = snapshot.recommender.continued(snapshot.nothing_watched(), [0, 1, len(snapshot.recommender.items) - 1])
    found = snapshot.rank(state, 5, exclude_seen=True, search="exact"), snapshot.popular(5, ())
    return [len(ranking.places) for ranking in found]


def test_what_is_whole_answers(copy):
    assert served(copy) == WHOLE
    assert logged(copy / "run") == logged(copy / "killed") == (True, [])
    assert ranked(copy) == [5, 5]
    assert read_titles(copy / "titles.csv").by_id["i07"] == 'Clip 7, "größer"'


def damage(path, edits):
    whole = path.read_bytes()
    path.write_bytes(edited(whole, edits))
    return whole


@settings(FUZZ, max_examples=25)
@given(edits=EDITS)
@pytest.mark.parametrize(("place", "name"), [("run", "events.sqlite"), ("killed", "events.sqlite"), ("killed", "events.sqlite-wal")])
def test_the_log_of_events(world, tmp_path_factory, place, name, edits):
    folder = tmp_path_factory.mktemp("log")
    for path in (world / place).glob("events.sqlite*"):
        shutil.copy(path, folder)
    damage(folder / name, edits)
    found, said = outcome(lambda: logged(folder))
    assert found == (True, []) or in_words(said, ["event log", "events cannot be read", "event was not kept"]), said
    shutil.rmtree(folder)


@pytest.mark.parametrize("time_ms", [-1, 2**61])
def test_a_log_with_a_time_that_is_no_date_is_refused(copy, time_ms):
    assert logged(copy / "run") == (True, [])
    with closing(sqlite3.connect(copy / "run" / "events.sqlite")) as connection:
        connection.execute("UPDATE events SET time_ms = ? WHERE item = 'i05'", (time_ms,))
        connection.commit()
    with pytest.raises(InputError, match="is damaged \\(the time of an event"):
        EventLog(copy / "run" / "events.sqlite")


@settings(FUZZ, max_examples=25)
@given(edits=EDITS)
def test_the_description_of_a_run(copy, edits):
    whole = damage(copy / "run" / "run.json", edits)
    found, said = outcome(lambda: served(copy))
    assert found == WHOLE or in_words(said, ["run"]), said
    (copy / "run" / "run.json").write_bytes(whole)


@settings(FUZZ, max_examples=40)
@given(edits=EDITS)
@pytest.mark.parametrize("name", ["additions.parquet", "catalogue.parquet"])
def test_the_tables_of_items(copy, name, edits):
    """Of a run of an earlier version, which has no hash of its catalogue."""
    path = copy / "run" / "run.json"
    path.write_text(json.dumps({key: value for key, value in json.loads(path.read_text()).items() if key != "files_sha256"}))
    whole = damage(copy / "run" / name, edits)
    found, said = outcome(lambda: ranked(copy))
    assert found == [5, 5] or in_words(said, [name, "run"]), said
    (copy / "run" / name).write_bytes(whole)


@settings(FUZZ, max_examples=60)
@given(edits=EDITS)
def test_titles(copy, edits):
    whole = damage(copy / "titles.csv", edits)
    found, said = outcome(lambda: read_titles(copy / "titles.csv").by_id)
    if said:
        assert in_words(said, ["titles.csv"]), said
    else:
        lies = (copy / "titles.csv").read_bytes()
        same = len(list(takewhile(lambda pair: pair[0] == pair[1], zip(whole, lies, strict=False))))
        lines = whole[:same].count(b"\n") - 1  # whole lines before the first change, without the header
        assert [found.get(f"i{n:02d}") for n in range(lines)] == [f'Clip {n}, "größer"' for n in range(lines)]
    (copy / "titles.csv").write_bytes(whole)


@settings(FUZZ, max_examples=20)
@given(edits=EDITS, first=st.sampled_from([0, 5, 90]))
def test_thumbnails(copy, edits, first):
    """Nobody here looks into them: what lies there is sent, or the part of it that is asked for."""
    path = thumbnail_path(copy / "thumbnails", "i00")
    whole = damage(path, edits)
    lies = path.read_bytes()
    try:
        status, sent = asyncio.run(fetched(path, f"bytes={first}-"))
    except Refusal as refusal:
        status, sent = refusal.status, b""
    assert (status, sent) == ((206, lies[first:]) if first < len(lies) else (416, b""))
    path.write_bytes(whole)


async def fetched(path, wanted):
    """(status, body) of a request for a part of a file."""
    scope = {"type": "http", "method": "GET", "headers": [(b"range", wanted.encode())], "extensions": {}}
    sent = []

    async def send(message):
        sent.append(message)

    async def receive():
        await asyncio.Event().wait()  # nobody goes away

    await media.answer(path, scope)(scope, receive, send)
    return sent[0]["status"], b"".join(message.get("body", b"") for message in sent)
