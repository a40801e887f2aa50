"""Reading with a watch is reading."""

import subprocess
import sys

import numpy as np
from vivim.extract.clip import Clip, ClipRef, Failure
from vivim.extract.reader import ClipReader
from vivim.extract.sampling import Uniform
from vivim.extract.timed_reader import TimedReader


def test_a_timed_reader_reads_what_the_reader_reads(tmp_path, clips):
    path = clips.write(tmp_path / "a.mp4", 20)
    reader = ClipReader(Uniform(3), image_size=32)
    timed = TimedReader(reader)(ClipRef("x", path))
    plain = reader(ClipRef("x", path))
    assert isinstance(timed.outcome, Clip)
    assert np.array_equal(timed.outcome.frames_TCHW, plain.frames_TCHW)
    assert 0 < timed.seconds < 60


def test_a_failure_has_its_time_too(tmp_path, clips):
    path = tmp_path / "cut.mp4"
    path.write_bytes(clips.write(tmp_path / "a.mp4", 20).read_bytes()[:-100])
    timed = TimedReader(ClipReader(Uniform(3)))(ClipRef("x", path))
    assert isinstance(timed.outcome, Failure)
    assert (timed.outcome.kind, timed.seconds > 0) == ("truncated", True)


def test_what_reads_in_children_loads_no_torch():
    code = "import sys, vivim.extract.timed_reader, vivim.extract.headers; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
