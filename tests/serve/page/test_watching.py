"""Choosing somebody, watching, taking back: the page shows what the service says, and tells it what was clicked."""

import json
import re
import urllib.request
from urllib.parse import quote

SHOWN = "cards => cards.map(card => [card.clip.item, card.querySelector('.meta').textContent])"


def ask(server, path):
    with urllib.request.urlopen(server.url + path, timeout=10) as answer:
        return json.load(answer)


def a_viewer(server, skip=0):
    return ask(server, f"v1/users?limit={skip + 1}")["users"][skip]["user"]


def posts(one):
    """What the page posts from now on, as it comes."""
    sent = []
    one.page.on("request", lambda request: sent.append(request.post_data_json) if request.method == "POST" else None)
    return sent


def test_the_page_loads_without_a_complaint_and_asks_nobody_else(visit):
    one = visit()
    one.page.locator("#catalogue .watch").first.wait_for()
    one.page.get_by_text("Choose a viewer, or click a clip.").wait_for()
    assert one.complaints == []


def test_a_chosen_viewer_has_the_history_of_the_service_in_its_order_with_pictures(visit, server):
    user = a_viewer(server, 7)
    one = visit()
    one.page.get_by_label("Find a viewer").fill(user)
    one.page.get_by_role("option", name=user).click()
    one.settle()
    history = ask(server, f"v1/users/{quote(user)}/history")["history"]
    assert len(history) > 2
    assert one.items("#strip") == [entry["item"] for entry in history]
    answer = ask(server, f"v1/users/{quote(user)}/recommendations?k=10&exclude_seen=true&search=exact")
    assert one.items("#cards") == [item["item"] for item in answer["items"]]
    for image in one.page.locator("#strip img, #cards img").all():
        image.scroll_into_view_if_needed()
        one.page.wait_for_function("image => image.complete", arg=image.element_handle())
    widths = one.page.locator("#strip img, #cards .watch img").evaluate_all("images => images.map(image => image.naturalWidth)")
    assert len(widths) == len(history) + 10
    assert min(widths) > 0
    assert one.complaints == []


def test_a_click_is_one_event_and_undo_restores_the_list(visit, server, new_viewer):
    for item in ask(server, "v1/items?limit=3")["items"]:
        body = json.dumps({"item": item["item"], "event_id": item["item"]}).encode()
        request = urllib.request.Request(
            f"{server.url}v1/users/{quote(new_viewer)}/events", body, {"Content-Type": "application/json"}, method="POST"
        )
        urllib.request.urlopen(request, timeout=10).close()
    one = visit(f"#user={quote(new_viewer)}")
    one.settle()
    before, strip = one.page.locator("#cards .card").evaluate_all(SHOWN), one.items("#strip")
    sent = posts(one)
    watched = one.watch_first()
    assert [event["item"] for event in sent] == [watched]
    assert one.items("#strip") == [*strip, watched]
    assert watched not in one.items("#cards")
    assert "ms" in one.page.locator("#latency").inner_text()
    assert [entry["item"] for entry in ask(server, f"v1/users/{quote(new_viewer)}/history")["history"]] == [*strip, watched]
    one.page.get_by_role("button", name="Undo").click()
    one.page.wait_for_function("length => document.querySelectorAll('#strip .card').length === length", arg=len(strip))
    assert one.page.locator("#cards .card").evaluate_all(SHOWN) == before
    assert one.items("#strip") == strip
    assert one.complaints == []


def test_a_double_click_posts_once(visit, server, new_viewer):
    one = visit(f"#user={quote(new_viewer)}")
    one.settle()
    sent = posts(one)
    one.page.locator("#cards .watch").first.dblclick(delay=5)
    one.page.locator("#strip .card").first.wait_for()
    one.page.wait_for_timeout(300)
    assert len(sent) == 1
    assert len(ask(server, f"v1/users/{quote(new_viewer)}/history")["history"]) == 1


def test_a_key_held_down_is_one_event(visit, server, new_viewer):
    one = visit(f"#user={quote(new_viewer)}")
    one.settle()
    sent = posts(one)
    one.page.locator("#cards .watch").first.focus()
    for _ in range(5):
        one.page.keyboard.down("Enter")
        one.page.wait_for_timeout(100)
    one.page.keyboard.up("Enter")
    one.page.locator("#strip .card").first.wait_for()
    assert len(sent) == 1


def test_while_a_click_is_on_its_way_the_list_says_that_it_will_change(visit, new_viewer):
    one = visit(f"#user={quote(new_viewer)}")
    one.settle()
    on_their_way = []
    one.page.route("**/events*", lambda route: on_their_way.append(route))
    with one.page.expect_request("**/events*"):
        one.page.locator("#cards .watch").first.click()
    one.page.locator("#cards[aria-busy=true]").wait_for()
    assert one.items("#strip") == []
    on_their_way[0].continue_()
    one.page.locator("#strip .card").wait_for()
    one.settle()
    assert len(on_their_way) == 1


def test_two_clicks_on_different_clips_are_two_events_in_their_order(visit, server, new_viewer):
    one = visit(f"#user={quote(new_viewer)}")
    one.settle()
    clips = [item["item"] for item in ask(server, "v1/items?limit=4")["items"]][2:]
    for at in (2, 3):
        one.page.locator("#catalogue .watch").nth(at).click()
        one.page.wait_for_timeout(400)
    one.page.wait_for_function("() => document.querySelectorAll('#strip .card').length === 2")
    assert one.items("#strip") == clips
    assert [entry["item"] for entry in ask(server, f"v1/users/{quote(new_viewer)}/history")["history"]] == clips


def test_a_page_from_another_machine_without_tls_records_clicks_too(visit, server, new_viewer):
    """There browsers have no ``crypto.randomUUID``; on this machine they do, whatever the protocol, so it is taken away."""
    one = visit(f"#user={quote(new_viewer)}", before=lambda page: page.add_init_script("delete Crypto.prototype.randomUUID"))
    one.settle()
    assert one.page.evaluate("typeof crypto.randomUUID") == "undefined"
    watched = one.watch_first()
    one.settle()
    again = one.watch_first()
    found = ask(server, f"v1/users/{quote(new_viewer)}/history")["history"]
    assert [entry["item"] for entry in found] == [watched, again]
    assert all(re.fullmatch("[0-9a-f]{32}", entry["event_id"]) for entry in found)
    assert found[0]["event_id"] != found[1]["event_id"]
    assert one.complaints == []


def test_a_click_that_the_browser_has_no_room_for_holds_up_no_other(visit, server):
    one = visit()
    one.page.evaluate(
        """() => {
            const keeps = Storage.prototype.setItem;
            Storage.prototype.setItem = () => {
                Storage.prototype.setItem = keeps;
                throw new DOMException("no room", "QuotaExceededError");
            };
        }"""
    )
    one.page.locator("#catalogue .watch").nth(3).click()
    one.page.wait_for_function("() => document.querySelectorAll('.sending').length === 0")
    assert any("no room" in complaint for complaint in one.console)
    one.page.wait_for_timeout(400)
    one.page.locator("#catalogue .watch").nth(4).click()
    one.page.wait_for_function("() => document.querySelectorAll('#strip .card').length > 0")
    one.settle()
    assert one.page.locator("#undo").is_enabled()


def test_a_history_of_ones_own_is_sent_whole_and_never_recorded(visit, server):
    one = visit()
    one.page.locator("#catalogue .watch").nth(3).click()
    one.settle()
    sent = posts(one)
    second = one.watch_first()
    first = one.items("#strip")[0]
    assert [body["history"] for body in sent] == [[first, second]]
    request = urllib.request.Request(server.url + "v1/recommend", json.dumps(sent[0]).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=10) as answer:
        assert one.items("#cards") == [item["item"] for item in json.load(answer)["items"]]
    one.page.reload()
    one.settle()
    assert one.items("#strip") == [first, second]
    one.page.get_by_role("button", name="Undo").click()
    one.page.wait_for_function("() => document.querySelectorAll('#strip .card').length === 1")
    assert one.complaints == []


def test_the_settings_ask_what_they_say(visit, server):
    user = a_viewer(server, 3)
    one = visit(f"#user={quote(user)}")
    one.settle()
    base = f"v1/users/{quote(user)}/recommendations"

    def shown_is(query, **changed):
        one.settle()
        assert one.items("#cards") == [item["item"] for item in ask(server, f"{base}?{query}")["items"]], changed

    one.page.get_by_label("Clips", exact=True).select_option("20")
    shown_is("k=20", k=20)
    one.page.get_by_label("ANN").check()
    shown_is("k=20&search=ann", search="ann")
    one.page.get_by_label("video", exact=True).check()
    shown_is("k=20&search=ann&run=frozenvideo", run="frozenvideo")
    one.page.get_by_label("Seen clips too").check()
    shown_is("k=20&search=ann&run=frozenvideo&exclude_seen=false", seen=True)
    seen = set(one.items("#strip"))
    badged = one.page.locator("#cards .card:has(.badge)").evaluate_all("cards => cards.map(card => card.clip.item)")
    assert set(badged) == seen & set(one.items("#cards"))
    one.page.get_by_label("Popular beside").check()
    one.page.locator("#popular .row").first.wait_for()
    assert one.items("#popular") == [item["item"] for item in ask(server, f"v1/popular?k=20&user={quote(user)}")["items"]]
    assert one.complaints == []


def test_a_reason_is_a_watched_clip_and_resting_on_it_rings_that_clip(visit, server):
    user = a_viewer(server, 5)
    one = visit(f"#user={quote(user)}")
    one.settle()
    answer = ask(server, f"v1/users/{quote(user)}/recommendations?k=10")["items"][0]
    assert answer["because"]
    one.page.locator("#cards .card").first.hover()
    lit = one.page.locator("#strip .lit").evaluate_all("cards => cards.map(card => card.clip.item)")
    assert set(lit) == {near["item"] for near in answer["because"]}


def test_going_back_goes_back_to_who_was_watching(visit, server):
    users = [a_viewer(server, at) for at in (0, 1)]
    one = visit()
    for user in users:
        one.page.locator("#chips").get_by_text(user, exact=True).click()
        one.settle()
    one.page.go_back()
    one.page.get_by_text("Who is watching").wait_for()
    one.page.wait_for_function("user => document.getElementById('who-name').textContent === user", arg=users[0])
    one.settle()
    assert one.items("#strip") == [entry["item"] for entry in ask(server, f"v1/users/{quote(users[0])}/history")["history"]]


def test_a_question_that_is_overtaken_is_dropped(visit, server):
    user = a_viewer(server, 2)
    one = visit(f"#user={quote(user)}")
    one.settle()
    aborted = []
    one.page.on("requestfailed", lambda request: aborted.append(request.url))
    one.page.route("**/recommendations?k=5*", lambda route: (one.page.wait_for_timeout(600), route.continue_()))
    one.page.get_by_label("Clips", exact=True).select_option("5")
    one.page.get_by_label("Clips", exact=True).select_option("20")
    one.page.wait_for_timeout(900)
    one.settle()
    assert len(aborted) == 1
    assert "k=5&" in aborted[0]
    assert len(one.items("#cards")) == 20
