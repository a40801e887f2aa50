"""Which clips that nobody watched in training a model finds: many of them, or one again and again?

    python benchmarks/new_clips.py --interactions PAIRS.tsv --embeddings titles.h5 [--suite microlens-50k-text] [--out FILE.json]

From the answers that are kept of a suite (``benchmarks/answers``): of the test questions whose target training never saw, how many a row
has in its first ten places, mean over seeds, and how many clips these are; ``most`` is the clip that is found most and its share of them.
``among new`` is what content alone can tell (``content-mean``): how often the right clip is first, and among the first ten, where nothing
is ranked but clips that nobody watched.
"""

import argparse
import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from answers import ANSWERS
from vivim.recommend import build
from vivim.recommend.config import ProtocolConfig
from vivim.recommend.content import CatalogueVectors, lay_out
from vivim.recommend.models.content_mean import ContentMean
from vivim.recommend.protocol import MicroLensProtocol
from vivim.recommend.readers import read_interactions
from vivim.recommend.sequences import Questions, SequenceBatch
from vivim.store import EmbeddingStore
from vivim.store.provenance import provenance

K = 10


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--interactions", required=True)
    parser.add_argument("--embeddings", type=Path, required=True)
    parser.add_argument("--suite", default="microlens-50k-text")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    interactions = read_interactions(options.interactions)
    split = MicroLensProtocol(ProtocolConfig()).split(interactions)
    targets = split.test.targets
    new_N = build.train_counts(split) == 0
    new = new_N.numpy()[targets]
    asked = Counter(targets[new].tolist())
    rows: list[dict[str, Any]] = []
    for folder in sorted((ANSWERS / options.suite).iterdir()):
        seeds = [_ranks(path, len(targets)) for path in sorted(folder.glob("seed-*/ranks.parquet"))]
        if not seeds:
            continue
        found = Counter(int(target) for rank in seeds for target in targets[new & (rank <= K)])
        total = sum(found.values())
        most = found.most_common(1)
        share = {"clip": split.items.ids[most[0][0]], "of all found": round(most[0][1] / total, 2)} if most else None
        rows.append(
            {"row": folder.name, "seeds": len(seeds), "questions found": round(total / len(seeds), 1), "clips": len(found), "most": share}
        )
        print(json.dumps(rows[-1]))
    alone = among_new(split.test.take(np.flatnonzero(new)), new_N, lay_out(EmbeddingStore.open(options.embeddings), split.items, 0.9))
    print(json.dumps(alone))
    if options.out:
        (top, times) = asked.most_common(1)[0]
        about = {"questions": int(new.sum()), "clips": len(asked), "asked most": {"clip": split.items.ids[top], "questions": times}}
        about |= {"of all questions": len(new), "new clips": int(new_N.sum()), "among new": alone}
        record = provenance() | {"command": f"new_clips.py --suite {options.suite}"}
        options.out.write_text(json.dumps(about | {"rows": rows, "provenance": record}, indent=1) + "\n", encoding="utf-8")


def among_new(questions: Questions, new_N: torch.Tensor, content: CatalogueVectors) -> dict[str, float]:
    """How often content alone has the target first, and among the first ten, of the new clips."""
    model, places = ContentMean.of(content), []
    for rows in np.array_split(np.arange(len(questions)), max(1, len(questions) // 256)):
        scores_BN = model.score(SequenceBatch.of(questions.histories, rows)).masked_fill(~new_N, -torch.inf)
        own_B1 = scores_BN.gather(1, torch.from_numpy(questions.targets[rows].astype(np.int64))[:, None])
        places.append(1 + (scores_BN > own_B1).sum(1))
    place = torch.cat(places)
    return {"first": round(float((place == 1).float().mean()), 4), "of the first ten": round(float((place <= K).float().mean()), 4)}


def _ranks(path: Path, questions: int) -> "np.ndarray[Any, np.dtype[np.float64]]":
    """Of the test questions, in their order."""
    ranks = pl.read_parquet(path).filter(pl.col("split") == "test")["rank"].to_numpy()
    assert len(ranks) == questions, (path, len(ranks), questions)
    return ranks


if __name__ == "__main__":
    main()
