"""Where a run comes from: when, which code, which data, which machine, and how to make it again."""

import json
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ...store.provenance import provenance
from .evidence import Evidence


@dataclass(frozen=True)
class Origin:
    """What ``look_at_origin`` finds.

    Attributes:
        facts: name -> value, for people.
        commands: what was typed to make it, in order, each with what it does.
        config: all options of the training, as JSON.
        recipe: how the stored vectors were made, as JSON; empty without.
    """

    facts: dict[str, str]
    commands: tuple[tuple[str, str], ...]
    config: str
    recipe: str


def look_at_origin(evidence: Evidence) -> Origin:
    """Collect what run.json, the results and the embedding file say."""
    info, store = evidence.info, evidence.store
    trained, measured, now = info["provenance"], evidence.results["provenance"], provenance()
    hashes = {"data": info["card"]["dataset_sha256"], "catalogue": info["catalogue_sha256"]}
    if store is not None:
        hashes |= {"vectors": store.sha256, "recipe": store.recipe.sha256}
    facts = {
        "trained": _when(trained),
        "measured": _when(measured),
        "report": _when(now),
        "hardware": str(trained["hardware"]),
        "versions": ", ".join(f"{name} {version}" for name, version in trained["versions"].items()),
        "seed": str(info["seed"]),
        "processes": str(info.get("processes", 1)),
        "run": str(evidence.run.path.resolve()),
        "interactions": str(info["data"]["path"]),
        **{f"sha256 of the {name}": str(value) for name, value in hashes.items()},
    }
    recipe = "" if store is None else json.dumps(json.loads(store.recipe.to_json()), indent=2, ensure_ascii=False)
    return Origin(facts, _commands(evidence, trained), json.dumps(info["config"], indent=2, ensure_ascii=False), recipe)


def _when(origin: Mapping[str, Any]) -> str:
    return f"{origin['date']}, commit {origin['commit']}"


def _commands(evidence: Evidence, trained: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    run, data = (shlex.quote(str(x)) for x in (evidence.run.path.resolve(), evidence.info["data"]["path"]))
    extractions = [str(line["command"]) for line in evidence.extractions[-1:] if "command" in line]
    return (
        *(("make vectors (as it was typed last)", line) for line in extractions),
        ("describe the data", f"vivim check-data --interactions {data}"),
        ("train (as it was typed)", str(trained["command"])),
        ("measure", f"vivim evaluate --run {run} --k {' '.join(map(str, evidence.results['k']))}"),
        ("this report", f"vivim report --run {run}"),
    )
