"""What a child answers. The process itself is tested through ``decode_pool``."""

from pathlib import Path

import numpy as np
import pytest
from vivim.extract.clip import Clip, ClipRef, Failure
from vivim.extract.decode_child import attempt
from vivim.extract.failures import ClipError
from vivim.extract.frame_ring import FrameRing, Shelved
from vivim.extract.reader import Unchanged


@pytest.mark.parametrize(
    ("error", "kind", "message"),
    [
        (ClipError("too_long", "a day"), "too_long", "a day"),
        (MemoryError(), "oom", "more memory"),
        (KeyError("pts"), "crash", "KeyError: 'pts'"),
    ],
)
def test_whatever_the_reader_raises_is_a_failure_of_that_clip(error, kind, message):
    def reader(ref, known_sha256):
        raise error

    failure = attempt(reader, ClipRef("a", Path("a.mp4")), None)
    assert isinstance(failure, Failure)
    assert (failure.id, failure.kind) == ("a", kind)
    assert message in failure.message


def test_the_answer_is_passed_on():
    assert attempt(lambda ref, known: Unchanged(ref.id + known), ClipRef("a", Path("a.mp4")), "b") == Unchanged("ab")


def test_frames_go_into_the_given_slot_and_all_else_is_passed_on():
    clip = Clip("a", np.arange(96, dtype=np.uint8).reshape(2, 3, 4, 4), np.zeros(2), "pyav", "sha")
    ring = FrameRing(2, 96)
    shelved = attempt(lambda ref, known: clip, ClipRef("a", Path("a.mp4")), None, ring.writer, 1)
    assert isinstance(shelved, Shelved)
    assert shelved.clip.frames_TCHW.size == 0
    assert np.array_equal(ring.take(1, shelved).frames_TCHW, clip.frames_TCHW)
    assert attempt(lambda ref, known: Unchanged("a"), ClipRef("a", Path("a.mp4")), None, ring.writer, 0) == Unchanged("a")
    ring.close()


def test_a_clip_larger_than_its_reader_said_is_a_failure_that_says_so():
    clip = Clip("a", np.zeros((2, 3, 64, 64), np.uint8), np.zeros(2), "pyav", "sha")
    ring = FrameRing(1, 96)
    failure = attempt(lambda ref, known: clip, ClipRef("a", Path("a.mp4")), None, ring.writer, 0)
    assert isinstance(failure, Failure)
    assert (failure.id, failure.kind) == ("a", "crash")
    assert "24576 bytes of frames" in failure.message
    ring.close()
