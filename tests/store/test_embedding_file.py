"""Writing: what goes in comes out, in order of ids, whole or not at all."""

import os
import subprocess
import sys
import tempfile
import textwrap
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from vivim.errors import InputError, RecipeMismatch, VivimError
from vivim.store import EmbeddingFile, EmbeddingStore, FailedClip

AWKWARD_IDS = ["007", "7", "1e3", "NaN", "None", "NA", "../../etc/passwd", "/abs", "a/b", "a", ".", "CON", "-rf", " ", "'\""]
AWKWARD_IDS += ["é", "e\u0301", "👩‍👧", "אבג", "x" * 255, "é" * 127]


def test_awkward_ids_come_back_exactly_and_sorted(tmp_path, samples):
    store = EmbeddingStore.open(samples.write(tmp_path / "e.h5", AWKWARD_IDS))
    assert store.ids.ids == tuple(sorted(AWKWARD_IDS))
    vectors, present = store.lookup(AWKWARD_IDS)
    assert present.all()
    assert (vectors == samples.rows(AWKWARD_IDS).vectors_ND.astype(np.float16)).all()


text_ids = st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1, max_size=40)


@settings(max_examples=25, deadline=None)
@given(st.lists(text_ids, min_size=1, max_size=12, unique=True), st.randoms())
def test_any_ids_in_any_order_give_the_same_file_content(samples, ids, random):
    shuffled = list(ids)
    random.shuffle(shuffled)
    rows = samples.rows(ids)
    position = {id_: k for k, id_ in enumerate(ids)}
    with tempfile.TemporaryDirectory() as folder:
        hashes = []
        for name, order in (("a", ids), ("b", shuffled)):
            file = EmbeddingFile(Path(folder, name), samples.recipe(), 4)
            for id_ in order:
                file.add(rows.take([position[id_]]))
            hashes.append(file.commit())
        store = EmbeddingStore.open(Path(folder, "b"))
    assert hashes[0] == hashes[1] == store.sha256
    assert (store.lookup(ids)[0] == rows.vectors_ND.astype(np.float16)).all()


@pytest.mark.parametrize(
    ("id_", "message"),
    [("x\0y", "control"), ("", "empty"), ("a\nb", "control"), ("caf\udce9", "not valid UTF-8"), ("x" * 1025, "1025 bytes; at most 1024")],
)
def test_ids_that_cannot_be_kept_exactly_are_refused(tmp_path, samples, id_, message):
    file = EmbeddingFile(tmp_path / "e.h5", samples.recipe(), 4)
    with pytest.raises(InputError, match=message):
        file.add(samples.rows(["fine", id_]))
    assert len(file) == 0


def test_every_column_survives(tmp_path, samples):
    failures = [FailedClip("zz", "timeout", "slow"), FailedClip("x", "crash", "é" * 400 + "\0")]
    store = EmbeddingStore.open(samples.write(tmp_path / "e.h5", ["c", "a", "b"], failures, dtype="float32"))
    order = [1, 2, 0]
    expected = samples.rows(["c", "a", "b"]).take(order)
    assert store.rows.ids == expected.ids
    assert (store.vectors_ND == expected.vectors_ND).all()
    assert store.rows.sha256 == expected.sha256
    assert store.rows.decoder == expected.decoder
    assert (store.rows.times_seconds_NT == expected.times_seconds_NT).all()
    assert (store.rows.short_N == expected.short_N).all()
    assert [f.id for f in store.failures] == ["x", "zz"]
    assert store.failures[0].message == "é" * 150
    assert store.recipe.encoder == {"size": "nano", "dims": [8, 16]}


def test_float16_is_the_rounded_float32(tmp_path, samples):
    store = EmbeddingStore.open(samples.write(tmp_path / "e.h5"))
    assert store.rows.vectors_ND.dtype == np.float16
    assert (store.vectors_ND == samples.rows("abc").vectors_ND.astype(np.float16).astype(np.float32)).all()


@pytest.mark.parametrize("bad", [np.nan, np.inf, 7e4, 0.0, 1e-9])
def test_what_float16_cannot_hold_is_a_failure_of_that_clip(tmp_path, samples, bad):
    vectors = np.ones((3, 4), np.float32)
    vectors[1] = bad
    file = EmbeddingFile(tmp_path / "e.h5", samples.recipe(), 4)
    assert [(f.id, f.kind) for f in file.add(samples.rows("abc", vectors))] == [("b", "nan_output")]
    file.commit()
    store = EmbeddingStore.open(tmp_path / "e.h5")
    assert store.ids.ids == ("a", "c")
    assert [f.id for f in store.failures] == ["b"]


def test_new_rows_join_old_ones_and_replace_their_namesakes(tmp_path, samples):
    path = samples.write(tmp_path / "e.h5", "abc", [FailedClip("d", "timeout", "slow"), FailedClip("e", "oom", "much")])
    file = EmbeddingFile(path, samples.recipe(), 4)
    assert file.hashes == {"a": f"{0:064x}", "b": f"{1:064x}", "c": f"{2:064x}"}
    new = samples.rows("db", seed=9)
    file.add(new)
    file.fail(FailedClip("c", "not_video", "was overwritten"))
    file.commit()
    store = EmbeddingStore.open(path)
    assert store.ids.ids == ("a", "b", "d")
    assert (store.lookup(["d", "b"])[0] == new.vectors_ND.astype(np.float16)).all()
    assert (store.lookup(["a"])[0] == samples.rows("abc").vectors_ND[:1].astype(np.float16)).all()
    assert [f.id for f in store.failures] == ["c"]


def test_another_recipe_is_refused_field_by_field(tmp_path, samples):
    path = samples.write(tmp_path / "e.h5")
    with pytest.raises(RecipeMismatch) as caught:
        EmbeddingFile(path, samples.recipe(frames={"sampler": "middle", "count": 2, "fps": None}, dtype="float32"), 5)
    lines = str(caught.value).splitlines()
    assert [line.strip() for line in lines[1:-1]] == [
        "frames.sampler: uniform in the file, middle now",
        "dtype: float16 in the file, float32 now",
        "vector width: 4 in the file, 5 now",
    ]
    assert str(path) in lines[0]
    assert "--out" in lines[-1]


def test_a_file_of_failures_only_can_grow(tmp_path, samples):
    file = EmbeddingFile(tmp_path / "e.h5", samples.recipe(), 4)
    file.fail(FailedClip("a", "timeout", "slow"))
    file.commit()
    samples.write(tmp_path / "e.h5", "a")
    assert EmbeddingStore.open(tmp_path / "e.h5").ids.ids == ("a",)


def test_a_damaged_file_is_not_written_over(tmp_path, samples):
    path = samples.write(tmp_path / "e.h5")
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(InputError, match="damaged"):
        EmbeddingFile(path, samples.recipe(), 4)


@pytest.mark.parametrize("broken", ["fsync", "replace"])
def test_when_writing_fails_the_old_file_stays_and_nothing_lies_about(tmp_path, samples, monkeypatch, broken):
    path = samples.write(tmp_path / "e.h5")
    before = path.read_bytes()
    file = EmbeddingFile(path, samples.recipe(), 4)
    file.add(samples.rows("xyz"))

    def fail(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, broken, fail)
    with pytest.raises(VivimError, match=r"No space left.*bytes are needed.*untouched"):
        file.commit()
    monkeypatch.undo()
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["e.h5"]
    file.commit()
    assert len(EmbeddingStore.open(path)) == 6


def test_a_full_disk_leaves_the_old_file(tmp_path, samples):
    path = samples.write(tmp_path / "e.h5")
    before = path.read_bytes()
    script = f"""
        import resource, numpy as np
        from vivim.errors import VivimError
        from vivim.store import EmbeddingFile, EmbeddingStore, Rows
        recipe = EmbeddingStore.open({str(path)!r}).recipe
        file = EmbeddingFile({str(path)!r}, recipe, 4)
        n = 20_000
        ids, vectors = tuple(map(str, range(n))), np.ones((n, 4), np.float32)
        file.add(Rows(ids, vectors, ("0" * 64,) * n, np.zeros((n, 2)), ("pyav",) * n, np.zeros(n, bool)))
        resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))
        try:
            file.commit()
        except VivimError as error:
            print("refused:", error)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, timeout=120)
    assert "refused:" in done.stdout, done.stderr
    assert "untouched" in done.stdout
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["e.h5"]


def test_places_that_cannot_be_written(tmp_path, samples):
    with pytest.raises(InputError, match="is a folder"):
        EmbeddingFile(tmp_path, samples.recipe(), 4)
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="cannot be written"):
        EmbeddingFile(tmp_path / "file" / "e.h5", samples.recipe(), 4)


def test_the_folder_is_made_and_permissions_are_ordinary(tmp_path, samples):
    path = samples.write(tmp_path / "new" / "er" / "e.h5")
    (tmp_path / "plain").touch()
    assert path.stat().st_mode == (tmp_path / "plain").stat().st_mode
