"""The reference pictures of a report, three widths in both themes, and of the viewer. Needs
playwright, pillow and chromium.

python docs/images/screens.py OUT/report.html
python docs/images/screens.py "http://127.0.0.1:PORT/#token=…"     what `thresher view OUT
--no-open` prints
"""

import io
import shutil
import sys
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, sync_playwright

REPORT = (  # file, width, height, theme, section at the top ("" = the top of the page)
    ("report-rows-narrow.png", 400, 900, "light", "#rows"),
    ("report-summary-narrow-dark.png", 400, 900, "dark", ""),
    ("report-summary-light.png", 1000, 800, "light", ""),
    ("report-method-medium-dark.png", 1000, 800, "dark", "#method"),
    ("report-rows-wide-light.png", 1600, 720, "light", "#rows"),
    ("report-method-dark.png", 1600, 900, "dark", "#method"),
)
VIEWER = (  # the tab in place of a section
    ("viewer-rows-narrow.png", 400, 900, "light", "#tab-rows"),
    ("viewer-rows-light.png", 1280, 860, "light", "#tab-rows"),
    ("viewer-plots-dark.png", 1280, 860, "dark", "#tab-plots"),
)


def arrange(page: Page, tab: str) -> None:
    """The viewer as the pictures show it: a fifth of the pool, the best rows first."""
    page.locator("#budget").fill("20%")
    page.locator("#show").select_option("kept")
    page.wait_for_timeout(1500)
    page.locator("#sort").select_option("rank")
    page.locator(tab).click()
    page.wait_for_timeout(2500)


served = sys.argv[1].startswith("http:")
address = sys.argv[1] if served else Path(sys.argv[1]).resolve().as_uri()
with sync_playwright() as playwright:
    browser = playwright.chromium.launch(
        executable_path=shutil.which("chromium"), args=sys.argv[2:]
    )
    for name, width, height, theme, section in VIEWER if served else REPORT:
        page = browser.new_page(
            viewport={"width": width, "height": height}, color_scheme=theme, reduced_motion="reduce"
        )
        page.goto(address + ("" if served else section))
        page.wait_for_timeout(300)
        if served:
            arrange(page, section)
        picture = Image.open(io.BytesIO(page.screenshot())).convert("RGB").quantize(240, kmeans=2)
        picture.save(Path(__file__).with_name(name), optimize=True)
    browser.close()
