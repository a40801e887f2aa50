"""Which clips that nobody watched in training a model finds: many of them, or one again and again?

    python benchmarks/new_clips.py --interactions MicroLens-50k_pairs.tsv [--suite microlens-50k-text] [--out FILE.json]

From the answers that are kept of a suite (``benchmarks/answers``): of the test questions whose target training never saw, how many a row
has in its first ten places, mean over seeds, and how many clips these are; ``most`` is the clip that is found most and its share of them.
"""

import argparse
import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from answers import ANSWERS
from vivim.recommend import build
from vivim.recommend.config import ProtocolConfig
from vivim.recommend.protocol import MicroLensProtocol
from vivim.recommend.readers import read_interactions
from vivim.store.provenance import provenance

K = 10


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--interactions", required=True)
    parser.add_argument("--suite", default="microlens-50k-text")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    interactions = read_interactions(options.interactions)
    split = MicroLensProtocol(ProtocolConfig()).split(interactions)
    targets = split.test.targets
    new = build.train_counts(split).numpy()[targets] == 0
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
    if options.out:
        (top, times) = asked.most_common(1)[0]
        about = {"questions": int(new.sum()), "clips": len(asked), "asked most": {"clip": split.items.ids[top], "questions": times}}
        record = provenance() | {"command": f"new_clips.py --suite {options.suite}"}
        options.out.write_text(json.dumps(about | {"rows": rows, "provenance": record}, indent=1) + "\n", encoding="utf-8")


def _ranks(path: Path, questions: int) -> "np.ndarray[Any, np.dtype[np.float64]]":
    """Of the test questions, in their order."""
    ranks = pl.read_parquet(path).filter(pl.col("split") == "test")["rank"].to_numpy()
    assert len(ranks) == questions, (path, len(ranks), questions)
    return ranks


if __name__ == "__main__":
    main()
