"""Proof that row i is clip i: rows of an embedding file are made again from their clips and compared with all rows.

Shapes: N rows of the file, S rows that are made again, D embedding width.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from ..errors import InputError
from ..progress import Progress
from ..store import EmbeddingStore
from .clip import Clip, ClipRef, EmbeddingBatch, Failure
from .clips import Catalogue
from .reader import Unchanged
from .remake import of_clips
from .shard_loop import ClipEncoder, Decode, Tally, run_shard
from .verification import ROUNDING, TOLERANCE, RowCheck, Verification

SAME_TIME_SECONDS = 1e-6
_BLOCK_ROWS = 8192


def verify_rows(
    store: EmbeddingStore,
    catalogue: Catalogue,
    decode: Decode,
    encoder: ClipEncoder,
    *,
    sample: int,
    seed: int,
    batch_clips: int,
    progress: Progress,
) -> Verification:
    """Make a random sample of rows again, and look among all rows for the ones that fit best.

    Args:
        store: the file.
        catalogue: where the clips are; rows of other ids are not drawn from.
        decode: reads clips as the file's recipe says, usually ``DecodePool(...).decode``.
        encoder: the recipe's, with its weights.
        sample: S; all rows that have a clip, if they are fewer.
        seed: of the drawing.
        batch_clips: clips encoded at once.
        progress: told about every clip.

    Raises:
        InputError: no row has a clip, or of those drawn none could be compared.
    """
    ref_of = {ref.id: ref for ref in catalogue.refs}
    with_clip = [id_ for id_ in store.ids.ids if id_ in ref_of]
    if not with_clip:
        raise InputError(
            f"none of the {len(store)} ids of {store.path} is among the {len(catalogue)} clips that are given; give the folder or the "
            "manifest that the file was made from."
        )
    drawn = np.sort(np.random.default_rng(seed).permutation(len(with_clip))[:sample])
    remade = _Remade(store)
    progress.start("verify", len(drawn), "clips")
    refs = [ref_of[with_clip[k]] for k in drawn]
    run_shard(refs, decode, encoder, remade, Tally(), batch_clips=batch_clips, progress=progress)
    progress.finish()
    exchanged = _exchanged(remade.other_files, store, ref_of, decode)
    changed = tuple(sorted(remade.other_files.keys() - exchanged.keys()))
    if not remade.vectors and not exchanged:
        raise InputError(
            f"of the {len(refs)} clips that were drawn none could be compared: {len(changed)} are other files than their rows were made "
            f"of, {len(remade.failures)} could not be read. Give the clips that the file was made from."
        )
    return Verification(
        rows=len(store),
        without_clip=len(store) - len(with_clip),
        checks=tuple(sorted(_compare(store, remade), key=lambda check: check.row)),
        changed=changed,
        exchanged=exchanged,
        unreadable=tuple(sorted(remade.failures, key=lambda failure: failure.id)),
    )


class _Remade:
    """An ``EmbeddingWriter`` that keeps what clips give now.

    Attributes:
        vectors: row -> (D,) vector of the clip, where its file is the one the row was made of.
        notes: row -> what is not as recorded, in words.
        other_files: id -> hash of its file, where that is another one.
        failures: clips that could not be read.
    """

    def __init__(self, store: EmbeddingStore) -> None:
        self._store = store
        self.vectors: dict[int, npt.NDArray[np.float32]] = {}
        self.notes: dict[int, str] = {}
        self.other_files: dict[str, str] = {}
        self.failures: list[Failure] = []

    @property
    def hashes(self) -> Mapping[str, str]:
        """None: every clip is to be computed."""
        return {}

    def add(self, batch: EmbeddingBatch) -> Sequence[Failure]:
        for clip, vector_D in zip(batch.clips, batch.vectors_BD, strict=True):
            row = self._store.ids.row_of(clip.id)
            if clip.sha256 == self._store.rows.sha256[row]:
                self.vectors[row] = vector_D
                self.notes[row] = self._differences(clip, row)
            else:
                self.other_files[clip.id] = clip.sha256
        return []

    def fail(self, failure: Failure) -> None:
        self.failures.append(failure)

    def same(self, id_: str) -> None:
        raise AssertionError("no hash is known, so none can be the same")

    def idle(self) -> None:
        """Rows are compared as they come; nothing waits."""

    def _differences(self, clip: Clip, row: int) -> str:
        rows = self._store.rows
        notes = []
        apart = np.abs(clip.times_seconds - rows.times_seconds_NT[row])
        if not (apart <= SAME_TIME_SECONDS).all():
            notes.append(f"a frame is {np.max(apart):.3g} s from where it was")
        if clip.decoder != rows.decoder[row]:
            notes.append(f"read by {clip.decoder}, was {rows.decoder[row]}")
        if clip.short != bool(rows.short_N[row]):
            notes.append(f"{'too short' if clip.short else 'long enough'}, was not")
        return ", ".join(notes)


def _exchanged(other_files: Mapping[str, str], store: EmbeddingStore, ref_of: Mapping[str, ClipRef], decode: Decode) -> dict[str, str]:
    """Of clips whose file is not the recorded one, those whose file is recorded for another id that has a different file, too.

    Ids or hashes stand in wrong rows then, or files were renamed. A clip that was replaced by a copy of another is not meant.
    """
    holders: dict[str, list[str]] = defaultdict(list)
    wanted = set(other_files.values())
    for id_, sha256 in zip(store.ids.ids, store.rows.sha256, strict=True):
        if sha256 in wanted and id_ in ref_of:
            holders[sha256].append(id_)
    recorded = {id_: sha256 for sha256, ids in holders.items() for id_ in ids}
    own, foreign = set(), set()
    for result in decode([ref_of[id_] for id_ in recorded], recorded):
        if isinstance(result, Unchanged):
            own.add(result.id)
        elif isinstance(result, Clip):
            foreign.add(result.id)
    return {
        id_: next(holder for holder in holders[sha256] if holder in foreign)
        for id_, sha256 in sorted(other_files.items())
        if foreign & set(holders[sha256]) and not own & set(holders[sha256])
    }


def _compare(store: EmbeddingStore, remade: _Remade) -> list[RowCheck]:
    if not remade.vectors:
        return []
    rows_S = np.array(list(remade.vectors))
    now_SD = np.stack(list(remade.vectors.values())).astype(np.float64)
    stored_SD = store.vectors_ND[rows_S].astype(np.float64)
    lengths_S = np.linalg.norm(stored_SD, axis=1)
    nearest_S, distances_S = nearest_rows(store.vectors_ND, now_SD)
    apart_SD = np.abs(now_SD - stored_SD)
    cosines_S = np.einsum("sd,sd->s", now_SD, stored_SD) / (lengths_S * np.linalg.norm(now_SD, axis=1))
    return [
        RowCheck(
            id=store.ids.ids[row],
            row=int(row),
            deviation=float(np.linalg.norm(apart_SD[k]) / lengths_S[k]),
            largest=float(apart_SD[k].max()),
            cosine=float(cosines_S[k]),
            nearest_id=store.ids.ids[nearest_S[k]],
            nearest_row=int(nearest_S[k]),
            nearest_deviation=float(distances_S[k] / lengths_S[k]),
            explained=ROUNDING[store.recipe.dtype],
            tolerance=TOLERANCE[str(of_clips(store.recipe, store.path).encoder.get("precision", "32-true"))],
            note=remade.notes[int(row)],
        )
        for k, row in enumerate(rows_S)
    ]


def nearest_rows(
    vectors_ND: npt.NDArray[np.float32], queries_SD: npt.NDArray[np.float64]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """(S,) row nearest to each query, and (S,) its Euclidean distance; a block of rows is looked at at a time.

    Blocks are searched by inner products in float32, about their mean so that little cancels; their winners are measured in float64.
    """
    best_S = np.zeros(len(queries_SD), np.int64)
    distance_S = np.full(len(queries_SD), np.inf)
    origin_D = queries_SD.mean(0)
    queries32_SD = (queries_SD - origin_D).astype(np.float32)
    for start in range(0, len(vectors_ND), _BLOCK_ROWS):
        block_BD = vectors_ND[start : start + _BLOCK_ROWS] - origin_D.astype(np.float32)
        halves_B = np.einsum("bd,bd->b", block_BD, block_BD) / 2
        winners_S = np.argmin(halves_B - queries32_SD @ block_BD.T, axis=1) + start
        apart_S = np.linalg.norm(vectors_ND[winners_S].astype(np.float64) - queries_SD, axis=1)
        nearer = apart_S < distance_S
        best_S[nearer], distance_S[nearer] = winners_S[nearer], apart_S[nearer]
    return best_S, distance_S
