"""Text from outside stays text, and clips play from this server, from any second on; with a token too."""

from urllib.parse import urljoin

import httpx


def test_markup_in_a_title_is_shown_as_text_and_runs_nothing(visit, odd_titles):
    one = visit()
    hostile, arabic = odd_titles
    titles = one.page.locator("#catalogue .title")
    titles.first.wait_for()
    assert titles.all_inner_texts()[:2] == [hostile, arabic]
    assert titles.nth(1).evaluate("title => getComputedStyle(title).direction") == "rtl"
    for at in (0, 1):
        one.page.locator("#catalogue .watch").nth(at).click()
        one.page.wait_for_timeout(400)
    one.settle()
    assert one.page.locator("#strip .title").all_inner_texts() == [hostile, arabic]
    assert one.page.locator("#catalogue img[onerror], #strip img[onerror]").count() == 0
    assert one.complaints == []


def test_the_policy_of_the_page_really_forbids(visit):
    """The test above counts violations: here is one."""
    one = visit()
    one.page.evaluate("document.body.insertAdjacentHTML('beforeend', '<img src=x onerror=alert(1)>')")
    one.page.wait_for_function("() => window.forbidden.length > 0")
    assert one.dialogs == []


def test_a_clip_plays_muted_under_the_pointer_and_can_be_sought(visit, new_viewer):
    ranges = []
    one = visit(f"#user={new_viewer}")
    one.settle()
    one.page.on("response", lambda answer: ranges.append(answer.status) if answer.url.endswith("/clip") else None)
    one.page.locator("#cards .card").first.hover()
    video = one.page.locator("#cards video")
    video.wait_for(state="attached")
    one.page.wait_for_function("() => document.querySelector('#cards video')?.currentTime > 0")
    assert video.evaluate("video => [video.muted, video.controls]") == [True, False]
    video.evaluate("video => { video.pause(); video.currentTime = 1.5; return new Promise(done => video.onseeked = done); }")
    assert abs(video.evaluate("video => video.currentTime") - 1.5) < 0.05
    assert set(ranges) == {206}
    one.page.mouse.move(0, 0)
    video.wait_for(state="detached")
    assert one.complaints == []


def test_one_clip_plays_at_a_time_and_a_broken_one_keeps_its_picture(visit, new_viewer):
    one = visit(f"#user={new_viewer}")
    one.settle()
    play = one.page.locator("#cards .play")
    play.nth(0).click()
    one.page.wait_for_function("() => document.querySelector('#cards video')?.currentTime > 0")
    play.nth(1).click()
    one.page.wait_for_function("() => document.querySelectorAll('#cards li')[1].querySelector('video')?.currentTime > 0")
    assert one.page.locator("video").count() == 1
    broken = one.page.locator("#cards .card").nth(3)
    address = broken.evaluate("card => card.clip.media")
    one.page.route(f"**{address}*", lambda route: route.fulfill(status=200, content_type="video/mp4", body="no clip"))
    play.nth(3).click()
    one.page.wait_for_function("() => document.querySelectorAll('#cards .card')[3].classList.contains('unplayable')")
    assert one.page.locator("video").count() == 0
    assert broken.locator("img").count() == 1
    assert one.page.locator(".unplayable").count() == 1


def test_with_a_token_pictures_load_and_clips_play_by_the_key_in_their_address(visit, world, serving, tmp_path):
    secret = "s" * 24
    (tmp_path / "token").write_text(secret)
    (tmp_path / "token").chmod(0o600)
    run, videos = world / "runs" / "ids", world / "world" / "videos"
    options = (
        "--run",
        str(run),
        "--videos",
        str(videos),
        "--events",
        str(tmp_path / "events.sqlite"),
        "--token-file",
        str(tmp_path / "token"),
    )
    with serving(world, *options) as server:
        one = visit(origin=server.url)
        dialog = one.page.get_by_role("dialog", name="This service asks for a token")
        dialog.get_by_label("Token").fill(secret)
        dialog.get_by_role("button", name="Go on").click()
        one.page.wait_for_function("() => document.querySelector('#catalogue img')?.naturalWidth > 0")
        one.page.locator("#catalogue .play").first.click()
        one.page.wait_for_function("() => document.querySelector('#catalogue video')?.currentTime > 0")
        picture = one.page.locator("#catalogue img").first.get_attribute("src")
        clip = one.page.locator("#catalogue video").evaluate("video => video.currentSrc")
        for address in (picture, clip):
            address = urljoin(server.url, address)
            assert secret not in address
            assert httpx.get(address, trust_env=False).status_code == 200
            assert httpx.get(address.partition("?key=")[0], trust_env=False).status_code == 401
