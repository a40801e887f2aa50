"""The tables of docs/serve.md under "What it costs", made from the result files.

python benchmarks/serving_table.py    # serving.json, serve_kills.json, serve_soak.json -> docs/serve.md
"""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"
PAGE = ROOT / "docs" / "serve.md"
MARKED = re.compile(r"(?<=<!-- cost:begin -->\n).*?(?=<!-- cost:end -->)", re.DOTALL)

ASKED = {
    "health": "`GET /healthz`: HTTP alone",
    "list": "`GET .../recommendations?k=10`",
    "event": "`POST .../events?k=10`: an event kept, and the new ten",
    "event, evenly": "the same, evenly spaced",
}


def lines(results: Path = RESULTS) -> list[str]:
    """Markdown of what has been measured; nothing of what has not."""
    found: list[str] = []
    for name, lines_of in PARTS.items():
        file = results / f"{name}.json"
        if file.exists():
            found += [*lines_of(json.loads(file.read_text("utf-8"))), ""]
    return found


def of_times(result: dict[str, Any]) -> list[str]:
    """Latencies, steps, the large catalogue, the floor."""
    small, floor = result["small"], result["floor"]
    rows = [["19,099 items of 128 numbers, 50 requests/s", "p50 ms", "p99 ms", "largest ms", "over 10 ms", "CPU ms"]]
    for kind, words in ASKED.items():
        row = small[kind]
        rows.append([words, *_times(row["ms"]), f"{row['share_over_target']:.2%}", f"{row['cpu_ms_each']:.1f}"])
    sync, reading = floor["fdatasync_ms"], floor["reading_small_ms"]
    text = [
        *_table(rows),
        "",
        f"The floor in the same run: `fdatasync` of 16 KiB {sync['p50']:.1f} ms (p99 {sync['p99']:.1f}), reading all item vectors once "
        f"{reading:.2f} ms. Largest resident memory of the server: {small['peak_rss_mib']:,} MiB.",
        "",
    ]
    steps = [["history", "one more event, ms", "whole history anew, ms", "ratio"]]
    steps += [
        [f"{row['history']:,}", f"{row['step_ms']['p50']:.2f}", f"{row['whole_ms']['p50']:.2f}", f"{row['ratio']:.1f}"]
        for row in result.get("steps", ())
    ]
    text += [*_table(steps), ""] if len(steps) > 1 else []
    large = result.get("large")
    if large:
        rows = [
            [f"{large['items']:,} items of {large['width']} numbers, one after the other", "p50 ms", "p99 ms", "largest ms", "recall@10"]
        ]
        rows.append(["exact", *_times(large["exact"]["ms"]), "1"])
        rows.append(["IVF", *_times(large["ann"]["ms"]), f"{large['recall@10']:.3f}"])
        rows.append(["IVF, an event kept, and the new ten", *_times(large["event_to_ann"]["ms"]), f"{large['recall@10']:.3f}"])
        text += [
            *_table(rows),
            "",
            f"Reading these vectors once takes {floor['reading_large_ms']:.0f} ms ({floor['reading_large_gb_per_s']:.1f} GB/s). The first "
            f"answer came {large['seconds_to_first_answer']:.0f} s after the start, the index {large['seconds_to_index']:.0f} s; largest "
            f"resident memory {large['peak_rss_mib']:,} MiB.",
            "",
        ]
    return [*text, _origin(result)]


def of_kills(result: dict[str, Any]) -> list[str]:
    """Deaths, and what was there afterwards."""
    trials, said, at_once = (result[key] for key in ("trials", "acknowledged", "concurrent"))
    bad = [sum(word in line for line in result["bad"]) for word in (": lost", " times", "another list")]
    rows = [["killed under load, then asked", "times", "lost", "doubled", "other lists than the serial replay's"]]
    rows.append(
        [f"SIGKILL at a random instant; {trials['starts killed']} times again in the new start", str(trials["kills"]), *map(str, bad)]
    )
    return [
        *_table(rows),
        "",
        f"{said['events']:,} events and {said['removals']:,} removals were acknowledged; of those on their way at a kill "
        f"{trials['not acknowledged, kept']:,} were there and {trials['not acknowledged, not kept']:,} not, and sent again each was there "
        f"once. {at_once['events']:,} events of {at_once['users']} users from {at_once['threads']} threads in no order, "
        f"{at_once['sent'] - at_once['events']:,} of them twice, gave the histories and lists of the serial replay.",
        "",
        _origin(result),
    ]


def of_soak(result: dict[str, Any]) -> list[str]:
    """Memory over time."""
    rss, threads, files = result["rss_mib"], result["most_threads"], result["most_files"]
    return [
        f"{result['minutes']:g} minutes of everything at once, {result['requests']:,} requests, {len(result['bad'])} of them answered in a "
        f"way that they should not be: resident memory {rss['begin']:.0f} MiB at the beginning, {rss['end']:.0f} MiB at the end; over the "
        f"last two thirds it rose by {result['rise_mib']:.1f} MiB ({result['rise_share']:.2%}; flat is below 2 %). Most threads "
        f"{threads['then']}, most open files {files['then']} (in the first third {threads['first third']} and {files['first third']}).",
        "",
        _origin(result),
    ]


PARTS: dict[str, Callable[[dict[str, Any]], list[str]]] = {"serving": of_times, "serve_kills": of_kills, "serve_soak": of_soak}


def _times(ms: dict[str, float]) -> list[str]:
    return [f"{ms[name]:.1f}" for name in ("p50", "p99", "max")]


def _table(rows: list[list[str]]) -> list[str]:
    header, *body = (f"| {' | '.join(row)} |" for row in rows)
    return [header, f"|{'---|' * len(rows[0])}", *body]


def _origin(result: dict[str, Any]) -> str:
    origin = result["provenance"]
    return f"{origin['date'][:10]}, commit {origin['commit']}, {origin['hardware']}: `{origin['command']}`"


def main() -> None:
    text, count = MARKED.subn(lambda _: "\n".join(lines()), PAGE.read_text("utf-8"))
    assert count == 1, f"{PAGE} has no markers"
    PAGE.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
