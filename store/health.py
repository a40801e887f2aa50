"""Whether vectors are fit to train on: collapsed, dead, doubled or rounded away; in numbers, in words, with warnings.

Legend: N rows, D embedding width, K singular values.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import InputError
from .rows import Rows
from .twins import NearTwins, SameFiles, near_twins, same_files

COLLAPSED = 0.01
"""Relative deviation. Below it float16's rounding, up to .0005 of a value, is a twentieth of what tells clips apart."""
FLAT = 0.02
"""Effective rank as a share of min(N - 1, D). Random weights keep a fifth on 106 real clips; this is a tenth of that."""
FLAT_FROM = 20
"""min(N - 1, D) from which on the rank says something about the encoder; of fewer clips it says that they are few."""
DEAD = 1e-3
"""Deviation of a dimension as a share of all dimensions' (in quadrature): it makes up a millionth of a mean squared distance."""
DEAD_SHARE = 0.1
"""Share of dead dimensions that is worth a warning: a tenth of the file and of every model's input carries nothing."""
TWINS_SHARE = 0.05
"""Share of clips with a twin: every twentieth right answer then has a wrong one that no vector can tell from it."""
ROUNDED = 0.05
"""Rounding error as a share of what tells clips apart; less is below what other encoder arithmetic (bf16) does to them."""

_QUANTILES = {"min": 0.0, "5 %": 0.05, "median": 0.5, "95 %": 0.95, "max": 1.0}
_BLOCK_ROWS = 4096


@dataclass(frozen=True)
class Health:
    """What ``measure_health`` finds.

    Attributes:
        rows: N.
        dim: D.
        dtype: of the stored vectors.
        norms: quantile -> length of a vector.
        mean_cosine: cosine of a vector to the mean vector, on average: 1 if all clips have one vector.
        deviation: relative deviation, see ``measure_health``: 0 if all clips have one vector.
        effective_rank: see ``effective_rank``; at most min(N - 1, D).
        dimension_deviations: quantile over dimensions -> standard deviation over the clips.
        dead_dimensions: how many dimensions hardly differ between clips.
        near: clips almost like another.
        same: files under several ids.
        short: rows whose clip had fewer distinct frames than were wanted.
        rounding: error that storing as float16 makes, in the quadratic mean, as a share of the vectors' length, estimated from the
            stored values; None for float32.
    """

    rows: int
    dim: int
    dtype: str
    norms: dict[str, float]
    mean_cosine: float
    deviation: float
    effective_rank: float
    dimension_deviations: dict[str, float]
    dead_dimensions: int
    near: NearTwins
    same: SameFiles
    short: int
    rounding: float | None

    def lines(self, items: str = "clips", sources: str = "files") -> list[tuple[str, str]]:
        """(what, value) for people.

        Args:
            items: what has a vector.
            sources: what the vectors were made from, as the rows' hashes have it.
        """
        near, same = self.near, self.same
        looked_at = f"{near.looked_at:,} {items}" + (f" drawn at random from {near.rows:,}" if near.looked_at < near.rows else "")
        lines = [
            ("vectors", f"{self.rows:,} of {self.dim} dimensions, {self.dtype}"),
            ("norm, min / median / max", " / ".join(f"{self.norms[name]:.4g}" for name in ("min", "median", "max"))),
            ("cosine to the mean vector", f"{self.mean_cosine:.3f} on average (1: all alike)"),
            ("deviation", f"{self.deviation:.3g} of the length (0: all alike)"),
            ("effective rank", f"{self.effective_rank:.1f} of at most {self._most_rank}"),
            ("dead dimensions", f"{self.dead_dimensions} of {self.dim}"),
            (f"{items} with a near twin", f"{near.found:,} of {looked_at} ({near.share:.1%}, cosine {near.cosine} or more)"),
            (f"{sources} under several ids", f"{same.files:,} ({same.clips:,} {items})" if same.files else "none"),
        ]
        if items == "clips":
            lines.append(("short clips", f"{self.short:,} (frames repeat)" if self.short else "none"))
        if self.rounding is not None:
            lines.append(("rounding to float16", f"{self.rounding:.1e} of the length"))
        return lines

    def warnings(self) -> list[str]:
        """What should be looked into before training, a sentence or two each; empty if all is well."""
        return [*self.warnings_of_the_space(), *self._warnings_of_rows()]

    def warnings_of_the_space(self) -> list[str]:
        """Those that hold wherever the vectors come from: that they hardly differ, or in few directions."""
        return list(self._warnings_of_the_space())

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self) | {"warnings": self.warnings()}

    @property
    def _most_rank(self) -> int:
        return min(self.rows - 1, self.dim)

    @property
    def _collapsed(self) -> bool:
        return self.rows > 1 and self.deviation < COLLAPSED

    @property
    def _flat(self) -> bool:
        return self._most_rank >= FLAT_FROM and self.effective_rank < max(2.0, FLAT * self._most_rank)

    def _warnings_of_the_space(self) -> Iterator[str]:
        if self._collapsed:
            yield (
                f"The vectors have collapsed: they differ from their mean by {self.deviation:.2%} of their length. Use other weights; "
                "a recommender learns nothing from these."
            )
        elif self._flat:
            yield (
                f"The vectors lie in few directions: effective rank {self.effective_rank:.1f} of at most {self._most_rank}. "
                "Use other weights."
            )
        elif self.rows > 1 and self.dead_dimensions > DEAD_SHARE * self.dim:
            yield f"{self.dead_dimensions} of {self.dim} dimensions are the same for all clips: they carry nothing."

    def _warnings_of_rows(self) -> Iterator[str]:
        near, same = self.near, self.same
        # In a few directions cosines are high whatever the clips are.
        if near.share > TWINS_SHARE and self._most_rank >= FLAT_FROM and not self._collapsed and not self._flat:
            of = "clips looked at" if near.looked_at < near.rows else "clips"
            yield (
                f"{near.share:.1%} of the {of} have a near twin, as {_pair(near.examples[0])}: recommending one for the other counts "
                "as wrong. Give copies one id."
            )
        if same.clips - same.files > TWINS_SHARE * self.rows:
            yield f"{same.clips - same.files:,} clips are files that another id has too, as {_pair(same.examples[0])}. Give copies one id."
        if same.conflicts:
            a, b, apart = same.conflicts[0]
            yield (
                f"{len(same.conflicts)} vectors differ although their files are the same, as those of {a!r} and {b!r} by {apart:.1%} of "
                "the length: rows stand in the wrong place. Run vivim verify."
            )
        if self.rows > 1 and self.rounding is not None and not self._collapsed and self.rounding > ROUNDED * self.deviation:
            yield (
                f"Rounding to float16 takes {self.rounding / self.deviation:.0%} of what tells clips apart. Extract again with "
                "--set extract.dtype=float32."
            )


def measure_health(rows: Rows, *, twin_cosine: float = 0.999, seed: int = 1) -> Health:
    """Measure N vectors, in three passes over blocks of rows; memory beyond the rows grows with D squared, not with N.

    The relative deviation is the standard deviation of a dimension over the clips, averaged in quadrature, over the root mean square
    of the values. Clips count as twins from ``twin_cosine`` on: of 18 real clips .999 finds 14 (random nano) and 8 (random b0)
    copies at half the size and CRF 32, and beyond copies only two clips of drawn keypoints.

    Args:
        rows: of an embedding file, ``EmbeddingStore.rows``; vectors finite.
        twin_cosine: of vectors from which the mean was taken off.
        seed: of the sample of rows that are searched for twins, where N is above ``twins.EXACT_ROWS``.

    Raises:
        InputError: no rows.
    """
    if not len(rows):
        raise InputError("there are no vectors to measure; see why the clips failed and extract again.")
    norms_N, mean_D, rounding = _first_pass(rows)
    covariance_DD, mean_cosine = _second_pass(rows, norms_N, mean_D)
    variances_D = np.maximum(np.diag(covariance_DD), 0.0)
    deviation = float(np.sqrt(variances_D.sum() / np.mean(norms_N**2)))
    # Singular values of the centred vectors, up to a factor. Rounding makes those that are zero about 1e-8 of the largest.
    singular_K = np.sqrt(np.maximum(np.linalg.eigvalsh(covariance_DD), 0.0))
    return Health(
        rows=len(rows),
        dim=len(mean_D),
        dtype=rows.vectors_ND.dtype.name,
        norms=_quantiles(norms_N),
        mean_cosine=mean_cosine,
        deviation=deviation,
        effective_rank=effective_rank(singular_K) if deviation > 1e-9 else 0.0,
        dimension_deviations=_quantiles(np.sqrt(variances_D)),
        dead_dimensions=int((variances_D <= DEAD**2 * variances_D.mean()).sum()),
        near=near_twins(rows, mean_D, cosine=twin_cosine, seed=seed),
        same=same_files(rows),
        short=int(rows.short_N.sum()),
        rounding=rounding,
    )


def effective_rank(singular_values_K: npt.NDArray[np.float64]) -> float:
    """exp of the entropy of the normalised singular values: k if k of them are equal and the others 0; 0 if all are 0.

    Source: Roy and Vetterli, "The effective rank: a measure of effective dimensionality" (EUSIPCO 2007), definition 1.
    """
    total = singular_values_K.sum()
    if not total > 0:
        return 0.0
    share_K = singular_values_K[singular_values_K > 0] / total
    return float(np.exp(-np.sum(share_K * np.log(share_K))))


def _first_pass(rows: Rows) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64], float | None]:
    """(N,) lengths, (D,) mean, and the error of rounding as a share of the length."""
    norms_N = np.empty(len(rows))
    sum_D = np.zeros(rows.vectors_ND.shape[1])
    error = 0.0
    for start in range(0, len(rows), _BLOCK_ROWS):
        stored = rows.vectors_ND[start : start + _BLOCK_ROWS]
        values = stored.astype(np.float64)
        norms_N[start : start + len(values)] = np.sqrt(np.einsum("nd,nd->n", values, values))
        sum_D += values.sum(0)
        if stored.dtype == np.float16:
            error += _squared_rounding(np.asarray(stored, np.float16))
    rounding = float(np.sqrt(error / np.sum(norms_N**2))) if rows.vectors_ND.dtype == np.float16 else None
    return norms_N, sum_D / len(rows), rounding


def _squared_rounding(stored: npt.NDArray[np.float16]) -> float:
    """Sum of the squared errors to be expected of float16 values: even within a step, which is 2**-10 of the power of two below."""
    exponents = np.bincount(((stored.view(np.uint16) >> 10) & 31).ravel(), minlength=32)  # 0: below 2**-14, where steps stay the same
    steps = np.ldexp(1.0, np.maximum(np.arange(32), 1) - 25)
    return float(exponents @ steps**2 / 12)


def _second_pass(rows: Rows, norms_N: npt.NDArray[np.float64], mean_D: npt.NDArray[np.float64]) -> tuple[npt.NDArray[np.float64], float]:
    """(D, D) covariance over the clips, and the mean cosine to the mean."""
    gram_DD = np.zeros((len(mean_D), len(mean_D)))
    cosines = 0.0
    length = float(np.linalg.norm(mean_D))
    for start in range(0, len(rows), _BLOCK_ROWS):
        values = rows.vectors_ND[start : start + _BLOCK_ROWS].astype(np.float64)
        if length:
            cosines += float(np.sum(values @ mean_D / norms_N[start : start + len(values)])) / length
        values -= mean_D
        gram_DD += values.T @ values
    return gram_DD / len(rows), cosines / len(rows)


def _quantiles(values: npt.NDArray[np.float64]) -> dict[str, float]:
    return {name: float(np.quantile(values, q)) for name, q in _QUANTILES.items()}


def _pair(ids: tuple[Any, ...]) -> str:
    return f"{ids[0]!r} and {ids[1]!r}"
