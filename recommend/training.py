"""The training loop.

Everything random in step k of epoch e follows from (seed, e, k): which sequences, which negatives, which activations are dropped. A
checkpoint therefore lets a resumed run end with the same weights as an uninterrupted one, wherever it was killed.
"""

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from itertools import islice
from typing import Any, Protocol, runtime_checkable

import lightning_fabric
import numpy as np
import torch
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from ..errors import InputError, Interrupted, VivimError
from ..progress import SILENT, Progress
from ..store.metric_log import log_metrics
from ..store.run_folder import pack_optimizer, unpack_optimizer
from .batches import TrainBatch, num_batches, train_batches
from .checkpoint import RunFolder
from .config import Metric, TrainConfig
from .forecast import forecast
from .gradient_norms import GradientNorms, clip
from .learner import Trainable
from .metrics import hit_rate, ndcg
from .processes import Processes
from .protocol import Split
from .ranker import Ranks, rank_questions
from .scorers import ItemScorer
from .sequences import Questions


@runtime_checkable
class SharesWork(Protocol):
    """A part that the processes of a training compute together."""

    processes: Processes


@dataclass(frozen=True)
class EpochLog:
    """One line of log.jsonl. What has a default is not in the logs of earlier versions.

    Attributes:
        epoch: counted from 1.
        loss: mean over the positions of the epoch.
        hit_rate_10: validation HR@10.
        ndcg_10: validation NDCG@10.
        train_seconds: of the epoch's steps.
        validation_seconds: of its validation.
        positions: predictions learned from.
        lr: of the last step; parts of the model with a learning rate of their own rise and fall alike.
        grad_norm_mean: Euclidean norm of all gradients before clipping, mean over the steps where it was finite; None: there are none.
        grad_norm_max: the largest of them; None likewise.
        grad_overflows: steps with gradients that were NaN or infinite, which ``precision: 16-mixed`` leaves out.
    """

    epoch: int
    loss: float
    hit_rate_10: float
    ndcg_10: float
    train_seconds: float
    validation_seconds: float
    positions: int
    lr: float | None = None
    grad_norm_mean: float | None = None
    grad_norm_max: float | None = None
    grad_overflows: int | None = None


class Enough(Exception):
    """Raised by ``after_epoch``: there will be no more epochs; the training ends as if these were all, and the message says why.

    Raised by the progress it ends the epoch under way too, whose steps are lost, once one is finished. With several processes all must
    decide the same.
    """


@dataclass(frozen=True)
class FitResult:
    """What the loop leaves.

    Attributes:
        epochs: that were trained.
        best: the one that is in model.safetensors.
        stopped_early: validation rose no more.
        parameters: numbers that are trained.
        stopped_by: what ``Enough`` said; empty where epochs or patience ended it.
    """

    epochs: tuple[EpochLog, ...]
    best: EpochLog
    stopped_early: bool
    parameters: int
    stopped_by: str = ""


@dataclass
class Progressed:
    """How far a training has come; kept in every checkpoint.

    Attributes:
        epochs: that are finished.
        step: steps done of the one after.
        loss_sum: of its losses, each times its positions.
        positions: of its steps.
        seconds: that they took.
    """

    epochs: list[EpochLog] = field(default_factory=list)
    step: int = 0
    loss_sum: float = 0.0
    positions: int = 0
    seconds: float = 0.0

    @property
    def epoch(self) -> int:
        """The one that is under way."""
        return len(self.epochs) + 1


def validation_value(log: EpochLog, metric: Metric) -> float:
    """What decides between epochs."""
    return log.ndcg_10 if metric == "ndcg@10" else log.hit_rate_10


class Training:
    """State and steps of one training.

    Args:
        fabric: launched; with as many processes as make one of these.
        learner: what is trained.
        split: who is trained on what.
        config: how.
        run: where checkpoints and the log go.
        max_len: items of history.
        seed: of everything random.
        progress: told of every step.
    """

    def __init__(
        self,
        fabric: lightning_fabric.Fabric,
        learner: Trainable,
        split: Split,
        config: TrainConfig,
        run: RunFolder,
        max_len: int,
        seed: int,
        progress: Progress,
    ) -> None:
        self.fabric, self.split, self.config, self.run = fabric, split, config, run
        self.max_len, self.seed, self.progress = max_len, seed, progress if fabric.global_rank == 0 else SILENT
        self.processes = Processes(fabric.global_rank, fabric.world_size)
        self.learner = learner.to(fabric.device)
        for module in learner.modules():
            if isinstance(module, SharesWork):
                module.processes = self.processes
        optimizer_type = torch.optim.AdamW if config.optimizer == "adamw" else torch.optim.Adam
        # One pass over the tables instead of eight. Fabric cannot clip the gradients of a fused optimizer that a loss scaler feeds.
        fused = config.precision != "16-mixed"
        self.optimizer = optimizer_type(learner.parameter_groups(config.lr, config.weight_decay), lr=config.lr, fused=fused)
        scaled = fabric.setup_optimizers(self.optimizer)
        assert not isinstance(scaled, tuple)
        self.scaled = scaled
        self.average = AveragedModel(self.learner, multi_avg_fn=get_ema_multi_avg_fn(config.ema)) if config.ema else None
        self.scorer: ItemScorer | None = None
        self.done = Progressed()
        self.norms = GradientNorms(fabric.device)
        self.asked = _drawn(split.validation, config.validation_questions, seed)
        if len(self.asked) < len(split.validation):
            self.progress.say(f"validation after each epoch asks {len(self.asked):,} of {len(split.validation):,} questions, drawn once")
        self.steps = num_batches(split.train, config.batch, max_len, learner.first_target)

    @property
    def judged(self) -> Trainable:
        """What is validated and kept: the running mean of the weights where there is one."""
        if self.average is None:
            return self.learner
        assert isinstance(self.average.module, Trainable)
        return self.average.module

    def fit(self, *, resume: bool, after_epoch: Callable[[EpochLog], None] | None = None) -> FitResult:
        """Train until ``config.epochs``, or until validation's ``config.metric`` has not risen for ``config.patience`` epochs.

        Args:
            resume: go on from the newest checkpoint, if there is one.
            after_epoch: told of every epoch when it is saved; what it raises ends the training, ``Enough`` as a finished one.

        Raises:
            Interrupted: Ctrl-C; what was saved last stays.
            InputError: more memory would be needed than is there.
            VivimError: the loss became NaN or infinite, or there is too little memory; what was saved last stays.
        """
        if resume:
            self._load()
        try:
            self._foretell()
            return self._run_epochs(after_epoch)
        except KeyboardInterrupt as error:
            done = self.done
            raise Interrupted(
                f"stopped in epoch {done.epoch}; {len(done.epochs)} epochs are saved. Add --resume to the command to go on."
            ) from error
        except RuntimeError as error:
            if not isinstance(error, torch.OutOfMemoryError) and "can't allocate memory" not in str(error):
                raise
            raise VivimError(
                f"there is too little memory for a step ({str(error).splitlines()[0]}). Lower train.batch or loss.chunk_mb, or take "
                "loss.kind sampled; --resume goes on from what was saved last."
            ) from error

    def _foretell(self) -> None:
        """Say what it will take.

        Raises:
            InputError: more memory than there is.
        """
        expected = forecast(self.learner, self.split.train, self.config, max_len=self.max_len, seed=self.seed, processes=self.processes)
        self.progress.say(expected.line)
        expected.require_room()

    def _run_epochs(self, after_epoch: Callable[[EpochLog], None] | None) -> FitResult:
        epochs, enough = self.done.epochs, ""
        while len(epochs) < self.config.epochs and not self._stale() and not enough:
            try:
                self._train()
            except Enough as reason:
                assert epochs, "an epoch must be finished before it is enough"
                enough = str(reason)
                break
            log = self._validate()
            epochs.append(log)
            self.done, self.norms = Progressed(epochs), GradientNorms(self.fabric.device)
            if self.processes.first:
                if self._best() is log:
                    assert self.scorer is not None
                    self.judged.save(self.run, self.scorer)
                self._save()
                self._write_log()
            self.scorer = None  # as large as the catalogue
            log_metrics(self.fabric, asdict(log))
            try:
                if after_epoch is not None:
                    after_epoch(log)
            except Enough as reason:
                enough = str(reason)
        cut_short = len(epochs) < self.config.epochs and not self._stale()
        parameters = sum(parameter.numel() for parameter in self.learner.parameters() if parameter.requires_grad)
        return FitResult(tuple(epochs), self._best(), self._stale(), parameters, enough if cut_short else "")

    def _best(self) -> EpochLog:
        return max(self.done.epochs, key=lambda log: validation_value(log, self.config.metric))

    def _stale(self) -> bool:
        return bool(self.done.epochs) and self.done.epochs[-1].epoch - self._best().epoch >= self.config.patience

    def _train(self) -> None:
        """The rest of the epoch that is under way."""
        done, epoch = self.done, self.done.epoch
        self.learner.train()
        self.progress.start(f"epoch {epoch}", self.steps, "batches")
        self.progress.advance(done.step)
        batches = self._batches((self.processes.rank, self.processes.count))
        before, saved, started = done.seconds, time.monotonic(), time.monotonic()
        for batch in islice(batches, done.step, None):
            self._step(batch.to(self.fabric.device))
            done.step += 1
            done.seconds = before + time.monotonic() - started
            self.progress.advance(1, f"loss {done.loss_sum / max(done.positions, 1):.4f}")
            if time.monotonic() - saved > 60 * self.config.checkpoint_minutes and done.step < self.steps:
                if self.processes.first:
                    self._save()
                saved = time.monotonic()
        self.progress.finish()

    def _batches(self, part: tuple[int, int]) -> Iterator[TrainBatch]:
        """Of the epoch that is under way."""
        return train_batches(
            self.split.train,
            batch=self.config.batch,
            max_len=self.max_len,
            seed=self.seed,
            epoch=self.done.epoch,
            part=part,
            first_target=self.learner.first_target,
        )

    def _step(self, batch: TrainBatch) -> None:
        rank = self.processes.rank
        torch.manual_seed((batch.step_seed << 16) + rank)
        for group in self.optimizer.param_groups:
            group["lr"] = group["peak"] * self._rate(self.done.step)
        # Not module(batch): with mixed precision Fabric would look for numbers to convert in the batch, and refuses it as it is frozen.
        with self.fabric.autocast():
            loss = self.learner(batch) * batch.share if len(batch.place_P) else self.learner.nothing(batch)
        value = self.processes.sum(loss.detach())
        self.optimizer.zero_grad(set_to_none=True)
        self.fabric.backward(loss)
        self.processes.sum_gradients(self.learner.parameters())
        norm = clip(self.fabric, self.learner, self.optimizer, self.config.clip_norm)
        self.norms.add(norm)
        # Both in one transfer: a GPU is waited for once in a step.
        loss_sum, norm_now = torch.stack([value.float(), norm.float()]).tolist()
        self._require_finite(loss_sum, norm_now)
        self.scaled.step()
        if self.average is not None:
            self.average.update_parameters(self.learner)
        self.done.loss_sum += loss_sum * batch.positions
        self.done.positions += batch.positions

    def _rate(self, step: int) -> float:
        """Share of the learning rate's peak at a step of the epoch that is under way, counted from 0."""
        total = self.config.epochs * self.steps
        at = (self.done.epoch - 1) * self.steps + step
        rising = math.ceil(self.config.warmup * total)
        if at < rising:
            return (at + 1) / rising
        if self.config.schedule == "constant":
            return 1.0
        return 0.5 * (1 + math.cos(math.pi * (at - rising) / max(total - rising, 1)))

    def _require_finite(self, loss: float, gradient_norm: float) -> None:
        """All processes have the same numbers, and end together.

        Raises:
            VivimError: one of them is NaN or infinite; gradients may be where a loss scaler leaves such a step out.
        """
        if not math.isfinite(loss):
            broken = f"the loss became {loss}"
        elif not math.isfinite(gradient_norm) and self.config.precision != "16-mixed":
            broken = f"the gradients became {gradient_norm} at a loss of {loss:.6g}"
        else:
            return
        name, done = "bad_batch.json", self.done
        if self.processes.first:
            numbers = {"loss": str(loss), "gradient_norm": str(gradient_norm), "processes": self.processes.count}
            place = {"epoch": done.epoch, "step": done.step, "seed": self.seed} | numbers
            self.run.write_json(name, place | {"histories": self._histories_of_step()})
        raise VivimError(
            f"{broken} in epoch {done.epoch}, step {done.step}; the weights were not touched by this batch, whose histories stand in "
            f"{self.run.path / name}. Lower train.lr, or set train.precision to 32-true; --resume continues from what was saved last."
        )

    def _histories_of_step(self) -> list[list[str]]:
        """Item ids of every sequence of the step, those of the other processes among them."""
        whole = next(islice(self._batches((0, 1)), self.done.step, None)).sequences
        parts = whole.items_BL[whole.valid_BL].split(whole.lengths_B.tolist())
        return [[self.split.items.ids[row] for row in part.tolist()] for part in parts]

    def _validate(self) -> EpochLog:
        done, began = self.done, time.monotonic()
        ranks, norms = self._rank(self.asked), self.norms.fetch(done.step)
        log = EpochLog(
            epoch=done.epoch,
            loss=done.loss_sum / max(done.positions, 1),
            hit_rate_10=hit_rate(ranks, 10).value,
            ndcg_10=ndcg(ranks, 10).value,
            train_seconds=round(done.seconds, 3),
            validation_seconds=round(time.monotonic() - began, 3),
            positions=done.positions,
            lr=self.config.lr * self._rate(done.step - 1),
            grad_norm_mean=norms.mean,
            grad_norm_max=norms.largest,
            grad_overflows=norms.overflows,
        )
        self.progress.say(
            f"epoch {log.epoch}: loss {log.loss:.4f}, validation HR@10 {log.hit_rate_10:.4f} NDCG@10 {log.ndcg_10:.4f}, "
            f"training {log.train_seconds:.1f} s, validation {log.validation_seconds:.1f} s"
        )
        return log

    def _rank(self, questions: Questions) -> Ranks:
        """Each process ranks its part."""
        mine = np.arange(self.processes.rank, len(questions), self.processes.count)
        self.scorer = self.judged.scorer()
        ranks = rank_questions(self.scorer, questions.take(mine), num_items=len(self.split.items))
        rank = torch.zeros(len(questions), dtype=torch.float64)
        rank[mine] = torch.from_numpy(ranks.rank)
        return Ranks(self.processes.sum(rank.to(self.fabric.device)).cpu().numpy(), ranks.num_items)

    def _save(self) -> None:
        """Weights, optimizer and how far it has come, in one file; the one before is kept until this is on disk."""
        tensors = {f"learner.{k}": v for k, v in self.learner.state_dict().items()} | pack_optimizer(self.optimizer)
        tensors["gradient_norms"] = self.norms.sums
        if self.average is not None:
            tensors |= {f"average.{k}": v for k, v in self.average.state_dict().items()}
        # How far a loss scaler has come (16-mixed), which begins far too high.
        scaler = self.fabric.strategy.precision.state_dict()
        self.run.save_state(tensors, asdict(self.done) | ({"scaler": scaler} if scaler else {}))

    def _write_log(self) -> None:
        if self.processes.first:
            self.run.write_log([asdict(line) for line in self.done.epochs])

    def _load(self) -> None:
        """Go on where the newest checkpoint that can be read was made; from the start where there is none."""
        if self.run.load_state(self.progress, self._restore) is not None:
            self._write_log()  # the end may have come between the last checkpoint and its line

    def _restore(self, tensors: dict[str, torch.Tensor], state: dict[str, Any]) -> None:
        """Put back what ``_save`` took.

        Raises:
            InputError: it holds other things than this version keeps.
        """
        state = dict(state)
        try:
            scaler = state.pop("scaler", None)
            done = Progressed(**(state | {"epochs": [EpochLog(**entry) for entry in state["epochs"]]}))
            self.learner.load_state_dict(_under("learner.", tensors))
            if self.average is not None:
                self.average.load_state_dict(_under("average.", tensors))
            unpack_optimizer(self.optimizer, tensors)
            if "gradient_norms" in tensors:  # earlier versions did not look
                self.norms.sums.copy_(tensors["gradient_norms"])
            if scaler:
                self.fabric.strategy.precision.load_state_dict(scaler)
        except torch.OutOfMemoryError:
            raise
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            raise InputError(f"it holds other things than this version of vivim keeps ({' '.join(str(error).split())})") from error
        self.done = done


def _drawn(questions: Questions, count: int | None, seed: int) -> Questions:
    """``count`` of them, in their order; all where there are no more."""
    if count is None or count >= len(questions):
        return questions
    return questions.take(np.sort(np.random.default_rng(seed).permutation(len(questions))[:count]))


def _under(prefix: str, tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
