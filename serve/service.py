"""What can be asked of the runs that are served; knows no HTTP.

A user's history is what the interactions of training hold, then the events of the log by their time, of one time by their arrival. The
state is the fold over all of it.
"""

import itertools
import re
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future

from ..recommend.recommender import UserState
from ..store import memory
from .answers import Answer, HistoryEntry, Ranked, Reason, Took
from .catalogue import ItemCatalogue, ItemInfo
from .config import ServeConfig
from .errors import BadId, BadK, BadTime, UnknownItem, UnknownRun
from .event_log import EventLog
from .event_store import Added, Removed
from .served_run import ServedRun
from .snapshot import Ranking, Search, Snapshot
from .states import UserStates
from .text_search import TextSearch

# Control characters, and halves of characters, which nothing can write.
_NOT_TEXT = re.compile("[\x00-\x1f\x7f\ud800-\udfff]")


class Service:
    """Events in, lists out. Used from any number of threads; the number of those that torch uses for one answer is set for the process.

    Args:
        runs: at least one; the first is asked where no other is named.
        log: of what people watch.
        titles: by item.
    """

    def __init__(
        self, runs: Sequence[ServedRun], log: EventLog, config: ServeConfig | None = None, titles: Mapping[str, str] | None = None
    ) -> None:
        assert runs, "nothing to serve"
        self.runs = {run.name: run for run in runs}
        assert len(self.runs) == len(runs), "two runs of one name"
        self._default = runs[0].name
        self.log = log
        self.config = config or ServeConfig()
        self.states = UserStates(self.config.max_users)
        self.catalogue = ItemCatalogue(titles or {})
        self._users: tuple[Sequence[str], TextSearch] = ((), TextSearch(()))
        self._reloading = threading.Lock()
        self._answers = itertools.count(1)
        self._look_again()

    # Events

    def submit_event(self, user: str, item: str, event_id: str, time_ms: int | None = None) -> "Future[Added]":
        """Have an event recorded; the future has a result once it is on disk. The same event sent again changes nothing.

        Args:
            time_ms: Unix milliseconds; None: now, after everything that is recorded of this user.

        Raises:
            BadId, BadTime, UnknownItem; its future: EventConflict, LogUnavailable.
        """
        self._require_ids(user=user, item=item, event_id=event_id)
        ahead = self.config.max_future_seconds
        latest = int((time.time() + ahead) * 1000)
        if time_ms is not None and not 0 <= time_ms <= latest:
            allowed = f"0 (1970) to {latest} ms is, {ahead:g} seconds ahead of the clock here"
            raise BadTime(f"{time_ms} ms is not allowed as the time of an event; {allowed}. Leave the time out for an event of now.")
        if not any(item in run.snapshot.recommender.items for run in self.runs.values()):
            raise UnknownItem(f"unknown item {item!r}; GET /v1/items lists those that are known.")
        return self.log.submit(user, event_id, item, time_ms)

    def add_event(self, user: str, item: str, event_id: str, time_ms: int | None = None) -> Added:
        """``submit_event`` and wait."""
        return self.submit_event(user, item, event_id, time_ms).result()

    def submit_removal(self, user: str, event_id: str) -> "Future[Removed]":
        """Have an event taken back; the future has a result once that is on disk. Its id is not used again.

        Raises:
            BadId; its future: UnknownEvent, LogUnavailable.
        """
        self._require_ids(user=user, event_id=event_id)
        return self.log.submit_removal(user, event_id)

    def remove_event(self, user: str, event_id: str) -> Removed:
        """``submit_removal`` and wait."""
        return self.submit_removal(user, event_id).result()

    # People

    def history(self, user: str, limit: int | None = None) -> list[HistoryEntry]:
        """What ``user`` watched, oldest first; the ``limit`` newest of it. The interactions of training are the first run's."""
        base = self._run(None).snapshot.base
        events = self.log.since(user, 0)[1] if limit is None else self.log.newest(user, limit)
        later = [HistoryEntry(event.item, event.time_ms, event.event_id) for event in events]
        rows, times, ids = base.rows(user), base.times_ms(user), base.ids_of_items()
        wanted = len(rows) if limit is None else min(len(rows), limit - len(later))
        places = range(len(rows) - wanted, len(rows))
        return [HistoryEntry(ids[rows[at]], None if times is None else int(times[at]), None) for at in places] + later

    def watched(self, user: str) -> int:
        """How many items the history of ``user`` has; 0: nobody knows the user."""
        return len(self._run(None).snapshot.base.rows(user)) + self.log.head(user).events

    def users(self, query: str, limit: int) -> list[str]:
        """Users whose id begins with ``query``: those of training, then others with events."""
        ids, texts = self._users
        found = [ids[place] for place in texts.places(query).head(limit)]
        known = set(found)
        return (found + [user for user in self.log.users(query, limit) if user not in known])[:limit]

    # Lists

    def recommend_user(self, user: str, k: int, exclude_seen: bool = True, search: Search = "exact", run: str | None = None) -> Answer:
        """The ``k`` best items after everything that is recorded of ``user``.

        Raises:
            BadId, BadK, UnknownRun, SearchUnavailable, NotReady, LogUnavailable.
        """
        self._require_ids(user=user)
        name, snapshot = self._open(run, k)
        begun = time.perf_counter()
        found = self.states.current(snapshot, user, self.log)
        folded = found.folded
        if found.how != "rebuilt" and next(self._answers) % self.config.check_every == 0:
            folded = self.states.checked(snapshot, user, self.log)
        made = time.perf_counter()
        ranking = snapshot.rank(folded.state, k, exclude_seen=exclude_seen, search=search)
        return self._answer(name, snapshot, ranking, folded.state, folded.skipped, begun - found.ahead_seconds, made)

    def require_list(self, search: Search, run: str | None = None) -> None:
        """Refuse a list that no waiting would bring: before an event is recorded along with which it is asked for.

        Raises:
            UnknownRun, SearchUnavailable.
        """
        self._run(run).snapshot.require(search)

    def foresee(self, user: str, item: str, run: str | None = None) -> None:
        """Begin with the list after an event that is on its way to the disk; ``recommend_user`` then has less to do.

        Raises:
            UnknownRun.
        """
        self.states.foresee(self._run(run).snapshot, user, item)

    def recommend_history(
        self, history: Sequence[str], k: int, exclude_seen: bool = True, search: Search = "exact", run: str | None = None
    ) -> Answer:
        """The ``k`` best items after a history of item ids, oldest first, of somebody nobody knows. Items that the run does not know are
        skipped, and counted.

        Raises:
            BadId, BadK, UnknownRun, SearchUnavailable, NotReady.
        """
        for item in history:
            self._require_ids(item=item)
        name, snapshot = self._open(run, k)
        begun = time.perf_counter()
        known = [row for row in snapshot.rows_of(history) if row >= 0]
        state = snapshot.recommender.continued(snapshot.nothing_watched(), known)
        made = time.perf_counter()
        ranking = snapshot.rank(state, k, exclude_seen=exclude_seen, search=search)
        return self._answer(name, snapshot, ranking, state, len(history) - len(known), begun, made)

    def similar(self, item: str, k: int, run: str | None = None) -> Answer:
        """The ``k`` items nearest to one by the model's item vectors; of a model without vectors, those it expects after it.

        Raises:
            BadId, BadK, UnknownRun; UnknownItem: this run does not know it.
        """
        self._require_ids(item=item)
        name, snapshot = self._open(run, k)
        [row] = snapshot.rows_of([item])
        if row < 0:
            raise UnknownItem(f"run {name!r} has no item {item!r}; GET /v1/items lists those that are known.")
        begun = time.perf_counter()
        return self._answer(name, snapshot, snapshot.similar(row, k), None, 0, begun, begun)

    def popular(self, k: int, exclude: str | None = None, run: str | None = None) -> Answer:
        """The ``k`` items that were watched most in training, without those that the user ``exclude`` watched.

        Raises:
            BadId, BadK, UnknownRun, LogUnavailable.
        """
        name, snapshot = self._open(run, k)
        begun = time.perf_counter()
        seen: tuple[int, ...] = ()
        if exclude is not None:
            self._require_ids(user=exclude)
            seen = self.states.current(snapshot, exclude, self.log).folded.state.watched
        made = time.perf_counter()
        return self._answer(name, snapshot, snapshot.popular(k, seen), None, 0, begun, made)

    def items(self, query: str, offset: int, limit: int) -> tuple[int, list[ItemInfo]]:
        """Items whose id begins with ``query`` or whose title holds it: how many, and some of them."""
        return self.catalogue.search(query, offset, limit)

    # Runs

    def reload(self) -> list[str]:
        """Look again at the folders of all runs; the names of those that answer from something new now.

        Answers that are being made end with what they began with. If one run cannot be read, all stay as they are.

        Raises:
            InputError: a run cannot be read.
        """
        with self._reloading:
            prepared = {name: run.prepared() for name, run in self.runs.items()}
            for name, snapshot in prepared.items():
                if snapshot.ann is not None and snapshot.ann is not self.runs[name].snapshot.ann:
                    snapshot.ann.wait()  # or the approximate lists of a run that has them would be refused for a while
            before = [run.snapshot.recommender.items.ids for run in self.runs.values()]
            # Whatever an answer holds has a number: what comes, before it comes, and what goes, until it is gone.
            self.catalogue.show([*before, *(snapshot.recommender.items.ids for snapshot in prepared.values())])
            changed = [name for name, run in self.runs.items() if run.swap(prepared[name])]
            self._look_again()
            if changed:
                memory.give_back()
            return changed

    def close(self) -> None:
        """Record what waits, and let go of the log."""
        self.log.close()

    def _look_again(self) -> None:
        self.catalogue.show([run.snapshot.recommender.items.ids for run in self.runs.values()])
        interactions = self._run(None).snapshot.base.interactions
        ids = () if interactions is None else interactions.users.ids
        if ids is not self._users[0]:
            self._users = ids, TextSearch(ids)

    def _run(self, name: str | None) -> ServedRun:
        run = self.runs.get(self._default if name is None else name)
        if run is None:
            raise UnknownRun(f"there is no run {name!r} here; served are {', '.join(map(repr, self.runs))}.")
        return run

    def _open(self, name: str | None, k: int) -> tuple[str, Snapshot]:
        run = self._run(name)
        if k < 1:
            raise BadK(f"k = {k}; a list has at least 1 place.")
        return run.name, run.snapshot

    def _require_ids(self, **ids: str) -> None:
        for what, id_ in ids.items():
            if not 0 < len(id_) <= self.config.max_id:
                raise BadId(f"{what} has {len(id_)} characters; an id has 1 to {self.config.max_id}.")
            if _NOT_TEXT.search(id_):
                raise BadId(f"{what} {id_!r} holds control characters, or halves of characters; an id is text without them.")

    def _answer(
        self, name: str, snapshot: Snapshot, ranking: Ranking, state: UserState | None, skipped: int, begun: float, made: float
    ) -> Answer:
        ids = snapshot.recommender.items.ids
        reasons = snapshot.reasons(ranking.places, state, self.config.because) if state is not None else [[] for _ in ranking.places]
        items = []
        for place, because in zip(ranking.places, reasons, strict=True):
            info = self.catalogue.info(ids[place.row])
            named = tuple(Reason(ids[near.row], near.score) for near in because)
            items.append(Ranked(info.item, info.row, place.score, info.title, named))
        took = Took((made - begun) * 1000, (time.perf_counter() - made) * 1000)
        return Answer(name, snapshot.model_hash, snapshot.index_hash, ranking.search, ranking.fallback, took, tuple(items), skipped)
