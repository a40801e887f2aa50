"""What the process of a training tells."""

import io
import json
import os

import pytest
from vivim.suites import row_process
from vivim.suites.row_process import Channel


def test_progress_as_lines(monkeypatch):
    clock = iter([10.0, 10.0, 10.5, 12.0, 12.0])
    monkeypatch.setattr(row_process.time, "monotonic", lambda: next(clock))
    stream = io.StringIO()
    channel = Channel(stream)
    channel.say("epoch 1: \N{GREEK SMALL LETTER ALPHA}\nb")
    channel.start("epoch 2", 1200, "batches")
    channel.advance(1, "loss 3")
    channel.advance(1, "loss 2")  # half a second later: not told
    channel.advance(1000, "loss 1")
    channel.finish()
    channel.tell("done", True)
    assert [json.loads(line) for line in stream.getvalue().splitlines()] == [
        {"say": "epoch 1: \N{GREEK SMALL LETTER ALPHA}\nb"},
        {"state": "epoch 2, 1/1,200 batches, loss 3"},
        {"state": "epoch 2, 1,002/1,200 batches, loss 1"},
        {"done": True},
    ]


def test_nobody_may_be_left_to_read():
    ours, theirs = os.pipe()
    channel = Channel(os.fdopen(theirs, "w"))
    os.close(ours)
    with pytest.raises(BrokenPipeError):
        os.write(theirs, b"a line")
    channel.start("epoch 1", 9, "batches")
    for count in (4, 1):
        channel.say("the work goes on")
        channel.advance(count)
    assert channel.done == [5]
    os.dup2(os.open(os.devnull, os.O_WRONLY), theirs)  # or closing the stream would complain
    channel.stream.close()
