"""What the page shows while it waits, when there is nothing to show, and when the service is away."""

import itertools
import json
import signal
import time
from urllib.parse import quote

CSP = {"content-security-policy": "default-src 'self'"}


def test_while_the_list_is_on_its_way_there_are_empty_boxes_and_after_a_second_a_word(visit, new_viewer):
    def before(page):
        page.route("**/recommendations*", lambda route: (page.wait_for_timeout(2000), route.continue_()))

    one = visit(f"#user={quote(new_viewer)}", before=before)
    one.page.locator("#cards .skeleton").first.wait_for()
    one.page.get_by_text("This takes longer than usual.").wait_for()
    one.settle()
    assert one.page.locator("#banner").is_hidden()
    assert one.page.locator("#cards .skeleton").count() == 0
    assert one.complaints == []


def test_somebody_unknown_is_told_so_and_offered_popular_clips(visit, server, new_viewer):
    one = visit()
    one.page.get_by_label("Find a viewer").fill(new_viewer)
    one.page.get_by_role("option", name="new viewer").wait_for()
    one.page.keyboard.press("Enter")
    one.page.get_by_text("has watched anything yet.").wait_for()
    one.settle()
    assert new_viewer in one.page.locator("#watched-empty").inner_text()
    assert "most people watched" in one.page.locator("#fallback").inner_text()
    one.watch_first()
    assert one.page.locator("#watched-empty").is_hidden()


def test_a_search_that_finds_nothing_says_so(visit):
    one = visit()
    one.page.get_by_label("Find a clip").fill("no such clip")
    one.page.get_by_text("No clip matches no such clip.").wait_for()
    assert one.page.locator("#catalogue-count").inner_text() == "0"
    assert one.page.locator("#catalogue").is_hidden()
    one.page.get_by_label("Find a clip").fill("")
    one.page.locator("#catalogue .watch").first.wait_for()
    assert one.page.locator("#catalogue-empty").is_hidden()
    assert one.complaints == []


def test_a_missing_picture_is_replaced_by_the_id(visit, new_viewer):
    def before(page):
        page.route("**/media/*/thumbnail*", lambda route: route.fulfill(status=404, body="{}"))

    one = visit(f"#user={quote(new_viewer)}", before=before)
    one.settle()
    one.page.locator("#cards .instead").first.wait_for()
    clip = one.items("#cards")[0]
    assert one.page.locator("#cards .instead").first.inner_text() == clip
    box = one.page.locator("#cards .frame").first.bounding_box()
    assert abs(box["width"] / box["height"] - 3 / 4) < 0.02  # the box keeps its shape without a picture


def test_a_busy_service_is_asked_again_when_it_says(visit, new_viewer):
    asked = []

    def busy(route):
        asked.append(time.monotonic())
        if len(asked) <= 2:
            status = (503, 429)[len(asked) - 1]
            body = json.dumps({"error": {"code": "busy", "message": "too much at once", "request_id": "1"}})
            route.fulfill(status=status, headers={"retry-after": "1", **CSP}, content_type="application/json", body=body)
        else:
            route.continue_()

    one = visit(f"#user={quote(new_viewer)}", before=lambda page: page.route("**/recommendations*", busy))
    one.page.get_by_text("The service is busy. Trying again in 1 s.").wait_for()
    one.settle()
    assert len(asked) == 3
    assert all(later - earlier > 0.9 for earlier, later in itertools.pairwise(asked))
    assert one.page.locator("#banner").is_hidden()


def test_what_the_service_refuses_is_said_in_its_words_and_can_be_tried_again(visit, new_viewer):
    def refuse(route):
        body = json.dumps({"error": {"code": "unknown_run", "message": "no run <b>is called</b> x", "request_id": "1"}})
        route.fulfill(status=404, content_type="application/json", body=body)

    one = visit(f"#user={quote(new_viewer)}", before=lambda page: page.route("**/recommendations*", refuse))
    one.page.get_by_text("no run <b>is called</b> x").wait_for()
    one.page.unroute("**/recommendations*")
    one.page.get_by_role("button", name="Try again").click()
    one.settle()
    assert one.page.locator("#trouble").is_hidden()


def test_what_is_no_answer_of_the_service_is_not_taken_for_one(visit, new_viewer):
    def a_proxy(route):
        route.fulfill(status=200, content_type="text/html", body="<h1>Please log in</h1>")

    one = visit(f"#user={quote(new_viewer)}", before=lambda page: page.route("**/recommendations*", a_proxy))
    one.page.get_by_text("Something answered 200 in the place of the service.").wait_for()
    assert one.page.locator("#cards .card").count() == 0


def test_another_index_behind_the_page_makes_it_look_again_once(visit, new_viewer):
    asked = []

    def renewed(route):
        answer = route.fetch()
        route.fulfill(response=answer, json={**answer.json(), "index": "another"})

    def before(page):
        page.route("**/recommendations*", renewed)
        page.on("request", lambda request: asked.append(request.url) if request.url.endswith("/v1/runs") else None)

    one = visit(f"#user={quote(new_viewer)}", before=before)
    one.settle()
    one.watch_first()
    one.settle()
    assert len(asked) == 2


def test_a_token_is_asked_for_kept_in_the_tab_and_asked_again_when_wrong(visit, new_viewer):
    def guard(route):
        if route.request.headers.get("authorization") == "Bearer right":
            route.continue_(headers={k: v for k, v in route.request.headers.items() if k != "authorization"})
        else:
            body = json.dumps({"error": {"code": "token_needed", "message": "a token is needed", "request_id": "1"}})
            route.fulfill(status=401, content_type="application/json", body=body)

    one = visit(f"#user={quote(new_viewer)}", before=lambda page: page.route("**/v1/**", guard))
    dialog = one.page.get_by_role("dialog", name="This service asks for a token")
    dialog.get_by_role("button", name="Not now").click()
    one.page.get_by_text("This service answers only with its token.").wait_for()
    one.page.get_by_role("button", name="Enter the token").click()
    dialog.get_by_label("Token").fill("wrong")
    dialog.get_by_role("button", name="Go on").click()
    dialog.get_by_text("That token was not accepted.").wait_for()
    dialog.get_by_label("Token").fill("right")
    one.page.keyboard.press("Enter")
    one.settle()
    one.page.reload()
    one.settle()
    assert dialog.is_hidden()
    assert one.page.evaluate("[localStorage.length, document.cookie]") == [0, ""]


def test_a_killed_server_is_noticed_and_the_click_is_sent_once_when_it_is_back(visit, server, new_viewer):
    one = visit(f"#user={quote(new_viewer)}")
    one.settle()
    first = one.watch_first()
    one.settle()
    second = one.items("#cards")[0]
    server.stop(signal.SIGKILL)
    try:
        one.page.locator("#cards .watch").first.click()
        one.page.get_by_text("The service does not answer.").wait_for()
        assert one.items("#strip") == [first]
    finally:
        server.start()
    one.page.wait_for_function("() => document.querySelectorAll('#strip .card').length === 2", timeout=20_000)
    assert one.items("#strip") == [first, second]
    one.page.locator("#banner").wait_for(state="hidden")
    one.page.reload()
    one.settle()
    assert one.items("#strip") == [first, second]
