"""Children that hang, crash, allocate and shout cost one clip each, and that clip is named."""

import os
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from vivim.errors import VivimError
from vivim.extract import decode_pool, decode_process
from vivim.extract.clip import Clip, ClipRef, Failure
from vivim.extract.decode_pool import DecodePool, Idle
from vivim.extract.frame_ring import Slots
from vivim.extract.reader import ClipReader, Unchanged
from vivim.extract.sampling import Uniform


def refs(*ids):
    return [ClipRef(id_, Path("unused")) for id_ in ids]


def outcome(results):
    return {r.id: r for r in results}


def kinds(by_id):
    return {id_: r.kind for id_, r in by_id.items() if isinstance(r, Failure)}


def record_slots(monkeypatch):
    """All ``Slots`` that are made from now on."""
    made = []

    class Recorded(Slots):
        def __init__(self, count):
            super().__init__(count)
            made.append(self)

    monkeypatch.setattr(decode_pool, "Slots", Recorded)
    return made


@pytest.mark.parametrize("way", ["pipe", "ring"])
def test_every_ref_gives_one_result_whatever_happens(readers, way):
    ids = ["fine-1", "segv-1", "fine-2", "exit-1", "abort-1", "raise-1", "clip-1", "memory-1", "noise-1", "fine-3", "hang-1", "fine-4"]
    reader = readers.by_id if way == "pipe" else readers.Sized()
    pool = DecodePool(reader, workers=2, timeout_seconds=1.5, memory_bytes=1 << 30)
    results = list(pool.decode(refs(*ids)))
    assert sorted(r.id for r in results) == sorted(ids)
    by_id = outcome(results)
    assert kinds(by_id) == {
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
    assert "1.5 seconds" in by_id["hang-1"].message
    for id_ in ("fine-1", "fine-2", "noise-1", "fine-3", "fine-4"):
        assert np.array_equal(by_id[id_].frames_TCHW, readers.frames_of(id_))
    counts = pool.statistics
    assert (counts.clips, counts.died, counts.overdue, counts.recycled) == (12, 3, 1, 0)


def test_an_answer_that_is_none_costs_one_clip(readers, monkeypatch):
    monkeypatch.setattr(decode_process, "_STUCK_SECONDS", 0.3)
    ids = ["swapped-1", "nothing-1", "garble-1", "half-1", "deaf-1", "large-1", "fine-1"]
    pool = DecodePool(readers.Sized(), workers=2)
    by_id = outcome(pool.decode(refs(*ids)))
    assert kinds(by_id) == dict.fromkeys(ids[:-1], "crash")
    assert "another clip, 'fine-1'" in by_id["swapped-1"].message
    assert "gave NoneType, which does not say of which clip" in by_id["nothing-1"].message
    assert "cannot be read" in by_id["garble-1"].message
    assert "middle of its answer" in by_id["half-1"].message
    assert "pipe closed" in by_id["deaf-1"].message
    assert "24576 bytes of frames" in by_id["large-1"].message
    assert pool.statistics.died == 5


def test_a_hanging_clip_does_not_hold_up_the_others(readers):
    pool = DecodePool(readers.by_id, workers=2, timeout_seconds=1.5)
    finished = []
    for result in pool.decode(refs("hang-1", *(f"fine-{k}" for k in range(30)))):
        finished.append(result.id)
    assert finished[-1] == "hang-1"


def test_a_slot_is_used_again_and_what_was_fetched_stays(readers, monkeypatch):
    made = record_slots(monkeypatch)
    ids = [f"fine-{k}" for k in range(300)]
    before = os.listdir("/dev/fd")
    results = list(DecodePool(readers.Sized(), workers=2, ahead=2).decode(refs(*ids)))
    assert sorted(r.id for r in results) == sorted(ids)
    assert all(np.array_equal(r.frames_TCHW, readers.frames_of(r.id)) for r in results)
    assert all(r.frames_TCHW.flags.owndata and r.frames_TCHW.flags.writeable for r in results)
    assert [sorted(slots.free) for slots in made] == [[0, 1, 2, 3]]
    assert os.listdir("/dev/fd") == before


def test_failures_keep_no_slots_and_no_descriptors(readers, monkeypatch):
    made = record_slots(monkeypatch)
    before = os.listdir("/dev/fd")
    ids = [f"{what}-{k}" for k in range(2) for what in ("segv", "fine", "hang", "raise", "large", "swapped")]
    results = list(DecodePool(readers.Sized(), workers=2, ahead=1, timeout_seconds=0.3).decode(refs(*ids)))
    assert sorted(r.id for r in results) == sorted(ids)
    assert [sorted(slots.free) for slots in made] == [[0, 1, 2]]
    assert os.listdir("/dev/fd") == before


def test_no_more_is_read_than_there_are_slots(readers):
    pool = DecodePool(readers.Sized(), workers=1, ahead=2)
    started = []
    results = pool.decode(refs(*(f"fine-{k}" for k in range(8))), on_start=lambda ref: started.append(ref.id))
    for fetched in range(1, 9):
        next(results)
        assert len(started) <= 3 + fetched
    assert pool.statistics.clips == 8

    started.clear()
    results = pool.decode(refs(*(f"fine-{k}" for k in range(8))), on_start=lambda ref: started.append(ref.id))
    next(results)
    time.sleep(0.5)
    blocked = pool.statistics.blocked_seconds
    time.sleep(0.5)
    assert started == ["fine-0", "fine-1", "fine-2", "fine-3"]
    assert pool.statistics.blocked_seconds - blocked > 0.2
    results.close()


def test_a_stop_ends_the_results_after_those_that_are_there(readers):
    stop = threading.Event()
    results = DecodePool(readers.by_id, workers=1).decode(refs("fine-1", *(f"slow-{k}" for k in range(50))), stop=stop)
    assert next(results).id == "fine-1"
    stop.set()
    assert len(list(results)) <= 2


def test_pauses_are_told(readers):
    """A clip hangs, the other is there: whoever listens may do something with it meanwhile."""
    pool = DecodePool(readers.by_id, workers=2, timeout_seconds=1.0, idle_seconds=0.2)
    heard = list(pool.listen(refs("hang-1", "fine-1")))
    clips = [result.id for result in heard if not isinstance(result, Idle)]
    assert clips == ["fine-1", "hang-1"]
    assert sum(isinstance(result, Idle) for result in heard[heard.index(next(r for r in heard if not isinstance(r, Idle))) :]) >= 2
    assert not any(isinstance(result, Idle) for result in pool.decode(refs("hang-1", "fine-1")))


def test_statistics_say_where_the_time_went(readers):
    pool = DecodePool(readers.Sized(), workers=2, clips_per_child=2)
    begin = time.monotonic()
    assert len(list(pool.decode(refs(*(f"slow-{k}" for k in range(6)))))) == 6
    seconds = time.monotonic() - begin
    counts = pool.statistics
    assert (counts.workers, counts.clips, counts.died, counts.overdue) == (2, 6, 0, 0)
    assert counts.recycled in (1, 2)  # a child that has read its last clip is let go, not replaced
    assert 6 * 0.3 <= counts.busy_seconds <= counts.worker_seconds <= 2 * seconds
    assert counts.busy_share == counts.busy_seconds / counts.worker_seconds
    assert counts.blocked_share < 0.1


def test_a_clip_is_announced_before_a_child_gets_it(readers, tmp_path):
    wanted = [ClipRef(f"fine-{k}", tmp_path / str(k)) for k in range(20)]
    told = []

    def note(ref):
        told.append(ref)
        ref.path.touch()

    results = list(DecodePool(readers.AfterNote(), workers=2, ahead=1).decode(wanted, on_start=note))
    assert told == wanted
    assert kinds(outcome(results)) == {}


@pytest.mark.parametrize("error", [KeyError("the ledger"), KeyboardInterrupt()])
def test_what_the_announcement_raises_ends_the_run_after_what_was_finished(readers, error):
    def note(ref):
        if ref.id == "fine-2":
            raise error

    results = DecodePool(readers.Sized(), workers=1, ahead=0).decode(refs(*(f"fine-{k}" for k in range(9))), on_start=note)
    assert [next(results).id, next(results).id] == ["fine-0", "fine-1"]
    with pytest.raises(type(error)) as caught:
        next(results)
    assert caught.value is error


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
