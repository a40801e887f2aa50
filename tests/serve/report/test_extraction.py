"""What stage one did, by a file whose faults are planted."""

from dataclasses import replace

import numpy as np
from vivim.serve.report.evidence import Missing
from vivim.serve.report.extraction import look_at_extraction, time_split


def test_failures_decoders_spans_and_times(looking):
    found = look_at_extraction(looking, 5, seed=1)
    assert (found.embedded, found.short, found.frames) == (29, 2, 2)
    assert found.kinds == (("not_video", 1, "the bytes are something else than a video"),)
    assert [failure.id for failure in found.failures] == ["i07"]
    assert found.decoders == {"decord": 20, "pyav": 9}
    assert np.array_equal(found.spans_N, np.arange(29) + 1.0)
    assert found.times[0].shares == {"decode": 0.5, "encode": 0.25, "write": 0.05, "other": 0.2}
    assert found.missing_times is None
    assert len(set(found.sheet)) == 5
    assert look_at_extraction(looking, 5, seed=1).sheet == found.sheet != look_at_extraction(looking, 5, seed=2).sheet
    assert "random seed 0" in found.reading
    assert "count 2" in found.reading


def test_a_run_without_vectors_says_what_brings_them(counted):
    found = look_at_extraction(counted, 5, seed=1)
    assert isinstance(found, Missing)
    assert "items: ids" in found.what
    assert "vivim extract" in found.command


def test_vectors_that_are_gone_are_named(looking):
    found = look_at_extraction(replace(looking, store=None), 5, seed=1)
    assert isinstance(found, Missing)
    assert "v.h5" in found.what
    assert "--embeddings" in found.command


def test_without_notes_the_times_are_missing(looking):
    found = look_at_extraction(replace(looking, extractions=[]), 5, seed=1)
    assert found.times == ()
    assert found.missing_times is not None


def test_work_done_elsewhere_has_no_shares():
    assert time_split({"date": "2026-01-02", "embedded": 3, "seconds": 2, "verdict": None}).shares == {}
