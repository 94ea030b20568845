"""The reference pictures of a report, three widths in both themes: python docs/images/screens.py OUT/report.html

Needs playwright, pillow and chromium.
"""

import io
import shutil
import sys
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

SCREENS = (  # file, width, height, theme, section at the top ("" = the top of the page)
    ("report-rows-narrow.png", 400, 900, "light", "#rows"),
    ("report-summary-narrow-dark.png", 400, 900, "dark", ""),
    ("report-summary-light.png", 1000, 800, "light", ""),
    ("report-method-medium-dark.png", 1000, 800, "dark", "#method"),
    ("report-rows-wide-light.png", 1600, 720, "light", "#rows"),
    ("report-method-dark.png", 1600, 900, "dark", "#method"),
)
page_file = Path(sys.argv[1]).resolve()
with sync_playwright() as playwright:
    browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=sys.argv[2:])
    for name, width, height, theme, section in SCREENS:
        page = browser.new_page(
            viewport={"width": width, "height": height}, color_scheme=theme, reduced_motion="reduce"
        )
        page.goto(page_file.as_uri() + section)
        page.wait_for_timeout(300)
        picture = Image.open(io.BytesIO(page.screenshot())).convert("RGB").quantize(240, kmeans=2)
        picture.save(Path(__file__).with_name(name), optimize=True)
    browser.close()
