"""A small extraction under a limit on open files; run by test_output_place as a program: clips, out, limit (0: none)."""

import resource
import sys
from pathlib import Path

import torch
from vivim.errors import VivimError
from vivim.extract.config import ExtractConfig, FramesConfig
from vivim.extract.run import extract_catalogue
from vivim.extract.sources import videos
from vivim.progress import SILENT
from vivim.store import Recipe

CONFIG = ExtractConfig(frames=FramesConfig(count=2), image_size=32, workers=2, batch_clips=2, shard_clips=2)
RECIPE = Recipe(encoder={}, weights={}, frames={"count": 2}, preprocessing={}, dtype="float16", decoder={})


class Mean:
    """The mean of each colour."""

    dim = 3
    device = torch.device("cpu")

    def embed_uint8(self, frames_BTCHW: torch.Tensor) -> torch.Tensor:
        return 1 + frames_BTCHW.float().mean((1, 3, 4))


def main(clips: str, out: str, files: int) -> int:
    if files:
        resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))
    try:
        extract_catalogue(videos(Path(clips), CONFIG), Path(out), CONFIG, Mean(), RECIPE, SILENT)
    except VivimError as error:
        sys.stdout.write(str(error))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
