"""A global cut in time: trained on what came before a moment, asked about what came after it.

Shapes: U users kept, total interactions of these users.
"""

import numpy as np
import numpy.typing as npt

from ..errors import InputError
from .config import ProtocolConfig
from .division import Division, long_enough
from .protocol import ALL_SEEN_RULE, Split, divide
from .sequences import Interactions


class TemporalProtocol:
    """Two cuts in time, the same for everyone.

    The newest ``test_share`` of the interactions are the test span, the ``validation_share`` before them the validation span, and
    what is older is for training; an interaction at the very time of a cut belongs to the span that begins there. Of every user the
    first interaction in a span is asked for, after everything the user watched before it: on test that includes the validation
    span, on which no model was trained. Who watched nothing before the target, or nothing in the span, is not asked. Everything
    watched before the target is masked when ranking.

    The catalogue is what the users kept have watched at any time, or every item of the file: an item that appears only after the
    cut is cold, and is ranked like any other.

    Source: the global temporal split of "Time to Split" (RecSys 2025), with the first interaction as the target.
    """

    def __init__(self, config: ProtocolConfig) -> None:
        self.config = config
        if config.validation_share + config.test_share >= 1:
            raise InputError(
                f"protocol.validation_share {config.validation_share:g} and protocol.test_share {config.test_share:g} leave nothing to "
                "train on; together they must be below 1."
            )

    def split(self, interactions: Interactions) -> Split:
        """Divide.

        Raises:
            InputError: the file has no times, no user has ``min_interactions``, or a span has nobody to train on or to ask.
        """
        if interactions.times_ms is None:
            raise InputError(
                f"{interactions.source} has no times, only an order for each user; protocol.name temporal cuts at a moment. Bring a file "
                "with a time column, or name it with data.time_column; or use protocol.name microlens or leave-one-out."
            )
        users = long_enough(interactions, self.config.min_interactions)
        sizes = interactions.histories.lengths[users]
        times_ms = interactions.times_ms[np.repeat(np.isin(np.arange(len(interactions.users)), users), interactions.histories.lengths)]
        cuts = self._cuts(times_ms)
        before_validation, before_test = (_count_before(times_ms, sizes, cut) for cut in cuts)
        parts = Division(
            users=users,
            starts=interactions.histories.offsets[users],
            sizes=sizes,
            train=before_validation,
            validation=_asked(before_validation, before_test),
            test=_asked(before_test, sizes),
        )
        self._require_questions(interactions, parts, cuts)
        times = [str(np.datetime64(cut, "ms")) for cut in cuts]
        asked = int((parts.validation >= 0).sum())
        own = {"users_validation": asked, "validation_from": times[0], "test_from": times[1]}
        return divide(interactions, self.config, parts, ALL_SEEN_RULE, **own)

    def _cuts(self, times_ms: npt.NDArray[np.int64]) -> tuple[int, int]:
        """Unix milliseconds at which validation and test begin."""
        total = len(times_ms)
        shares = (self.config.test_share + self.config.validation_share, self.config.test_share)
        first, second = (min(round(total * (1 - share)), total - 1) for share in shares)
        ordered = np.partition(times_ms, (first, second))
        return int(ordered[first]), int(ordered[second])

    def _require_questions(self, interactions: Interactions, parts: Division, cuts: tuple[int, int]) -> None:
        missing = [
            what
            for what, there in (
                ("no user has 2 interactions to train on", (parts.train >= 2).any()),
                ("nobody can be asked on validation", (parts.validation >= 0).any()),
                ("nobody can be asked on test", (parts.test >= 0).any()),
            )
            if not there
        ]
        if missing:
            first, second = (str(np.datetime64(cut, "ms").astype("datetime64[s]")) for cut in cuts)
            raise InputError(
                f"{interactions.source}: with cuts at {first} and {second} {' and '.join(missing)}. Users must have watched before and "
                "after a cut; change protocol.validation_share and protocol.test_share, or bring longer histories."
            )


def _count_before(times_ms: npt.NDArray[np.int64], sizes: npt.NDArray[np.int64], cut: int) -> npt.NDArray[np.int64]:
    """(U,) how many interactions of each user are before ``cut``."""
    return np.add.reduceat(times_ms < cut, np.cumsum(sizes) - sizes, dtype=np.int64)  # nobody has none


def _asked(place: npt.NDArray[np.int64], end: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """(U,) ``place``, the first of a span that ends before ``end``, where there is one and a history before it; else -1."""
    return np.where((place >= 1) & (place < end), place, -1)
