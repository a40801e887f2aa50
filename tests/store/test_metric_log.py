"""Curves: what is logged is what TensorBoard reads back."""

import sys

import lightning_fabric
import pytest
from vivim.errors import MissingExtra
from vivim.store.metric_log import log_metrics, tensorboard


def test_tensorboard_reads_back_every_number_at_its_epoch(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    fabric = lightning_fabric.Fabric(accelerator="cpu", devices=1, loggers=[tensorboard(tmp_path / "run")])
    assert not (tmp_path / "run").exists()  # a refused run must leave nothing
    log_metrics(fabric, {"epoch": 1, "loss": 0.5, "terms": {"edge": 2}, "test": None, "name": "a"})
    log_metrics(fabric, {"epoch": 2, "loss": 0.25, "terms": {"edge": 1}, "test": {"dice": 0.75}})
    read = EventAccumulator(str(tmp_path / "run" / "tensorboard"))
    read.Reload()
    curves = {tag: [(event.step, event.value) for event in read.Scalars(tag)] for tag in read.Tags()["scalars"]}
    assert curves == {"loss": [(1, 0.5), (2, 0.25)], "terms/edge": [(1, 2.0), (2, 1.0)], "test/dice": [(2, 0.75)]}


def test_without_the_package_the_install_command_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    with pytest.raises(MissingExtra, match=r"pip install 'vivim\[viz\]'"):
        tensorboard(tmp_path)
