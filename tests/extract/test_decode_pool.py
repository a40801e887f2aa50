"""Children that hang, crash, allocate and shout cost one clip each, and that clip is named."""

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest
from vivim.errors import VivimError
from vivim.extract.clip import Clip, ClipRef, Failure
from vivim.extract.decode_pool import DecodePool
from vivim.extract.reader import ClipReader, Unchanged
from vivim.extract.sampling import Uniform


@pytest.fixture
def readers(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    import misbehaving_readers

    return misbehaving_readers


def refs(*ids):
    return [ClipRef(id_, Path("unused")) for id_ in ids]


def outcome(results):
    return {r.id: r for r in results}


def test_every_ref_gives_one_result_whatever_happens(readers):
    ids = ["fine-1", "segv-1", "fine-2", "exit-1", "abort-1", "raise-1", "clip-1", "memory-1", "noise-1", "fine-3", "hang-1", "fine-4"]
    pool = DecodePool(readers.by_id, workers=2, timeout_seconds=3.0, memory_bytes=1 << 30)
    results = list(pool.decode(refs(*ids)))
    assert sorted(r.id for r in results) == sorted(ids)
    by_id = outcome(results)
    assert {i: r.kind for i, r in by_id.items() if isinstance(r, Failure)} == {
        "segv-1": "crash",
        "exit-1": "crash",
        "abort-1": "oom",
        "raise-1": "crash",
        "clip-1": "truncated",
        "memory-1": "oom",
        "hang-1": "timeout",
    }
    assert "SIGSEGV" in by_id["segv-1"].message
    assert "exit code 7" in by_id["exit-1"].message
    assert "bad_alloc" in by_id["abort-1"].message
    assert by_id["raise-1"].message == "RuntimeError: sum of all fears"
    assert "3 seconds" in by_id["hang-1"].message
    clip = by_id["fine-3"]
    assert isinstance(clip, Clip)
    assert clip.frames_TCHW.max() == sum(b"fine-3") % 256


def test_a_hanging_clip_does_not_hold_up_the_others(readers):
    pool = DecodePool(readers.by_id, workers=2, timeout_seconds=4.0)
    finished = []
    for result in pool.decode(refs("hang-1", *(f"fine-{k}" for k in range(30)))):
        finished.append(result.id)
    assert finished[-1] == "hang-1"


def test_known_hashes_reach_the_reader(readers):
    results = outcome(DecodePool(readers.by_id, workers=1).decode(refs("a", "b"), {"a": "sha of a", "b": "another"}))
    assert results["a"] == Unchanged("a")
    assert isinstance(results["b"], Clip)


def test_children_are_replaced_after_some_clips_and_fewer_are_started_than_clips(readers):
    pool = DecodePool(readers.by_id, workers=8, clips_per_child=1)
    assert len(list(pool.decode(refs("a", "b")))) == 2
    assert list(pool.decode([])) == []


def test_nothing_reaches_the_terminal_and_noise_starts_anew_with_each_clip(readers, capfd):
    results = outcome(DecodePool(readers.by_id, workers=1).decode(refs("noise-1", "loudspeaker-1")))
    assert results["loudspeaker-1"].message == "6 bytes"
    assert capfd.readouterr() == ("", "")


def alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def wait_for(condition, seconds=20.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_leaving_early_ends_the_children(readers, tmp_path):
    (tmp_path / "pid").touch()
    pool = DecodePool(readers.by_id, workers=2)
    results = pool.decode(refs("fine-1", *(f"slow-{k}" for k in range(50))))
    next(results)
    results.close()
    pids = [pid for path in Path("/proc/self/task").glob("*/children") for pid in path.read_text().split()]
    assert not [pid for pid in pids if b"vivim.extract.decode_child" in Path(f"/proc/{pid}/cmdline").read_bytes()]


def test_children_die_with_a_parent_that_is_killed(readers, tmp_path):
    pid_file = tmp_path / "pid"
    pid_file.touch()
    script = f"""
        import sys
        sys.path.insert(0, {str(Path(__file__).parent)!r})
        from pathlib import Path
        import misbehaving_readers
        from vivim.extract.clip import ClipRef
        from vivim.extract.decode_pool import DecodePool
        list(DecodePool(misbehaving_readers.tell_pid, workers=1).decode([ClipRef("a", Path({str(pid_file)!r}))]))
    """
    parent = subprocess.Popen([sys.executable, "-c", textwrap.dedent(script)])
    try:
        wait_for(lambda: pid_file.read_text())
        child = int(pid_file.read_text())
        assert alive(child)
    finally:
        parent.kill()
        parent.wait()
    wait_for(lambda: not alive(child))


def children():
    """Decoding processes of this process."""
    pids = [int(pid) for path in Path("/proc/self/task").glob("*/children") for pid in path.read_text().split()]
    return [pid for pid in pids if b"vivim.extract.decode_child" in Path(f"/proc/{pid}/cmdline").read_bytes()]


def level(id_):
    return sum(id_.encode()) % 256


def test_frames_through_shared_memory_are_the_right_ones_also_when_slots_are_used_many_times(readers):
    ids = [f"fine-{k}" for k in range(200)]
    before = len(os.listdir("/proc/self/fd"))
    pool = DecodePool(readers.Sized(), workers=2, ahead=3)
    seen = []
    for result in pool.decode(refs(*ids)):
        assert (result.frames_TCHW == level(result.id)).all(), result.id
        seen.append(result)
    assert sorted(result.id for result in seen) == sorted(ids)
    assert all((result.frames_TCHW == level(result.id)).all() for result in seen)  # still theirs when all slots have been filled anew
    assert len(os.listdir("/proc/self/fd")) == before
    assert (pool.statistics.clips, pool.statistics.workers) == (200, 2)
    assert 0 < pool.statistics.busy_share <= 1


def test_no_more_clips_are_read_ahead_than_there_are_slots(readers):
    started = []
    results = DecodePool(readers.Sized(), workers=1, ahead=2).decode(refs(*(f"fine-{k}" for k in range(20))), on_start=started.append)
    next(results)
    time.sleep(1.0)
    assert len(started) <= 4  # one that was fetched, one with the child, two that wait
    results.close()


def test_failures_give_their_slots_back(readers):
    ids = [f"{what}-{k}" for k in range(3) for what in ("segv", "large", "other", "odd", "clip", "leak")] + ["fine-1", "fine-2"]
    pool = DecodePool(readers.Sized(), workers=1, ahead=0)
    found = outcome(pool.decode(refs(*ids)))
    assert len(found) == len(ids)
    assert {id_: result.kind for id_, result in found.items() if isinstance(result, Failure)} == {
        id_: "truncated" if id_.startswith("clip") else "crash" for id_ in ids if not id_.startswith(("fine", "leak"))
    }
    assert "a slot takes" in found["large-0"].message
    assert "for another clip, 'someone else'" in found["other-0"].message
    assert "does not say of which clip" in found["odd-0"].message
    assert pool.statistics.died == 9


def test_a_stop_ends_the_results_after_those_that_are_there(readers):
    stop = threading.Event()
    results = DecodePool(readers.by_id, workers=1).decode(refs("fine-1", *(f"slow-{k}" for k in range(50))), None, None, stop)
    assert next(results).id == "fine-1"
    stop.set()
    assert len(list(results)) <= 2
    assert not children()


def test_what_is_told_before_a_clip_may_refuse_it(readers):
    def refuse(ref):
        raise VivimError("the ledger is full")

    with pytest.raises(VivimError, match="the ledger is full"):
        list(DecodePool(readers.by_id, workers=1).decode(refs("fine-1"), None, refuse))
    assert not children()


def test_a_child_that_is_killed_while_it_starts_or_idles_is_replaced(readers):
    results = DecodePool(readers.by_id, workers=1).decode(refs("fine-1", "fine-2"))

    def kill():
        wait_for(children)
        os.kill(children()[0], signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    assert sorted(result.id for result in results) == ["fine-1", "fine-2"]
    killer.join()


def test_a_stopped_parent_does_not_make_clips_overdue(readers, tmp_path):
    """While the parent sleeps (SIGSTOP, a laptop's lid) the clock goes on; what was finished by then counts."""
    script = f"""
        import sys
        sys.path.insert(0, {str(Path(__file__).parent)!r})
        from pathlib import Path
        import misbehaving_readers
        from vivim.extract.clip import ClipRef
        from vivim.extract.decode_pool import DecodePool
        refs = [ClipRef(f"slow-{{k}}", Path("unused")) for k in range(6)]
        for result in DecodePool(misbehaving_readers.by_id, workers=1, timeout_seconds=1.0).decode(refs):
            print(type(result).__name__, flush=True)
    """
    with subprocess.Popen([sys.executable, "-c", textwrap.dedent(script)], stdout=subprocess.PIPE, text=True) as parent:
        said = [parent.stdout.readline()]
        os.kill(parent.pid, signal.SIGSTOP)
        time.sleep(2.5)
        os.kill(parent.pid, signal.SIGCONT)
        said += parent.stdout.readlines()
    assert parent.returncode == 0
    assert [line.strip() for line in said] == ["Clip"] * 6


def test_a_decoder_that_spins_ends_although_its_parent_is_stopped(readers, tmp_path):
    script = f"""
        import sys
        sys.path.insert(0, {str(Path(__file__).parent)!r})
        from pathlib import Path
        import misbehaving_readers
        from vivim.extract.clip import ClipRef
        from vivim.extract.decode_pool import DecodePool
        pool = DecodePool(misbehaving_readers.Sized(), workers=1, timeout_seconds=0.5)
        for result in pool.decode([ClipRef("fine-1", Path("unused")), ClipRef("spin-1", Path("unused"))]):
            print(getattr(result, "kind", "clip"), flush=True)
    """
    with subprocess.Popen([sys.executable, "-c", textwrap.dedent(script)], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout.readline() == "clip\n"
        child = int(next(path.read_text() for path in Path(f"/proc/{parent.pid}/task").glob("*/children") if path.read_text().strip()))
        os.kill(parent.pid, signal.SIGSTOP)
        wait_for(lambda: not alive(child))
        os.kill(parent.pid, signal.SIGCONT)
        assert parent.stdout.read() == "timeout\n"
    assert parent.returncode == 0


def test_a_child_that_cannot_start_is_our_error_not_the_clips(tmp_path, monkeypatch):
    (tmp_path / "broken_reader.py").write_text(
        "import os\ndef read(ref, known): pass\nif os.environ.get('BREAK'): raise ImportError('broken')\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    import broken_reader

    monkeypatch.setenv("BREAK", "1")
    with pytest.raises(VivimError, match="broken"):
        list(DecodePool(broken_reader.read, workers=1).decode(refs("a")))


def test_real_clips_through_real_children(tmp_path, clips):
    paths = [clips.write(tmp_path / f"{k}.mp4", 20 + k) for k in range(3)]
    (tmp_path / "cut.mp4").write_bytes(paths[0].read_bytes()[:500])
    pool = DecodePool(ClipReader(Uniform(3), image_size=32), workers=2)
    results = outcome(pool.decode([ClipRef(path.stem, path) for path in sorted(tmp_path.glob("*.mp4"))]))
    assert {i: getattr(r, "decoder", None) or r.kind for i, r in results.items()} == {
        "0": "decord",
        "1": "decord",
        "2": "decord",
        "cut": "truncated",
    }


@pytest.mark.shared
def test_every_bad_clip_has_its_class(shared_data):
    expected = {
        "derived__audio_only": "no_video_stream",
        "derived__html_error_page": "not_video",
        "derived__lfs_pointer": "not_video",
        "derived__random_bytes": "not_video",
        "dmlc-decord__corrupted": "decode_error",
        "mathiasbynens-small__AudioVideoInterleave": "too_short",
        "mathiasbynens-small__FlashVideo": "truncated",
        "mathiasbynens-small__Mpeg4": "no_video_stream",
        "mathiasbynens-small__WindowsMediaVideo": "too_short",
        "mathiasbynens-small__mp4-with-audio": "no_video_stream",
        "mozilla-mp4parse-rust__afconvert-aac-0.5s": "no_video_stream",
        "mozilla-mp4parse-rust__amr_nb_1f": "no_video_stream",
        "mozilla-mp4parse-rust__amr_wb_1f": "no_video_stream",
        "mozilla-mp4parse-rust__bipbop_audioinit": "no_video_stream",
        "mozilla-mp4parse-rust__bipbop_cbcs_video_init": "too_short",
        "mozilla-mp4parse-rust__chunk_out_of_range": "decode_error",
        "mozilla-mp4parse-rust__no_timescale": "decode_error",
        "mozilla-mp4parse-rust__opus_audioinit": "no_video_stream",
        "mozilla-mp4parse-rust__short-cenc": "unsupported_codec",
        "mozilla-mp4parse-rust__sine-3s-xhe-aac-44khz-mono": "no_video_stream",
        "mozilla-mp4parse-rust__test_case_1185230": "decode_error",
        "sannies-mp4parser__redbull_100kbit_dash": "too_short",
    }
    paths = sorted(path for path in (shared_data / "clips_bad").iterdir() if path.suffix != ".csv")
    results = DecodePool(ClipReader(Uniform(8)), workers=2).decode([ClipRef(path.stem, path) for path in paths])
    assert {r.id: r.kind for r in results} == expected


@pytest.mark.slow
@pytest.mark.shared
@pytest.mark.parametrize("decoder", ["auto", "pyav"])
def test_every_good_clip_is_read(shared_data, decoder):
    paths = sorted(path for path in (shared_data / "clips").iterdir() if path.suffix != ".csv")
    results = list(DecodePool(ClipReader(Uniform(8), decoder=decoder), workers=2).decode([ClipRef(path.stem, path) for path in paths]))
    assert len(results) == 106
    assert [r for r in results if isinstance(r, Failure)] == []
