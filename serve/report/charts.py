"""The charts of a report: facts in, one drawing each out.

Legend: U users, N rows, D width, K directions, E epochs.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from ...recommend.metrics import Estimate
from .accuracy import Accuracy, Line
from .curves import Curves
from .extraction import STAGES, TimeSplit
from .histories import Histories
from .svg import LINE, OTHER, OWN, SOFT, THIRD, panel, style, to_svg

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_LINE_COLOURS = (OTHER, THIRD, SOFT)
_MARKERS = ("s", "o", "^")
_FEW = 20  # questions
_WIDE = 20  # times as large


def funnel(facts: Histories) -> str:
    """Interactions that are left after each step, and their share of the file."""
    counts = [stage.interactions for stage in facts.funnel]
    words = [f"{count:,} ({count / counts[0]:.0%})" for count in counts]
    with style():
        figure, axes = panel()
        bars = axes.barh(range(len(counts)), counts, height=0.62, color=OWN)
        axes.bar_label(bars, words, padding=3, color=SOFT)
        axes.set_yticks(range(len(counts)), [stage.name for stage in facts.funnel])
        axes.set(xlim=(0, 1.6 * counts[0]), ylim=(len(counts) - 0.5, -0.5), xticks=[])  # the numbers stand beside the bars
        axes.spines["bottom"].set_visible(False)
        axes.grid(visible=False)
        axes.tick_params(axis="y", length=0)
        said = "; ".join(f"{stage.name} {word}" for stage, word in zip(facts.funnel, words, strict=True))
        return to_svg(figure, "funnel", f"Interactions left after each step: {said}.")


def lengths(facts: Histories) -> str:
    """How long histories are; the longest hundredth stands in the last bar."""
    most = max(int(np.quantile(facts.lengths_U, 0.99, method="inverted_cdf")), 1)
    with style():
        figure, axes = panel()
        axes.hist(np.minimum(facts.lengths_U, most), bins=_whole_bins(int(facts.lengths_U.min()), most), color=OWN)
        axes.set(xlabel=f"interactions of a user ({most} or more in the last bar)", ylabel="users")
        axes.locator_params(axis="x", integer=True)
        axes.grid(visible=False, axis="x")
        axes.yaxis.set_major_formatter("{x:,.0f}")
        median = int(np.median(facts.lengths_U))
        return to_svg(figure, "lengths", f"Histogram of interactions per user; half of the users have {median} or fewer.")


def popularity(facts: Histories) -> str:
    """How often the item at each place is watched, both axes logarithmic."""
    with style():
        figure, axes = panel()
        watched_C = facts.views_C > 0  # zero has no place on a logarithmic axis; how many there are stands below
        axes.loglog(facts.places_C[watched_C], facts.views_C[watched_C], color=OWN)
        axes.set(xlabel="item, from the most watched", ylabel="training interactions")
        return to_svg(figure, "popularity", f"Training interactions by place; the most watched item has {int(facts.views_C[0]):,}.")


def spans(spans_N: npt.NDArray[np.float64]) -> str:
    """Seconds between the first and the last frame that was read."""
    known_N = spans_N[np.isfinite(spans_N)]
    with style():
        figure, axes = panel()
        axes.hist(known_N, bins=40, range=(0, max(float(known_N.max()), 1e-9)), color=OWN)
        axes.set(xlabel="seconds, first to last sampled frame", ylabel="clips")
        axes.grid(visible=False, axis="x")
        return to_svg(figure, "spans", f"Histogram of the sampled span of each clip; the median is {np.median(known_N):.1f} seconds.")


def time_splits(times: Sequence[TimeSplit]) -> str:
    """Where the time of the runs of stage one went."""
    colours = dict(zip(STAGES, (OWN, OTHER, THIRD, LINE), strict=True))
    with style():
        figure, axes = panel(height_inches=1.1 + 0.35 * len(times))
        for place, run in enumerate(times):
            left = 0.0
            for stage in STAGES:
                axes.barh(place, run.shares[stage], left=left, height=0.6, color=colours[stage], label=None if place else stage)
                left += run.shares[stage]
        axes.set_yticks(range(len(times)), [run.date[:16].replace("T", " ") for run in times])
        axes.invert_yaxis()
        axes.xaxis.set_major_formatter("{x:.0%}")
        axes.set(xlabel="share of the run", xlim=(0, 1))
        figure.legend(loc="outside upper left", ncols=len(STAGES))
        last = ", ".join(f"{stage} {share:.0%}" for stage, share in times[-1].shares.items())
        return to_svg(figure, "time-split", f"Where the time of stage one went, in its last run: {last}.")


def norms(norms_N: npt.NDArray[np.float64]) -> str:
    """Lengths of the vectors."""
    with style():
        figure, axes = panel()
        axes.hist(norms_N, bins=40, range=(0, float(norms_N.max())), color=OWN)  # from 0: a spread of a thousandth is none
        axes.set(xlabel="length of a vector", ylabel="vectors")
        axes.grid(visible=False, axis="x")
        return to_svg(figure, "norms", f"Histogram of the lengths of the vectors, from {norms_N.min():.3g} to {norms_N.max():.3g}.")


def spectrum(spectrum_K: npt.NDArray[np.float64], effective_rank: float) -> str:
    """How much of the variance the first so many directions hold."""
    held_K = np.cumsum(spectrum_K)
    with style():
        figure, axes = panel()
        axes.plot(np.arange(1, len(held_K) + 1), held_K, color=OWN)
        axes.axvline(effective_rank, color=SOFT, linewidth=1, linestyle=":")
        after = effective_rank < 0.6 * len(held_K)
        axes.annotate(
            f"effective rank {effective_rank:.1f}",
            (effective_rank, 0.06),
            xytext=(4 if after else -4, 0),
            textcoords="offset points",
            ha="left" if after else "right",
            color=SOFT,
        )
        axes.yaxis.set_major_formatter("{x:.0%}")
        axes.set(xlabel="principal directions", ylabel="variance held", ylim=(0, 1.02), xlim=(0, len(held_K) + 1))
        return to_svg(figure, "spectrum", f"Share of the variance in the first directions; the first alone holds {held_K[0]:.0%}.")


def deviations(deviations_D: npt.NDArray[np.float64]) -> str:
    """Standard deviation of every dimension, sorted."""
    with style():
        figure, axes = panel()
        axes.plot(np.arange(1, len(deviations_D) + 1), deviations_D, color=OWN)
        axes.set(xlabel="dimensions, sorted", ylabel="standard deviation", ylim=(0, None))
        return to_svg(figure, "deviations", f"Standard deviation of each dimension, from {deviations_D[-1]:.3g} to {deviations_D[0]:.3g}.")


def loss(facts: Curves) -> str:
    """Training loss."""
    epochs = [epoch.epoch for epoch in facts.epochs]
    with style():
        figure, axes = panel()
        axes.plot(epochs, [epoch.loss for epoch in facts.epochs], color=OWN, marker="o", markersize=3)
        axes.set(xlabel="epoch", ylabel="training loss")
        axes.locator_params(axis="x", integer=True)
        return to_svg(figure, "loss", f"Training loss, from {facts.epochs[0].loss:.3f} to {facts.epochs[-1].loss:.3f}.")


def validation(facts: Curves) -> str:
    """Validation HR@10 and NDCG@10, with the epoch that was kept."""
    epochs = [epoch.epoch for epoch in facts.epochs]
    with style():
        figure, axes = panel()
        axes.axvline(facts.best, color=SOFT, linewidth=1, linestyle=":")
        axes.plot(epochs, [epoch.hit_rate_10 for epoch in facts.epochs], color=OWN, marker="o", markersize=3, label="HR@10")
        axes.plot(epochs, [epoch.ndcg_10 for epoch in facts.epochs], color=OTHER, marker="s", markersize=3, label="NDCG@10")
        axes.set(xlabel=f"epoch (kept: {facts.best})", ylabel="on validation", ylim=(0, None))
        axes.locator_params(axis="x", integer=True)
        axes.legend(loc="lower right")
        kept = next(epoch for epoch in facts.epochs if epoch.epoch == facts.best)
        says = f"Validation metrics by epoch; kept is epoch {facts.best}, HR@10 {kept.hit_rate_10:.4f}, NDCG@10 {kept.ndcg_10:.4f}."
        return to_svg(figure, "validation", says)


def learning_rate(facts: Curves) -> str:
    """Learning rate at the last step of each epoch that it is known of."""
    epochs = [epoch.epoch for epoch in facts.with_lr]
    rates_E = np.array([epoch.lr for epoch in facts.with_lr])
    power = int(np.floor(np.log10(rates_E.max())))  # ticks of 0.00025 leave no room for the curve
    with style():
        figure, axes = panel()
        axes.plot(epochs, rates_E / 10.0**power, color=OWN, marker="o", markersize=3, clip_on=False)
        axes.set(xlabel="epoch", ylabel=f"learning rate, in 1e{power}", ylim=(0, None))
        axes.locator_params(axis="x", integer=True)
        says = f"Learning rate at the end of each epoch, from {rates_E[0]:.3g} to {rates_E[-1]:.3g}."
        return to_svg(figure, "learning-rate", says)


def gradient_norm(facts: Curves) -> str:
    """Mean and largest norm of the gradients before clipping, with the limit where it was reached."""
    epochs = [epoch.epoch for epoch in facts.with_norms]
    mean, largest = ([getattr(epoch, name) for epoch in facts.with_norms] for name in ("grad_norm_mean", "grad_norm_max"))
    with style():
        figure, axes = panel()
        if 0 < facts.clip_norm < max(largest):
            axes.axhline(facts.clip_norm, color=SOFT, linewidth=1, linestyle=":", label=f"limit {facts.clip_norm:g}")
        axes.plot(epochs, largest, color=OTHER, marker="s", markersize=3, label="largest")
        axes.plot(epochs, mean, color=OWN, marker="o", markersize=3, label="mean")
        axes.set(xlabel="epoch", ylabel="gradient norm")
        if max(largest) > _WIDE * min(mean) > 0:
            axes.set_yscale("log")  # one wild step would press all others to the ground
        else:
            axes.set_ylim(bottom=0)
        axes.locator_params(axis="x", integer=True)
        figure.legend(loc="outside upper left", ncols=3)
        says = f"Gradient norm by epoch: the mean goes from {mean[0]:.3g} to {mean[-1]:.3g}; the largest is {max(largest):.3g}."
        return to_svg(figure, "gradient-norm", says)


def overall(facts: Accuracy, metric: str, name: str) -> str:
    """One metric of the run and the yardsticks with its interval."""
    with style():
        figure, axes = panel(height_inches=0.75 + 0.36 * len(facts.lines))
        for place, line in enumerate(facts.lines):
            _interval(axes, line.metrics[metric], place, _colour(facts, line), "D" if line.own else "o")
        chance = facts.chance[metric]
        axes.axvline(chance, color=SOFT, linewidth=1, linestyle=":")
        axes.set_yticks(range(len(facts.lines)), [line.name for line in facts.lines])
        axes.set(xlabel=f"{name} on test, 95 % interval", ylim=(len(facts.lines) - 0.4, -0.6))
        axes.set_xlim(left=0)
        axes.locator_params(axis="x", nbins=5)
        axes.grid(visible=False, axis="y")
        said = "; ".join(f"{line.name} {line.metrics[metric]}" for line in facts.lines)
        return to_svg(figure, f"overall-{metric.split('@')[0]}", f"{name} on test: {said}; by chance {chance:.4f}.")


def buckets(facts: Accuracy, kind: str, label: str) -> str:
    """HR@K by kinds of questions; ``kind`` is the field of ``Line`` that holds them."""
    metric = f"hit_rate@{facts.k}"
    names = [group.name for group in getattr(facts.lines[0], kind)]
    with style():
        figure, axes = panel()
        for number, line in enumerate(facts.lines):
            shift = (number - (len(facts.lines) - 1) / 2) * 0.66 / max(len(facts.lines), 3)
            for group in getattr(line, kind):
                place = names.index(group.name) + shift
                found = group.metrics[metric]
                marker = "D" if line.own else _MARKERS[(number - 1) % len(_MARKERS)]
                axes.errorbar(
                    [place],
                    [found.value],
                    yerr=[[found.value - found.low], [found.high - found.value]],
                    fmt=marker,
                    markersize=4.5,
                    capsize=2,
                    linewidth=1.2,
                    color=_colour(facts, line),
                    label=line.name if group.name == names[0] else None,
                )
        axes.set_xticks(range(len(names)), names)
        axes.set(xlabel=label, ylabel=f"HR@{facts.k}", ylim=(0, _top(facts, kind)), xlim=(-0.6, len(names) - 0.4))
        axes.grid(visible=False, axis="x")
        columns = len(facts.lines) if len(facts.lines) < 4 else 2
        figure.legend(loc="outside upper left", ncols=columns, handletextpad=0.2, columnspacing=1.0)
        return to_svg(figure, kind.replace("_", "-"), f"HR@{facts.k} {label}; the numbers stand in the table below.")


def _top(facts: Accuracy, kind: str) -> float | None:
    """Where the axis ends: a handful of questions has an interval that would press all others to the ground, and runs out of the chart."""
    found = [(group.questions, group.metrics[f"hit_rate@{facts.k}"].high) for line in facts.lines for group in getattr(line, kind)]
    most = max((high for questions, high in found if questions >= _FEW), default=0.0)
    return 1.1 * most if most > 0 else None


def _interval(axes: "Axes", found: Estimate, place: float, colour: str, marker: str) -> None:
    error = [[found.value - found.low], [found.high - found.value]]
    axes.errorbar([found.value], [place], xerr=error, fmt=marker, color=colour, markersize=6, capsize=3)


def _colour(facts: Accuracy, line: Line) -> str:
    others = [other.name for other in facts.lines if not other.own]
    return OWN if line.own else _LINE_COLOURS[others.index(line.name) % len(_LINE_COLOURS)]


def _whole_bins(least: int, most: int) -> list[float]:
    """Edges between whole numbers, some 40 bars at most."""
    step = max(1, -(-(most - least + 1) // 40))
    return [edge - 0.5 for edge in range(least, most + step + 1, step)]
