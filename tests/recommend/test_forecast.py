"""What a training will take, foretold from learners whose memory is known by construction."""

import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from vivim.errors import InputError
from vivim.recommend import forecast as module
from vivim.recommend.batches import TrainBatch
from vivim.recommend.config import TrainConfig
from vivim.recommend.forecast import Forecast, forecast
from vivim.recommend.learner import Trainable
from vivim.recommend.processes import Processes
from vivim.recommend.sequences import Sequences
from vivim.store import memory

BATCH = 64
WHOLE = 384  # MiB of a whole step
MIB = 2**20


class Holds(Trainable):
    """Holds ``mib(B)`` MiB during a step of B sequences, and notes B."""

    def __init__(self, mib: Any) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))
        self.mib = mib
        self.sizes: list[int] = []

    def forward(self, batch: TrainBatch) -> torch.Tensor:
        self.sizes.append(len(batch.sequences))
        held = torch.ones(1 + int(self.mib(len(batch.sequences)) * MIB), dtype=torch.uint8)
        return self.weight.sum() * float(held[0])

    def scorer(self) -> Any:
        pytest.fail("a forecast runs steps alone, and validates nothing")

    def save(self, run: Any, scorer: Any) -> None:
        pytest.fail("a forecast runs steps alone, and keeps nothing")


def told(learner: Holds, processes: Processes = Processes()) -> Forecast:  # noqa: B008
    offsets = np.arange(0, 3 * BATCH + 3, 3, dtype=np.int64)[: BATCH + 1]
    train = Sequences(offsets, np.zeros(offsets[-1], np.int32))
    return forecast(learner, train, TrainConfig(batch=BATCH), max_len=10, seed=1, processes=processes)


@pytest.mark.parametrize("power", [0, 1, 2], ids=["constant", "linear", "quadratic"])
def test_a_whole_step_is_what_is_told(power: int) -> None:
    # In a process of its own: one that has freed memory before may hold it still, and a step that takes it again grows nothing.
    done = subprocess.run([sys.executable, __file__, str(power)], capture_output=True, text=True, check=True)
    growth, *sizes = (int(word) for word in done.stdout.split())
    assert growth == pytest.approx(WHOLE * MIB, rel=0.1)  # malloc may keep what a smaller step freed
    assert sizes[2:] == [8, 16, 32, 64]  # after the two that warm up


def test_a_step_that_may_not_fit_is_told_from_smaller_ones_and_not_run(monkeypatch: pytest.MonkeyPatch) -> None:
    peaks = {8: 2 * MIB, 16: 8 * MIB, 32: 32 * MIB}  # 128 MiB of a whole batch, by the square
    learner = Holds(lambda size: 0)
    monkeypatch.setattr(module, "_peak_bytes", lambda device: peaks[learner.sizes[-1]])
    monkeypatch.setattr(module, "_free_bytes", lambda device: 100 * MIB)
    found = told(learner)
    assert max(learner.sizes) == 32
    assert found.peak_bytes == pytest.approx(128 * MIB, rel=1e-6)
    with pytest.raises(InputError, match=r"would need about 0\.1 GiB"):
        found.require_room()


def test_a_line_is_prolonged_as_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    learner = Holds(lambda size: 0)
    monkeypatch.setattr(module, "_peak_bytes", lambda device: (10 + learner.sizes[-1]) * MIB)
    monkeypatch.setattr(module, "_free_bytes", lambda device: 50 * MIB)  # 26 after 16; 32 might take 58
    found = told(learner)
    assert max(learner.sizes) == 16
    assert found.peak_bytes == pytest.approx(74 * MIB, rel=1e-6)


class Beside(Processes):
    """The first of two, whose other needs and has other amounts."""

    def __init__(self, peaks: list[int], free: int) -> None:
        super().__init__(0, 2)
        object.__setattr__(self, "others", iter([[-float(free)], *([0.0, float(peak)] for peak in peaks)]))

    def largest(self, value: torch.Tensor) -> torch.Tensor:
        return torch.maximum(value, torch.tensor(next(self.others), dtype=value.dtype).reshape(value.shape))  # type: ignore[attr-defined]


def test_several_go_by_the_one_that_needs_most_and_the_one_that_has_least(monkeypatch: pytest.MonkeyPatch) -> None:
    """Alone this one has room for all; the other has not, so that both run the same steps and are refused."""
    learner = Holds(lambda size: 0)
    monkeypatch.setattr(module, "_peak_bytes", lambda device: learner.sizes[-1] * MIB)
    monkeypatch.setattr(module, "_free_bytes", lambda device: 1000 * MIB)
    found = told(learner, Beside(peaks=[4 * MIB, 16 * MIB], free=50 * MIB))  # 4 and 8 sequences; 16 might take 64 MiB
    assert learner.sizes == [4, 8, 4, 8]
    assert (found.free_bytes, found.processes) == (50 * MIB, 2)
    assert found.peak_bytes == pytest.approx((16 + 24 * 3) * MIB, rel=1e-6)  # along the line to 32, a half of the batch
    assert "0.09 GiB of memory for each of 2 processes, 0.0 GiB are there for it" in found.line
    assert "an epoch without its validation" in found.line
    with pytest.raises(InputError, match="for each of 2 processes"):
        found.require_room()


def test_processes_of_one_machine_share_its_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "_field", lambda path, name: {"MemAvailable": 600, "VmRSS": 100}[name])
    monkeypatch.setattr(memory, "_limit_bytes", lambda: None)
    cpu = torch.device("cpu")
    assert module._free_bytes(cpu) == 700
    for name, value in (("TORCHELASTIC_RUN_ID", "x"), ("WORLD_SIZE", "6"), ("LOCAL_WORLD_SIZE", "3")):
        monkeypatch.setenv(name, value)
    assert module._free_bytes(cpu) == 300  # a third of the 600, and its own 100
    monkeypatch.setattr(memory, "_limit_bytes", lambda: 450)
    assert module._free_bytes(cpu) == 150


if __name__ == "__main__":
    base = told(Holds(lambda size: 0)).peak_bytes
    learner = Holds(lambda size: WHOLE * (size / BATCH) ** int(sys.argv[1]))
    sys.stdout.write(f"{told(learner).peak_bytes - base} {' '.join(map(str, learner.sizes))}\n")
