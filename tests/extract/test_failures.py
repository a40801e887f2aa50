import pytest
from vivim.extract.failures import KINDS, ClipError


def test_every_kind_has_a_meaning_of_one_line():
    assert all(meaning and "\n" not in meaning for meaning in KINDS.values())
    assert {"timeout", "crash", "oom", "not_video", "truncated", "nan_output"} <= set(KINDS)


def test_an_unknown_kind_is_our_own_mistake():
    with pytest.raises(AssertionError):
        ClipError("sad", "a clip")
