"""Item vectors that do not come from clips: titles through a text model, vectors that others have made."""

from .config import TextConfig
from .import_vectors import Imported, import_vectors
from .item_ids import ItemIds
from .model_folder import ModelFolder, find_model
from .text_model import TextModel
from .titles_to_vectors import TitlesDone, embed_titles, read_item_titles
from .vector_files import VectorFile, open_vectors

__all__ = [
    "Imported",
    "ItemIds",
    "ModelFolder",
    "TextConfig",
    "TextModel",
    "TitlesDone",
    "VectorFile",
    "embed_titles",
    "find_model",
    "import_vectors",
    "open_vectors",
    "read_item_titles",
]
