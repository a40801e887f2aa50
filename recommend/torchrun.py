"""Whether torchrun started this process, and beside how many; knows nothing but the environment."""

import os


def launched() -> int:
    """How many processes torchrun started; 1 without it."""
    return int(os.environ.get("WORLD_SIZE", "1")) if "TORCHELASTIC_RUN_ID" in os.environ else 1


def on_this_host() -> int:
    """How many of them run on this machine; 1 without torchrun."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1")) if launched() > 1 else 1


def is_first() -> bool:
    """The one that writes and speaks."""
    return launched() == 1 or os.environ.get("RANK", "0") == "0"
