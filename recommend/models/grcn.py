"""GRCN: how sure content is of each pair decides how much of it the graph of ids hears.

Legend: U users, N items, R some of them, E pairs of a user and an item, D width.
"""

import torch
import torch.nn.functional as F
from torch import nn

from ..item_encoders import ItemEncoder
from ..new_share import NewShare
from ..sequences import Sequences
from .collaborative import OverGraph, rows_of, user_table
from .pair_graph import PairGraph


class Grcn(OverGraph):
    """A prototype of every user among the content of its items; from it a confidence of each pair; with these a convolution over ids.

    Prototypes (graph refining, neighbour routing): content c_i and prototypes p_u have length 1, and in each of ``rounds``

        a_ui = exp(p_u . c_i) / sum over the items j of u of exp(p_u . c_j);    p_u <- p_u + sum over i of a_ui c_i,  length 1 again

    Confidences: with the last prototypes and a trained trust t in every node, a pair weighs s_ui = ReLU(t_i a_ui) on its way to the user
    and s_iu = ReLU(t_u a_iu) on its way to the item, a_iu being the softmax over the users of the item. The largest over several
    modalities would be taken; an item encoder gives one.

    Convolution: u(k+1) = sum over i of s_ui i(k), i(k+1) = sum over u of s_iu u(k), and the id vector of a node is the sum over k of 0
    to ``layers``. Beside it stands its content, p_u + LeakyReLU(sum of a_ui c_i) or c_i + LeakyReLU(sum of a_iu p_u), so that vectors of
    users and items are 2 D wide. A node without neighbours hears itself.

    Where the item encoder has no ids beside its content (``ids`` alone, ``frozen``) the same vectors are both. Id vectors are not brought
    to length 1, as a delta that starts at zero has no direction; trust starts at 1, as a pair that is pruned from the start learns
    nothing. Source: Wei et al., "Graph-Refined Convolutional Network for Multimedia Recommendation with Implicit Feedback" (MM 2020),
    graph refining, convolutional and prediction layers, soft pruning.

    Args:
        train: sequences of the users, whose pairs are the graph. A pair that occurs twice counts once.
        items: N.
        width: D.
        layers: of the convolution over ids.
        rounds: of routing.
        new: see ``OverGraph``.
    """

    def __init__(self, train: Sequences, items: int, width: int, layers: int, rounds: int, new: NewShare | None = None) -> None:
        super().__init__(train, items, new)
        self.users = user_table(len(train), width)
        self.prototypes = user_table(len(train), width)
        self.trust_U = nn.Parameter(torch.ones(len(train)))
        self.trust_N = nn.Parameter(torch.ones(items))
        self.layers, self.rounds = layers, rounds

    def forward(self, encoder: ItemEncoder, rows_R: torch.Tensor | None) -> tuple[torch.Tensor, torch.Tensor]:
        graph, parts = self.graph_and_parts(encoder)
        content_ND = F.normalize(parts.content_NC, dim=1)
        prototypes_UD = self._route(graph, content_ND)
        alike_E = graph.products(prototypes_UD, content_ND)
        by_user_E, by_item_E = graph.softmax_by_user(alike_E), graph.softmax_by_item(alike_E)
        users_UD, items_ND = self._convolve(
            graph,
            parts.content_NC if parts.ids_NC is None else parts.ids_NC,
            F.relu(by_user_E * self.trust_N[graph.items_E]),
            F.relu(by_item_E * self.trust_U[graph.users_E]),
        )
        seen_UD = prototypes_UD + F.leaky_relu(graph.to_users(content_ND, by_user_E, prototypes_UD))
        shown_ND = content_ND + F.leaky_relu(graph.to_items(prototypes_UD, by_item_E, content_ND))
        return torch.cat([users_UD, seen_UD], 1), rows_of(torch.cat([items_ND, shown_ND], 1), rows_R)

    def _route(self, graph: PairGraph, content_ND: torch.Tensor) -> torch.Tensor:
        """(U, D) prototypes."""
        prototypes_UD = F.normalize(self.prototypes.weight, dim=1)
        for _ in range(self.rounds):
            alike_E = graph.softmax_by_user(graph.products(prototypes_UD, content_ND))
            heard_UD = graph.to_users(content_ND, alike_E, prototypes_UD)
            prototypes_UD = F.normalize(prototypes_UD + heard_UD, dim=1)
        return prototypes_UD

    def _convolve(
        self, graph: PairGraph, items_ND: torch.Tensor, to_users_E: torch.Tensor, to_items_E: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        users_UD = self.users.weight
        sum_users, sum_items = users_UD, items_ND
        for _ in range(self.layers):
            users_UD, items_ND = (
                graph.to_users(items_ND, to_users_E, users_UD),
                graph.to_items(users_UD, to_items_E, items_ND),
            )
            sum_users, sum_items = sum_users + users_UD, sum_items + items_ND
        return sum_users, sum_items
