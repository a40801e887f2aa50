"""MMGCN: what users make of a modality and what items show of it, passed along who watched what.

Legend: U users, N items, R some of them, D width.
"""

import torch
import torch.nn.functional as F
from torch import nn

from ..item_encoders import ItemEncoder
from ..new_share import NewShare
from ..sequences import Sequences
from .collaborative import OverGraph, rows_of, user_table
from .pair_graph import PairGraph


class Mmgcn(OverGraph):
    """Layers of mean aggregation over the training pairs, over the content of items and a preference of each user for it.

    In each layer, for a user u with items i in N(u), and likewise for an item:

        h_u = LeakyReLU(mean over N(u) of W1 i)           what is heard of the neighbours (modality-aware aggregation)
        k_u = LeakyReLU(W2 u) + id_u                       what is kept, with who it is
        u'  = LeakyReLU(W3 h_u + k_u)                      element-wise combination

    A vector is what the last layer gives; a node without neighbours hears itself. The modality is the content of the item encoder. Id
    vectors of items are added where the encoder has them beside the content (MMGCN_ID+V); with ids alone they are the modality itself
    (MMGCN_ID). Preferences and id vectors are trained; in a public copy that is often run they are no parameters and stay as they began.
    Source: Wei et al., "MMGCN" (MM 2019): aggregation layer by mean, combination layer element-wise.

    Args:
        train: sequences of the users, whose pairs are the graph. A pair that occurs twice counts once.
        items: N.
        width: D.
        layers: how many.
        new: see ``OverGraph``.
    """

    def __init__(self, train: Sequences, items: int, width: int, layers: int, new: NewShare | None = None) -> None:
        super().__init__(train, items, new)
        self.users = user_table(len(train), width)
        self.preferences = user_table(len(train), width)
        self.layers = nn.ModuleList(_Layer(width) for _ in range(layers))

    def forward(self, encoder: ItemEncoder, rows_R: torch.Tensor | None) -> tuple[torch.Tensor, torch.Tensor]:
        graph, parts = self.graph_and_parts(encoder)
        users_UD, items_ND = self.preferences.weight, parts.content_NC
        for layer in self.layers:
            users_UD, items_ND = layer(graph, (users_UD, items_ND), (self.users.weight, parts.ids_NC))
        return users_UD, rows_of(items_ND, rows_R)


class _Layer(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.hear, self.keep, self.combine = (nn.Linear(width, width, bias=False) for _ in range(3))
        for linear in (self.hear, self.keep, self.combine):
            nn.init.xavier_normal_(linear.weight)

    def forward(
        self, graph: PairGraph, vectors: tuple[torch.Tensor, torch.Tensor], ids: tuple[torch.Tensor, torch.Tensor | None]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        users_UD, items_ND = vectors
        said_U, said_N = self.hear(users_UD), self.hear(items_ND)
        heard_U = graph.to_users(said_N, graph.per_user_E, said_U)
        heard_N = graph.to_items(said_U, graph.per_item_E, said_N)
        return self._join(heard_U, users_UD, ids[0]), self._join(heard_N, items_ND, ids[1])

    def _join(self, heard: torch.Tensor, own: torch.Tensor, ids: torch.Tensor | None) -> torch.Tensor:
        kept = F.leaky_relu(self.keep(own))
        kept = kept if ids is None else kept + ids
        return F.leaky_relu(self.combine(F.leaky_relu(heard)) + kept)
