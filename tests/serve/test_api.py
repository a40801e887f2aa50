"""Every call over a real socket: what it answers, and what it refuses (items 74 and 79 of the list of faults)."""

import re
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import quote

import httpx
import pytest

ODD = "a/b %2F ?#&é漢🎬 ..;"


def listed(response):
    assert response.status_code == 200, response.text
    return [item["item"] for item in response.json()["items"]]


def test_a_history_moves_round_the_ring(live):
    api = live()
    answer = api.post("/v1/recommend", json={"history": ["i03", "i04", "i05"], "k": 3}).json()
    assert answer["items"][0]["item"] == "i06"
    assert answer["items"][0]["because"][0]["item"] in ("i03", "i04", "i05")
    assert (answer["run"], answer["fallback"], answer["search"], answer["skipped"]) == ("mamba", None, "exact", 0)
    assert answer["model"] == api.service.runs["mamba"].snapshot.model_hash
    assert answer["took_ms"]["total"] >= answer["took_ms"]["state"] + answer["took_ms"]["search"] - 0.01


def test_an_event_moves_the_list_and_its_undo_brings_the_list_back(live):
    api = live()
    before = api.get("/v1/users/ada/recommendations").json()
    assert before["fallback"] == "popularity"
    for place, item in enumerate(("i10", "i11")):
        done = api.post("/v1/users/ada/events?k=1", json={"item": item, "event_id": f"e{place}"})
        assert done.status_code == 201
    assert done.json()["recommendations"]["items"][0]["item"] == "i12"
    assert (done.json()["new"], done.json()["late"], done.json()["events"]) == (True, False, 2)
    gone = api.delete("/v1/users/ada/events/e1").json()
    assert (gone["item"], gone["events"]) == ("i11", 1)
    assert listed(api.get("/v1/users/ada/recommendations?k=1")) == ["i11"]
    api.delete("/v1/users/ada/events/e0")
    after = api.get("/v1/users/ada/recommendations").json()
    assert after["items"] == before["items"]


def test_the_same_event_sent_again_is_acknowledged_and_another_under_its_id_is_refused(live):
    api = live()
    event = {"item": "i01", "event_id": "x", "time": "2026-01-31T10:15:00.250+01:00"}
    first, again = (api.post("/v1/users/ada/events", json=event) for _ in range(2))
    assert (first.status_code, again.status_code) == (201, 200)
    assert first.json()["time"] == again.json()["time"] == "2026-01-31T09:15:00.250Z"
    assert (again.json()["new"], again.json()["events"]) == (False, 1)
    assert api.code(api.post("/v1/users/ada/events", json={**event, "item": "i02"})) == (409, "event_conflict")
    assert len(api.get("/v1/users/ada/history").json()["history"]) == 1


def test_a_late_event_takes_its_place_and_the_list_is_that_of_the_order_in_time(live):
    api = live()
    for item, second in (("i07", 1), ("i09", 3), ("i08", 2)):
        done = api.post("/v1/users/ada/events", json={"item": item, "event_id": item, "time": f"2026-01-01T00:00:0{second}Z"}).json()
    assert done["late"]
    assert [entry["item"] for entry in api.get("/v1/users/ada/history").json()["history"]] == ["i07", "i08", "i09"]
    assert listed(api.get("/v1/users/ada/recommendations?k=5")) == listed(
        api.post("/v1/recommend", json={"history": ["i07", "i08", "i09"], "k": 5})
    )


def test_a_history_is_training_then_events_and_its_newest_part_where_it_is_long(live):
    api = live()
    assert [entry["item"] for entry in api.get("/v1/users/u00/history").json()["history"]] == [f"i{i:02d}" for i in range(6)]
    api.post("/v1/users/u00/events", json={"item": "i20", "event_id": "e"})
    newest = api.get("/v1/users/u00/history?limit=2").json()
    assert newest["known"]
    assert [(entry["item"], entry["event_id"]) for entry in newest["history"]] == [("i05", None), ("i20", "e")]
    assert api.get("/v1/users/nobody/history").json() == {"user": "nobody", "known": False, "history": []}


def test_ids_are_any_text(live):
    api = live()
    path = f"/v1/users/{quote(ODD, safe='')}"
    done = api.post(f"{path}/events", json={"item": "i01", "event_id": ODD})
    assert (done.status_code, done.json()["user"]) == (201, ODD)
    assert api.get(f"{path}/history").json()["history"][0]["event_id"] == ODD
    assert api.get(f"{path}/recommendations").json()["user"] == ODD
    assert api.delete(f"{path}/events/{quote(ODD, safe='')}").status_code == 200
    assert api.get("/v1/users/a%2Fhistory/history").json()["user"] == "a/history"


def test_the_catalogue_users_runs_and_what_is_near(service_of, live):
    api = live(service_of(titles={"i01": "A <b>bold</b> cat"}))
    found = api.get("/v1/items?query=bold").json()
    assert (found["total"], found["items"][0]) == (
        1,
        {"item": "i01", "row": 1, "title": "A <b>bold</b> cat", "thumbnail": None, "media": None},
    )
    page = api.get("/v1/items?offset=28&limit=10").json()
    assert (page["total"], [item["item"] for item in page["items"]]) == (30, ["i28", "i29"])
    assert api.get("/v1/users?query=u1&limit=2").json() == {"users": [{"user": "u10", "events": 8}, {"user": "u11", "events": 9}]}
    [run] = api.get("/v1/runs").json()["runs"]
    assert (run["name"], run["kind"], run["items_kind"], run["items"], run["searches"], run["default"]) == (
        "mamba",
        "mamba",
        "ids",
        30,
        ["exact"],
        True,
    )
    near = listed(api.get("/v1/items/i05/similar?k=29"))
    assert len(near) == 29
    assert "i05" not in near
    assert set(listed(api.get("/v1/popular?k=30&user=u00"))) == {f"i{i:02d}" for i in range(6, 30)}
    assert api.get("/version").json()["runs"][0]["model"] == run["model"]


def test_the_server_says_how_it_is(live):
    api = live()
    assert api.get("/healthz").json() == {"ready": True}
    assert api.get("/readyz").status_code == 200
    api.post("/v1/users/ada/events?k=3", json={"item": "i01", "event_id": "e"})
    api.post("/v1/users/ada/events?k=3", json={"item": "i02", "event_id": "f"})
    for _ in range(2):
        api.delete("/v1/users/ada/events/f")
    page = api.get("/metrics").text
    for line in (
        'vivim_events_total{kind="new"} 2.0',
        'vivim_events_total{kind="removed"} 1.0',
        'vivim_events_total{kind="replayed"} 1.0',
        "vivim_state_rebuilds_total 1.0",
        "vivim_state_stepped_total 1.0",
        'vivim_phase_seconds_count{phase="search"} 2.0',
        'vivim_phase_seconds_count{phase="append"} 2.0',
        'vivim_request_seconds_count{method="POST",route="/v1/users/{user}/events",status="201"} 2.0',
        "vivim_items 30.0",
    ):
        assert line in page
    assert "ada" not in page
    api.desk.opened.clear()
    assert api.code(api.get("/readyz")) == (503, "not_ready")
    assert api.get("/healthz").status_code == 200


def test_the_time_of_an_append_ends_on_the_disk_and_not_when_the_model_has_time(live):
    api = live()
    api.desk.model.submit(time.sleep, 2)
    began = time.monotonic()
    assert api.post("/v1/users/ada/events?k=3", json={"item": "i01", "event_id": "e"}).status_code == 201
    assert time.monotonic() - began > 1, "the answer waited for the model"
    page = api.get("/metrics").text
    [seconds] = re.findall(r'^vivim_phase_seconds_sum\{phase="append"\} (\S+)$', page, re.MULTILINE)
    assert 0 < float(seconds) < 1


def test_an_event_that_nobody_waits_for_any_more_is_counted(live):
    api = live()
    hold = threading.Event()
    api.desk.model.submit(hold.wait, 10)
    with pytest.raises(httpx.ReadTimeout):
        api.post("/v1/users/ada/events?k=3", json={"item": "i01", "event_id": "e"}, timeout=0.5)
    api.service.log.append("somebody else", "e", "i01")  # what was sent before it is on the disk too
    assert api.service.log.head("ada").events == 1
    counted = 'vivim_events_total{kind="new"} 1.0' in api.get("/metrics").text
    hold.set()
    assert counted


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"{", 400, "malformed_json"),
        (b"", 422, "invalid_request"),
        (b"[]", 422, "invalid_request"),
        (b'{"history": ["i01"], "k": NaN}', 422, "invalid_request"),
        (b'{"history": ["i01"], "k": Infinity}', 422, "invalid_request"),
        (b'{"history": ["i01"], "k": 0}', 422, "invalid_request"),
        (b'{"history": ["i01"], "k": -1}', 422, "invalid_request"),
        (b'{"history": ["i01"], "k": 1000000000}', 422, "bad_k"),
        (b'{"history": ["i01"], "k": 1e3}', 422, "invalid_request"),
        (b'{"history": ["i01"], "k": "5"}', 422, "invalid_request"),
        (b'{"history": ["i01"], "k": 1' + b"0" * 5000 + b"}", 400, "malformed_json"),
        (b'{"history": "i01"}', 422, "invalid_request"),
        (b'{"history": [1]}', 422, "invalid_request"),
        (b'{"history": [null]}', 422, "invalid_request"),
        (b'{"history": [""]}', 422, "invalid_request"),
        (b'{"history": ["\\ud800"]}', 422, "invalid_request"),
        (b'{"history": ["\xff"]}', 400, "malformed_json"),
        (b'{"history": ["a\\u0000b"]}', 422, "bad_id"),
        (b'{"history": ["' + b"x" * 513 + b'"]}', 422, "bad_id"),
        (b'{"history": [' + b",".join([b'"i01"'] * 1001) + b"]}", 422, "history_too_long"),
        (b'{"history": [' + b",".join([b'"i01"'] * 1_000_000) + b"]}", 413, "body_too_large"),
        (b'{"history": ' + b"[" * 30_000 + b"]" * 30_000 + b"}", 400, "malformed_json"),
        (b'{"history": ["i01"], "K": 5}', 422, "invalid_request"),
        (b'{"history": ["i01"], "search": "fast"}', 422, "invalid_request"),
        (b'{"history": ["i01"], "run": "other"}', 404, "unknown_run"),
    ],
)
def test_histories_that_are_refused(live, body, status, code):
    api = live()
    assert api.code(api.post("/v1/recommend", content=body, headers={"content-type": "application/json"})) == (status, code)
    assert api.get("/healthz").status_code == 200


def test_histories_that_are_odd_and_answered(live):
    api = live()
    empty = api.post("/v1/recommend", json={"history": []}).json()
    assert empty["fallback"] == "popularity"
    unknown = api.post("/v1/recommend", json={"history": ["nope", "i04", "no"], "k": 2}).json()
    assert (unknown["skipped"], unknown["fallback"], unknown["items"][0]["item"]) == (2, None, "i05")
    nothing = api.post("/v1/recommend", json={"history": ["nope"]}).json()
    assert (nothing["skipped"], nothing["fallback"]) == (1, "popularity")
    twice = api.post("/v1/recommend", json={"history": ["i04", "i04"], "k": 29}).json()
    assert len(twice["items"]) == 29
    long = api.post("/v1/recommend", json={"history": ["i04"] * 1000, "k": 1000})
    assert len(long.json()["items"]) == 29


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("/v1/users/ada/recommendations?k=0", 422, "invalid_request"),
        ("/v1/users/ada/recommendations?k=1001", 422, "invalid_request"),
        ("/v1/users/ada/recommendations?k=1e3", 422, "invalid_request"),
        ("/v1/users/ada/recommendations?search=both", 422, "invalid_request"),
        ("/v1/users/ada/recommendations?search=ann", 422, "search_unavailable"),
        ("/v1/users/ada/recommendations?run=other", 404, "unknown_run"),
        ("/v1/users/%ff/history", 400, "not_utf8"),
        ("/v1/users?query=%ff", 400, "not_utf8"),
        ("/v1/users//history", 404, "not_found"),
        ("/v1/items/nope/similar", 404, "unknown_item"),
        ("/v1/items/i01/similar?k=1001", 422, "invalid_request"),
        ("/v1/items?offset=-1", 422, "invalid_request"),
        ("/v1/items?limit=99999", 422, "invalid_request"),
        ("/v1/nothing", 404, "not_found"),
        ("/v1/recommend", 405, "method_not_allowed"),
    ],
)
def test_questions_that_are_refused(live, path, status, code):
    answer = live().get(path)
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)
    assert answer.json()["error"]["request_id"] == answer.headers["x-request-id"]


@pytest.mark.parametrize(
    ("event", "status", "code"),
    [
        ({"item": "nope", "event_id": "e"}, 404, "unknown_item"),
        ({"item": "i01"}, 422, "invalid_request"),
        ({"item": "i01", "event_id": ""}, 422, "invalid_request"),
        ({"item": "i01", "event_id": "e", "time": 5}, 422, "invalid_request"),
        ({"item": "i01", "event_id": "e", "time": "yesterday"}, 422, "invalid_request"),
        ({"item": "i01", "event_id": "e", "time": "2026-01-01T00:00:00"}, 422, "invalid_request"),
        ({"item": "i01", "event_id": "e", "time": "2999-01-01T00:00:00Z"}, 422, "bad_time"),
        ({"item": "i01", "event_id": "e", "time": "0001-01-01T00:00:00+14:00"}, 422, "invalid_request"),
        ({"item": "i01", "event_id": "e", "more": 1}, 422, "invalid_request"),
    ],
)
def test_events_that_are_refused_and_leave_nothing(live, event, status, code):
    api = live()
    assert api.code(api.post("/v1/users/ada/events", json=event)) == (status, code)
    assert api.code(api.delete("/v1/users/ada/events/e")) == (404, "unknown_event")
    assert not api.get("/v1/users/ada/history").json()["known"]


@pytest.mark.parametrize(
    ("asked", "status", "code"),
    [
        ("k=3&run=other", 404, "unknown_run"),
        ("k=3&search=ann", 422, "search_unavailable"),
        ("k=3&search=both", 422, "invalid_request"),
        ("k=0", 422, "invalid_request"),
    ],
)
def test_an_event_along_with_a_list_that_cannot_be_made_is_refused_and_leaves_nothing(live, asked, status, code):
    api = live()
    answer = api.post(f"/v1/users/ada/events?{asked}", json={"item": "i01", "event_id": "e"})
    assert api.code(answer) == (status, code)
    assert not api.get("/v1/users/ada/history").json()["known"]


def test_concurrent_late_and_replayed_events_give_the_state_of_their_order_in_time(live):
    api = live()
    items = [f"i{(3 + n) % 30:02d}" for n in range(24)]
    sent = [{"item": item, "event_id": f"e{n}", "time": f"2026-01-01T00:00:{n:02d}Z"} for n, item in enumerate(items)]
    with ThreadPoolExecutor(8) as threads:
        statuses = list(threads.map(lambda event: api.post("/v1/users/ada/events?k=3", json=event).status_code, [*sent[::-1], *sent]))
    assert sorted(statuses) == [200] * 24 + [201] * 24
    assert [entry["item"] for entry in api.get("/v1/users/ada/history").json()["history"]] == items
    want = api.post("/v1/recommend", json={"history": items, "k": 5}).json()["items"]
    got = api.get("/v1/users/ada/recommendations?k=5").json()["items"]
    assert [item["item"] for item in got] == [item["item"] for item in want]
    assert [item["score"] for item in got] == pytest.approx([item["score"] for item in want], abs=1e-4)


def test_no_answer_mixes_two_models_while_runs_are_reloaded(live, snapshot_of, log):
    from vivim.serve.doors import Tokens
    from vivim.serve.served_run import ServedRun
    from vivim.serve.service import Service

    old, new = snapshot_of(seed=0), snapshot_of(seed=1)
    wanted = {}
    for snapshot in (old, new):
        state = snapshot.recommender.state(["i03", "i04"])
        wanted[snapshot.model_hash] = [score for _, score in snapshot.recommender.top_k(state, 3)]
    assert len(wanted) == 2
    run = ServedRun("mamba", lambda before: new if before is old else old)
    api = live(Service([run], log), Tokens(operator="o" * 20))
    seen, stop = [], threading.Event()

    def ask():
        while not stop.is_set():
            seen.append(api.post("/v1/recommend", json={"history": ["i03", "i04"], "k": 3}).json())

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for _ in range(20):
        assert api.post("/v1/reload", headers={"authorization": "Bearer " + "o" * 20}).status_code == 200
    stop.set()
    for thread in threads:
        thread.join()
    assert {answer["model"] for answer in seen} == set(wanted)
    for answer in seen:
        assert [item["score"] for item in answer["items"]] == pytest.approx(wanted[answer["model"]], abs=1e-5)
