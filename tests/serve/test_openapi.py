"""The API does what its OpenAPI document says, whatever it is asked (item 82 of the list of faults)."""

import sys

import pytest
from vivim.serve.doors import Tokens, Who
from vivim.serve.media import MediaFiles

USER, OPERATOR = "u" * 24, "o" * 24


def rss_kib():
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("VmRSS"))


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


def test_the_document_says_which_call_asks_for_which_token(live):
    def asked(**tokens):
        document = live(tokens=Tokens(**tokens)).get("/openapi.json").json()
        assert set(document["components"]["securitySchemes"]) == {"token", "operator", "key"}
        calls = (("get", "/healthz"), ("get", "/v1/runs"), ("get", "/media/{number}/{kind}"), ("post", "/v1/reload"))
        return [[name for way in document["paths"][path][method].get("security", ()) for name in way] for method, path in calls]

    assert asked(user=USER) == [[], ["token", "operator"], ["token", "operator", "key"], ["operator"]]
    assert asked() == [[], [], [], ["operator"]]


def test_the_page_of_the_document_lists_every_call_and_asks_nobody_else(live):
    api = live()
    page = api.get("/docs").text
    for path in api.get("/openapi.json").json()["paths"]:
        assert path in page
    assert "http://" not in page
    assert "https://" not in page
    assert "<script" not in page


def fuzz(api, examples, headers, quick=False):
    """Ask every call in ``examples`` ways well and as many badly, and each of the cases that schemathesis finds at the edges of the
    document (``quick``: of these only the methods that the document does not name); returns how many cases had which status."""
    import schemathesis
    from hypothesis import HealthCheck, Phase, given, settings
    from hypothesis.errors import Unsatisfiable
    from schemathesis.checks import not_a_server_error
    from schemathesis.specs.openapi import checks as of_openapi

    schema = schemathesis.openapi.from_url(f"http://127.0.0.1:{api.port}/openapi.json", timeout=60)
    checks = (
        not_a_server_error,
        of_openapi.status_code_conformance,
        of_openapi.content_type_conformance,
        of_openapi.response_headers_conformance,
        of_openapi.response_schema_conformance,
        of_openapi.negative_data_rejection,
        of_openapi.unsupported_method,
        of_openapi.ignored_auth,
    )
    modes = [schemathesis.GenerationMode.POSITIVE, schemathesis.GenerationMode.NEGATIVE]
    phases = [Phase.explicit, Phase.generate]  # shrinking would take its time, and a case that fails is told as it is
    quiet = list(HealthCheck)
    limits = settings(max_examples=examples, deadline=None, database=None, suppress_health_check=quiet, phases=phases, derandomize=True)
    tried = {}

    def asking(label):
        def ask(case):
            response = case.call(headers=headers, timeout=60)  # of a busy machine; an answer that never came would fail here
            case.validate_response(response, checks=checks, headers=headers)
            tried[label, response.status_code] = tried.get((label, response.status_code), 0) + 1

        return ask

    for result in schema.get_all_operations():
        operation = result.ok()
        ask = asking(operation.label)
        for mode in modes:
            try:
                limits(given(case=operation.as_strategy(generation_mode=mode))(ask))()
            except Unsatisfiable:  # a call that takes nothing cannot be asked wrongly
                assert mode is not modes[0]
        for case in schema.iter_coverage_cases(operation, generation_modes=modes, generation_config=schema.config.generation):
            if not quick or case.meta.phase.data.scenario == "unspecified_http_method":
                ask(case)
    return tried


def bearer(token):
    return {"Authorization": f"Bearer {token}"}


def fuzzed_server(live, service_of, tmp_path, tokens):
    clip = tmp_path / "a.mp4"
    clip.write_bytes(b"film")

    def add(item, path):
        return path.stat().st_size < 0

    return live(service_of(titles={"i00": "Title"}), tokens, {"i00": MediaFiles(clip)}, add)


def test_no_call_fails_or_answers_what_the_document_does_not_say(live, service_of, tmp_path):
    api = fuzzed_server(live, service_of, tmp_path, Tokens(operator=OPERATOR))
    tried = fuzz(api, 4, bearer(OPERATOR), quick=True)
    assert {status for _, status in tried} >= {200, 405, 422}


def test_no_call_lets_in_who_has_no_token_or_a_wrong_one(live, service_of, tmp_path):
    api = fuzzed_server(live, service_of, tmp_path, Tokens(USER, OPERATOR))
    tried = fuzz(api, 1, bearer(USER), quick=True)
    assert {status for _, status in tried} >= {200, 403, 405}


def test_a_door_without_a_lock_is_found(live, service_of, tmp_path, monkeypatch):
    """The test above can fail."""
    api = fuzzed_server(live, service_of, tmp_path, Tokens(USER))
    monkeypatch.setattr(Tokens, "who", lambda *_: Who.USER)
    with pytest.raises(BaseExceptionGroup, match="API accepts requests without authentication"):
        fuzz(api, 1, bearer(USER), quick=True)


@pytest.mark.slow
def test_no_call_fails_in_thousands_of_ways(live, service_of, tmp_path, capsys):
    api = fuzzed_server(live, service_of, tmp_path, Tokens(operator=OPERATOR))
    fuzz(api, 1, bearer(OPERATOR))
    before = rss_kib()
    tried = fuzz(api, 200, bearer(OPERATOR))
    grown = rss_kib() - before
    summary = {}
    for (_, status), count in tried.items():
        summary[status] = summary.get(status, 0) + count
    calls = len({label for label, _ in tried})
    with capsys.disabled():
        sys.stdout.write(f"\n{calls} calls, {sum(tried.values())} cases, by status {dict(sorted(summary.items()))}; grown {grown} KiB\n")
    assert sum(tried.values()) > 2000
    assert grown < 64 * 1024
