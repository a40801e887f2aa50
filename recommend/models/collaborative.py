"""Models that know their users by id: vectors of all users and of items, no order of what was watched.

Legend: U users, N items, R some of them, D width.
"""

import torch
import torch.nn.functional as F
from torch import nn

from ..item_encoders import ItemEncoder
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


class LightGcn(nn.Module):
    """Neighbours' vectors, averaged over layers; nothing else is learned than what users and items begin with.

    e_u(k+1) = sum over the items i of u of e_i(k) / sqrt(|items of u| |users of i|), and likewise for items; the vector of a node
    is the mean over k of 0 to ``layers``. Source: He et al., "LightGCN" (2020), eq. 7 and 8 with alpha_k = 1 / (K + 1).

    A node without neighbours keeps its vector, where the formula would shorten it K + 1 times. With content and ids as items that makes
    Vivim-CF: a clip that nobody watched yet has the place that its content gives it.

    Args:
        train: sequences of the users, whose pairs are the graph. A pair that occurs twice counts once.
        items: N.
        width: D.
        layers: K.
    """

    def __init__(self, train: Sequences, items: int, width: int, layers: int) -> None:
        super().__init__()
        self.users = user_table(len(train), width)
        self.layers = layers
        self.graph = PairGraph(train, items)

    def forward(self, encoder: ItemEncoder, rows_R: torch.Tensor | None) -> tuple[torch.Tensor, torch.Tensor]:
        graph = self.graph
        users_UD, items_ND = self.users.weight, encoder.all()
        sum_users, sum_items = users_UD, items_ND
        for _ in range(self.layers):
            users_UD, items_ND = (
                graph.to_users(items_ND, graph.symmetric_E, users_UD),
                graph.to_items(users_UD, graph.symmetric_E, items_ND),
            )
            sum_users, sum_items = sum_users + users_UD, sum_items + items_ND
        return sum_users / (self.layers + 1), rows_of(sum_items / (self.layers + 1), rows_R)
