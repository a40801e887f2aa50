"""The contract between the stages: external ids and their rows, the embedding file, and whether its vectors are fit to use."""

from .embedding_file import EmbeddingFile, write_embeddings
from .embedding_store import EmbeddingStore
from .health import Health, effective_rank, measure_health
from .item_index import ItemIndex
from .recipe import Recipe, differences
from .rows import FailedClip, Rows, RowsById, content_sha256, vector_faults

__all__ = [
    "EmbeddingFile",
    "EmbeddingStore",
    "FailedClip",
    "Health",
    "ItemIndex",
    "Recipe",
    "Rows",
    "RowsById",
    "content_sha256",
    "differences",
    "effective_rank",
    "measure_health",
    "vector_faults",
    "write_embeddings",
]
