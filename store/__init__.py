"""The contract between the stages: external ids and their rows, and the embedding file."""

from .embedding_file import EmbeddingFile, write_embeddings
from .embedding_store import EmbeddingStore
from .item_index import ItemIndex
from .recipe import Recipe, differences
from .rows import FailedClip, Rows, RowsById, content_sha256, vector_faults

__all__ = [
    "EmbeddingFile",
    "EmbeddingStore",
    "FailedClip",
    "ItemIndex",
    "Recipe",
    "Rows",
    "RowsById",
    "content_sha256",
    "differences",
    "vector_faults",
    "write_embeddings",
]
