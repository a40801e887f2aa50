"""The curves are those of log.jsonl."""

import json
import shutil
from dataclasses import replace

import pytest
from vivim.recommend.checkpoint import RunFolder
from vivim.serve.report import charts
from vivim.serve.report.curves import look_at_training
from vivim.serve.report.evidence import Missing


def test_every_epoch_is_there(looking):
    found = look_at_training(looking)
    lines = [json.loads(line) for line in (looking.run.path / "log.jsonl").read_text().splitlines()]
    assert [(e.epoch, e.loss, e.ndcg_10) for e in found.epochs] == [(x["epoch"], x["loss"], x["ndcg_10"]) for x in lines]
    assert len(found.epochs) == 2
    assert found.best == max(lines, key=lambda x: x["ndcg_10"])["epoch"]
    assert found.stopped == "all 2 epochs were done"


def changed(looking, folder, lines):
    """The run with another log."""
    shutil.copytree(looking.run.path, folder)
    RunFolder.open(folder).write_log(lines)
    return replace(looking, run=RunFolder.open(folder))


def old(line):
    """As it was before learning rates and gradients were noted."""
    return {name: value for name, value in line.items() if name != "lr" and not name.startswith("grad_")}


def test_learning_rates_and_gradient_norms_are_those_of_the_log(looking, tmp_path):
    lines = looking.run.read_log()
    assert look_at_training(looking).lacking == ()
    assert look_at_training(looking).clip_norm == 5.0
    known = [
        line | {"lr": lr, "grad_norm_mean": mean, "grad_norm_max": largest, "grad_overflows": overflows}
        for line, (lr, mean, largest, overflows) in zip(lines, [(0.5, 3.0, 7.0, 2), (0.25, 1.0, 4.0, 1)], strict=True)
    ]
    found = look_at_training(changed(looking, tmp_path / "run", known))
    assert [epoch.lr for epoch in found.with_lr] == [0.5, 0.25]
    assert [(epoch.grad_norm_mean, epoch.grad_norm_max) for epoch in found.with_norms] == [(3.0, 7.0), (1.0, 4.0)]
    assert found.overflows == 3
    rates = charts.learning_rate(found)
    assert "from 0.5 to 0.25" in rates
    assert "learning rate, in 1e-1" in rates
    drawing = charts.gradient_norm(found)
    assert "the mean goes from 3 to 1; the largest is 7" in drawing
    assert "limit 5" in drawing
    assert "limit" not in charts.gradient_norm(replace(found, clip_norm=7.0))


@pytest.mark.parametrize(("largest", "scale"), [(19.0, "linear"), (21.0, "log")])
def test_a_wild_step_does_not_press_the_others_to_the_ground(looking, monkeypatch, largest, scale):
    drawn = []
    monkeypatch.setattr(charts, "to_svg", lambda figure, name, says: drawn.append(figure.axes[0].get_yscale()))
    found = look_at_training(looking)
    known = tuple(replace(epoch, grad_norm_mean=1.0, grad_norm_max=largest) for epoch in found.epochs)
    charts.gradient_norm(replace(found, epochs=known))
    assert drawn == [scale]


def test_a_log_of_an_earlier_version_is_read_and_what_it_lacks_is_said(looking, tmp_path):
    lines = looking.run.read_log()
    found = look_at_training(changed(looking, tmp_path / "old", [old(line) for line in lines]))
    assert [epoch.loss for epoch in found.epochs] == [line["loss"] for line in lines]
    assert (found.with_lr, found.with_norms, found.overflows) == ((), (), 0)
    assert found.lacking == (
        "log.jsonl holds the learning rate of 0 of 2 epochs, so that curve is left out.",
        "log.jsonl holds the gradient norms of 0 of 2 epochs, so that curve is left out.",
    )
    half = look_at_training(changed(looking, tmp_path / "half", [old(lines[0]), lines[1]]))
    assert [epoch.epoch for epoch in half.with_lr] == [2]
    assert half.lacking[0] == "log.jsonl holds the learning rate of 1 of 2 epochs."


def test_what_is_counted_has_none(counted):
    assert isinstance(look_at_training(counted), Missing)


def test_a_log_that_is_gone_is_said(looking, tmp_path):
    shutil.copytree(looking.run.path, tmp_path / "run")
    (tmp_path / "run" / "log.jsonl").unlink()
    found = look_at_training(replace(looking, run=RunFolder.open(tmp_path / "run")))
    assert isinstance(found, Missing)
    assert "log.jsonl" in found.what
