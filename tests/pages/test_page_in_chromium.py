"""The page of a dataset as a browser shows it: nothing is amiss, nothing leaves, and all of it can be reached."""

from __future__ import annotations

import re
import shutil
import threading
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest
from playwright.sync_api import sync_playwright

from async_img2ds import report
from async_img2ds.options import ReportOptions
from async_img2ds.page.report import _made
from async_img2ds.page.serving import Live, Server
from async_img2ds.storage import REPORT
from made_up import made_up

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

VISIBLE = "#p-sheet > .card:not([hidden])"
TOP = "document.getElementById('samples').getBoundingClientRect().top"
# WCAG 2.2, 1.4.3: of text that is not large.
CONTRAST = 4.5


@dataclass
class Opened:
    """A page that is open, what it has asked for and complained of meanwhile, and what was stopped, and by what."""

    page: Any
    asked: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)
    stopped: dict[str, str] = field(default_factory=dict)

    def visible(self) -> int:
        return int(self.page.locator(VISIBLE).count())


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    with sync_playwright() as playwright:
        # Root, as in a container, has no sandbox.
        chromium = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.fixture(scope="session")
def ten(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of a dataset of ten rows."""
    return _page(made_up(tmp_path_factory.mktemp("ten"), 1, 10))


@pytest.fixture(scope="session")
def millions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of a dataset of ten million rows."""
    return _page(made_up(tmp_path_factory.mktemp("millions"), 1000))


def _page(folder: Path) -> Path:
    report(str(folder), progress="none")
    return folder / REPORT


@pytest.fixture
def opened(browser: Any) -> Iterator[Any]:
    contexts = []

    def open_at(address: Path | str, width: int = 1280, scheme: str = "light", **how: Any) -> Opened:
        context = browser.new_context(color_scheme=scheme, viewport={"width": width, "height": 900}, **how)
        contexts.append(context)
        found = Opened(context.new_page())
        found.page.on("request", lambda request: found.asked.append(request.url))
        found.page.on("requestfailed", lambda request: found.stopped.update({request.url: request.failure}))
        found.page.on("console", lambda message: found.complaints.append(message.text))
        found.page.on("pageerror", lambda error: found.complaints.append(str(error)))
        found.page.goto(address if isinstance(address, str) else address.as_uri())
        return found

    yield open_at
    for context in contexts:
        context.close()


@pytest.mark.parametrize("name", ["ten", "millions"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 400, 320])
def test_nothing_is_amiss_and_nothing_leaves(
    opened: Any, request: pytest.FixtureRequest, name: str, scheme: str, width: int
) -> None:
    """No complaint, no request but for the page itself, nothing that sticks out, and less than three megabytes."""
    path: Path = request.getfixturevalue(name)
    found = opened(path, width, scheme)
    found.page.evaluate("Promise.all([...document.images].map((image) => image.decode()))")

    assert found.complaints == []
    assert [url for url in found.asked if not url.startswith("data:")] == [path.as_uri()]
    assert found.page.evaluate("document.documentElement.scrollWidth") == width
    assert path.stat().st_size < 3_000_000


def test_it_says_how_many_of_how_many(opened: Any, ten: Path, millions: Path) -> None:
    """All of few, and a sample of many."""
    assert "all 10 rows" in opened(ten).page.inner_text("main")
    text = opened(millions).page.inner_text("main")

    assert "10,000,000" in text
    assert "200,000 of 10,000,000 rows, in 20 of 1,000 shards drawn at random" in text


def test_samples_are_searched_and_filtered(opened: Any, millions: Path) -> None:
    """By words in any order, status and reason, together; what is left is counted aloud."""
    found = opened(millions)
    page = found.page
    page.fill("#query", "ORANGE astronaut")
    astronauts = found.visible()
    texts = page.locator(VISIBLE).all_inner_texts()

    assert 0 < astronauts < 60
    assert all("a smiling astronaut" in text for text in texts)
    assert f"{astronauts} of 400" in page.inner_text("#shown")

    page.keyboard.press("Escape")
    assert page.inner_text("#shown") == "400 samples"
    page.select_option("#status", "failed_to_resize")
    bad = found.visible()
    assert 0 < bad < 60
    assert page.locator(f"{VISIBLE}:not([data-status=failed_to_resize])").count() == 0
    page.select_option("#reason", "not_image")
    assert 0 < found.visible() < bad
    page.fill("#query", "no such words")
    assert found.visible() == 0
    assert page.is_visible("#none")


def test_more_is_shown_on_request(opened: Any, millions: Path) -> None:
    """Some at a time, and the focus goes to the first of them."""
    found = opened(millions)
    before = found.visible()
    found.page.focus("#more")
    found.page.keyboard.press("Enter")

    assert found.visible() == 2 * before
    assert found.page.evaluate(
        f"document.activeElement.closest('.card') === document.querySelectorAll('{VISIBLE}')[60]"
    )


def test_keys_reach_everything(opened: Any, ten: Path) -> None:
    """In the order of the page: the skip link first, then sections, what can be opened, and the form; focus is seen."""
    page = opened(ten).page
    reached, outlines = [], []
    while True:
        page.keyboard.press("Tab")
        at = page.evaluate(
            "(() => { const e = document.activeElement; if (e === document.body) return null;"
            "const all = [...document.querySelectorAll('*')];"
            "return [all.indexOf(e), getComputedStyle(e).outlineStyle]; })()"
        )
        if at is None or at[0] in reached:
            break
        reached.append(at[0])
        outlines.append(at[1])
    wanted = page.evaluate(
        "(() => { const all = [...document.querySelectorAll('*')];"
        "return all.filter((e) => e.matches('a[href], summary, input, select, button, [tabindex=\"0\"]')"
        " && !e.closest('[hidden]') && !e.closest('details:not([open]) > :not(summary)'))"
        ".map((e) => all.indexOf(e)); })()"
    )

    assert reached == wanted
    assert set(outlines) == {"solid"}


def test_what_is_closed_opens_by_a_key(opened: Any, ten: Path) -> None:
    """Every table and example beside a drawing."""
    page = opened(ten).page
    for summary in page.locator("summary").all():
        summary.focus()
        page.keyboard.press("Enter")

    assert page.locator("details:not([open])").count() == 0


def test_who_does_not_see_is_told(opened: Any, millions: Path) -> None:
    """Drawings, pictures, fields and sections have names, headings follow each other, and tables have heads."""
    page = opened(millions).page
    nameless = page.evaluate(
        "[...document.querySelectorAll('svg[role=img], img, input, select, section, [role=region], nav, form')]"
        ".filter((e) => !(e.getAttribute('aria-label') || e.getAttribute('alt') || (e.labels && e.labels.length)"
        " || (e.getAttribute('aria-labelledby') || '').split(' ').some((id) => document.getElementById(id))))"
        ".map((e) => e.outerHTML.slice(0, 80))"
    )
    levels = page.evaluate("[...document.querySelectorAll('h1, h2, h3')].map((e) => Number(e.tagName[1]))")
    names = page.evaluate("[...document.querySelectorAll('[id]')].map((e) => e.id)")

    assert nameless == []
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))
    assert len(names) == len(set(names))
    assert page.locator("table:not(:has(thead th[scope=col]))").count() == 0


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_is_told_from_its_ground(opened: Any, millions: Path, scheme: str) -> None:
    """By the contrast that the guidelines ask for, of every colour that a text has."""
    page = opened(millions, scheme=scheme).page
    pairs = page.evaluate(
        """(() => {
          const found = new Set();
          const seen = (c) => { const m = c.match(/[\\d.]+/g).map(Number); return m.length < 4 || m[3] > 0; };
          const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
          while (walker.nextNode()) {
            const e = walker.currentNode.parentElement;
            const unseen = ['SCRIPT', 'STYLE', 'title', 'desc', 'OPTION'].includes(e.tagName);
            if (unseen || !walker.currentNode.data.trim()) continue;
            const style = getComputedStyle(e);
            let ground = e;
            while (ground && !seen(getComputedStyle(ground).backgroundColor)) ground = ground.parentElement;
            found.add(JSON.stringify([e instanceof SVGElement ? style.fill : style.color,
                                      getComputedStyle(ground || document.body).backgroundColor]));
          }
          return [...found].map(JSON.parse);
        })()"""
    )
    told = {tuple(pair): _contrast(*pair) for pair in pairs}

    assert len(told) >= 3
    assert {pair: contrast for pair, contrast in told.items() if contrast < CONTRAST} == {}


def _contrast(one: str, other: str) -> float:
    lighter, darker = sorted((_luminance(one), _luminance(other)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


def _luminance(colour: str) -> float:
    levels = [int(level) / 255 for level in re.findall(r"\d+", colour)[:3]]
    linear = [level / 12.92 if level <= 0.04045 else ((level + 0.055) / 1.055) ** 2.4 for level in levels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_dark_is_dark(opened: Any, ten: Path) -> None:
    """Where the system is."""
    grounds = {
        scheme: _luminance(opened(ten, scheme=scheme).page.evaluate("getComputedStyle(document.body).backgroundColor"))
        for scheme in ("light", "dark")
    }

    assert grounds["light"] > 0.8
    assert grounds["dark"] < 0.05


def test_paper_has_all_of_it_and_no_controls(opened: Any, ten: Path) -> None:
    """Nothing that is of no use there, tables open, pictures too."""
    page = opened(ten).page
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    page.emulate_media(media="print", color_scheme="dark")

    assert not page.is_visible("#controls")
    assert not page.is_visible("nav")
    assert page.is_visible("#d-latencies table")
    assert page.is_visible("#p-sheet img >> nth=0")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert len(page.pdf()) > 10_000


def test_without_scripts_everything_is_there(opened: Any, ten: Path) -> None:
    """But for what would do nothing."""
    found = opened(ten, java_script_enabled=False)

    assert found.page.locator("#p-sheet > .card").count() == 10
    assert found.page.is_visible("#p-sheet > .card >> nth=9")
    assert not found.page.is_visible("#controls")


def test_pictures_are_blurred_until_they_are_looked_at(opened: Any, ten: Path) -> None:
    """On request; each by itself when it is pointed at or its row is reached by keys."""
    page = opened(ten).page
    page.check("#blur")
    filtered = "getComputedStyle(document.querySelector('#p-sheet img')).filter"

    assert page.evaluate(filtered) == "blur(9px)"
    page.focus("#p-sheet summary >> nth=0")
    assert page.evaluate(filtered) == "none"


def test_scripts_of_strangers_do_not_run(opened: Any, tmp_path: Path, ten: Path) -> None:
    """Even if one got into the page: its own policy stops it."""
    hostile = (
        '<img src=x onerror="window.hit=1"><script>window.hit=1</script><img src="https://stranger.example/x.gif">'
    )
    path = tmp_path / "page.html"
    path.write_text(ten.read_text().replace("</main>", f"{hostile}</main>"))
    found = opened(path)
    found.page.wait_for_timeout(200)

    assert found.page.evaluate("window.hit") is None
    assert any("Content Security Policy" in said for said in found.complaints)
    assert found.stopped == dict.fromkeys(found.asked[1:], "csp")
    assert "https://stranger.example/x.gif" in found.stopped


def test_a_served_page_follows_the_run(opened: Any, tmp_path: Path) -> None:
    """Newer figures come by themselves, and whoever reads stays where they are, with their words and what is open."""
    folder = made_up(tmp_path / "out", 1, 200)
    options = ReportOptions(output_folder=str(folder), watch=True, every_s=1)
    live = Live(lambda: _made(options, "none"), 1.0, _made(options, "none"))
    with Server(0, live) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            found = opened(server.address)
            page = found.page
            page.fill("#query", "astronaut")
            page.check("#blur")
            page.locator("#d-reason-1 summary").click()
            page.locator("#samples").scroll_into_view_if_needed()
            page.focus("#query")
            top = page.evaluate(TOP)
            assert "200" in page.inner_text("#p-overview")
            made_up(folder, 3, 200)
            page.locator("#p-overview", has_text="600").wait_for()

            assert page.input_value("#query") == "astronaut"
            assert all("astronaut" in text for text in page.locator(VISIBLE).all_inner_texts())
            assert page.evaluate("document.activeElement.id") == "query"
            assert page.evaluate("document.getElementById('p-sheet').classList.contains('blurred')")
            assert page.evaluate("document.getElementById('d-reason-1').open")
            assert page.evaluate("document.getElementById('samples').getBoundingClientRect().top") == pytest.approx(
                top, abs=2
            )
            assert "renewed at" in page.inner_text("#live")
            assert found.complaints == []
            assert all(url.startswith((server.address, "data:")) for url in found.asked)
        finally:
            server.shutdown()
            thread.join()
    page.locator("#live", has_text="no longer served").wait_for()
