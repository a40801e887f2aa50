"""From facts to the file: templates with everything escaped, drawings and pictures inside, nothing from elsewhere."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ...errors import MissingExtra
from ...recommend.report import short_name
from . import charts
from .curves import Curves
from .evidence import Evidence, Missing
from .extraction import Extraction
from .facts import Facts
from .map_chart import MapChart, draw_map
from .pictures import Album, Sheet
from .plane import Plane
from .vectors import Vectors

FAILURES_SHOWN = 50
_PICTURED = 0.2  # share of the items shown that have a picture, from which on they are shown as pictures and not as lines


@dataclass(frozen=True)
class Card:
    """An item as the page shows it.

    Attributes:
        id: external.
        title: for people; its id where it has none.
        picture: data URI; None: there is none.
    """

    id: str
    title: str
    picture: str | None


def page(evidence: Evidence, facts: Facts, album: Album) -> str:
    """The whole file. It is made twice: what it weighs without pictures says how much room they have.

    Raises:
        MissingExtra: a library of the extra ``report`` is not installed.
    """
    try:
        from jinja2 import Environment, FileSystemLoader, StrictUndefined
    except ImportError as error:
        raise MissingExtra("jinja2", extra="report", why="a report") from error
    folder = Path(__file__).parent
    templates = Environment(
        loader=FileSystemLoader(folder), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    templates.policies["json.dumps_kwargs"] = {"sort_keys": False}  # in a drawing's JSON what is defined first is referred to later
    templates.filters |= {"number": _number, "short": short_name, "moment": _moment, "score": _score}
    templates.tests["missing"] = lambda value: isinstance(value, Missing)
    report, drawings = templates.get_template("report.html"), _drawings(facts)

    def written(chart: MapChart | None, sheet: Sheet, pictured: bool) -> str:
        def card(item: int | str) -> Card:
            """Of a row of the catalogue, or of an id."""
            id_ = item if isinstance(item, str) else evidence.items.ids[item]
            return Card(id_, evidence.titles.get(id_) or id_, album.uri(id_))

        templates.globals["pictured"] = pictured
        return report.render(
            facts=facts,
            card=card,
            title=lambda id_: evidence.titles.get(id_) or id_,
            drawings=drawings,
            map=chart,
            sheet=sheet,
            clips_are_here=bool(album.frames),
            pictures=album.words,
            failures_shown=FAILURES_SHOWN,
            style=(folder / "report.css").read_text(encoding="utf-8"),
            isfinite=np.isfinite,
        )

    blank: Sheet = [(id_, frames.times_seconds_T, [""] * len(frames.times_seconds_T)) for id_, frames in album.frames.items()]
    bare = written(_map(evidence, facts), blank, pictured=False)
    album.leave_room(len(bare.encode("utf-8")))
    shown = list(facts.ids_shown(evidence.items.ids))
    album.fill(shown)
    pictured = sum(album.uri(id_) is not None for id_ in set(shown)) >= _PICTURED * len(set(shown)) > 0
    sheet, chart = album.sheet(), _map(evidence, facts, album)
    return written(chart, sheet, pictured) if len(album) or album.frames or album.words else bare


def _map(evidence: Evidence, facts: Facts, album: Album | None = None) -> MapChart | None:
    """The map, with pictures as far as they fit beside those of the other sections."""
    plane = facts.plane
    if not isinstance(plane, Plane):
        return None
    ids = [evidence.items.ids[row] for row in plane.rows_P]
    pictures = [""] * len(ids)
    if album is not None:
        # Which of a large catalogue have a picture must not hang on the order of the ids.
        fitting = album.fill(ids[place] for place in np.random.default_rng(0).permutation(len(ids)))
        pictures = [(album.uri(id_) or "") if id_ in fitting else "" for id_ in ids]
    titles = [evidence.titles.get(id_, "") for id_ in ids]
    return draw_map(plane, ids, titles, pictures, evidence.counts_N[plane.rows_P])


def _drawings(facts: Facts) -> dict[str, str]:
    """Name -> ``<svg>``."""
    k = facts.accuracy.k
    drawn = {
        "hit_rate": charts.overall(facts.accuracy, f"hit_rate@{k}", f"HR@{k}"),
        "ndcg": charts.overall(facts.accuracy, f"ndcg@{k}", f"NDCG@{k}"),
        "by_views": charts.buckets(facts.accuracy, "by_views", "by how often training saw the target"),
        "by_history": charts.buckets(facts.accuracy, "by_history", "by how many items were watched before"),
        "funnel": charts.funnel(facts.histories),
        "lengths": charts.lengths(facts.histories),
        "popularity": charts.popularity(facts.histories),
    }
    if isinstance(facts.curves, Curves):
        drawn |= _of_training(facts.curves)
    if isinstance(facts.extraction, Extraction):
        drawn |= _of_extraction(facts.extraction)
    if isinstance(facts.vectors, Vectors):
        found = facts.vectors
        drawn["norms"] = charts.norms(found.norms_N)
        drawn["spectrum"] = charts.spectrum(found.spectrum_K, found.health.effective_rank)
        drawn["deviations"] = charts.deviations(found.deviations_D)
    return drawn


def _of_training(found: Curves) -> dict[str, str]:
    drawn = {"loss": charts.loss(found), "validation": charts.validation(found)}
    if found.with_lr:
        drawn["learning_rate"] = charts.learning_rate(found)
    if found.with_norms:
        drawn["gradient_norm"] = charts.gradient_norm(found)
    return drawn


def _of_extraction(found: Extraction) -> dict[str, str]:
    drawn = {}
    timed = [run for run in found.times if run.shares]
    if timed:
        drawn["time_split"] = charts.time_splits(timed[-8:])
    if np.isfinite(found.spans_N).any():
        drawn["spans"] = charts.spans(found.spans_N)
    return drawn


def _moment(date: str) -> str:
    """``2026-11-26T09:01:49+00:00`` without what nobody reads."""
    return f"{date[:16].replace('T', ' ')} UTC" if "+00:00" in date else date


def _score(value: float) -> str:
    """Three figures: models score in units of their own."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:#.3g}"


def _number(value: float, digits: int = 0) -> str:
    return f"{value:,.{digits}f}"
