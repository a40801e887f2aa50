"""The contract between the stages: external ids and their rows, the embedding file, and whether its vectors are fit to use."""

from .embedding_file import EmbeddingFile, write_embeddings
from .embedding_store import EmbeddingStore
from .health import Health, effective_rank, measure_health
from .item_index import ItemIndex
from .recipe import AnyRecipe, ImportedRecipe, Recipe, TextRecipe, differences, read_recipe
from .rows import FailedClip, Rows, RowsById, content_sha256, file_sha256, vector_faults

__all__ = [
    "AnyRecipe",
    "EmbeddingFile",
    "EmbeddingStore",
    "FailedClip",
    "Health",
    "ImportedRecipe",
    "ItemIndex",
    "Recipe",
    "Rows",
    "RowsById",
    "TextRecipe",
    "content_sha256",
    "differences",
    "effective_rank",
    "file_sha256",
    "measure_health",
    "read_recipe",
    "vector_faults",
    "write_embeddings",
]
