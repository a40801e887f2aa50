"""The curves are those of log.jsonl."""

import json

from vivim.serve.report.curves import look_at_training
from vivim.serve.report.evidence import Missing


def test_every_epoch_is_there(looking):
    found = look_at_training(looking)
    lines = [json.loads(line) for line in (looking.run.path / "log.jsonl").read_text().splitlines()]
    assert [(e.number, e.loss, e.ndcg_10) for e in found.epochs] == [(x["epoch"], x["loss"], x["ndcg_10"]) for x in lines]
    assert len(found.epochs) == 2
    assert found.best == max(lines, key=lambda x: x["ndcg_10"])["epoch"]
    assert found.stopped == "all 2 epochs were done"


def test_what_is_counted_has_none(counted):
    assert isinstance(look_at_training(counted), Missing)
