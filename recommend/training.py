"""The training loop.

Everything random in step k of epoch e follows from (seed, e, k): which sequences, which negatives, which activations are dropped. A
checkpoint therefore lets a resumed run end with the same weights as an uninterrupted one, wherever it was killed.
"""

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from itertools import islice
from typing import Any

import lightning_fabric
import numpy as np
import torch

from ..errors import InputError, Interrupted, VivimError
from ..progress import SILENT, Progress
from ..store.metric_log import log_metrics
from .batches import TrainBatch, num_batches, train_batches
from .checkpoint import RunFolder
from .config import TrainConfig
from .epochs import Enough, EpochLog, FitResult, Progressed, validation_value
from .forecast import forecast
from .learner import Trainable
from .metrics import hit_rate, ndcg
from .optimisation import Optimisation, rate_at
from .processes import Processes, SharesWork
from .protocol import Split
from .ranker import Ranks, rank_questions
from .scorers import ItemScorer
from .sequences import Questions


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
        self.optimisation = Optimisation(fabric, self.learner, config, self.processes)
        self.scorer: ItemScorer | None = None
        self.done = Progressed()
        self.asked = _drawn(split.validation, config.validation_questions, seed)
        if len(self.asked) < len(split.validation):
            self.progress.say(f"validation after each epoch asks {len(self.asked):,} of {len(split.validation):,} questions, drawn once")
        self.steps = num_batches(split.train, config.batch, max_len, learner.first_target)

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
        enough = ""
        try:
            while not self._is_over():
                self._train()
                log = self._finish_epoch()
                if after_epoch is not None:
                    after_epoch(log)
        except Enough as reason:
            assert self.done.epochs, "an epoch must be finished before it is enough"
            enough = str(reason)
        parameters = sum(parameter.numel() for parameter in self.learner.parameters() if parameter.requires_grad)
        return FitResult(tuple(self.done.epochs), self._best(), self._stale(), parameters, "" if self._is_over() else enough)

    def _finish_epoch(self) -> EpochLog:
        """Validate the epoch whose steps are done, and save it."""
        log = self._validate()
        self.done = Progressed([*self.done.epochs, log])
        self.optimisation.begin_epoch()
        if self.processes.first:
            if self._best() is log:
                assert self.scorer is not None
                self.optimisation.judged.save(self.run, self.scorer)
            self._save()
            self._write_log()
        self.scorer = None  # as large as the catalogue
        log_metrics(self.fabric, asdict(log))
        return log

    def _is_over(self) -> bool:
        return len(self.done.epochs) >= self.config.epochs or self._stale()

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
        self.optimisation.set_rate(self._rate(self.done.step))
        # Not module(batch): with mixed precision Fabric would look for numbers to convert in the batch, and refuses it as it is frozen.
        with self.fabric.autocast():
            loss = self.learner(batch) * batch.share if len(batch.place_P) else self.learner.nothing(batch)
        value = self.processes.sum(loss.detach())
        norm = self.optimisation.backward(loss)
        # Both in one transfer: a GPU is waited for once in a step.
        loss_sum, norm_now = torch.stack([value.float(), norm.float()]).tolist()
        self._require_finite(loss_sum, norm_now)
        self.optimisation.move()
        self.done.loss_sum += loss_sum * batch.positions
        self.done.positions += batch.positions

    def _rate(self, step: int) -> float:
        """Share of the learning rate's peak at a step of the epoch that is under way, counted from 0."""
        return rate_at((self.done.epoch - 1) * self.steps + step, self.config.epochs * self.steps, self.config)

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
        ranks, norms = self._rank(self.asked), self.optimisation.norms.fetch(done.step)
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
        self.scorer = self.optimisation.judged.scorer()
        ranks = rank_questions(self.scorer, questions.take(mine), num_items=len(self.split.items))
        rank = torch.zeros(len(questions), dtype=torch.float64)
        rank[mine] = torch.from_numpy(ranks.rank)
        return Ranks(self.processes.sum(rank.to(self.fabric.device)).cpu().numpy(), ranks.num_items)

    def _save(self) -> None:
        """Weights, optimizer and how far it has come, in one file; the one before is kept until this is on disk."""
        scaler = self.optimisation.scaler()
        self.run.save_state(self.optimisation.tensors(), asdict(self.done) | ({"scaler": scaler} if scaler else {}))

    def _write_log(self) -> None:
        self.run.write_log([asdict(line) for line in self.done.epochs])

    def _load(self) -> None:
        """Go on where the newest checkpoint that can be read was made; from the start where there is none."""
        if self.run.load_state(self.progress, self._restore) is not None and self.processes.first:
            self._write_log()  # the end may have come between the last checkpoint and its line

    def _restore(self, tensors: dict[str, torch.Tensor], state: dict[str, Any]) -> None:
        """Put back what ``_save`` took.

        Raises:
            InputError: it holds other things than this version keeps.
        """
        try:
            done = Progressed.of({name: value for name, value in state.items() if name != "scaler"})
            self.optimisation.restore(tensors, state.get("scaler"))
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
