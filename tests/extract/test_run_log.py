"""What runs of stage one note about their time."""

import os
import sys

from vivim.extract.clip import Failure
from vivim.extract.parts import parts_of
from vivim.extract.run_log import NAME, note_run, noted_runs
from vivim.extract.summary import ExtractSummary
from vivim.progress import SILENT


def done(embedded, seconds=2.0):
    failures = (Failure("c", "empty", "the file has no bytes"),)
    return ExtractSummary(embedded + 1, embedded, 0, failures, seconds, 0.5, 1.0, {"pyav": embedded})


def test_runs_of_all_parts_are_read_in_order_of_time(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["/somewhere/vivim", "extract", "--videos", "my clips"])
    out = tmp_path / "v.h5"
    for folder in ("2-of-2", "1-of-2"):
        (parts_of(out) / folder).mkdir(parents=True)
        note_run(parts_of(out) / folder, done(3), SILENT)
    note_run(parts_of(out) / "1-of-2", done(0), SILENT)  # nothing was embedded: nothing to say
    found = noted_runs(out)
    assert [(line["embedded"], line["failed"], line["clips_per_second"]) for line in found] == [(3, 1, 1.5)] * 2
    assert {line["command"] for line in found} == {"vivim extract --videos 'my clips'"}
    assert [line["date"] for line in found] == sorted(line["date"] for line in found)
    assert noted_runs(tmp_path / "other.h5") == []


def test_a_line_that_was_cut_off_is_passed_over(tmp_path):
    out = tmp_path / "v.h5"
    folder = parts_of(out) / "all"
    folder.mkdir(parents=True)
    note_run(folder, done(3), SILENT)
    with (folder / NAME).open("a") as file:
        file.write('{"date": "2026-01')
    assert len(noted_runs(out)) == 1
    note_run(folder, done(4), SILENT)
    assert [line["embedded"] for line in noted_runs(out)] == [3, 4]


def test_a_place_that_cannot_be_written_costs_the_line_only(tmp_path):
    said = []
    progress = type("Says", (), {"say": lambda self, line: said.append(line)})()
    note_run(tmp_path / "gone", done(3), progress)
    assert os.fspath(tmp_path / "gone") in said[0]
