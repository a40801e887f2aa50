"""New clips over HTTP: they go to a file as they come, and to a function that the shell hands in."""

import errno
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from vivim.errors import InputError
from vivim.serve.doors import Tokens
from vivim.serve.errors import BadClip

OPERATOR = {"authorization": "Bearer " + "o" * 24}


@pytest.fixture
def added():
    return {}


@pytest.fixture
def add(added):
    """Keeps the bytes of a clip; what does not begin as a film is none."""

    def keep(item, path):
        if not path.read_bytes().startswith(b"film"):
            raise BadClip(f"the clip sent for {item!r} cannot be read.")
        replaced = item in added
        added[item] = path.read_bytes()
        return replaced

    return keep


@pytest.fixture
def api(live, add):
    return live(tokens=Tokens(operator="o" * 24), add=add, clip_mib=2, clip_seconds=1.0)


def test_a_clip_is_added_and_sent_again_it_is_replaced(api, added):
    assert (api.put("/v1/items/n%2F1", content=b"film one", headers=OPERATOR).status_code) == 201
    again = api.put("/v1/items/n%2F1", content=b"film two", headers=OPERATOR)
    assert (again.status_code, again.json()) == (200, {"item": "n/1", "replaced": True})
    assert added == {"n/1": b"film two"}


def test_nothing_is_left_of_what_was_sent(api, added, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    api.put("/v1/items/new", content=b"film", headers=OPERATOR)
    api.put("/v1/items/new", content=b"text", headers=OPERATOR)
    assert not list(Path(tmp_path).glob("vivim-clip-*"))


def test_a_clip_that_cannot_be_read_is_refused_in_words_without_a_path(api, added):
    answer = api.put("/v1/items/new", content=b"text", headers=OPERATOR)
    assert api.code(answer) == (422, "bad_clip")
    assert "/tmp" not in answer.text
    assert api.code(api.put("/v1/items/new", content=b"", headers=OPERATOR)) == (422, "no_clip")
    assert added == {}


def test_an_error_of_ours_that_names_a_path_does_not_reach_whoever_asked(live):
    def add(item, path):
        raise InputError(f"{path} is on a full disk")

    api = live(tokens=Tokens(operator="o" * 24), add=add)
    answer = api.put("/v1/items/new", content=b"film", headers=OPERATOR)
    assert api.code(answer) == (422, "refused")
    assert "full disk" not in answer.text


@pytest.mark.parametrize("size_bytes", [1 << 20, 100_001])
def test_a_clip_for_which_the_server_has_no_room_is_refused_and_leaves_nothing(
    api, added, tmp_path, monkeypatch, no_file_beyond, size_bytes
):
    """The last byte of the smaller one alone has no room: that is found out as the file is closed."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with no_file_beyond(100_000):
        answer = api.put("/v1/items/new", content=b"f" * size_bytes, headers=OPERATOR)
    assert api.code(answer) == (507, "no_room")
    assert str(tmp_path) not in answer.text
    assert added == {}
    assert not list(Path(tmp_path).glob("vivim-clip-*"))


def test_a_full_disk_behind_an_error_of_ours_is_told_as_one(live):
    def add(item, path):
        raise InputError(f"{path} cannot be written") from OSError(errno.ENOSPC, "No space left on device")

    api = live(tokens=Tokens(operator="o" * 24), add=add)
    answer = api.put("/v1/items/new", content=b"film", headers=OPERATOR)
    assert api.code(answer) == (507, "no_room")
    assert "/tmp" not in answer.text


def test_a_clip_beyond_the_limit_is_refused_whether_its_length_is_told_or_not(api, added):
    large = b"film" * (1 << 20)
    assert api.code(api.put("/v1/items/new", content=large, headers=OPERATOR)) == (413, "body_too_large")
    assert api.code(api.put("/v1/items/new", content=(part for part in [large]), headers=OPERATOR)) == (413, "body_too_large")
    assert added == {}


def test_a_clip_that_drips_is_refused(api, added):
    began = time.monotonic()
    with api.open() as connection:
        connection.sendall(
            b"PUT /v1/items/new HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\nAuthorization: Bearer " + b"o" * 24 + b"\r\n\r\nfilm"
        )
        assert api.rest(connection).startswith(b"HTTP/1.1 408 ")
    assert time.monotonic() - began < 5
    assert added == {}


def test_who_may_not_add_sends_nothing(api, added):
    answer = api.put("/v1/items/new", content=b"film")
    assert api.code(answer) == (403, "operator_only")
    assert added == {}


def test_answers_go_on_while_a_clip_is_added(live):
    begun, hold = threading.Event(), threading.Event()

    def add(item, path):
        begun.set()
        return not hold.wait(10)

    api = live(tokens=Tokens(operator="o" * 24), add=add)
    with ThreadPoolExecutor(1) as other:
        putting = other.submit(api.put, "/v1/items/new", content=b"film", headers=OPERATOR)
        assert begun.wait(10)
        assert api.post("/v1/recommend", json={"history": ["i03"]}).status_code == 200
        assert not putting.done()
        hold.set()
        assert putting.result().status_code == 201
