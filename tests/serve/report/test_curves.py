"""The curves are those of log.jsonl."""

import json
import shutil
from dataclasses import replace

from vivim.recommend.checkpoint import RunFolder
from vivim.serve.report.curves import look_at_training
from vivim.serve.report.evidence import Missing


def test_every_epoch_is_there(looking):
    found = look_at_training(looking)
    lines = [json.loads(line) for line in (looking.run.path / "log.jsonl").read_text().splitlines()]
    assert [(e.epoch, e.loss, e.ndcg_10) for e in found.epochs] == [(x["epoch"], x["loss"], x["ndcg_10"]) for x in lines]
    assert len(found.epochs) == 2
    assert found.best == max(lines, key=lambda x: x["ndcg_10"])["epoch"]
    assert found.stopped == "all 2 epochs were done"


def test_what_is_counted_has_none(counted):
    assert isinstance(look_at_training(counted), Missing)


def test_a_log_that_is_gone_is_said(looking, tmp_path):
    shutil.copytree(looking.run.path, tmp_path / "run")
    (tmp_path / "run" / "log.jsonl").unlink()
    found = look_at_training(replace(looking, run=RunFolder.open(tmp_path / "run")))
    assert isinstance(found, Missing)
    assert "log.jsonl" in found.what
