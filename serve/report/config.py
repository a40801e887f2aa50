"""How much a report shows."""

from typing import Literal

from pydantic import Field

from ...settings import Settings


class ReportConfig(Settings):
    """What is drawn and how much of it; everything drawn at random follows from the seed.

    Attributes:
        k: length of the recommended lists that are shown.
        viewers: test questions shown with their history and their list.
        queries: clips whose nearest neighbours are shown.
        neighbours: of each of them.
        sheet: clips whose sampled frames are shown.
        map: how vectors become places on the map.
        points: places on the map, at most; of a larger catalogue a sample.
        size_mb: of the file, MB at most: pictures take what the rest leaves.
        decode: clips that are decoded for a picture at most, where there are no thumbnails.
    """

    k: int = Field(10, ge=1, le=50)
    viewers: int = Field(12, ge=0, le=100)
    queries: int = Field(20, ge=0, le=200)
    neighbours: int = Field(8, ge=1, le=20)
    sheet: int = Field(12, ge=0, le=100)
    map: Literal["pca", "umap"] = "pca"
    points: int = Field(20_000, ge=2, le=100_000)
    size_mb: float = Field(10.0, ge=0, le=1000)
    decode: int = Field(600, ge=0)
