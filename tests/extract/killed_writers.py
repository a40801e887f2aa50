"""Processes that cache frames and are killed, by chance and at every step of writing; run by test_frame_writer as a program.

Every clip's frames are a function of its id, so that a torn or wrong one is seen. What a process says of a clip only after
``commit`` returned must be there when it is dead. Prints counts as JSON.
"""

import json
import os
import random
import signal
import sys
import time
from pathlib import Path

import numpy as np
from vivim.extract import frame_shard
from vivim.extract.clip import Clip
from vivim.extract.frame_cache import FrameCache, shards_of
from vivim.extract.frame_recipe import FrameRecipe
from vivim.extract.frame_shard import Shard
from vivim.extract.frame_writer import FrameCacheWriter

RECIPE = FrameRecipe(frames={"count": 2}, preprocessing={"image_size": 32}, decoder={})
CLIPS = 200
PER_COMMIT = 4


def clip(k):
    frames = np.random.default_rng(k).integers(0, 256, (2, 3, 32, 32), np.uint8)
    return Clip(f"c{k}", frames, np.array([k, k + 1.0]), "pyav", f"{k:064x}")


def write(folder, clips, say):
    """Cache the clips that are lacking; their numbers go to ``say`` when they are committed."""
    writer = FrameCacheWriter(folder, RECIPE)
    lacking = [k for k in range(clips) if f"c{k}" not in writer.hashes]
    for start in range(0, len(lacking), PER_COMMIT):
        group = lacking[start : start + PER_COMMIT]
        assert all([writer.add(clip(k)) for k in group])
        writer.commit()
        os.write(say, b"".join(k.to_bytes(4, "little") for k in group))


def in_child(work):
    """Start ``work(say)`` in a fork; its pid and what it will say."""
    listen, say = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            work(say)
            os._exit(0)
        except BaseException as error:
            sys.stderr.write(f"{type(error).__name__}: {error}\n")
            os._exit(9)
    os.close(say)
    return pid, listen


def heard(listen):
    with os.fdopen(listen, "rb") as file:
        said = file.read()
    return {int.from_bytes(said[i : i + 4], "little") for i in range(0, len(said), 4)}


def check(folder, promised):
    """Every promised clip is there, every clip that is there is whole and there once."""
    if not shards_of(folder):
        assert not promised
        return 0
    cache = FrameCache.open(folder, verify=True)
    assert not cache.damaged, cache.damaged
    assert {f"c{k}" for k in promised} <= set(cache.ids), "a committed clip is lost"
    assert sum(len(Shard(path).ids) for _, path in shards_of(folder)) == len(cache), "a clip is there twice"
    for id_ in cache.ids:
        expected, found = clip(int(id_[1:])), cache.read(id_)
        assert np.array_equal(found.frames_TCHW, expected.frames_TCHW) and found.sha256 == expected.sha256
    return len(cache)


def by_chance(folder, times):
    """Kill a writer at random moments, start it again, and so on, until so many have died; one that is done begins anew elsewhere."""
    moments, promised, killed, place = random.Random(0), set(), 0, 0
    root, folder = folder, folder / "0"
    for _ in range(50 * times):
        pid, listen = in_child(lambda say, folder=folder: write(folder, CLIPS, say))
        time.sleep(moments.uniform(0.0, 0.04))
        os.kill(pid, signal.SIGKILL)
        died = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL
        killed += died
        promised |= heard(listen)
        check(folder, promised)
        if killed == times:
            break
        if not died:
            place += 1
            folder, promised = root / str(place), set()
    pid, listen = in_child(lambda say: write(folder, CLIPS, say))
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    promised |= heard(listen)
    assert check(folder, promised) == CLIPS
    return {"killed": killed, "clips": CLIPS}


def at_every_step(folder):
    """Kill a writer before and after every call that changes the disk, of two shards."""
    step = 0
    while True:
        place = folder / str(step)

        def work(say, place=place, step=step):
            left = iter(range(step, -1, -1))

            def dying(call):
                def called(*arguments, **named):
                    for after in (False, True):
                        if next(left, 0) == 0:
                            os.kill(os.getpid(), signal.SIGKILL)
                        if not after:
                            result = call(*arguments, **named)
                    return result

                return called

            frame_shard.save_file = dying(frame_shard.save_file)
            frame_shard.sync = dying(frame_shard.sync)
            frame_shard.os = type("os", (), {**vars(os), "replace": dying(os.replace)})
            write(place, 2 * PER_COMMIT, say)

        pid, listen = in_child(work)
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        promised = heard(listen)
        check(place, promised)
        if code == 0:
            assert len(promised) == 2 * PER_COMMIT
            return {"steps": step}
        assert code == -signal.SIGKILL, code
        pid, listen = in_child(lambda say, place=place: write(place, 2 * PER_COMMIT, say))
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        assert check(place, promised | heard(listen)) == 2 * PER_COMMIT
        assert not list(place.glob(".*.tmp"))
        step += 1


def on_a_full_disk(folder):
    """Files may grow to 60 kB only: a shard of 8 clips fits, one of 16 does not; with more room it is written after all."""
    import resource

    from vivim.errors import VivimError

    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, resource.RLIM_INFINITY))
    writer = FrameCacheWriter(folder, RECIPE)
    for k in range(8):
        writer.add(clip(k))
    writer.commit()
    for k in range(8, 24):
        writer.add(clip(k))
    try:
        writer.commit()
        raise AssertionError("100 kB fitted into 60 kB")
    except VivimError as error:
        message = str(error)
    assert check(folder, set(range(8))) == 8 and not list(folder.glob(".*.tmp"))
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    writer.commit()
    assert check(folder, set(range(24))) == 24
    return {"message": message}


if __name__ == "__main__":
    where = Path(sys.argv[2])
    modes = {"chance": lambda: by_chance(where, 20), "steps": lambda: at_every_step(where), "full": lambda: on_a_full_disk(where)}
    sys.stdout.write(json.dumps(modes[sys.argv[1]]()))
