"""Reports in a real browser, from disk: no requests, no injected script, working filters,
accessibility.

Needs Debian's chromium and playwright (axe-playwright-python for axe); skipped with the reason
elsewhere.
"""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import pytest

from tests.report.comparisons import compare_json
from tests.report.image_pools import (
    METHODS,
    chosen,
    hostile_records,
    picture_pool,
    record,
    selected,
)
from tests.report.planted_suspects import plant, wrong_rows
from thresher import report
from thresher.pools import Pool
from thresher.report import diff_report
from thresher.report.diff import difference
from thresher.report.folder import load
from thresher.storage.columns import Store

pytestmark = pytest.mark.browser
WIDTHS, THEMES = (400, 1000, 1600), ("light", "dark")
PAGES = (*METHODS, "suspects", "diff", "compare")


class Visit:
    """A page opened from disk in a browser that is offline, and all that it tried or complained
    about."""

    def __init__(self, browser: Any, path: Path, **options: Any) -> None:
        self.asked: list[str] = []
        self.said: list[str] = []
        self.context = browser.new_context(offline=True, **options)
        self.page = self.context.new_page()
        self.page.on("request", lambda r: self.asked.append(r.url))
        self.page.on("console", lambda m: self.said.append(f"{m.type}: {m.text}"))
        self.page.on("pageerror", lambda e: self.said.append(f"error: {e}"))
        self.page.on("dialog", lambda d: (self.said.append("dialog"), d.dismiss()))
        self.page.goto(path.resolve().as_uri())

    def quiet(self) -> None:
        """Nothing but the file itself and its own data was asked for, and nothing went wrong."""
        assert self.said == []
        others = [u for u in self.asked if not u.startswith("data:")]
        assert len(others) == 1 and others[0].startswith("file:"), others

    def visible(self, side: str = "kept") -> int:
        return int(self.page.locator(f"#side-{side} .card:visible").count())

    def close(self) -> None:
        self.context.close()


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Pool:
    return picture_pool(tmp_path_factory.mktemp("pool"), [record(i) for i in range(160)])


@pytest.fixture(scope="module")
def pages(pool: Pool, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The report of every method, of a comparison, and of two selections that differ."""
    folder = tmp_path_factory.mktemp("pages")
    out = {name: report.write(selected(pool, name, folder / name), pool) for name in METHODS}
    plant(pool, Store(folder / "work-suspects" / "store"), answers=wrong_rows(pool)[:9])
    out["suspects"] = report.write(selected(pool, "length", folder / "suspects"), pool)
    a, b = (load(folder / name, pool) for name in ("clipper", "length"))
    out["diff"] = diff_report.write(difference(a, b), folder / "diff.html")
    (folder / "compare").mkdir()
    (folder / "compare" / "compare.json").write_text(json.dumps(compare_json()))
    out["compare"] = report.write(folder / "compare")
    return out


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("hostile")
    pool = picture_pool(folder / "pool", [*hostile_records(), *(record(i) for i in range(20))])
    return report.write(selected(pool, "length", folder / "out", budget="50%"), pool)


@pytest.mark.parametrize("name", PAGES)
def test_opens_from_disk_without_network_and_fits(
    browser: Any, pages: dict[str, Path], name: str
) -> None:
    for width in WIDTHS:
        visit = Visit(browser, pages[name], viewport={"width": width, "height": 900})
        visit.page.wait_for_timeout(50)
        visit.quiet()
        assert visit.page.evaluate("document.documentElement.scrollWidth <= innerWidth"), (
            f"wider than {width}"
        )
        if name != "compare":
            broken = (
                "[...document.images].filter(i => i.complete && i.src && !i.naturalWidth).length"
            )
            assert visit.page.evaluate(broken) == 0
        visit.close()


def test_filters(browser: Any, pages: dict[str, Path]) -> None:
    visit = Visit(browser, pages["clipper"], viewport={"width": 1200, "height": 900})
    page = visit.page
    assert visit.visible() == 12 and visit.visible("dropped") == 12
    page.locator("#side-kept .more").click()
    assert visit.visible() == 24
    page.locator("#source").select_option("charts")
    texts = page.locator(".card:visible header").all_inner_texts()
    assert texts and all("charts" in t for t in texts)
    page.locator("#source").select_option("")
    page.locator("#kind").select_option("preferred in its bin")
    assert visit.visible() > 0 and visit.visible("dropped") == 0
    assert page.locator("#side-dropped .none").is_visible()
    page.locator("button[type=reset]").click()
    page.locator("#side").select_option("dropped")
    assert page.locator("#side-kept").is_hidden() and visit.visible("dropped") == 12
    page.locator("#side").select_option("")
    some = page.locator("#side-kept .card:visible h4").first.inner_text().split()[1]
    page.locator("#find").fill(f"id r{some.replace(',', '')} number")
    assert visit.visible() >= 1 and "match" in page.locator("#found").inner_text()
    page.locator("#find").fill("no such words anywhere")
    assert visit.visible() == 0 and page.locator("#found").inner_text().startswith("0 rows")
    page.keyboard.press("Enter")  # a form must not leave the page
    assert visit.page.locator("#find").input_value() == "no such words anywhere"
    visit.quiet()
    visit.close()


@pytest.mark.parametrize("name", [*METHODS, "diff"])
def test_every_source_and_reason_of_a_method_can_be_filtered_by(
    browser: Any, pages: dict[str, Path], name: str
) -> None:
    visit = Visit(browser, pages[name], viewport={"width": 1000, "height": 900})
    page = visit.page
    displayed = (
        "field => [...document.querySelectorAll('.card')].filter(c => c.offsetParent).map(c => "
        "c.dataset[field])"
    )
    for field in ("source", "kind"):
        values = [
            v
            for v in page.locator(f"#{field} option").evaluate_all("all => all.map(o => o.value)")
            if v
        ]
        assert values
        for value in values:
            page.locator(f"#{field}").select_option(value)
            found = page.evaluate(displayed, field)
            assert found and set(found) == {value}
            count = int(page.locator("#found").inner_text().split()[0])
            assert len(found) <= count == page.locator(f'.card[data-{field}="{value}"]').count()
        page.locator("button[type=reset]").click()
    visit.quiet()
    visit.close()


def test_the_theme_follows_the_system_and_the_button(browser: Any, pages: dict[str, Path]) -> None:
    seen = {}
    for scheme in THEMES:
        visit = Visit(browser, pages["length"], color_scheme=scheme)
        colour = "getComputedStyle(document.body).backgroundColor"
        seen[scheme] = visit.page.evaluate(colour)
        button = visit.page.locator("#theme")
        assert button.inner_text() == "Theme: auto"
        button.click()
        light = visit.page.evaluate(colour)
        button.click()
        assert button.inner_text() == "Theme: dark" and visit.page.evaluate(colour) != light
        visit.quiet()
        visit.close()
    assert seen["light"] != seen["dark"]


def test_keyboard_navigation(browser: Any, pages: dict[str, Path]) -> None:
    visit = Visit(browser, pages["perplexity"], viewport={"width": 1000, "height": 800})
    page = visit.page
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the report"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"
    reached = set()
    for _ in range(40):
        page.keyboard.press("Tab")
        reached.add(
            page.evaluate(
                "document.activeElement.id || document.activeElement.className || "
                "document.activeElement.tagName"
            )
        )
    assert {"find", "side", "source", "kind", "more"} <= reached
    page.locator("#side-kept .more").focus()
    page.keyboard.press("Enter")
    assert visit.visible() == 24 and "card" in page.evaluate("document.activeElement.className")
    visit.close()


def test_works_without_javascript(browser: Any, pages: dict[str, Path]) -> None:
    visit = Visit(browser, pages["clipper"], java_script_enabled=False)
    assert visit.visible() == 48 and visit.visible("dropped") == 96
    assert visit.page.locator(".filters").is_hidden() and visit.page.locator("#theme").is_hidden()
    visit.close()


@pytest.mark.parametrize("width", WIDTHS)
def test_hostile_texts_are_harmless(browser: Any, hostile: Path, width: int) -> None:
    visit = Visit(browser, hostile, viewport={"width": width, "height": 900})
    page = visit.page
    while page.locator(".more:visible").count():
        page.locator(".more:visible").first.click()
    for text in ("<script>", "onerror", "{{7*7}}", "livet"):
        page.locator("#find").fill(text)
    page.locator("#find").fill("")
    page.wait_for_timeout(100)
    assert page.evaluate("window.hacked") is None
    visit.quiet()
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    inside = "e => e.getBoundingClientRect().right <= innerWidth + 1"
    wide = (
        "[...document.querySelectorAll('.card, .panel, .text, .tile')].filter(e => "
        f"!({inside})(e)).length"
    )
    assert page.evaluate(wide) == 0
    assert (
        page.evaluate(
            "[...document.querySelectorAll('.card')].filter(e => e.offsetHeight > 1500).length"
        )
        == 0
    )
    assert page.locator("body").is_visible()
    visit.close()


def test_an_inline_script_would_be_refused(browser: Any, hostile: Path, tmp_path: Path) -> None:
    """The content policy would stop a script even if escaping failed: one is planted into the
    finished page."""
    planted = tmp_path / "planted.html"
    marks = (
        "<script>window.hacked = 1</script><img src=x onerror='window.hacked = "
        "2'><style>body{display:none}</style>"
    )
    planted.write_text(
        hostile.read_text(encoding="utf-8").replace("</main>", marks + "</main>"), encoding="utf-8"
    )
    visit = Visit(browser, planted)
    visit.page.wait_for_timeout(100)
    assert visit.page.evaluate("window.hacked") is None and visit.page.locator("h1").is_visible()
    assert sum("Content Security Policy" in text for text in visit.said) >= 3
    visit.close()


@pytest.mark.parametrize("theme", THEMES)
@pytest.mark.parametrize("name", PAGES)
def test_axe_reports_no_serious_problem(
    browser: Any, pages: dict[str, Path], name: str, theme: str
) -> None:
    axe = pytest.importorskip(
        "axe_playwright_python.sync_playwright", reason="axe-playwright-python is not installed"
    )
    for width in (400, 1400):
        # axe is injected as an inline script, which the policy rightly refuses: it is bypassed for
        # this test only
        visit = Visit(
            browser,
            pages[name],
            viewport={"width": width, "height": 900},
            color_scheme=theme,
            bypass_csp=True,
        )
        for details in visit.page.locator("details").all():
            details.evaluate("e => { e.open = true; }")
        found = axe.Axe().run(visit.page).response["violations"]
        told_ = [(v["impact"], v["id"], v["nodes"][0]["html"][:160]) for v in found]
        assert [t for t in told_ if t[0] in ("serious", "critical", "moderate")] == []
        visit.close()


NOTEBOOKS = {  # what surrounds a cell's output, and must look as it did
    "light": "body{background:#fff;color:#1f2526;font:16px serif}",
    "dark": "body{background:#111;color:#ddd;font:16px serif}",
}


@pytest.fixture(scope="module")
def cells(pool: Pool, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What a pool, a selection, a difference and a hostile pool show in a notebook."""
    folder = tmp_path_factory.mktemp("cells")
    a, b = (load(selected(pool, name, folder / name), pool) for name in ("random", "length"))
    rows = [*hostile_records(), *(record(i) for i in range(6))]
    hostile_ = [picture_pool(folder / f"p{i}", [r] * 3) for i, r in enumerate(rows)]
    return {
        "pool": pool._repr_html_(),
        "selection": chosen(pool, "clipper", folder / "c")._repr_html_(),
        "difference": difference(a, b)._repr_html_(),
        "hostile": "".join(
            p._repr_html_() + chosen(p, "length", folder / "h", "67%")._repr_html_()
            for p in hostile_
        ),
    }


@pytest.mark.parametrize("theme", THEMES)
@pytest.mark.parametrize("name", ["pool", "selection", "difference", "hostile"])
def test_notebook_cell(
    browser: Any, cells: dict[str, str], tmp_path: Path, name: str, theme: str
) -> None:
    axe = pytest.importorskip(
        "axe_playwright_python.sync_playwright", reason="axe-playwright-python is not installed"
    )
    page_file = tmp_path / "cell.html"
    around = (
        "<p "
        f"id=around>before</p><table><tr><th>a</th></tr></table>{cells[name]}<script>window.ran = "
        "1</script>"
    )
    page_file.write_text(
        "<!doctype html><html lang=en><meta "
        f"charset=utf-8><title>t</title><style>{NOTEBOOKS[theme]}</style>"
        f"<main><h1>n</h1>{around}</main>",
        encoding="utf-8",
    )
    for width in (360, 1000):
        visit = Visit(browser, page_file, viewport={"width": width, "height": 900})
        visit.page.wait_for_timeout(50)
        assert visit.page.evaluate("[window.ran, window.hacked]") == [1, None]
        visit.quiet()
        assert visit.page.evaluate("document.documentElement.scrollWidth <= innerWidth"), (
            f"wider than {width}"
        )
        style = "getComputedStyle(document.querySelector('#around')).font"
        assert "16px" in visit.page.evaluate(style) and "serif" in visit.page.evaluate(style)
        assert (
            visit.page.evaluate(
                "getComputedStyle(document.querySelector('main > table th')).fontWeight"
            )
            == "700"
        )
        if name != "hostile":
            found = axe.Axe().run(visit.page).response["violations"]
            told_ = [(v["impact"], v["id"], v["nodes"][0]["html"][:160]) for v in found]
            assert [t for t in told_ if t[0] in ("serious", "critical", "moderate")] == []
        visit.close()


@pytest.mark.parametrize("name", ["clipper", "suspects", "compare", "diff"])
def test_headings_step_by_one(browser: Any, pages: dict[str, Path], name: str) -> None:
    visit = Visit(browser, pages[name])
    levels = visit.page.evaluate(
        "[...document.querySelectorAll('h1,h2,h3,h4')].map(h => +h.tagName[1])"
    )
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(b - a <= 1 for a, b in itertools.pairwise(levels))
    visit.close()
