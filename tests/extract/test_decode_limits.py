"""What a decoding process may use, asked of real ones."""

import sys
from pathlib import Path

import pytest
from vivim.extract.clip import Clip, ClipRef
from vivim.extract.decode_pool import DecodePool


def messages(readers, *ids, **options):
    """What the reader said about each clip, all read by one child."""
    pool = DecodePool(readers.Sized(), workers=1, **options)
    results = {r.id: getattr(r, "message", r) for r in pool.decode([ClipRef(id_, Path("unused")) for id_ in ids])}
    return [results[id_] for id_ in ids]


@pytest.mark.skipif(sys.platform != "linux", reason="oom_score_adj and dumpable are Linux's")
def test_limits_are_set_and_renewed_for_every_clip(readers):
    limits = {}
    for k, text in enumerate(messages(readers, "limits-0", "noise-0", "limits-1", timeout_seconds=7.5, memory_bytes=1 << 30)[::2]):
        limits[k] = {name: float(value) for name, value in (word.split("=") for word in text.split())}
        assert 14.9 <= limits[k].pop("CPU") <= 16
        assert 64 < limits[k].pop("NOFILE") < 80
    wanted = {"DATA": 1 << 30, "FSIZE": 16 << 20, "CORE": 0, "oom": 1000, "dumpable": 0}
    assert limits == {k: pytest.approx(wanted, rel=1e-5) for k in (0, 1)}


def test_a_clip_that_opens_too_many_files_fails_and_small_leaks_do_not_add_up(readers):
    leaks = [f"leak-{k}" for k in range(100)]
    *leaked, glut, after, fine = messages(readers, *leaks, "glut-1", "files-1", "fine-1")
    assert all(isinstance(result, Clip) for result in (*leaked, fine))
    assert "Too many open files" in glut
    assert int(after.split()[0]) >= 160


def test_a_child_opens_nothing_that_it_does_not_close(readers):
    first, *_, last = messages(readers, "files-0", *(f"fine-{k}" for k in range(200)), "files-1")
    assert first == last


def test_a_child_that_allocates_without_end_is_stopped_at_its_limit(readers):
    greedy, fine = messages(readers, "greed-1", "fine-1", memory_bytes=512 << 20)
    assert "more memory than a decoding process may have" in greedy
    assert isinstance(fine, Clip)
