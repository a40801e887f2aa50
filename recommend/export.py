"""A trained run as files for other programs: the step of its user model, its item vectors, a search index over them.

user_model.onnx        an item vector and a state in, the user vector and the next state out
item_vectors.npy       (N, D) float32; items.parquet: the same with ids
item_ids.json          N ids, in the order of the rows
index.faiss            a FAISS index over the item vectors; index.json: of which model and items
export.json            names and shapes for the ONNX file, hashes, the configuration of the run
README.md              some lines of Python that answer with these files alone

Legend: N items, D width.
"""

import json
import os
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, get_args

import faiss
import numpy as np
import numpy.typing as npt
import polars as pl

from ..errors import InputError
from ..store import content_sha256, file_sha256
from ..store.durable import replacing, require_writable, sync
from ..store.run_folder import write_atomically
from .checkpoint import RunFolder
from .recommender import Recommender
from .retrieval import FaissIndex, Kind, read_index
from .scorers import VectorScorer
from .step_onnx import EXPORTABLE, StepFile, write_step

INDEX = "index.faiss"
FORMAT = 1


@dataclass(frozen=True)
class Exported:
    """What was written.

    Attributes:
        folder: where.
        files: names and sizes in bytes.
        items: N.
        width: D.
        step: the ONNX file.
        model_sha256: of the run's weights.
    """

    folder: Path
    files: dict[str, int]
    items: int
    width: int
    step: StepFile
    model_sha256: str


def export_run(run: RunFolder, out: Path, kind: Kind = "flat") -> Exported:
    """Write the files above into a new folder, whole or not at all.

    Args:
        run: of a model of histories; items that were added to it are exported too.
        out: the folder, which must not exist or be empty.
        kind: of the index.

    Raises:
        InputError: a model without user vectors of histories, or whose state grows; a place that cannot be written.
        MissingExtra: onnx, onnxscript or onnxruntime is absent.
        VivimError: the ONNX file does not give what torch gives.
    """
    _check_place(out)
    recommender, model_sha256 = Recommender.open(run.path), run.model_sha256()
    scorer = recommender.scorer
    if not isinstance(scorer, VectorScorer):
        raise InputError(
            f"{run.path} is no run of a model that turns a history into a vector, so it has no step to export. Models that have one: "
            f"{EXPORTABLE}."
        )
    vectors_ND = np.ascontiguousarray(scorer.items_ND.cpu().numpy())
    try:
        with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}.") as temporary:
            folder = Path(temporary) / "export"
            folder.mkdir()
            step = write_step(scorer.model, vectors_ND.shape[1], folder / "user_model.onnx")
            _write_items(folder, recommender.items.ids, vectors_ND)
            write_index(folder / INDEX, FaissIndex(kind, scorer.items_ND), recommender.items.ids, vectors_ND, model_sha256)
            _write_texts(folder, run, step, model_sha256, recommender, vectors_ND.shape[1])
            for file in folder.iterdir():
                sync(file)
            sync(folder)
            os.replace(folder, out)
        sync(out.parent)
    except OSError as error:
        raise InputError(f"{out} cannot be written: {error.strerror or error}. Make room there, or choose another --out.") from error
    files = {file.name: file.stat().st_size for file in sorted(out.iterdir())}
    return Exported(out, files, len(vectors_ND), vectors_ND.shape[1], step, model_sha256)


def write_index(path: Path, index: FaissIndex, ids: tuple[str, ...], vectors_ND: npt.NDArray[np.float32], model_sha256: str) -> None:
    """A FAISS index, and beside it (``.json``) what it is of: model, items, and the hash of the file itself.

    Each of the two is written whole or not at all; an index whose description is still that of the one before is refused by ``load_index``.
    """
    # FAISS itself says nothing if the last bytes of a file do not fit on the disk. The types that it ships lack this name.
    with replacing(path) as temporary, temporary.open("wb") as file:
        faiss.write_index(index.index, faiss.PyCallbackIOWriter(file.write))  # type: ignore[attr-defined]
    write_atomically(
        _beside(path),
        json.dumps(
            {
                "format": FORMAT,
                "kind": index.kind,
                "model_sha256": model_sha256,
                "items_sha256": content_sha256(ids, vectors_ND),
                "items": len(ids),
                "width": vectors_ND.shape[1],
                "file_sha256": file_sha256(path),
            },
            indent=2,
        )
        + "\n",
    )


def load_index(path: Path, model_sha256: str, items_sha256: str | None = None, shape: tuple[int, int] | None = None) -> FaissIndex:
    """An exported index, for the model that it was made for.

    Args:
        path: of the index; what it is of stands beside it.
        model_sha256: of the run that is to be answered for, ``RunFolder.model_sha256``.
        items_sha256: hash of the ids and vectors that its rows must be, ``store.content_sha256``; None: any of this model.
        shape: (M, D) of the items of training, which are then searched alone. They are the same wherever the model is; items that were
            added stand behind them, and may have changed since. None: all rows.

    Raises:
        InputError: it was made for another model or other items, was changed, or is not there.
    """
    try:
        told: dict[str, Any] = json.loads(_beside(path).read_text(encoding="utf-8"))
        found = {key: told[key] for key in ("format", "kind", "model_sha256", "items_sha256", "file_sha256")}
        whole = file_sha256(path) == found["file_sha256"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path} cannot be used as an index ({type(error).__name__}: {error}); export the run again.") from error
    if found["format"] != FORMAT or found["kind"] not in get_args(Kind):
        raise InputError(f"{path} is an index of another version of vivim; export the run again.")
    if found["model_sha256"] != model_sha256:
        raise InputError(
            f"{path} was made for another model (sha256 {str(found['model_sha256'])[:12]}...) than this one ({model_sha256[:12]}...); "
            "export this run."
        )
    if items_sha256 not in (None, found["items_sha256"]):
        raise InputError(f"{path} holds other items than the run does now: some were added or removed since. Export the run again.")
    if not whole:  # before FAISS reads a byte of it
        raise InputError(f"{path} is not the file that was written (hash differs); export the run again.")
    return read_index(path, found["kind"], shape)


def _beside(path: Path) -> Path:
    return path.with_suffix(".json")


def _check_place(out: Path) -> None:
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f"{out} is there already and not an empty folder; choose another --out, or delete it.")
    require_writable(out.parent)


def _write_items(folder: Path, ids: tuple[str, ...], vectors_ND: npt.NDArray[np.float32]) -> None:
    np.save(folder / "item_vectors.npy", vectors_ND, allow_pickle=False)
    write_atomically(folder / "item_ids.json", json.dumps(ids, ensure_ascii=False) + "\n")
    vectors = pl.Series(vectors_ND, dtype=pl.Array(pl.Float32, vectors_ND.shape[1]))
    pl.DataFrame({"row": np.arange(len(ids)), "item": ids, "vector": vectors}).write_parquet(folder / "items.parquet")


def _write_texts(folder: Path, run: RunFolder, step: StepFile, model_sha256: str, recommender: Recommender, width: int) -> None:
    info = run.info()
    told = {
        "format": FORMAT,
        "model_sha256": model_sha256,
        "items": len(recommender.items),
        "max_len": recommender.max_len,
        "user_model": asdict(step),
        "config": info["config"],
        "provenance": info["provenance"],
    }
    write_atomically(folder / "export.json", json.dumps(told, indent=2, ensure_ascii=False) + "\n")
    state = "\n".join(
        f"| `{name}` in, `{after}` out | {list(shape)} for one user; dimension {axis} counts users | zeros |"
        for name, after, shape, axis in zip(step.inputs[1:], step.outputs[1:], step.shapes, step.axes, strict=True)
    )
    text = _README.format(
        history=", ".join(json.dumps(id_, ensure_ascii=False) for id_ in recommender.items.ids[:3]),
        items=len(recommender.items),
        k=min(10, len(recommender.items)),
        max_len=recommender.max_len,
        model=info["config"]["model"]["kind"],
        sha256=model_sha256,
        state=state,
        width=width,
    )
    write_atomically(folder / "README.md", text)


_README = """# An exported recommender

The user model is `{model}`, the catalogue has {items} items, vectors have {width} numbers; sha256 of the weights: `{sha256}`.

| in `user_model.onnx` | shape | at the beginning |
|---|---|---|
| `item` in | [users, {width}]: the row of `item_vectors.npy` of what was watched | |
{state}
| `user` out | [users, {width}]: an item's score is its vector times this one | |

A user's history is read from its oldest item on, once; every further item is one step more. The model was trained on histories of at
most {max_len} items. `index.faiss` searches by inner product; its rows are those of `item_vectors.npy`, whose ids are in `item_ids.json`.
With `onnxruntime`, `faiss` and `numpy`, in this folder:

```python
import hashlib, json, faiss, numpy as np, onnxruntime
from pathlib import Path

ids, export, of_index = (json.loads(Path(name).read_text("utf-8")) for name in ("item_ids.json", "export.json", "index.json"))
found = {{"model_sha256": export["model_sha256"], "file_sha256": hashlib.sha256(Path("index.faiss").read_bytes()).hexdigest()}}
if any(of_index[name] != hash for name, hash in found.items()):
    raise SystemExit("index.faiss is of another model than user_model.onnx, or was changed")
vectors, told = np.load("item_vectors.npy"), export["user_model"]
model, index = onnxruntime.InferenceSession("user_model.onnx"), faiss.read_index("index.faiss")
history = [{history}]
state = [np.zeros(shape, np.float32) for shape in told["shapes"]]
for item in history:
    user, *state = model.run(None, dict(zip(told["inputs"], [vectors[[ids.index(item)]], *state])))
scores, rows = index.search(user, min({k} + len(history), len(ids)))
print([(ids[row], float(score)) for score, row in zip(scores[0], rows[0]) if row >= 0 and ids[row] not in history][:{k}])
```
"""
