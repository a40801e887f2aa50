"""Models that know their users by id: vectors of all users and of items, no order of what was watched.

Legend: U users, N items, R some of them, D width.
"""

import torch
import torch.nn.functional as F
from torch import nn

from ..item_encoders import ItemEncoder, ItemParts
from ..new_share import NewShare
from ..sequences import Sequences
from .pair_graph import PairGraph


def user_table(users: int, width: int) -> nn.Embedding:
    """(U, D), fresh."""
    table = nn.Embedding(users, width)
    nn.init.xavier_normal_(table.weight)
    return table


def rows_of(items_ND: torch.Tensor, rows_R: torch.Tensor | None) -> torch.Tensor:
    """(R, D) of the items ``rows_R``, or all of them."""
    return items_ND if rows_R is None else F.embedding(rows_R, items_ND)


class OverGraph(nn.Module):
    """What models of the training pairs share.

    An item that nobody watched hears itself alone, and what it then says of itself is on another scale than what items say that hear
    their watchers. Were it never seen in training, nothing would tell how the two compare: it stands above everything that was watched, or
    below, in everybody's list. So each step takes a random share of the items for new: their pairs are not in its graph, their id deltas
    are left out. As targets and as negatives they show what content alone is worth. Answers come from the whole graph. Source: Volkovs
    et al., "DropoutNet" (2017), here for neighbours too.

    Args:
        train: sequences of the users, whose pairs are the graph. A pair that occurs twice counts once.
        items: N.
        new: which items a step takes for new; None: none, as where an item is known by its id alone.
    """

    def __init__(self, train: Sequences, items: int, new: NewShare | None) -> None:
        super().__init__()
        self.graph = PairGraph(train, items)
        self.new_share = NewShare(0.0) if new is None else new

    def graph_and_parts(self, encoder: ItemEncoder) -> tuple[PairGraph, ItemParts]:
        """The pairs and the items of a training step; all of them where it answers."""
        if not (self.training and self.new_share.ever):
            return self.graph, encoder.parts()
        new_N = self.new_share.of_all(encoder.num_items, self.graph.items_E.device)
        return self.graph.without(new_N), encoder.parts(new_N)


class MatrixFactorisation(nn.Module):
    """A table of users beside the vectors of items. Source: Koren et al., "Matrix factorization techniques" (2009).

    With ids what MicroLens calls DSSM: the towers of its published configuration have no layers, so that a user is a row of a table and
    so is an item. With ids and content side by side (``items.fusion: concat``) what it calls DSSM_ID+V, without that code's visual bias:
    a linear layer over the stored vector that is added to every score when it is measured and in no loss, so that it stays at its random
    start.

    Args:
        users: U.
        width: D.
    """

    def __init__(self, users: int, width: int) -> None:
        super().__init__()
        self.users = user_table(users, width)

    def forward(self, encoder: ItemEncoder, rows_R: torch.Tensor | None) -> tuple[torch.Tensor, torch.Tensor]:
        return self.users.weight, encoder.all() if rows_R is None else encoder(rows_R)


class LightGcn(OverGraph):
    """Neighbours' vectors, averaged over layers; nothing else is learned than what users and items begin with.

    e_u(k+1) = sum over the items i of u of e_i(k) / sqrt(|items of u| |users of i|), and likewise for items; the vector of a node
    is the mean over k of 0 to ``layers``. Source: He et al., "LightGCN" (2020), eq. 7 and 8 with alpha_k = 1 / (K + 1).

    A node without neighbours keeps its vector, where the formula would shorten it K + 1 times. With neighbours for new
    items (``Placing``) it is Vivim-CF: a clip that nobody watched yet is amid those of similar content.

    Args:
        train: sequences of the users, whose pairs are the graph. A pair that occurs twice counts once.
        items: N.
        width: D.
        layers: K.
        new: see ``OverGraph``.
    """

    def __init__(self, train: Sequences, items: int, width: int, layers: int, new: NewShare | None = None) -> None:
        super().__init__(train, items, new)
        self.users = user_table(len(train), width)
        self.layers = layers

    def forward(self, encoder: ItemEncoder, rows_R: torch.Tensor | None) -> tuple[torch.Tensor, torch.Tensor]:
        graph, parts = self.graph_and_parts(encoder)
        users_UD, items_ND = self.users.weight, parts.vectors_ND
        sum_users, sum_items = users_UD, items_ND
        for _ in range(self.layers):
            users_UD, items_ND = (
                graph.to_users(items_ND, graph.symmetric_E, users_UD),
                graph.to_items(users_UD, graph.symmetric_E, items_ND),
            )
            sum_users, sum_items = sum_users + users_UD, sum_items + items_ND
        return sum_users / (self.layers + 1), rows_of(sum_items / (self.layers + 1), rows_R)
