"""The API does what its OpenAPI document says, whatever it is asked (item 82 of the list of faults)."""

import sys

import pytest
from vivim.serve.doors import Tokens
from vivim.serve.media import MediaFiles

OPERATOR = "o" * 24


def test_the_document_names_every_error_and_its_form(live):
    document = live().get("/openapi.json").json()
    for path, calls in document["paths"].items():
        for method, call in calls.items():
            assert {"400", "401", "403", "421", "429", "431", "503"} <= set(call["responses"]), (path, method)
            for status, answer in call["responses"].items():
                if status >= "400":
                    assert answer["content"]["application/json"]["schema"] == {"$ref": "#/components/schemas/ErrorOut"}, (path, status)
    assert set(document["components"]["schemas"]["ErrorOut"]["properties"]["error"]) == {"$ref"}
    assert document["components"]["schemas"]["EventIn"]["properties"]["time"]["anyOf"][0]["format"] == "date-time"


def test_the_page_of_the_document_lists_every_call_and_asks_nobody_else(live):
    api = live()
    page = api.get("/docs").text
    for path in api.get("/openapi.json").json()["paths"]:
        assert path in page
    assert "http://" not in page
    assert "https://" not in page
    assert "<script" not in page


def fuzz(api, examples):
    """Ask every call in ``examples`` ways; returns how many cases were tried."""
    import schemathesis
    from hypothesis import HealthCheck, Phase, given, settings
    from hypothesis.errors import Unsatisfiable
    from schemathesis.checks import not_a_server_error
    from schemathesis.specs.openapi.checks import (
        content_type_conformance,
        response_headers_conformance,
        response_schema_conformance,
        status_code_conformance,
    )

    schema = schemathesis.openapi.from_url(f"http://127.0.0.1:{api.port}/openapi.json")
    checks = (
        not_a_server_error,
        status_code_conformance,
        content_type_conformance,
        response_headers_conformance,
        response_schema_conformance,
    )
    modes = [schemathesis.GenerationMode.POSITIVE, schemathesis.GenerationMode.NEGATIVE]
    phases = [Phase.explicit, Phase.generate]  # shrinking would take its time, and a case that fails is told as it is
    quiet = list(HealthCheck)
    limits = settings(max_examples=examples, deadline=None, database=None, suppress_health_check=quiet, phases=phases, derandomize=True)
    tried = {}

    def asking(label):
        def ask(case):
            response = case.call(headers={"Authorization": f"Bearer {OPERATOR}"}, timeout=10)
            case.validate_response(response, checks=checks)
            tried[label, response.status_code] = tried.get((label, response.status_code), 0) + 1

        return ask

    for result in schema.get_all_operations():
        operation = result.ok()
        for mode in modes:
            try:
                limits(given(case=operation.as_strategy(generation_mode=mode))(asking(operation.label)))()
            except Unsatisfiable:  # a call that takes nothing cannot be asked wrongly
                assert mode is not modes[0]
    return tried


def fuzzed_server(live, service_of, tmp_path):
    clip = tmp_path / "a.mp4"
    clip.write_bytes(b"film")

    def add(item, path):
        return path.stat().st_size < 0

    return live(service_of(titles={"i00": "Title"}), Tokens(operator=OPERATOR), {"i00": MediaFiles(clip)}, add)


def test_no_call_fails_or_answers_what_the_document_does_not_say(live, service_of, tmp_path):
    tried = fuzz(fuzzed_server(live, service_of, tmp_path), 4)
    assert {status for _, status in tried} >= {200, 422}


@pytest.mark.slow
def test_no_call_fails_in_thousands_of_ways(live, service_of, tmp_path, capsys):
    tried = fuzz(fuzzed_server(live, service_of, tmp_path), 200)
    summary = {}
    for (_, status), count in tried.items():
        summary[status] = summary.get(status, 0) + count
    calls = len({label for label, _ in tried})
    with capsys.disabled():
        sys.stdout.write(f"\n{calls} calls, {sum(tried.values())} cases, by status {dict(sorted(summary.items()))}\n")
    assert sum(tried.values()) > 2000
