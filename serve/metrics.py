"""What the service tells Prometheus."""

from collections.abc import Callable, Iterator, Mapping

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from .request_log import Served
from .service import Service

_SECONDS = (0.0005, 0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0)

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

Numbers = Mapping[str, tuple[str, bool, float]]
"""name -> (what it is, whether it only ever rises, value)"""


class Meters:
    """Counts and times of one server. A registry of its own, so that two servers in one process do not mix.

    Args:
        numbers: what the service itself counts, asked for at each scrape.
    """

    def __init__(self, numbers: Callable[[], Numbers]) -> None:
        self.registry = CollectorRegistry()
        self.requests = Histogram(
            "vivim_request_seconds",
            "From the head of a request to the end of its answer.",
            ["method", "route", "status"],
            registry=self.registry,
            buckets=_SECONDS,
        )
        self.phases = Histogram(
            "vivim_phase_seconds",
            "Parts of an answer: append (event kept), state, search, serialise.",
            ["phase"],
            registry=self.registry,
            buckets=_SECONDS,
        )
        self.events = Counter("vivim_events", "Events by what became of them.", ["kind"], registry=self.registry)
        self.registry.register(_Collector(numbers))

    def hear(self, served: Served) -> None:
        """A request is done."""
        self.requests.labels(served.method, served.route, str(served.status)).observe(served.seconds)

    def phase(self, name: str, seconds: float) -> None:
        """A part of an answer is done."""
        self.phases.labels(name).observe(seconds)

    def event(self, kind: str) -> None:
        """``new``, ``late``, ``replayed``, ``removed``."""
        self.events.labels(kind).inc()

    def totals(self) -> tuple[int, int]:
        """Requests answered, and events recorded."""
        requests = sum(s.value for m in self.requests.collect() for s in m.samples if s.name.endswith("_count"))
        recorded = ("new", "late")
        events = sum(
            s.value for m in self.events.collect() for s in m.samples if s.name.endswith("_total") and s.labels["kind"] in recorded
        )
        return int(requests), int(events)

    def page(self) -> bytes:
        """Everything in Prometheus's text format."""
        return generate_latest(self.registry)


class _Collector:
    """Numbers that somebody else counts, for the registry."""

    def __init__(self, numbers: Callable[[], Numbers]) -> None:
        self.numbers = numbers

    def collect(self) -> Iterator[Metric]:
        for name, (what, rises, value) in self.numbers().items():
            family = CounterMetricFamily if rises else GaugeMetricFamily
            yield family(f"vivim_{name}", what, value=value)


def numbers_of(service: Service) -> Callable[[], Numbers]:
    """What the service counts about states, its log and its runs."""

    def numbers() -> Numbers:
        states = service.states
        counts = states.counts
        return {
            "state_hits": ("Answers from a kept state that was up to date.", True, counts.kept),
            "state_stepped": ("Answers from a kept state after steps over newer events.", True, counts.stepped),
            "state_steps": ("Steps over newer events.", True, counts.steps),
            "state_rebuilds": ("Answers from a state made from the whole history.", True, counts.rebuilt),
            "state_evictions": ("Kept states that made room for others.", True, counts.evicted),
            "state_checks": ("Kept states compared with ones made from the whole history.", True, counts.checks),
            "state_drift_max": ("Largest difference of a score that a check has found.", False, counts.drift_max),
            "states": ("States that are kept.", False, len(states)),
            "states_bytes": ("Bytes of these: their tensors, and the rows of what was watched.", False, states.size_bytes),
            "log_commits": ("Transactions of the log of events.", True, service.log.commits),
            "items": ("Items of the run that answers unless another is named.", False, _items(service)),
        }

    return numbers


def _items(service: Service) -> int:
    first = next(iter(service.runs.values()))
    return len(first.snapshot.recommender.items)
