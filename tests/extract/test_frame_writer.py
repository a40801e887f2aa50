"""Writing cached frames: nothing twice, nothing torn, nothing lost that was promised."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from vivim.errors import InputError, RecipeMismatch, VivimError
from vivim.extract import frame_shard
from vivim.extract.clip import Clip
from vivim.extract.frame_cache import FrameCache
from vivim.extract.frame_format import Jpeg
from vivim.extract.frame_recipe import FrameRecipe
from vivim.extract.frame_writer import FrameCacheWriter
from vivim.store.children import child_environment

RECIPE = FrameRecipe(frames={"count": 2}, preprocessing={"image_size": 32}, decoder={"av": "18"})


def made(id_, level=100):
    return Clip(id_, np.full((2, 3, 32, 32), level, np.uint8), np.array([0.0, 1.0]), "pyav", f"{level:064x}")


def names(folder):
    return sorted(path.name for path in folder.iterdir() if not path.name.startswith(".writing"))


def level_of(folder, id_):
    return int(FrameCache.open(folder).read(id_).frames_TCHW[0, 0, 0, 0])


def test_what_is_there_is_not_written_again(tmp_path):
    with FrameCacheWriter(tmp_path, RECIPE) as writer:
        assert [writer.add(made("a")), writer.add(made("b")), writer.add(made("a"))] == [True, True, False]
        assert len(writer) == 2
    before = names(tmp_path)
    with FrameCacheWriter(tmp_path, RECIPE) as writer:
        assert writer.hashes == {"a": made("a").sha256, "b": made("b").sha256}
        assert not writer.add(made("a"))
        writer.commit()
    assert names(tmp_path) == before == ["frames-000001.safetensors"]


def test_a_replaced_clip_supersedes_before_and_after_it_is_written(tmp_path):
    with FrameCacheWriter(tmp_path, RECIPE) as writer:
        writer.add(made("a", 10))
        writer.add(made("a", 20))
        writer.add(made("b", 30))
    assert (level_of(tmp_path, "a"), len(FrameCache.open(tmp_path))) == (20, 2)
    with FrameCacheWriter(tmp_path, RECIPE) as writer:
        assert writer.add(made("a", 40))
        assert len(writer) == 2
    cache = FrameCache.open(tmp_path)
    assert (level_of(tmp_path, "a"), level_of(tmp_path, "b"), cache.ids) == (40, 30, ("a", "b"))
    assert cache.hashes["a"] == made("a", 40).sha256


def test_a_shard_is_written_when_it_is_full(tmp_path):
    size = made("a").frames_TCHW.nbytes
    with FrameCacheWriter(tmp_path, RECIPE, shard_bytes=2 * size) as writer:
        for k in range(5):
            writer.add(made(f"c{k}"))
            assert len(names(tmp_path)) == (k + 1) // 2
        writer.add(made("c4", 3))  # in the place of the one that waits, not beside it
        assert len(names(tmp_path)) == 2
    assert len(names(tmp_path)) == 3


def test_clips_of_a_damaged_shard_are_written_again(tmp_path):
    with FrameCacheWriter(tmp_path, RECIPE, shard_bytes=1) as writer:
        writer.add(made("a"))
        writer.add(made("b", 50))
    cut = tmp_path / "frames-000001.safetensors"
    cut.write_bytes(cut.read_bytes()[:-5])
    flipped = tmp_path / "frames-000002.safetensors"
    flipped.write_bytes(flipped.read_bytes()[:-1] + b"\0")
    with FrameCacheWriter(tmp_path, RECIPE) as writer:
        assert [line.split(":")[0] for line in writer.damaged] == ["frames-000001.safetensors"]
        assert [writer.add(made("a")), writer.add(made("b", 50))] == [True, False]
    with FrameCacheWriter(tmp_path, RECIPE, verify=True) as writer:
        assert [line.split(":")[0] for line in writer.damaged] == ["frames-000001.safetensors", "frames-000002.safetensors"]
        assert [writer.add(made("a")), writer.add(made("b", 50))] == [False, True]
    assert names(tmp_path) == [f"frames-{k:06d}.safetensors" for k in (1, 2, 3, 4)]
    assert (level_of(tmp_path, "a"), level_of(tmp_path, "b")) == (100, 50)


def test_stray_files_of_killed_writers_are_swept(tmp_path):
    stray = tmp_path / ".frames-000003.safetensors.tmp"
    stray.write_bytes(b"half a shard")
    (tmp_path / "notes.txt").write_text("mine")
    with FrameCacheWriter(tmp_path, RECIPE) as writer:
        writer.add(made("a"))
    assert names(tmp_path) == ["frames-000001.safetensors", "notes.txt"]


def test_another_recipe_is_refused_field_by_field(tmp_path):
    with FrameCacheWriter(tmp_path, RECIPE) as writer:
        writer.add(made("a"))
    other = FrameRecipe(frames={"count": 8}, preprocessing={"image_size": 32}, decoder={"av": "19"})
    with pytest.raises(RecipeMismatch) as caught:
        FrameCacheWriter(tmp_path, other, Jpeg())
    assert str(caught.value).splitlines() == [
        f"{tmp_path} holds frames of another recipe:",
        "  frames.count: 2 in the cache, 8 now",
        "  decoder.av: 18 in the cache, 19 now",
        "  preprocessing.stored.kind: (absent) in the cache, jpeg now",
        "  preprocessing.stored.qscale: (absent) in the cache, 2 now",
        "Use the same settings, or cache in another folder.",
    ]
    FrameCacheWriter(tmp_path, RECIPE).close()  # the refused one holds no lock


def test_one_process_writes_and_others_read(tmp_path):
    with FrameCacheWriter(tmp_path, RECIPE) as writer:
        writer.add(made("a"))
        writer.commit()
        with pytest.raises(InputError, match="another process is caching frames in"):
            FrameCacheWriter(tmp_path, RECIPE)
        writer.add(made("b"))
        assert FrameCache.open(tmp_path).ids == ("a",)
    other = FrameCacheWriter(tmp_path, RECIPE)
    writer.close()  # again, which takes nothing from the other
    with pytest.raises(InputError, match="another process"):
        FrameCacheWriter(tmp_path, RECIPE)
    other.close()


def test_whatever_ends_the_run_what_is_whole_is_kept(tmp_path):
    def stopped():
        with FrameCacheWriter(tmp_path, RECIPE) as writer:
            writer.add(made("a"))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stopped()
    assert FrameCache.open(tmp_path).ids == ("a",)


@pytest.mark.parametrize("step", ["save_file", "sync"])
def test_a_write_that_fails_can_be_tried_again(tmp_path, monkeypatch, step):
    with FrameCacheWriter(tmp_path, RECIPE) as writer:
        writer.add(made("a"))
        with monkeypatch.context() as patch:

            def fail(*_):
                raise OSError(28, "No space left on device")

            patch.setattr(frame_shard, step, fail)
            with pytest.raises(VivimError, match=r"frames of 1 clips could not be written.*No space left.*About 6144 bytes"):
                writer.commit()
        assert names(tmp_path) == []
    assert names(tmp_path) == ["frames-000001.safetensors"]


def test_an_id_that_no_file_can_hold_is_refused_alone(tmp_path):
    with FrameCacheWriter(tmp_path, RECIPE) as writer:
        for id_ in ("", "a\nb", "\udcff"):
            with pytest.raises(InputError):
                writer.add(made(id_))
        writer.add(made("a"))
    assert FrameCache.open(tmp_path).ids == ("a",)


def test_a_place_that_cannot_be_written_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"frames cannot be cached in .*file.*Choose another place"):
        FrameCacheWriter(tmp_path / "file", RECIPE)


def killed(mode, folder):
    """What ``killed_writers`` finds; it asserts most of it itself."""
    program = Path(__file__).with_name("killed_writers.py")
    command = [sys.executable, "-P", str(program), mode, str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=child_environment(), check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_kill_9_at_any_moment_loses_doubles_and_tears_nothing(tmp_path):
    assert killed("chance", tmp_path)["killed"] == 20


def test_kill_9_at_every_step_of_writing_loses_doubles_and_tears_nothing(tmp_path):
    assert killed("steps", tmp_path) == {"steps": 16}  # two shards, four calls that change the disk, before and after each


def test_a_full_disk_leaves_the_earlier_shards(tmp_path):
    assert "File too large" in killed("full", tmp_path)["message"]
