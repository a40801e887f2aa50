"""A catalogue of 10,000 clips: the page holds a screenful of them, and a frame of scrolling takes it less than a thirtieth of a second."""

import json
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


def seconds_of_work(measure):
    return next(one["value"] for one in measure.send("Performance.getMetrics")["metrics"] if one["name"] == "TaskDuration")


def test_ten_thousand_clips_scroll_and_only_those_in_sight_are_in_the_document(visit, large):
    one = visit(origin=large.url)
    one.page.locator("#catalogue .watch").first.wait_for()
    assert one.page.locator("#catalogue-count").inner_text() == "10,000"
    assert one.page.get_by_label("ANN").is_disabled()  # counts have no vectors to search among
    # Sixty frames, 200 pixels each. The time is that of the page's own thread, so that a busy machine is not held against the page.
    measure = one.page.context.new_cdp_session(one.page)
    measure.send("Performance.enable", {"timeDomain": "threadTicks"})
    before = seconds_of_work(measure)
    most = one.page.evaluate(
        """async () => {
            const box = document.getElementById('catalogue');
            let most = 0;
            for (let frame = 0; frame < 60; frame++) {
                box.scrollTop += 200;
                await new Promise(requestAnimationFrame);
                most = Math.max(most, document.querySelectorAll('*').length);
            }
            return most;
        }"""
    )
    assert one.page.locator("#catalogue").evaluate("box => box.scrollTop") == 60 * 200
    assert 0 < (seconds_of_work(measure) - before) / 60 < 1 / 30
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
    one.page.wait_for_function(
        """() => { const cells = [...document.querySelectorAll('#catalogue li')];
        return cells.some(cell => cell.at >= 4200 && cell.at < 4260) && cells.every(cell => cell.clip); }"""
    )
    shown = one.page.locator("#catalogue li").evaluate_all("cells => cells.map(cell => [cell.at, cell.clip?.item])")
    there = [(at, item) for at, item in shown if 4200 <= at < 4260]
    assert there
    assert [item for _, item in there] == [expected[at - 4200] for at, _ in there]
