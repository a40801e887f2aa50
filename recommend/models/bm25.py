"""Items that the same people watched, weighted as a search engine weighs words. A yardstick without learning.

Legend: N items, U users, P pairs of items.
"""

from typing import Self

import numpy as np
import torch

from ..sequences import Sequences
from .item_knn import ItemKnn

K1 = 1.2
B = 0.75


class Bm25(ItemKnn):
    """Item-based collaborative filtering over BM25 weights; the order of what was watched plays no part.

    An item is a document whose words are its users. w(i, u) = idf(u) (K1 + 1) / (K1 (1 - B + B n_i / mean n) + 1) with n_i users of
    item i, and idf(u) = log(N / (1 + items of u)); an item's likeness to another is the sum over the users of both of the product of
    their weights, and its score the sum of that over the history. Source: Robertson and Zaragoza, "The probabilistic relevance
    framework: BM25 and beyond" (2009), eq. 3.15, with term frequencies of 1; the constants are the customary ones.
    """

    @classmethod
    def fit(cls, train: Sequences, num_items: int, *, k1: float = K1, b: float = B) -> Self:  # type: ignore[override]
        """Count pairs of items in the training sequences."""
        owners = np.repeat(np.arange(len(train)), train.lengths)
        watched = np.unique(np.stack([owners, train.items.astype(np.int64)]), axis=1)
        owners, items = watched
        users_N = np.bincount(items, minlength=num_items).astype(np.float64)
        items_U = np.bincount(owners, minlength=len(train))
        idf_U = np.log(num_items / (1.0 + items_U))
        length_N = 1 - b + b * users_N / max(users_N[users_N > 0].mean() if users_N.any() else 1.0, 1e-12)
        weight_E = idf_U[owners] * (k1 + 1) / (k1 * length_N[items] + 1)
        # All ordered pairs of two different items of a user: each entry beside all entries of its user.
        starts_U = np.cumsum(items_U) - items_U
        repeats_E = items_U[owners]
        first = np.repeat(np.arange(len(items)), repeats_E)
        within = np.arange(len(first)) - np.repeat(np.cumsum(repeats_E) - repeats_E, repeats_E)
        second = np.repeat(starts_U[owners], repeats_E) + within
        different = first != second
        first, second = first[different], second[different]
        pairs, inverse = np.unique(items[first] * num_items + items[second], return_inverse=True)
        likeness = np.bincount(inverse, weights=weight_E[first] * weight_E[second], minlength=len(pairs))
        starts = np.searchsorted(pairs // num_items, np.arange(num_items + 1))
        return cls(
            torch.from_numpy(starts.astype(np.int64)),
            torch.from_numpy((pairs % num_items).astype(np.int32)),
            torch.from_numpy(likeness.astype(np.float32)),
            torch.from_numpy(users_N.astype(np.float32)),
            1.0,
        )
