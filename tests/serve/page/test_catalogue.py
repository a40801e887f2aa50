"""A catalogue of 10,000 clips: the page holds a screenful of them, and scrolling goes on at more than 30 frames a second."""

import json
import time
import urllib.request

import pytest

CLIPS = 10_000


@pytest.fixture(scope="module")
def large(serving, tmp_path_factory):
    """A server whose catalogue is 10,000 items, by popularity, without clips or titles."""
    from vivim.progress import SILENT
    from vivim.recommend.config import RecommendConfig
    from vivim.recommend.readers import read_interactions
    from vivim.recommend.train import train_run

    folder = tmp_path_factory.mktemp("large")
    pairs = folder / "large_pairs.csv"
    rows = (f"u{at // 10:04d},clip-{at % CLIPS:05d},{at + 1_700_000_000_000}" for at in range(2 * CLIPS))
    pairs.write_text("\n".join(["user,item,timestamp", *rows]) + "\n")
    config = RecommendConfig.model_validate({"model": {"kind": "popularity"}, "items": {"kind": "ids"}})
    location = {"path": str(pairs), "user_column": None, "item_column": None, "time_column": None}
    where = folder / "run"
    train_run(read_interactions(pairs), None, config, where, seed=0, device="cpu", resume=False, progress=SILENT, data_location=location)
    with serving(folder, "--run", str(folder / "run")) as server:
        yield server


def test_ten_thousand_clips_scroll_and_only_those_in_sight_are_in_the_document(visit, large):
    one = visit(origin=large.url)
    one.page.locator("#catalogue .watch").first.wait_for()
    assert one.page.locator("#catalogue-count").inner_text() == "10,000"
    assert one.page.get_by_label("ANN").is_disabled()  # counts have no vectors to search among
    # Two seconds of scrolling, 200 pixels a frame: the time between frames, and how many elements there are at most.
    frames, most = one.page.evaluate(
        """async () => {
            const box = document.getElementById('catalogue'), gaps = [];
            let most = 0, last = performance.now();
            for (const until = last + 2000; last < until; ) {
                box.scrollTop += 200;
                const now = await new Promise(requestAnimationFrame);
                gaps.push(now - last);
                last = now;
                most = Math.max(most, document.querySelectorAll('*').length);
            }
            return [gaps, most];
        }"""
    )
    assert len(frames) / 2 > 30
    assert most < 1200
    assert one.complaints == []


def test_the_last_clip_is_reached_by_key_and_by_search(visit, large):
    one = visit(origin=large.url)
    one.page.locator("#catalogue .watch").first.focus()
    one.page.keyboard.press("End")
    one.page.get_by_text("clip-09999").first.wait_for()
    one.page.get_by_label("Find a clip").fill("clip-00777")
    one.page.wait_for_function("() => document.querySelectorAll('#catalogue .watch').length === 1")
    assert one.items("#catalogue") == ["clip-00777"]
    one.page.locator("#catalogue .watch").click()
    one.page.locator("#strip .card").wait_for()
    assert one.items("#strip") == ["clip-00777"]


def test_every_clip_of_the_service_stands_in_its_place(visit, large):
    with urllib.request.urlopen(large.url + "v1/items?offset=4200&limit=60", timeout=10) as answer:
        expected = [item["item"] for item in json.load(answer)["items"]]
    one = visit(origin=large.url)
    one.page.locator("#catalogue .watch").first.wait_for()
    one.page.evaluate("top => { const box = document.getElementById('catalogue'); box.scrollTop = box.scrollHeight * top; }", 0.421)
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline and one.page.locator("#catalogue .skeleton").count():
        one.page.wait_for_timeout(50)
    shown = one.page.locator("#catalogue li").evaluate_all("cells => cells.map(cell => [cell.at, cell.clip?.item])")
    assert shown
    for at, item in shown:
        if 4200 <= at < 4260:
            assert item == expected[at - 4200]
    assert any(4200 <= at < 4260 for at, _ in shown)
