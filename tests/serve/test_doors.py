"""By which name, from which page, with which token (item 78 of the list of faults)."""

import hmac

import pytest
from vivim.serve.asgi import Refusal
from vivim.serve.doors import Tokens, Who, check_host, check_text, is_loopback
from vivim.serve.media import MediaFiles

USER, OPERATOR = "u" * 24, "o" * 24


def bearer(token):
    return {"authorization": f"Bearer {token}"}


@pytest.mark.parametrize(
    ("host", "served"),
    [
        ("localhost", True),
        ("LOCALHOST:8000", True),
        ("127.0.0.1", True),
        ("127.9.9.9:1", True),
        ("[::1]:80", True),
        ("rec.example.org", True),
        ("evil.example.org", False),
        ("localhost.evil.org", False),
        ("localhost:80:80", False),
        ("127.0.0.1.evil.org", False),
        ("", False),
        ("localhost@evil.org", False),
        ("192.168.1.5", False),
    ],
)
def test_the_server_answers_to_its_own_names_only(live, host, served):
    api = live(hosts=("rec.example.org",))
    answer = api.get("/v1/runs", headers={"host": host})
    assert answer.status_code == (200 if served else 421)
    if not served:
        assert api.code(answer) == (421, "wrong_host")


def test_an_address_at_which_a_connection_comes_in_is_one_of_the_names():
    check = check_host(())
    scope = {"headers": [(b"host", b"192.168.1.5:8000")], "server": ("192.168.1.5", 8000)}
    check(scope)
    with pytest.raises(Refusal):
        check({**scope, "server": ("10.0.0.1", 8000)})


@pytest.mark.parametrize(
    ("headers", "served"),
    [
        ({"origin": "http://{host}"}, True),
        ({"origin": "http://evil.example.org"}, False),
        ({"origin": "null"}, False),
        ({"origin": "http://localhost.evil.org"}, False),
        ({"sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors"}, False),
        ({"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}, True),
        ({"sec-fetch-site": "same-origin", "sec-fetch-mode": "cors"}, True),
    ],
)
def test_pages_of_other_origins_get_nothing(live, headers, served):
    api = live()
    headers = {key: value.replace("{host}", f"127.0.0.1:{api.port}") for key, value in headers.items()}
    for answer in (api.get("/v1/runs", headers=headers), api.post("/v1/recommend", json={"history": []}, headers=headers)):
        assert answer.status_code == (200 if served else 403)
        assert "access-control-allow-origin" not in answer.headers


def test_an_origin_that_is_listed_may_ask_and_read_also_errors(live):
    api = live(allow_origin=("https://App.example.org",))  # browsers send it in lower case
    origin = {"origin": "https://app.example.org"}
    before = api.options(
        "/v1/recommend", headers=origin | {"access-control-request-method": "POST", "access-control-request-headers": "authorization"}
    )
    assert before.status_code == 200
    assert before.headers["access-control-allow-origin"] == origin["origin"]
    for answer in (api.post("/v1/recommend", json={"history": []}, headers=origin), api.get("/v1/nothing", headers=origin)):
        assert answer.headers["access-control-allow-origin"] == origin["origin"]
    assert api.get("/v1/runs", headers={"origin": "https://other.example.org"}).status_code == 403


def test_without_the_token_nothing_but_the_page_and_the_health_is_served(live):
    api = live(tokens=Tokens(USER))
    for headers in (
        {},
        bearer("w" * 24),
        bearer(USER[:-1]),
        bearer(USER + "u"),
        {"authorization": f"Basic {USER}"},
        {"authorization": "Bearer"},
    ):
        answer = api.get("/v1/runs", headers=headers)
        assert api.code(answer) == (401, "token_needed")
        assert answer.headers["www-authenticate"] == "Bearer"
        assert api.get("/metrics", headers=headers).status_code == 401
        assert api.post("/v1/users/ada/events", json={"item": "i01", "event_id": "e"}, headers=headers).status_code == 401
    assert api.get("/v1/runs", headers=bearer(USER)).status_code == 200
    for path in ("/", "/healthz", "/readyz", "/docs", "/openapi.json"):
        assert api.get(path).status_code == 200
    assert api.get("/v1/users/ada/history", headers=bearer(USER)).json()["known"] is False


def test_busy_users_do_not_keep_the_operator_out_nor_do_guesses_of_the_token(live):
    api = live(tokens=Tokens(USER, OPERATOR), rate=1e-4, burst=4)
    assert [api.get("/v1/runs").status_code for _ in range(5)] == [401] * 4 + [429]  # of this address, without a token
    assert [api.get("/v1/runs", headers=bearer(USER)).status_code for _ in range(5)] == [200] * 4 + [429]
    assert [api.post("/v1/reload", headers=bearer(OPERATOR)).status_code for _ in range(5)] == [200] * 4 + [429]


def test_a_token_is_compared_in_constant_time(monkeypatch):
    compared = []

    def compare(one, other):
        compared.append((len(one), len(other)))
        return one == other

    monkeypatch.setattr(hmac, "compare_digest", compare)
    tokens = Tokens(USER, OPERATOR)
    assert tokens.who(b"Bearer short") is Who.NOBODY
    assert tokens.who(b"bearer " + USER.encode()) is Who.USER
    assert tokens.who(b"Bearer " + OPERATOR.encode()) is Who.OPERATOR
    assert tokens.who(b"Bearer \xff\xfe") is Who.NOBODY
    assert set(compared) == {(32, 32)}  # hashes: lengths tell nothing either


def test_only_the_operator_changes_what_is_served(live):
    for tokens, headers, status in (
        (Tokens(), {}, 403),
        (Tokens(), bearer(OPERATOR), 403),
        (Tokens(USER), bearer(USER), 403),
        (Tokens(USER, OPERATOR), bearer(USER), 403),
        (Tokens(USER, OPERATOR), {}, 401),
        (Tokens(None, OPERATOR), {}, 403),
        (Tokens(None, OPERATOR), bearer(OPERATOR), 200),
        (Tokens(USER, OPERATOR), bearer(OPERATOR), 200),
    ):
        api = live(tokens=tokens)
        assert api.post("/v1/reload", headers=headers).status_code == status
        put = api.put("/v1/items/new", content=b"clip", headers=headers)
        assert put.status_code == (403 if status == 200 else status)  # nothing here can add clips
        api.service.close()


def test_pictures_of_a_page_are_opened_by_the_key_in_their_address(live, tmp_path):
    clip = tmp_path / "a.mp4"
    clip.write_bytes(b"film")
    api = live(tokens=Tokens(USER), files={"i00": MediaFiles(clip), "i01": MediaFiles(clip)})
    items = api.get("/v1/items", headers=bearer(USER)).json()["items"]
    address = items[0]["media"]
    assert api.get(address).content == b"film"
    assert api.get(address.replace("/0/", "/1/")).status_code == 401
    assert api.get("/media/0/clip").status_code == 401
    assert api.get("/media/0/clip?key=").status_code == 401
    assert api.get("/media/0/clip", headers=bearer(USER)).content == b"film"
    assert USER not in address


def test_browsers_are_told_to_keep_to_this_origin(live):
    api = live()
    for answer in (api.get("/"), api.get("/v1/runs"), api.get("/v1/nothing"), api.get("/v1/runs", headers={"host": "evil"})):
        assert answer.headers["content-security-policy"].startswith("default-src 'self';")
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert "server" not in answer.headers
    assert api.get("/v1/runs").headers["cache-control"] == "no-store"


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1", "[::1]", "127.1.2.3"])
def test_loopback(host):
    assert is_loopback(host)
    assert not is_loopback("0.0.0.0")
    assert not is_loopback("127.0.0.1.evil.org")


def test_a_slash_in_an_id_is_not_one_of_the_path():
    scope = {"raw_path": b"/v1/users/a%2Fb%25%C3%A9/history", "query_string": b""}
    check_text(scope)
    assert scope["path"] == "/v1/users/a%2Fb%25é/history"
