"""Times on the wire."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from vivim.serve.schemas import time_ms, time_text


@pytest.mark.parametrize(
    ("text", "ms"),
    [
        ("1970-01-01T00:00:00Z", 0),
        ("1970-01-01T00:00:00.001Z", 1),
        ("1970-01-01t00:00:00.0019999999z", 1),
        ("1970-01-01 01:00:00+01:00", 0),
        ("1969-12-31T23:59:59.999Z", -1),
        ("2026-01-31T10:15:00-05:30", 1769874300000),
        ("9999-12-31T23:59:59.999Z", 253402300799999),
        ("0001-01-01T00:00:00Z", -62135596800000),
    ],
)
def test_times_are_read(text, ms):
    assert time_ms(text) == ms


@pytest.mark.parametrize(
    "text",
    [
        5,
        None,
        "",
        "now",
        "2026-01-31",
        "2026-01-31T10:15:00",
        "2026-01-31T10:15Z",
        "2026-W05-6T10:15:00Z",
        "2026-02-30T10:15:00Z",
        "2026-01-31T25:00:00Z",
        "2026-01-31T10:15:60Z",
        "2026-01-31T10:15:00+25:00",
        "2026-01-31T10:15:00Z ",
        "٢٠٢٦-01-31T10:15:00Z",
        "0001-01-01T00:00:00+14:00",
        "9999-12-31T23:59:59-14:00",
    ],
)
def test_what_is_no_time_is_refused(text):
    with pytest.raises(ValueError, match=r"must|out of range|day|hour|second|offset"):
        time_ms(text)


@given(st.integers(-62135596800000, 253402300799999))
def test_a_time_that_was_written_is_read_back(ms):
    text = time_text(ms)
    assert text is not None
    assert time_ms(text) == ms


def test_no_time_is_no_text():
    assert time_text(None) is None
