"""What somebody sees of the server, and does with keyboard, phone, without script, in the dark."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from ..conftest import ProxyProcess
from ..integration.wire import RawClient, create
from ..status import look
from .conftest import OpenPage, sync_api

SESSIONS = 50
expect = sync_api.expect


def root_of(proxy: ProxyProcess) -> str:
    return proxy.url.removesuffix("/v1")


def session_with(proxy: ProxyProcess, outcome: str) -> str:
    """Return the address of a session that has a turn which ended so."""
    turn = look(root_of(proxy), f"/status.json?outcome={outcome}")["turns"][0]
    return f"{root_of(proxy)}/status/sessions/{turn['session']}"


@contextmanager
def load(proxy: ProxyProcess) -> Iterator[None]:
    """Hold many sessions at the same time, each with a turn, while the context lasts."""
    on = threading.Event()

    def hold(number: int) -> None:
        with RawClient(proxy.ws_url) as client:
            client.say(create(model="demo:slow:4" if number % 5 == 0 else "demo"))
            client.hear_turn()
            on.wait(20)

    threads = [threading.Thread(target=hold, args=(number,)) for number in range(SESSIONS)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        on.set()
        for thread in threads:
            thread.join(20)


def test_numbers_move_while_sessions_come_and_go(served: ProxyProcess, open_page: OpenPage) -> None:
    """Without a reload: sessions, a running turn with its events, and what is unfolded stays so."""
    page = open_page(root_of(served) + "/status")
    value = page.locator(".figure .value").first
    expect(value).to_have_text(re.compile(r"^\s*0"))
    page.locator("#workers > summary").click()
    page.locator("input[name=model]").fill("half writ")
    with load(served):
        expect(page.locator("#running tbody tr").first).to_contain_text("demo:slow:4")
        expect(value).to_have_text(re.compile(rf"^\s*{SESSIONS}"))
        row = page.locator("#running tbody tr").first
        before = row.locator("td").nth(4).text_content()
        expect(row.locator("td").nth(4)).not_to_have_text(before or "", timeout=9000)
        assert "M0" in (page.locator(".figure .course").first.get_attribute("d") or "")
    expect(value).to_have_text(re.compile(r"^\s*0"))
    expect(page.locator("#workers")).to_have_attribute("open", "")
    expect(page.locator("input[name=model]")).to_have_value("half writ")
    expect(page.locator("input[name=model]")).to_be_focused()
    expect(page.locator("#pulse")).to_have_text("Live")


def test_a_session_shows_what_happened(served: ProxyProcess, open_page: OpenPage) -> None:
    """The waterfall of its turns, the error of the one that failed, what was made of the message, and the events."""
    page = open_page(session_with(served, "failed"))
    rows = page.locator("#waterfall tbody tr")
    expect(rows).to_have_count(3)
    expect(rows.nth(1)).to_contain_text("failed")
    assert page.locator("#waterfall tr .bar rect").count() >= 6
    expect(page.locator(".error")).to_contain_text("demonstration model")
    page.locator("#waterfall").get_by_role("link", name="3").click()
    expect(page.locator("#exchange h2")).to_have_text("Turn 3")
    marks = {mark: page.locator(f"table.difference tr.{mark}") for mark in ("removed", "added", "same")}
    expect(marks["removed"].filter(has_text="previous_response_id")).to_have_count(1)
    expect(marks["added"].filter(has_text="stream")).to_have_count(1)
    expect(marks["added"].filter(has_text="from the transcript")).to_contain_text("did not have to send")
    expect(marks["same"].filter(has_text="input, item 1")).to_contain_text("to demo")
    event = page.locator(".events li").first
    expect(event).to_contain_text("response.created")
    event.locator("summary").click()
    expect(event.locator("pre").first).to_be_visible()
    expect(page.locator("#command")).to_contain_text("wsgi-proxy replay /")
    page.get_by_role("button", name="Copy the replay command").click()
    expect(page.locator("button[data-copy]")).to_have_text(re.compile("Copied|Selected"))


def test_a_running_session_grows_before_ones_eyes(served: ProxyProcess, open_page: OpenPage) -> None:
    """Its page is live until it ends."""
    with RawClient(served.ws_url) as client:
        client.say(create(model="demo:slow:2"))
        client.hear()
        name = look(root_of(served))["running"][0]["session"]
        page = open_page(f"{root_of(served)}/status/sessions/{name}")
        expect(page.locator("#waterfall")).to_contain_text("streaming")
        client.hear_turn()
        expect(page.locator("#waterfall")).to_contain_text("completed")
    expect(page.locator("#facts")).to_contain_text("closed")
    expect(page.locator("#pulse")).to_have_text("Ended")


@pytest.mark.parametrize("script", [True, False])
def test_turns_can_be_chosen_with_and_without_script(served: ProxyProcess, open_page: OpenPage, script: bool) -> None:
    """By a form that is a form."""
    page = open_page(root_of(served) + "/status", java_script_enabled=script)
    page.locator("select[name=outcome]").select_option("incomplete")
    page.locator("input[name=model]").fill("demo:incomplete")
    page.get_by_role("button", name="Show", exact=True).click()
    expect(page).to_have_url(re.compile(r"outcome=incomplete&model=demo%3Aincomplete"))
    rows = page.locator("#turns tbody tr")
    assert ["demo:incomplete"] * rows.count() == rows.locator("td:nth-child(4)").all_text_contents()
    assert rows.count() >= 1
    page.get_by_role("link", name="Show all").click()
    expect(page.locator("#turns tbody tr").filter(has_text="failed").first).to_be_visible()


def test_everything_can_be_reached_by_keyboard(served: ProxyProcess, open_page: OpenPage) -> None:
    """The skip link first, then each link and control, with a ring around what has the focus."""
    page = open_page(root_of(served) + "/status")
    page.keyboard.press("Tab")
    expect(page.locator(".skip")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("main")).to_be_focused()
    reached: set[str] = set()
    for _ in range(30):
        page.keyboard.press("Tab")
        found = page.evaluate(
            "(() => { const one = document.activeElement; const style = getComputedStyle(one);"
            " return [one.localName, one.getAttribute('aria-label') ?? '', style.outlineStyle]; })()"
        )
        assert found[2] != "none", found
        reached.add(f"{found[0]} {found[1]}".strip())
    assert {"summary", "select", "input", "button", "a", "div Recent turns", "div Credentials"} <= reached
    page.locator("#workers > summary").focus()
    page.keyboard.press("Enter")
    expect(page.locator("#workers")).to_have_attribute("open", "")


def test_it_says_when_the_server_does_not_answer(served: ProxyProcess, open_page: OpenPage) -> None:
    """And goes on when it does; it can be paused."""
    page = open_page(root_of(served) + "/status", expected="503")
    page.route("**/status", lambda route: route.fulfill(status=503, body=""))
    expect(page.locator("#pulse")).to_contain_text("does not answer")
    page.unroute("**/status")
    expect(page.locator("#pulse")).to_have_text("Live")
    page.get_by_role("button", name="Pause").click()
    expect(page.locator("#pulse")).to_have_text("Paused")
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
    page.get_by_role("button", name="Go on").click()
    expect(page.locator("#pulse")).to_have_text("Live")
    assert asked


@pytest.mark.parametrize("width", [375, 1280])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_the_screen_and_can_be_read(served: ProxyProcess, open_page: OpenPage, width: int, scheme: str) -> None:
    """No page is wider than the screen, and text stands out from its ground as much as WCAG asks for (4.5 : 1)."""
    paths = ["/status", "/status/sessions", session_with(served, "failed").partition(root_of(served))[2]]
    page = open_page(root_of(served) + paths[0], viewport={"width": width, "height": 800}, color_scheme=scheme)
    for path in paths:
        page.goto(root_of(served) + path)
        page.evaluate("for (const one of document.querySelectorAll('details')) one.open = true")
        wide = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        assert 0 == wide, path
        low = page.evaluate(CONTRAST)
        assert [] == low, path
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (scheme == "light") == (int(re.findall(r"\d+", ground)[0]) > 128)


CONTRAST = """
(() => {
  const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const paint = (...colors) => {
    canvas.clearRect(0, 0, 1, 1);
    for (const color of colors) { canvas.fillStyle = color; canvas.fillRect(0, 0, 1, 1); }
    const [r, g, b] = canvas.getImageData(0, 0, 1, 1).data;
    return [r, g, b].map((v) => v / 255).map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4));
  };
  const light = ([r, g, b]) => 0.2126 * r + 0.7152 * g + 0.0722 * b;
  const low = [];
  for (const one of document.querySelectorAll("main *, header *")) {
    const own = [...one.childNodes].some((node) => node.nodeType === Node.TEXT_NODE && node.data.trim());
    if (!own || one.closest("svg, datalist, .hidden, .skip")) continue;
    const grounds = [];
    for (let at = one; at; at = at.parentElement) grounds.unshift(getComputedStyle(at).backgroundColor);
    const [a, b] = [light(paint(...grounds)), light(paint(...grounds, getComputedStyle(one).color))];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < 4.5) low.push(`${one.localName}.${one.className}: ${ratio.toFixed(2)} ${one.textContent.slice(0, 30)}`);
  }
  return [...new Set(low)].slice(0, 5);
})()
"""
