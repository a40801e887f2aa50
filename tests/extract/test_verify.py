"""Rows are made again: what is right passes; swapped, shifted, exchanged and altered rows are found."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from vivim.errors import InputError
from vivim.extract import verify
from vivim.extract.clip import ClipRef, Failure
from vivim.extract.clips import find_clips
from vivim.extract.config import EncoderConfig, ExtractConfig, FramesConfig
from vivim.extract.decode_pool import DecodePool
from vivim.extract.failures import ClipError
from vivim.extract.reader import make_reader
from vivim.extract.run import extract_catalogue
from vivim.extract.sources import videos
from vivim.extract.verify import nearest_rows, verify_rows
from vivim.extract.weights import make_encoder
from vivim.progress import SILENT
from vivim.store import EmbeddingStore, Recipe, write_embeddings

COUNT = 8
CONFIG = ExtractConfig(encoder=EncoderConfig(size="nano"), frames=FramesConfig(count=2), image_size=64)


def decode(refs, known):
    """As the pool does, in this process."""
    reader = make_reader(CONFIG)
    for ref in refs:
        try:
            yield reader(ref, known.get(ref.id))
        except ClipError as error:
            yield Failure(ref.id, error.kind, error.message)


@dataclass
class Made:
    folder: Path
    path: Path
    encoder: Any

    @property
    def store(self):
        return EmbeddingStore.open(self.path)

    def rewrite(self, **changes):
        """The file with other columns, written as validly as ever."""
        store = self.store
        write_embeddings(self.path, store.recipe, replace(store.rows, **changes), store.failures)

    def verify(self, ids=None, **changes):
        catalogue = find_clips(self.folder)
        if ids is not None:
            catalogue = replace(catalogue, refs=tuple(ref for ref in catalogue.refs if ref.id in ids))
        options = {"sample": 200, "seed": 1, "batch_clips": 3, "progress": SILENT, "decode": decode, "encoder": self.encoder}
        return verify_rows(self.store, catalogue, **{**options, **changes})


def picture(seed):
    return np.kron(np.random.default_rng(seed).integers(0, 256, (6, 8, 3)), np.ones((8, 8, 1))).astype(np.uint8)


def write(clips, path, seed):
    return clips.write(path, 4, picture=lambda _: picture(seed))


@pytest.fixture(scope="module")
def original(tmp_path_factory, clips):
    """Eight clips of coloured squares and their embedding file."""
    folder = tmp_path_factory.mktemp("clips")
    for k in range(COUNT):
        write(clips, folder / f"c{k}.mp4", k)
    encoder = make_encoder(CONFIG.encoder, seed=1)
    parts = {"encoder": {}, "weights": {}, "frames": {}, "preprocessing": {}, "decoder": {}}
    out = folder / "e.h5"
    extract_catalogue(videos(folder, CONFIG), out, CONFIG, encoder, Recipe(**parts, dtype="float16"), SILENT)
    return Made(folder, out, encoder)


@pytest.fixture
def made(original, tmp_path):
    """A copy that may be spoilt."""
    for path in original.folder.glob("*.[mh]*[45]"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    return Made(tmp_path, tmp_path / "e.h5", original.encoder)


def test_a_good_file_passes(original):
    found = original.verify()
    assert found.passed
    assert (found.rows, found.drawn, found.without_clip, len(found.checks)) == (COUNT, COUNT, 0, COUNT)
    assert [check.row for check in found.checks] == list(range(COUNT))
    assert {(check.nearest_row - check.row, check.note) for check in found.checks} == {(0, "")}
    assert 0 < found.largest_deviation <= 2.0**-11  # rounding to float16, and nothing else
    vectors = original.store.vectors_ND
    assert [check.largest for check in found.checks] == [
        pytest.approx(np.abs(now - then).max(), rel=1e-3) for now, then in zip(remake(original), vectors, strict=True)
    ]


def remake(made):
    frames = [clip.frames_TCHW for clip in decode(find_clips(made.folder).refs, {})]
    with torch.inference_mode():
        return made.encoder.embed_uint8(torch.from_numpy(np.stack(frames))).numpy()


def test_decoding_processes_give_the_same(original):
    found = original.verify(sample=2, decode=DecodePool(make_reader(CONFIG), workers=1).decode)
    assert found.passed
    assert found.drawn == 2


def test_the_sample_is_of_the_seed(original):
    draws = [tuple(check.row for check in original.verify(sample=3, seed=seed).checks) for seed in (1, 1, 2, 3)]
    assert draws[0] == draws[1]
    assert len(set(draws)) > 1
    assert {len(set(rows)) for rows in draws} == {3}


def test_a_swapped_pair_is_found_from_one_of_the_two(made):
    vectors = made.store.rows.vectors_ND.copy()
    vectors[[2, 6]] = vectors[[6, 2]]
    made.rewrite(vectors_ND=vectors)
    found = made.verify()
    assert [(check.id, check.nearest_id, check.misplaced) for check in found.wrong] == [("c2", "c6", True), ("c6", "c2", True)]
    one = made.verify(ids={"c2"})
    assert [(check.id, check.nearest_id) for check in one.wrong] == [("c2", "c6")]
    assert (one.drawn, one.without_clip) == (1, COUNT - 1)
    assert made.verify(ids={"c3", "c4"}).passed


def test_a_shift_by_one_is_found_and_named(made):
    made.rewrite(vectors_ND=np.roll(made.store.rows.vectors_ND, 1, axis=0))
    found = made.verify()
    assert (len(found.wrong), found.shift) == (COUNT, 1)


def test_exchanged_ids_are_found_by_the_hashes(made):
    ids = list(made.store.ids.ids)
    ids[2], ids[6] = ids[6], ids[2]
    made.rewrite(ids=tuple(ids))
    found = made.verify()
    assert (found.exchanged, found.changed, found.wrong) == ({"c2": "c6", "c6": "c2"}, (), [])
    assert not found.passed


def test_a_changed_clip_is_no_fault_of_the_file(made, clips):
    write(clips, made.folder / "c3.mp4", 99)
    (made.folder / "c5.mp4").write_bytes((made.folder / "c0.mp4").read_bytes())  # now a copy of another clip
    (made.folder / "c7.mp4").unlink()
    found = made.verify()
    assert found.passed
    assert (found.changed, found.exchanged, found.without_clip, len(found.checks)) == (("c3", "c5"), {}, 1, COUNT - 3)


def test_a_copy_of_a_clip_with_a_changed_twin_is_no_exchange(made, clips):
    rows = made.store.rows
    rows = replace(rows.take([*range(COUNT), 0]), ids=(*rows.ids, "twin"))  # of c0, when the file was made
    write_embeddings(made.path, made.store.recipe, rows, [])
    write(clips, made.folder / "twin.mp4", 98)
    (made.folder / "c5.mp4").write_bytes((made.folder / "c0.mp4").read_bytes())
    found = made.verify()
    assert (found.exchanged, found.changed, found.passed) == ({}, ("c5", "twin"), True)


def test_altered_vectors_are_found_and_small_ones_told(made):
    vectors = made.store.vectors_ND.copy()
    norms = np.linalg.norm(vectors, axis=1)
    vectors[1, 0] += 0.02 * norms[1]
    vectors[4, 0] += 0.005 * norms[4]
    made.rewrite(vectors_ND=vectors.astype(np.float16))
    found = made.verify()
    (wrong,) = found.wrong
    assert (wrong.id, wrong.misplaced, wrong.nearest_row) == ("c1", False, 1)
    assert wrong.deviation == pytest.approx(0.02, rel=0.02)
    assert wrong.largest == pytest.approx(0.02 * norms[1], rel=0.02)
    assert wrong.cosine == pytest.approx(1 - 0.02**2 / 2, abs=1e-4)
    assert found.checks[4].deviation == pytest.approx(0.005, rel=0.02)
    assert any("1 clip (c4) is off by more than rounding" in note for note in found.notes())


def test_under_bfloat16_twice_as_much_is_allowed(made):
    store = made.store
    vectors = store.vectors_ND.copy()
    vectors[1, 0] += 0.015 * np.linalg.norm(vectors[1])
    rows = replace(store.rows, vectors_ND=vectors.astype(np.float16))
    for precision, passed in (("32-true", False), ("bf16-mixed", True)):
        write_embeddings(made.path, store.recipe.model_copy(update={"encoder": {"precision": precision}}), rows, [])
        assert made.verify(ids={"c1"}).passed == passed


def test_one_file_under_two_ids_is_in_its_place(made):
    (made.folder / "twin.mp4").write_bytes((made.folder / "c0.mp4").read_bytes())
    rows = made.store.rows
    twin = rows.take([*range(COUNT), 0])
    write_embeddings(made.path, made.store.recipe, replace(twin, ids=(*rows.ids, "twin")), [])
    found = made.verify()
    assert found.passed
    assert len(found.checks) == COUNT + 1


def test_other_times_and_decoders_are_told(made):
    rows = made.store.rows
    times = rows.times_seconds_NT.copy()
    times[2, 1] += 0.5
    made.rewrite(times_seconds_NT=times, decoder=("pyav", *rows.decoder[1:]), short_N=np.arange(COUNT) == 4)
    found = made.verify()
    assert found.passed
    notes = {check.id: check.note for check in found.checks if check.note}
    assert notes == {"c0": "read by decord, was pyav", "c2": "a frame is 0.5 s from where it was", "c4": "long enough, was not"}


def test_a_vector_that_is_none_is_wrong(made):
    class Broken:
        dim, device = made.encoder.dim, made.encoder.device

        def embed_uint8(self, frames_BTCHW):
            return torch.full((len(frames_BTCHW), self.dim), torch.nan)

    found = made.verify(encoder=Broken())
    assert len(found.wrong) == COUNT
    assert not any(check.misplaced for check in found.checks)


def test_a_clip_that_cannot_be_read_is_told_apart(made):
    def failing(refs, known):
        yield from (Failure(ref.id, "timeout", "slow") if ref.id == "c1" else next(decode([ref], known)) for ref in refs)

    found = made.verify(decode=failing)
    assert (found.passed, [failure.id for failure in found.unreadable], len(found.checks)) == (True, ["c1"], COUNT - 1)
    with pytest.raises(
        InputError, match=r"of the 1 clips that were drawn none could be compared: 0 are other files .* 1 could not be read"
    ):
        made.verify(ids={"c1"}, decode=failing)


def test_clips_of_another_catalogue_are_refused(made):
    catalogue = replace(find_clips(made.folder), refs=(ClipRef("other", made.folder / "c0.mp4"),))
    with pytest.raises(InputError, match=r"none of the 8 ids of .*e\.h5 is among the 1 clips"):
        verify_rows(made.store, catalogue, decode, made.encoder, sample=5, seed=1, batch_clips=2, progress=SILENT)


@pytest.mark.parametrize("offset", [0.0, 1000.0])
def test_nearest_rows_are_those_of_the_full_table(monkeypatch, offset):
    rng = np.random.default_rng(0)
    vectors = (0.05 * rng.standard_normal((50, 6)) + offset).astype(np.float32)
    queries = vectors[[3, 49, 20]].astype(np.float64) + 1e-4 * rng.standard_normal((3, 6))
    table = np.linalg.norm(vectors[None].astype(np.float64) - queries[:, None], axis=2)
    for block in (7, 1000):
        monkeypatch.setattr(verify, "_BLOCK_ROWS", block)
        rows, distances = nearest_rows(vectors, queries)
        assert rows.tolist() == [3, 49, 20]
        assert distances == pytest.approx(table.min(1))
