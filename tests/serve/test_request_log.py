"""The access log tells which route, which status, how long; never who or what."""

import logging
import re
import time


def told_by(caplog):
    return [record.getMessage() for record in caplog.records if record.name == "vivim.serve"]


def test_a_line_for_each_request_without_people_items_or_histories(live, caplog):
    api = live(access_log=True)
    with caplog.at_level(logging.INFO, "vivim.serve"):
        answers = [
            api.post("/v1/users/ada/events?k=2", json={"item": "i07", "event_id": "secret"}),
            api.post("/v1/recommend", json={"history": ["i07", "i08"]}),
            api.get("/v1/items/i07/similar"),
            api.get("/v1/items?query=secret"),
            api.get("/v1/nothing/ada"),
            api.get("/v1/users/%ff/history"),
        ]
        deadline = time.monotonic() + 10  # an answer is here before its line is written
        while len(lines := told_by(caplog)) < len(answers) and time.monotonic() < deadline:
            time.sleep(0.01)
    assert len(lines) == len(answers)
    for line, answer in zip(lines, answers, strict=True):
        assert re.fullmatch(r"[0-9a-f]{16} (GET|POST) (/v1/[a-z/{}_]+|-) \d{3} \d+\.\d ms", line), line
        assert line.startswith(answer.headers["x-request-id"])
    told = " ".join(line.split(" ", 1)[1] for line in lines)  # without the ids, which are hexadecimal: some have "ada" in them
    assert "/v1/users/{user}/events 201" in lines[0]
    assert not re.search(r"ada|i07|i08|secret", told)


def test_a_fault_of_ours_is_told_by_the_request_s_id_and_traced_in_the_log(live, service_of, monkeypatch, caplog):
    service = service_of()

    def fail(*args, **options):
        raise RuntimeError("/home/somebody/run is broken")

    monkeypatch.setattr(service, "popular", fail)
    api = live(service)
    answer = api.get("/v1/popular")
    assert api.code(answer) == (500, "internal")
    assert "/home" not in answer.text
    assert answer.headers["content-security-policy"]
    assert f"{answer.headers['x-request-id']} RuntimeError: /home/somebody/run is broken" in caplog.text
    assert api.raw(b"GET /v1/runs HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").startswith(b"HTTP/1.1 200 ")
