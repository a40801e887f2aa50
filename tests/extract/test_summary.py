import pytest
from vivim.errors import TooManyFailures
from vivim.extract.clip import Failure
from vivim.extract.summary import ExtractSummary, check_fail_rate
from vivim.extract.verdict import StageTimes, verdict


def summary(embedded=103, unchanged=0, failures=(), seconds=41.2, wait=30.0, encode=5.0):
    failed = tuple(Failure(f"c{k}", kind, "why") for k, kind in enumerate(failures))
    total = embedded + unchanged + len(failed)
    times = StageTimes(seconds, embedded, wait, encode, 0.1, 2, 1.9 * wait, 0.0, 4, "cuda")
    return ExtractSummary(total, embedded, unchanged, failed, seconds, wait, encode, {"decord": embedded}, "", verdict(times))


def test_the_first_line_is_the_answer():
    line = summary(failures=["timeout", "not_video", "not_video"]).first_line()
    assert line == "103 of 106 clips embedded, 3 failed (2 not_video, 1 timeout); 41 s; decode-bound"


def test_other_first_lines():
    assert summary(wait=1.0, encode=35.0).first_line() == "103 of 103 clips embedded; 41 s; encode-bound"
    assert summary(embedded=1, unchanged=102, seconds=1.26).first_line() == "103 of 103 clips embedded (102 unchanged); 1.3 s"
    assert summary(embedded=0, unchanged=9, seconds=0.04).first_line() == "9 of 9 clips embedded (9 unchanged); 0.0 s"


def test_rates():
    assert summary(embedded=100, seconds=50.0).clips_per_second == 2.0
    assert summary(seconds=0.0).clips_per_second == 0.0


def test_the_fail_rate_is_a_share_of_all_clips():
    check_fail_rate(summary(embedded=99, failures=["oom"]), 0.01)
    with pytest.raises(TooManyFailures, match=r"2 of 101 clips failed \(2 oom\), more than the 1.0% that --max-fail-rate allows.*saved"):
        check_fail_rate(summary(embedded=99, failures=["oom", "oom"]), 0.01)
    check_fail_rate(summary(embedded=0, failures=["oom"]), 1.0)
    with pytest.raises(TooManyFailures):
        check_fail_rate(summary(failures=["oom"]), 0.0)
