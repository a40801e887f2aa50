"""How a measuring script ends: its result on the terminal and in a file, and an exit code that says whether it is as it should be."""

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn


def show_and_exit(result: Mapping[str, Any], out: Path | None, *, good: bool) -> NoReturn:
    """Exit code 0 or 1; ``out``: the result file, where one is wanted."""
    text = json.dumps(result, indent=1)
    print(text)
    if out:
        out.write_text(text + "\n", encoding="utf-8")
    sys.exit(0 if good else 1)
