"""The tables of faults in the documentation: tests that exist, for every fault from 1 to 32, and numbers that were measured."""

import ast
import json
import re
from pathlib import Path

HERE = Path(__file__).parent
PAGE = HERE.parents[1] / "docs" / "extract.md"


def test_every_fault_names_a_test_that_exists():
    lines = PAGE.read_text("utf-8").partition("## Faults that are tested")[2].partition("\n## ")[0].splitlines()
    rows = [line for line in lines if re.match(r"\| \d", line)]
    assert [int(line.split("|")[1]) for line in rows] == list(range(1, 33))
    for row in rows:
        named = re.findall(r"`(test_\w+)::(test_\w+)`", row)
        assert named, row
        for file, test in named:
            tree = ast.parse((HERE / f"{file}.py").read_text("utf-8"))
            assert test in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}, (file, test)


def test_the_damage_table_is_the_result_file():
    page = PAGE.read_text("utf-8")
    result = json.loads((HERE.parents[1] / "benchmarks" / "results" / "damage.json").read_text("utf-8"))
    assert f"inverted, {result['flips']} times per codec" in page
    for codec, row in result["rows"].items():
        numbers = [row[way][name] for way in ("default", "strict") for name in ("refused", "unharmed", "wrong")]
        assert "| " + " | ".join([codec, *map(str, numbers)]) + " |" in page, "the table in docs/extract.md is not that of damage.json"


def test_the_table_of_deaths_is_the_result_files():
    page = PAGE.read_text("utf-8")
    results = HERE.parents[1] / "benchmarks" / "results"
    kills = json.loads((results / "kills.json").read_text("utf-8"))
    disks = json.loads((results / "full_disk.json").read_text("utf-8"))["kinds"]
    counts = {
        "SIGKILL of the main process at a random instant": kills["trials"]["random, main process"],
        "SIGKILL of a decoding process at a random instant": kills["trials"]["random, a child"],
        "SIGKILL at every named point": kills["trials"]["named"],
        "full disk (ENOSPC)": kills["trials"]["full"],
        "eight kills": kills["trials"]["repeated"],
        "a disk of 4, 8, 12": disks["disk"]["too_small"],
        "no file may exceed": disks["limit"]["too_small"],
    }
    for what, count in counts.items():
        (line,) = [line for line in page.splitlines() if line.startswith(f"| {what}")]
        assert line.endswith(f"| {count} | 0 |"), line
    assert kills["bad"] == disks["disk"]["bad"] == disks["limit"]["bad"] == []
    assert f"({disks['disk']['shards_kept'] + disks['limit']['shards_kept']} in these runs)" in page


def test_the_frames_are_as_equal_as_the_page_says():
    result = json.loads((HERE.parents[1] / "benchmarks" / "results" / "frames.json").read_text("utf-8"))
    for part in result["summary"].values():
        for decoder in part.values():
            assert decoder["equal"] == decoder["clips"]
    assert sum(part["pyav"]["frames"] for part in result["summary"].values()) == 885


def test_the_table_of_speed_is_the_result_file():
    page = PAGE.read_text("utf-8")
    for row in json.loads((HERE.parents[1] / "benchmarks" / "results" / "extract.json").read_text("utf-8"))["rows"]:
        rate = row["clips_per_second"]
        first = f"| {row['count']} {row['clips']} | {row['size']} | {rate['decode']:.2f} | {rate['encode']:.2f} | {row['limit']:.2f} | "
        assert f"{first}{rate['vivim']:.2f} | {row['vivim_of_limit']:.0%} | {row['vivim_of_the_slower_stage']:.0%} |" in page
