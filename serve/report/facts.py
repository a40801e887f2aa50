"""Everything a report shows, before any of it is drawn."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ...progress import Progress
from .accuracy import Accuracy, look_at_accuracy
from .config import ReportConfig
from .curves import Curves, look_at_training
from .evidence import Evidence, Missing
from .extraction import Extraction, look_at_extraction
from .histories import Histories, look_at_histories
from .neighbours import Gallery, look_at_neighbours
from .origin import Origin, look_at_origin
from .plane import Plane, lay_flat
from .space import space_of
from .vectors import Vectors, look_at_vectors
from .viewers import Viewer, ask_viewers


@dataclass(frozen=True)
class Facts:
    """What a report says, section by section.

    Attributes:
        name: of the model.
        space: whose vectors the map and the gallery are made from, in words; empty: there are none.
    """

    name: str
    accuracy: Accuracy
    viewers: tuple[Viewer, ...]
    curves: Curves | Missing
    histories: Histories
    extraction: Extraction | Missing
    vectors: Vectors | Missing
    space: str
    plane: Plane | Missing
    gallery: Gallery | Missing
    origin: Origin

    def ids_shown(self, ids: Sequence[str]) -> Iterator[str]:
        """Those of the items that are shown with a picture, beside those of the map; some more than once.

        Args:
            ids: of the catalogue.
        """
        if isinstance(self.gallery, Gallery):
            for query, neighbours in self.gallery.queries:
                yield from (ids[query], *(ids[neighbour.row] for neighbour in neighbours))
            for a, b, _ in self.gallery.twins:
                yield from (a, b)
        for viewer in self.viewers:
            yield from (ids[row] for row in (viewer.target, *viewer.history, *(place.row for place in viewer.recommended)))

    def sheet(self) -> tuple[str, ...]:
        """Ids of the clips whose frames are shown."""
        return self.extraction.sheet if isinstance(self.extraction, Extraction) else ()


def measure(evidence: Evidence, config: ReportConfig, seed: int, progress: Progress) -> Facts:
    """Everything that ``config`` asks for.

    Raises:
        MissingExtra: UMAP is asked for and not installed.
    """
    vectors = look_at_vectors(evidence, seed)
    space = space_of(evidence)
    plane: Plane | Missing
    gallery: Gallery | Missing
    if isinstance(space, Missing):
        plane, gallery = space, space
    else:
        plane = lay_flat(space, config.map, config.points, seed)
        gallery = look_at_neighbours(space, vectors, config.queries, config.neighbours, seed)
    return Facts(
        name=evidence.name,
        accuracy=look_at_accuracy(evidence, progress),
        viewers=ask_viewers(evidence, config.viewers, config.k, seed),
        curves=look_at_training(evidence),
        histories=look_at_histories(evidence),
        extraction=look_at_extraction(evidence, config.sheet, seed),
        vectors=vectors,
        space="" if isinstance(space, Missing) else space.words,
        plane=plane,
        gallery=gallery,
        origin=look_at_origin(evidence),
    )
