"""What serving, reporting and recommending to everybody cost: tables of three pages, made from the result files.

python benchmarks/serving_table.py    # benchmarks/results/{serving,serve_kills,serve_soak,report,recommend_all}.json -> docs/
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from doc_pages import markdown_table, replace

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"
PAGES = {"serve.md": ("serving", "serve_kills", "serve_soak"), "report.md": ("report",), "recommend.md": ("recommend_all",)}
"""Page of docs/ -> results that it shows, in this order."""

ASKED = {
    "health": "`GET /healthz`: HTTP alone",
    "list": "`GET .../recommendations?k=10`",
    "event": "`POST .../events?k=10`: an event kept, and the new ten",
    "event, evenly": "the same, evenly spaced",
}
REPORTS = {"demo": "the demo, ids + video", "microlens-50k": "MicroLens-50K, ids + titles"}


def lines(page: str, results: Path = RESULTS) -> list[str]:
    """Markdown of what has been measured for a page; nothing of what has not."""
    found: list[str] = []
    for name in PAGES[page]:
        file = results / f"{name}.json"
        if file.exists():
            found += [*PARTS[name](json.loads(file.read_text("utf-8"))), ""]
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
        *markdown_table(rows),
        "",
        f"The floor in the same run: `fdatasync` of 16 KiB {sync['p50']:.1f} ms (p99 {sync['p99']:.1f}), reading all item vectors once "
        f"{reading:.2f} ms."
        + (f" Largest resident memory of the server: {small['peak_rss_mib']:,} MiB." if "peak_rss_mib" in small else ""),
        "",
    ]
    steps = [["history", "one more event, ms", "whole history anew, ms", "ratio"]]
    steps += [
        [f"{row['history']:,}", f"{row['step_ms']['p50']:.2f}", f"{row['whole_ms']['p50']:.2f}", f"{row['ratio']:.1f}"]
        for row in result.get("steps", ())
    ]
    text += [*markdown_table(steps), ""] if len(steps) > 1 else []
    large = result.get("large")
    if large:
        rows = [
            [f"{large['items']:,} items of {large['width']} numbers, one after the other", "p50 ms", "p99 ms", "largest ms", "recall@10"]
        ]
        rows.append(["exact", *_times(large["exact"]["ms"]), "1"])
        rows.append(["IVF", *_times(large["ann"]["ms"]), f"{large['recall@10']:.3f}"])
        if "event_to_exact" in large:
            rows.append(["exact, an event kept, and the new ten", *_times(large["event_to_exact"]["ms"]), "1"])
        rows.append(["IVF, an event kept, and the new ten", *_times(large["event_to_ann"]["ms"]), f"{large['recall@10']:.3f}"])
        text += [
            *markdown_table(rows),
            "",
            "These vectors are made-up clusters: among real ones an approximate index may find less. "
            f"Reading them once takes {floor['reading_large_ms']:.0f} ms ({floor['reading_large_gb_per_s']:.1f} GB/s). The first "
            f"answer came {large['seconds_to_first_answer']:.0f} s after the start, the index {large['seconds_to_index']:.0f} s; largest "
            f"resident memory {large['peak_rss_mib']:,} MiB.",
            "",
        ]
    real = result.get("real")
    if real:
        text += [
            f"Among vectors that were learned ({real['model']} over {real['items_kind']} on {real['data']}, {real['items']:,} items of "
            f"{real['width']} numbers) IVF finds {real['recall@10']:.3f} of the exact ten, over {real['users']:,} users drawn at random.",
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
        *markdown_table(rows),
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
        *_of_service(result),
        _origin(result),
    ]


def _of_service(result: dict[str, Any]) -> list[str]:
    """What the service has counted over a soak."""
    said, counts = result.get("service"), result["counts"]
    if said is None:
        return []
    kept, again, reloads = said["events new"] + said["events late"], counts.get("conflict 409", 0), counts.get("reload 200", 0)
    return [
        f"{kept:,.0f} events were kept, {said['events removed']:,.0f} of them taken back, {said['events replayed']:,.0f} times one was "
        f"sent or taken back again, {again:,} times with another item, and the run was loaded anew {reloads:,} times; the "
        f"service counted what was acknowledged. {said['state_evictions']:,.0f} states made room for others; {said['state_checks']:,.0f} "
        f"kept ones were compared with the whole history, and no score differed by more than {said['state_drift_max']:.1g}.",
        "",
    ]


def of_reports(result: dict[str, Any]) -> list[str]:
    """Bytes and seconds of reports."""
    rows = [["report of", "items on the map", "test questions", "clips with a picture", "MB", "CPU s", "s", "load of the machine"]]
    for name, words in REPORTS.items():
        row = result[name]
        counts = [f"{row[key]:,}" for key in ("items", "questions", "pictures")]
        rows.append([words, *counts, f"{row['size_bytes'] / 1e6:.1f}", f"{row['cpu_seconds']:.0f}", f"{row['seconds']:.0f}"])
        rows[-1].append(f"{row['load_average']:.0f}")
    return [*markdown_table(rows), "", _origin(result)]


def of_everybody(result: dict[str, Any]) -> list[str]:
    """Memory and rate of ``recommend --all``."""
    rows = [["users", "rows", "file, MB", "users/s", "loaded, MiB", "above it, making lists, MiB", "above it, joining them, MiB"]]
    for row in result["rows"]:
        counts = [f"{row[key]:,}" for key in ("users", "rows")]
        above = [f"{row['above_mib'][phase]:,}" for phase in ("lists", "joined")]
        rows.append([*counts, f"{row['file_mb']:,.0f}", f"{row['users_per_second']:,}", f"{row['loaded_mib']:,}", *above])
    loads = max(max(row["load_average"]) for row in result["rows"])
    return [
        *markdown_table(rows),
        "",
        f"Made-up users and weights: a Mamba over {result['items']:,} items of {result['width']} numbers, k = {result['k']}. Loaded is "
        f"what is resident when run and interactions are there. The largest load of the machine meanwhile was {loads:.0f}.",
        "",
        _origin(result),
    ]


PARTS: dict[str, Callable[[dict[str, Any]], list[str]]] = {
    "serving": of_times,
    "serve_kills": of_kills,
    "serve_soak": of_soak,
    "report": of_reports,
    "recommend_all": of_everybody,
}


def _times(ms: dict[str, float]) -> list[str]:
    return [f"{ms[name]:.1f}" for name in ("p50", "p99", "max")]


def _origin(result: dict[str, Any]) -> str:
    origin = result["provenance"]
    note = f" ({origin['note']})" if "note" in origin else ""
    return f"{origin['date'][:10]}, commit {origin['commit']}, {origin['hardware']}: `{origin['command']}`{note}"


def main() -> None:
    for name in PAGES:
        replace(ROOT / "docs" / name, "cost", lines(name))


if __name__ == "__main__":
    main()
