"""What a child answers. The process itself is tested through ``decode_pool``."""

from pathlib import Path

import pytest
from vivim.extract.clip import ClipRef, Failure
from vivim.extract.decode_child import attempt
from vivim.extract.failures import ClipError
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
