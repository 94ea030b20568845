"""The viewer in a real browser, started by its own command: slider, pins, export, security and
accessibility.

Needs Debian's chromium and playwright (axe-playwright-python for axe); skipped with the reason
elsewhere.
"""

from __future__ import annotations

import filecmp
import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.report.image_pools import hostile_records, selected
from tests.report.planted_suspects import plant, wrong_rows
from tests.viewer.sessions import pool_of
from thresher.cli import main
from thresher.storage.columns import Store

pytestmark = pytest.mark.browser
WIDTHS, THEMES = (400, 1000, 1600), ("light", "dark")
QUIET = "document.querySelectorAll('[aria-busy],[data-busy]').length === 0"


class Served:
    """`thresher view` as a separate process."""

    def __init__(self, folder: Path) -> None:
        environment = {**os.environ, "PYTHONUNBUFFERED": "1", "NO_COLOR": "1"}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "thresher", "view", str(folder), "--no-open"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
        )
        assert self.process.stdout is not None
        self.address = self.process.stdout.readline().strip()
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+/#token=[\w-]{43}", self.address), (
            self.process.communicate()
        )

    def end(self) -> tuple[int, str]:
        """Ctrl-C; (exit code, stderr)."""
        self.process.send_signal(signal.SIGINT)
        _, text = self.process.communicate(timeout=30)
        return self.process.returncode, text


class Visit:
    """The page in a browser, and all that it asked for or complained about."""

    def __init__(self, browser: Any, address: str, **options: Any) -> None:
        self.asked: list[str] = []
        self.said: list[str] = []
        self.origin = address.partition("/#")[0]
        self.context = browser.new_context(
            **{"viewport": {"width": 1200, "height": 900}, **options}
        )
        self.page = self.context.new_page()
        self.page.on("request", lambda r: self.asked.append(r.url))
        self.page.on("console", lambda m: self.said.append(f"{m.type}: {m.text}"))
        self.page.on("pageerror", lambda e: self.said.append(f"error: {e}"))
        self.page.on("dialog", lambda d: (self.said.append("dialog"), d.dismiss()))
        self.page.goto(address)
        self.settle()

    def settle(self) -> None:
        self.page.wait_for_timeout(450)  # typing is waited for, and plots come a little later
        for _ in range(300):
            # polled: the page's content policy forbids injected functions
            if self.page.evaluate(QUIET):
                return
            self.page.wait_for_timeout(50)
        raise AssertionError("the page is busy for 15 seconds")

    def text(self, place: str) -> str:
        return str(self.page.locator(place).inner_text())

    def kept(self) -> int:
        return int(self.text("#status").partition(" ")[0].replace(",", ""))

    def show(self, **filters: str) -> str:
        """Set filters; returns the number of matching rows."""
        for name, value in filters.items():
            field = self.page.locator(f"#{name}")
            field.fill(value) if name == "words" else field.select_option(value)
        self.settle()
        return self.text("#found")

    def quiet(self) -> None:
        """Nothing but the viewer was asked, and nothing went wrong."""
        assert self.said == []
        assert all(url.startswith(self.origin) for url in self.asked)

    def close(self) -> None:
        self.context.close()


@pytest.fixture
def serve() -> Iterator[Callable[[Path], Served]]:
    running: list[Served] = []

    def start(folder: Path) -> Served:
        running.append(Served(folder))
        return running[-1]

    yield start
    for served in running:
        if served.process.poll() is None:
            served.process.kill()
            served.process.communicate()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A selection by CLIPPER; its export by command is possible because every score is stored."""
    return selected(pool_of(tmp_path / "pool", 160), "clipper", tmp_path / "out")


def test_the_slider_and_the_settings_change_the_subset(
    browser: Any, serve: Any, folder: Path
) -> None:
    visit = Visit(browser, serve(folder).address)
    page = visit.page
    assert "token" not in page.url and visit.kept() == 48
    before = visit.show(show="kept")
    page.locator("#slider").focus()
    for _ in range(4):
        page.keyboard.press("ArrowLeft")
    visit.settle()
    assert page.locator("#budget").input_value() == "26%" and visit.kept() == 41
    assert before == "48 rows" and visit.text("#found") == "41 rows"
    assert page.evaluate("document.activeElement.id") == "slider"
    assert "26%, 41 rows" in page.locator("#slider").get_attribute("aria-valuetext")
    page.locator("#budget").fill("20")
    visit.settle()
    assert visit.kept() == 20 and "12.5%" in visit.text("#counts")
    first = page.locator("#rows h4").all_inner_texts()
    page.locator("#set-prefer").select_option("least_helped")
    visit.settle()
    assert page.locator("#rows h4").all_inner_texts() != first and visit.kept() == 20
    page.locator("#budget").fill("0.3")
    visit.settle()
    assert "Did you mean 30%?" in visit.text("#problem-budget") and visit.kept() == 20
    assert page.locator("#budget").get_attribute("aria-invalid") == "true"
    page.locator("#budget").fill("10%")
    visit.settle()
    assert page.locator("#problem-budget").is_hidden() and visit.kept() == 16
    page.locator("#seed").fill("7")
    visit.settle()
    assert "is not stored for" in visit.text("#problem") and "--seed 7" in visit.text("#problem")
    page.locator("#back").click()
    assert page.locator("#seed").input_value() == "0" and page.locator("#problem").is_hidden()
    page.locator("#method").select_option("mmssr")
    visit.settle()
    assert "mmssr" in visit.text("#problem") and page.locator("#set-prefer").is_visible()
    page.locator("#budget").fill("9%")  # asked of the method that is not reached yet
    visit.settle()
    assert "mmssr" in visit.text("#problem") and page.locator("#problem-budget").is_hidden()
    page.locator("#back").click()
    assert (
        page.locator("#method").input_value() == "clipper"
        and page.locator("#budget").input_value() == "10%"
    )
    page.locator("#method").select_option("random")
    visit.settle()
    assert (
        page.locator("#problem").is_hidden()
        and page.locator("[data-setting]").count() == 0
        and visit.kept() == 16
    )
    page.locator("#tab-plots").click()
    visit.settle()
    assert "How random chose" in visit.text("#plots")
    visit.quiet()
    visit.close()


def test_pins_and_bans_survive_a_restart(browser: Any, serve: Any, tmp_path: Path) -> None:
    folder = selected(pool_of(tmp_path / "pool", 160), "length", tmp_path / "out")
    served = serve(folder)
    visit = Visit(browser, served.address)
    page = visit.page
    visit.show(show="dropped")
    pinned = page.locator("#rows [id^=pin-]").first
    row = pinned.get_attribute("data-row")
    pinned.focus()
    page.keyboard.press("Enter")
    visit.settle()
    # another row was dropped for it
    assert "1 pinned" in visit.text("#pins") and visit.text("#found") == "112 rows"
    assert visit.show(show="pinned") == "1 row" and f"Row {row}" in visit.text("#rows")
    page.locator(f"#ban-{row}").click()
    visit.settle()
    assert page.locator("#rows .none").count() == 1 and visit.show(show="banned") == "1 row"
    assert page.locator(f"#ban-{row}").get_attribute("aria-pressed") == "true"
    page.locator("#undo").click()
    visit.settle()
    assert visit.show(show="pinned") == "1 row"
    page.locator(f"#pin-{row}").focus()
    visit.show(show="all")
    visit.quiet()
    visit.close()
    code, text = served.end()
    assert code == 0 and "Traceback" not in text
    again = Visit(browser, serve(folder).address)
    assert again.show(show="pinned") == "1 row" and f"Row {row}" in again.text("#rows")
    again.page.locator(f"#pin-{row}").click()
    again.settle()
    assert "No row is pinned" in again.text("#pins")
    again.close()


@pytest.fixture
def suspected(tmp_path: Path) -> Path:
    """A selection whose store knows that 24 of its 160 rows are likely wrong."""
    pool = pool_of(tmp_path / "pool", 160)
    store = Store(tmp_path / "work-out" / "store")
    plant(pool, store, answers=wrong_rows(pool), words="which colour")
    return selected(pool, "length", tmp_path / "out")


def test_likely_wrong_rows_are_looked_through_and_banned(
    browser: Any, serve: Any, suspected: Path
) -> None:
    visit = Visit(browser, serve(suspected).address)
    page = visit.page
    assert page.locator("#of-skill").is_hidden() and page.locator("#suspects").is_hidden()
    assert visit.show(show="suspected") == "24 rows"
    assert page.locator("#sort").input_value() == "suspicion"
    assert "24 of 160 rows (15.0%) are likely wrong" in visit.text("#suspects")
    assert page.locator("#rows .card").count() == 24
    card = page.locator("#rows .card").first.inner_text()
    assert "Model" in card and "Blue." in card and "1.00" in card
    page.locator("#suspects summary").click()
    assert page.locator("#skill option").count() == 4
    page.locator("#skill").select_option(index=1)
    visit.settle()
    rows = int(visit.text("#found").split()[0])
    assert rows == page.locator("#rows .card").count() < 24
    assert page.locator("#suspects details").first.get_attribute("open") is not None
    page.locator("#ban-page").focus()
    page.keyboard.press("Enter")
    visit.settle()
    assert f"{rows} banned" in visit.text("#pins") and page.locator("#ban-page").count() == 0
    assert page.evaluate("document.activeElement.id") == "rows"
    page.locator("#as").select_option("table")
    visit.settle()
    assert page.locator("#rows tbody tr").count() == rows
    assert visit.show(show="banned") == f"{rows} rows"
    assert page.locator("#sort").input_value() == "" and page.locator("#of-skill").is_hidden()
    assert page.locator("#suspects").is_hidden()
    page.locator("#undo").click()
    visit.settle()
    assert "No row is pinned or banned" in visit.text("#pins")
    assert visit.show(show="suspected") == "24 rows"  # of every skill again
    visit.quiet()
    visit.close()


def test_likely_wrong_rows_that_are_not_known(browser: Any, serve: Any, folder: Path) -> None:
    visit = Visit(browser, serve(folder).address)
    assert visit.show(show="suspected kept") == "0 rows"
    assert "thresher suspects" in visit.text("#suspects code")
    assert visit.page.locator("#of-skill").is_hidden()
    visit.page.locator("button[type=reset]").click()
    visit.settle()
    assert visit.text("#found") == "160 rows" and visit.page.locator("#suspects").is_hidden()
    visit.quiet()
    visit.close()


@pytest.mark.parametrize("theme", THEMES)
@pytest.mark.parametrize("width", WIDTHS)
def test_likely_wrong_rows_fit_and_axe_finds_nothing(
    browser: Any, serve: Any, suspected: Path, width: int, theme: str
) -> None:
    axe_api = pytest.importorskip(
        "axe_playwright_python.sync_playwright", reason="axe-playwright-python is not installed"
    )
    visit = Visit(
        browser,
        serve(suspected).address,
        color_scheme=theme,
        viewport={"width": width, "height": 900},
    )
    visit.show(show="suspected")
    visit.page.locator("#suspects summary").click()
    for view in ("cards", "table"):
        visit.page.locator("#as").select_option(view)
        visit.settle()
        assert visit.page.evaluate("document.documentElement.scrollWidth <= innerWidth"), view
        found = axe_api.Axe().run(visit.page).response["violations"]
        assert [(v["id"], v["nodes"][0]["html"][:150]) for v in found] == []
    visit.quiet()
    visit.close()


def test_the_focus_stays_where_it_was(browser: Any, serve: Any, folder: Path) -> None:
    visit = Visit(browser, serve(folder).address)
    page = visit.page
    pin = page.locator("#rows [id^=pin-]").nth(2)
    name = pin.get_attribute("id")
    pin.focus()
    page.keyboard.press("Space")
    visit.settle()
    assert page.evaluate("document.activeElement.id") == name
    page.locator("#rows [id^=whole-]").nth(1).focus()
    name = page.evaluate("document.activeElement.id")
    page.keyboard.press("Enter")
    page.wait_for_timeout(600)
    assert page.locator("#whole").is_visible() and '"conversations"' in visit.text("#whole pre")
    page.keyboard.press("Escape")
    assert page.locator("#whole").is_hidden() and page.evaluate("document.activeElement.id") == name
    page.locator("#page-next").focus()
    page.keyboard.press("Enter")
    visit.settle()
    assert (
        "Page 2 of" in visit.text(".pager") and page.evaluate("document.activeElement.id") == "rows"
    )
    page.locator("#tab-rows").focus()
    page.keyboard.press("ArrowRight")
    assert (
        page.evaluate("document.activeElement.id") == "tab-plots"
        and page.locator("#panel-plots").is_visible()
    )
    page.keyboard.press("End")
    assert page.locator("#panel-export").is_visible()
    visit.close()


def test_the_export_is_what_the_command_writes(browser: Any, serve: Any, tmp_path: Path) -> None:
    folder = selected(pool_of(tmp_path / "pool", 160), "length", tmp_path / "out")
    visit = Visit(browser, serve(folder).address)
    page = visit.page
    page.locator("#budget").fill("17%")
    visit.settle()
    visit.show(show="dropped")
    page.locator("#rows [id^=pin-]").first.click()
    visit.settle()
    page.locator("#tab-export").click()
    assert page.locator("#where").input_value() == "length-17"
    page.locator("#where").fill("out")
    page.locator("#export button").click()
    visit.settle()
    assert "exists already" in visit.text("#problem-where")
    page.locator("#where").fill("mine")
    page.locator("#export button").click()
    page.locator("#exported .done").wait_for()
    command = page.locator("#exported code").inner_text()
    words = shlex.split(command.replace("\\\n", ""))
    words[words.index("--out") + 1] = str(tmp_path / "again")
    with pytest.raises(SystemExit):
        main(words[1:])
    for name in ("subset.json", "selection.parquet"):
        assert filecmp.cmp(tmp_path / "mine" / name, tmp_path / "again" / name, shallow=False), name
    visit.quiet()
    visit.close()


@pytest.mark.parametrize("width", WIDTHS)
def test_hostile_texts_are_harmless(browser: Any, serve: Any, tmp_path: Path, width: int) -> None:
    folder = selected(
        pool_of(tmp_path / "pool", 8, hostile_records()), "length", tmp_path / "out", "60%"
    )
    visit = Visit(browser, serve(folder).address, viewport={"width": width, "height": 900})
    page = visit.page
    fits = "document.documentElement.scrollWidth <= innerWidth"
    assert page.locator("#rows .card").count() == 20 and page.evaluate(fits)
    inside = (
        "[...document.querySelectorAll('.card, .text, .tile')].filter(e => "
        "e.getBoundingClientRect().right > innerWidth + 1).length"
    )
    assert page.evaluate(inside) == 0
    assert (
        page.evaluate(
            "[...document.querySelectorAll('.card')].filter(e => e.offsetHeight > 1500).length"
        )
        == 0
    )
    page.locator("#as").select_option("table")
    visit.settle()
    assert page.evaluate(fits)
    for text in ("<script>", 'onerror="', "{{7*7}}", "livet", "' <b>"):
        page.locator("#words").fill(text)
        visit.settle()
    page.locator("button[type=reset]").click()
    visit.settle()
    for i in range(page.locator("#source option").count()):
        page.locator("#source").select_option(index=i)
        page.wait_for_timeout(20)
    page.locator("button[type=reset]").click()
    visit.settle()
    for i in range(8, 20):
        page.locator("#rows [data-whole]").nth(i).click()
        page.wait_for_timeout(250)
        assert page.locator("#whole").is_visible() and page.evaluate(fits)
        page.locator("#whole-close").click()
    page.locator("#rows [id^=pin-]").nth(10).click()
    visit.settle()
    for tab in ("plots", "export"):
        page.locator(f"#tab-{tab}").click()
        visit.settle()
        assert page.evaluate(fits), tab
    assert page.evaluate("window.hacked") is None and page.locator("body").is_visible()
    visit.quiet()
    visit.close()


def test_a_planted_script_would_be_refused(browser: Any, serve: Any, folder: Path) -> None:
    """If escaping failed, the content policy would still hold: a hostile answer is planted between
    viewer and page."""
    marks = (
        "<script>window.hacked=1</script><img src=x "
        "onerror='window.hacked=2'><style>body{display:none}</style>"
    )
    address = serve(folder).address
    context = browser.new_context()
    page = context.new_page()
    texts: list[str] = []
    page.on("console", lambda m: texts.append(m.text))

    def planted(route: Any) -> None:
        answer = route.fetch()
        result = answer.json()
        route.fulfill(
            response=answer,
            json=result | {"html": result["html"].replace("</main>", marks + "</main>")},
        )

    page.route("**/page", planted)
    page.goto(address)
    page.wait_for_selector("#slider")
    page.wait_for_timeout(600)
    assert page.evaluate("window.hacked") is None and page.locator("body").is_visible()
    assert any("Content Security Policy" in text for text in texts)
    context.close()


def test_other_origin_can_neither_read_nor_change(
    browser: Any, serve: Any, folder: Path, tmp_path: Path
) -> None:
    """A page of another origin in the same browser, while the viewer is open."""
    served = serve(folder)
    visit = Visit(browser, served.address)
    other = visit.context.new_page()
    (tmp_path / "evil.html").write_text("<title>evil</title>")
    other.goto((tmp_path / "evil.html").as_uri())
    origin = served.address.partition("/#")[0]
    tried = other.evaluate(
        """async (origin) => {
          const out = [];
          const shots = [["/rows", {}], ["/undo", {method: "POST", body: "{}", mode: "no-cors"}],
            ["/pin", {method: "POST", body: '{"rows":[1],"state":"banned"}', credentials: "include"}]];
          for (const [path, how] of shots) {
            try { const r = await fetch(origin + path, how); out.push(r.type + r.status); } catch { out.push("refused"); }
          }
          const image = new Image();
          out.push(await new Promise((done) => {
            image.onload = () => done("seen"); image.onerror = () => done("refused"); image.src = origin + "/image/0/0";
          }));
          const frame = document.createElement("iframe");
          frame.src = origin + "/";
          document.body.append(frame);
          await new Promise((done) => setTimeout(done, 500));
          return out;
        }""",  # noqa: E501
        origin,
    )
    assert tried[0] == tried[2] == tried[3] == "refused" and tried[1] in ("refused", "opaque0")
    assert not (folder / "view").exists()
    visit.page.bring_to_front()
    assert visit.show(show="banned") == "0 rows"
    visit.close()


@pytest.mark.parametrize("width", [400, 1400])
@pytest.mark.parametrize("theme", THEMES)
def test_axe_reports_no_serious_problem(
    browser: Any, serve: Any, folder: Path, theme: str, width: int
) -> None:
    axe_api = pytest.importorskip(
        "axe_playwright_python.sync_playwright", reason="axe-playwright-python is not installed"
    )
    visit = Visit(
        browser, serve(folder).address, color_scheme=theme, viewport={"width": width, "height": 900}
    )
    visit.page.locator("#rows [id^=pin-]").nth(1).click()
    visit.settle()
    steps: list[Callable[[], Any]] = [
        lambda: None,
        lambda: visit.page.locator("#rows [data-whole]").first.click(),
        lambda: visit.page.keyboard.press("Escape"),
        lambda: visit.page.locator("#as").select_option("table"),
        lambda: visit.page.locator("#budget").fill("0.5"),
        lambda: visit.page.evaluate("document.querySelector('.more-settings').open = true"),
        lambda: visit.page.locator("#seed").fill("9"),
        lambda: visit.page.locator("#tab-plots").click(),
        lambda: visit.page.locator("#tab-export").click(),
    ]
    for step in steps:
        step()
        visit.settle()
        found = axe_api.Axe().run(visit.page).response["violations"]
        assert [
            (v["id"], v["nodes"][0]["html"][:150])
            for v in found
            if v["impact"] in ("serious", "critical")
        ] == []
        assert [v["id"] for v in found] == []
    visit.close()


@pytest.mark.parametrize("theme", THEMES)
@pytest.mark.parametrize("width", WIDTHS)
def test_fits_every_width(browser: Any, serve: Any, folder: Path, width: int, theme: str) -> None:
    visit = Visit(
        browser, serve(folder).address, color_scheme=theme, viewport={"width": width, "height": 900}
    )
    for tab in ("rows", "plots", "export"):
        visit.page.locator(f"#tab-{tab}").click()
        visit.settle()
        assert visit.page.evaluate("document.documentElement.scrollWidth <= innerWidth"), tab
    visit.quiet()
    visit.close()


def test_page_reports_a_stopped_viewer(browser: Any, serve: Any, folder: Path) -> None:
    served = serve(folder)
    visit = Visit(browser, served.address)
    assert served.end()[0] == 0
    visit.page.locator("#budget").fill("20%")
    visit.settle()
    assert "does not answer" in visit.text("#problem")
    visit.close()
