"""What can go wrong has a code, and docs/serve.md lists them all."""

import re
from pathlib import Path

import pytest
from vivim.errors import InputError, VivimError
from vivim.serve import errors
from vivim.serve.statuses import of_error

ROOT = Path(__file__).resolve().parents[2]
CHOSEN = {"malformed_json", "invalid_request", "not_found", "method_not_allowed", "refused", "internal"}
"""By what FastAPI or the rooms below say went wrong."""


def test_the_page_lists_every_code():
    source = "".join(path.read_text("utf-8") for path in (ROOT / "serve").glob("*.py"))
    raised = set(re.findall(r'Refusal\(\s*\d{3}, "(\w+)"|"code": "(\w+)", "message"', source))
    named = {kind.code for kind in vars(errors).values() if isinstance(kind, type) and hasattr(kind, "code")}
    text = (ROOT / "docs" / "serve.md").read_text("utf-8").partition("with a code that does not change: ")[2].partition("\n\n")[0]
    assert set(re.findall(r"`(\w+)`", text)) == {code for pair in raised for code in pair if code} | named | CHOSEN


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (errors.UnknownRun("no run"), 404, "unknown_run"),
        (errors.BadTime("no time"), 422, "bad_time"),
        (errors.ItemTaken("taken"), 409, "item_taken"),
        (errors.NotReady("later"), 503, "not_ready"),
        (InputError("/home/somebody is full"), 422, "refused"),
        (VivimError("/home/somebody is broken"), 500, "internal"),
    ],
)
def test_an_error_is_told_by_the_status_of_its_code_and_without_one_its_words_stay_here(error, status, code):
    refusal = of_error(error)
    assert (refusal.status, refusal.code) == (status, code)
    assert (refusal.message == str(error)) == (code not in ("refused", "internal"))
    assert refusal.headers == ({"retry-after": "1"} if status == 503 else {})
