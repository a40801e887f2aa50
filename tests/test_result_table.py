"""The README's result table is what the result files say."""

import importlib.util
import json
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def result_table():
    spec = importlib.util.spec_from_file_location("result_table", ROOT / "benchmarks" / "result_table.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_readme_holds_the_table_of_every_result_file():
    module = result_table()
    readme = (ROOT / "README.md").read_text()
    for name in module.TABLES:
        lines = module.table(json.loads((module.RESULTS / f"{name}.json").read_text()))
        assert "\n".join(lines) in readme, "run: python benchmarks/result_table.py readme"


def test_every_recorded_result_passes_the_arithmetic_check():
    from vivim.recommend.metrics import arithmetic_check

    module = result_table()
    for name in module.TABLES:
        for row in json.loads((module.RESULTS / f"{name}.json").read_text())["rows"]:
            for split in row["splits"].values():
                m = {key: value["value"] for key, value in split["metrics"].items()}
                arithmetic_check(m["hit_rate@10"], m["ndcg@10"], m["hit_rate@20"], m["ndcg@20"], 10, 20, rank_step=0.5)
