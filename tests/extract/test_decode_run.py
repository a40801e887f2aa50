"""Processes that are killed, stopped and left alone: no clip is lost or blamed for nothing, and no process stays behind."""

import os
import random
import signal
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
import zlib
from pathlib import Path

import pytest
from vivim.extract.clip import Clip, ClipRef, Failure
from vivim.extract.decode_pool import DecodePool

pytestmark = pytest.mark.skipif(not Path("/proc/self/cmdline").exists(), reason="looks at /proc")


def refs(*ids):
    return [ClipRef(id_, Path("unused")) for id_ in ids]


def children_of(parent_pid):
    """Decoding processes that a process has started and that are not dead, wherever they hang in the process table now."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().split(b"\0")
        except OSError:  # it ended meanwhile
            continue
        if b"vivim.extract.decode_child" in words and str(parent_pid).encode() in words:
            found.append(int(path.parent.name))
    return found


def file_of(path):
    """What a name or an open descriptor stands for."""
    status = path.stat()
    return status.st_dev, status.st_ino


def wait_for(condition, seconds=20.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


@pytest.fixture
def reading(tmp_path):
    """Starts a program that reads clips with two children and prints what becomes of them; ends what is left of it."""
    started = []

    def start(*ids, timeout_seconds):
        """The program, when every clip is being read, and the children by clip."""
        script = f"""
            import sys
            sys.path.insert(0, {str(Path(__file__).parent)!r})
            from pathlib import Path
            import misbehaving_readers
            from vivim.extract.clip import ClipRef
            from vivim.extract.decode_pool import DecodePool
            refs = [ClipRef(id_, Path({str(tmp_path)!r}, id_)) for id_ in {ids!r}]
            for result in DecodePool(misbehaving_readers.Beacon(), {len(ids)}, {timeout_seconds}).decode(refs):
                print(result.id, getattr(result, "kind", "clip"))
        """
        process = subprocess.Popen([sys.executable, "-c", textwrap.dedent(script)], stdout=subprocess.PIPE, text=True)
        started.append(process)
        wait_for(lambda: all((tmp_path / id_).exists() for id_ in ids))
        return process, {id_: int((tmp_path / id_).read_text()) for id_ in ids}

    yield start
    for process in started:
        process.kill()
        process.wait()
        process.stdout.close()


def test_leaving_early_ends_the_children(readers):
    results = DecodePool(readers.by_id, workers=2).decode(refs("fine-1", *(f"slow-{k}" for k in range(50))))
    next(results)
    assert children_of(os.getpid())
    results.close()
    assert children_of(os.getpid()) == []


def test_the_end_leaves_no_children(readers):
    assert len(list(DecodePool(readers.by_id, workers=2).decode(refs("fine-1", "segv-1", "fine-2")))) == 3
    assert children_of(os.getpid()) == []


def test_children_die_with_a_parent_that_is_killed_and_nothing_stays_behind(reading):
    parent, children = reading("hang-1", "spin-1", timeout_seconds=30)
    assert sorted(children_of(parent.pid)) == sorted(children.values())
    opened = {file_of(path) for path in Path(f"/proc/{parent.pid}/fd").iterdir()}
    parent.kill()
    parent.wait()
    wait_for(lambda: not children_of(parent.pid))
    folders = [folder for folder in (Path("/dev/shm"), Path(tempfile.gettempdir())) if folder.is_dir()]
    assert not [path for folder in folders for path in folder.iterdir() if path.is_file() and file_of(path) in opened]


def test_a_parent_that_was_stopped_believes_what_was_finished_meanwhile(reading):
    parent, children = reading("slow-1", "spin-1", timeout_seconds=0.6)
    os.kill(parent.pid, signal.SIGSTOP)
    wait_for(lambda: children["spin-1"] not in children_of(parent.pid))  # nobody but the kernel can have ended it
    os.kill(parent.pid, signal.SIGCONT)
    assert sorted(parent.communicate()[0].splitlines()) == ["slow-1 clip", "spin-1 timeout"]


def test_a_machine_that_slept_is_no_fault_of_the_clips(reading):
    parent, children = reading("steps-1", "steps-2", timeout_seconds=1.0)
    for pid in (parent.pid, *children.values()):
        os.kill(pid, signal.SIGSTOP)
    time.sleep(1.5)
    for pid in (*children.values(), parent.pid):
        os.kill(pid, signal.SIGCONT)
    assert sorted(parent.communicate()[0].splitlines()) == ["steps-1 clip", "steps-2 clip"]


def test_ctrl_c_reaches_the_parent_alone(readers):
    results = DecodePool(readers.Sized(), workers=1).decode(refs("fine-1", "fine-2", "slow-3"))
    next(results)
    (child,) = children_of(os.getpid())
    assert os.getpgid(child) != os.getpgid(0)
    os.kill(child, signal.SIGINT)
    assert all(isinstance(result, Clip) for result in results)


def test_children_that_are_killed_while_they_write_spoil_no_clip(readers):
    pool = DecodePool(readers.Large(), workers=2, ahead=1)
    done, dice = threading.Event(), random.Random(0)

    def killer():
        for clips in range(20, 120, 20):
            while pool.statistics.clips < clips:
                if done.wait(0.001):
                    return
            time.sleep(dice.uniform(0, 0.01))
            os.kill(min(children_of(os.getpid())), signal.SIGKILL)  # the older one; the other may be starting

    thread = threading.Thread(target=killer)
    thread.start()
    ids = [f"clip {k}" for k in range(140)]
    results = []
    try:
        for result in pool.decode(refs(*ids)):
            if isinstance(result, Clip):
                assert (result.frames_TCHW == zlib.crc32(result.id.encode()) % 256).all(), result.id
            else:
                assert "SIGKILL" in result.message
            results.append(result.id)
    finally:
        done.set()
        thread.join()
    assert sorted(results) == sorted(ids)
    assert pool.statistics.died >= 3  # a process that is already dying may have been hit twice


def test_a_child_that_dies_idle_is_no_fault_of_the_next_clip(readers):
    pool = DecodePool(readers.Sized(), workers=1, ahead=0)
    results = pool.decode(refs(*(f"fine-{k}" for k in range(6))))
    next(results)
    wait_for(lambda: pool.statistics.clips == 2)  # one fetched, one in the only slot
    (child,) = children_of(os.getpid())
    os.kill(child, signal.SIGKILL)
    wait_for(lambda: pool.statistics.died == 1)
    assert all(isinstance(result, Clip) for result in results)
    assert (pool.statistics.clips, pool.statistics.died) == (6, 1)


def test_a_child_that_is_killed_while_it_starts_is_started_again(readers):
    pool = DecodePool(readers.Sized(), workers=1)

    def killer():
        wait_for(lambda: children_of(os.getpid()))
        os.kill(children_of(os.getpid())[0], signal.SIGKILL)

    thread = threading.Thread(target=killer)
    thread.start()
    (result,) = pool.decode(refs("fine-1"))
    thread.join()
    assert isinstance(result, Clip)
    assert pool.statistics.died == 0


def test_a_clip_whose_child_is_killed_is_named(readers):
    pool = DecodePool(readers.Sized(), workers=1)
    wanted = refs("hang-1", "fine-1")

    def kill_reader(ref):
        if ref.id == "hang-1":
            threading.Timer(0.3, lambda: os.kill(children_of(os.getpid())[0], signal.SIGKILL)).start()

    failure, clip = pool.decode(wanted, on_start=kill_reader)
    assert isinstance(failure, Failure)
    assert (failure.id, failure.kind) == ("hang-1", "crash")
    assert "SIGKILL (the kernel does this when memory runs out)" in failure.message
    assert isinstance(clip, Clip)
