"""From a run to its report: exact ranks for the numbers, FAISS for the lists."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import polars as pl

from ..errors import InputError
from ..progress import Progress
from ..store import EmbeddingStore
from ..store.durable import replacing
from ..store.provenance import provenance
from ..store.run_folder import write_atomically
from . import build
from .checkpoint import RunFolder
from .config import EvaluateConfig
from .loading import load_scorer
from .metrics import accuracy, coverage, gini, hit_rate, intra_list_diversity, mean_popularity, ndcg
from .protocol import Split
from .ranker import Ranks, Scorer, TopK, rank_and_list
from .report import GroupResult, Report, SplitResult, group_names, history_names
from .retrieval import FaissIndex, agreement, faiss_top_k
from .scorers import TableScorer, VectorScorer
from .sequences import Interactions, Questions
from .space import Space, space_of


def evaluate_run(
    run: RunFolder,
    interactions: Interactions,
    config: EvaluateConfig,
    *,
    splits: tuple[str, ...] = ("validation", "test"),
    device: str = "cpu",
    vectors: EmbeddingStore | None = None,
    progress: Progress,
) -> Report:
    """Measure a run on its own protocol; writes results.json, results.md and ranks.parquet into the run's folder.

    Args:
        vectors: content that the diversity of lists is measured in, the same for all runs that are compared; None: what the run was
            trained on, or else the model's own.

    Raises:
        InputError: the run was trained on another catalogue or file, or k is larger than the catalogue.
    """
    info = run.info()
    trained = run.config()
    split = build.protocol_of(trained.protocol).split(interactions)
    catalogue, counts_N = run.catalogue()
    refuse_other_data(run, split)
    if max(config.k) > len(catalogue):
        raise InputError(f"k = {max(config.k)} is larger than the catalogue of {len(catalogue)} items; choose a k of at most that.")
    scorer = load_scorer(run, device)
    index = FaissIndex(config.index, scorer.items_ND) if isinstance(scorer, VectorScorer | TableScorer) else None
    space = space_of(run, scorer, vectors, progress)
    results, tables = [], []
    for name in splits:
        questions = {"validation": split.validation, "test": split.test}[name]
        ranks, exact = rank_and_list(scorer, questions, max(config.k), num_items=len(catalogue), batch=config.batch, progress=progress)
        results.append(_split_result(name, scorer, index, questions, ranks, exact, counts_N, space, config))
        tables.append(_rank_table(name, split, questions, ranks))
    report = Report(
        model=f"{trained.model.kind}, {trained.items.kind}" if "fit" in info else trained.model.kind,
        ks=tuple(sorted(set(config.k))),
        splits=tuple(results),
        index=config.index,
        card=split.card.as_dict(),
        provenance=provenance(),
        run={key: info.get(key) for key in ("config", "seed", "fit", "counting", "embeddings", "peak_memory_mb", "provenance")},
        leakage=split.leakage,
        space=space.name,
    )
    run.write_json("results.json", report.as_dict())
    write_atomically(run.path / "results.md", report.markdown())
    with replacing(run.path / "ranks.parquet") as temporary:
        pl.concat(tables).write_parquet(temporary)
    return report


def refuse_other_data(run: RunFolder, split: Split) -> None:
    """Refuse to say of a run what other data say.

    Raises:
        InputError: ``split`` is not of the interactions and the protocol that the run was trained with.
    """
    info = run.info()
    if split.items.sha256 != info["catalogue_sha256"]:
        raise InputError(
            f"{run.path} was trained on another catalogue: {info['card']['items']} items, mapping hash {info['catalogue_sha256'][:12]}; "
            f"these interactions give {len(split.items)} items, hash {split.items.sha256[:12]}. Give the interactions it was trained on."
        )
    if split.card.as_dict() != info["card"]:
        raise InputError(f"{run.path} was trained under another protocol card, so its numbers would not be its own. Train it again.")


def _split_result(
    name: str,
    scorer: Scorer,
    index: FaissIndex | None,
    questions: Questions,
    ranks: Ranks,
    exact: TopK,
    counts_N: npt.NDArray[np.int64],
    space: Space,
    config: EvaluateConfig,
) -> SplitResult:
    ks = sorted(set(config.k))
    lists, agree = exact, None
    if index is not None and isinstance(scorer, VectorScorer | TableScorer):
        lists = faiss_top_k(index, scorer, questions, max(ks), batch=config.batch)
        agree = {k: agreement(lists, exact, k) for k in ks}
    vectors_ND = space.vectors_ND
    return SplitResult(
        name=name,
        questions=len(questions),
        metrics=accuracy(ranks, ks),
        coverage={k: coverage(lists, k) for k in ks},
        mean_popularity={k: mean_popularity(lists, k, counts_N) for k in ks},
        gini={k: gini(lists, k) for k in ks},
        diversity=None if vectors_ND is None else {k: intra_list_diversity(lists, k, vectors_ND) for k in ks},
        groups=by_views(counts_N, questions, ranks, ks),
        history_groups=by_history(questions, ranks, ks),
        index_agreement=agree,
    )


def by_views(counts_N: npt.NDArray[np.int64], questions: Questions, ranks: Ranks, ks: Sequence[int]) -> tuple[GroupResult, ...]:
    """Accuracy by how often training saw the target; ``counts_N`` are the (N,) training interactions of each item."""
    return _groups(counts_N[questions.targets], group_names(), ranks, ks)


def by_history(questions: Questions, ranks: Ranks, ks: Sequence[int]) -> tuple[GroupResult, ...]:
    """Accuracy by how many items were watched before the target."""
    return _groups(questions.seen.lengths, history_names(), ranks, ks)


def _groups(
    number_Q: npt.NDArray[np.int64], buckets: Sequence[tuple[str, int, int]], ranks: Ranks, ks: Sequence[int]
) -> tuple[GroupResult, ...]:
    """Accuracy of the questions whose number lies in each bucket (name, least, most); those without questions are left out."""
    groups = []
    for name, least, most in buckets:
        chosen = (number_Q >= least) & (number_Q <= most)
        if not chosen.any():
            continue
        some = Ranks(ranks.rank[chosen], ranks.num_items)
        metrics = {key: value for k in ks for key, value in ((f"hit_rate@{k}", hit_rate(some, k)), (f"ndcg@{k}", ndcg(some, k)))}
        groups.append(GroupResult(name, int(chosen.sum()), metrics))
    return tuple(groups)


def _rank_table(name: str, split: Split, questions: Questions, ranks: Ranks) -> pl.DataFrame:
    users, items = np.array(split.users.ids, dtype=object), np.array(split.items.ids, dtype=object)
    return pl.DataFrame(
        {
            "split": [name] * len(questions),
            "user": users[questions.users].tolist(),
            "target": items[questions.targets].tolist(),
            "rank": ranks.rank,
        }
    )
