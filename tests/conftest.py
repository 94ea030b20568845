"""Shared fixtures: public data beside the checkout, warm processes, a browser, a small pool."""

from __future__ import annotations

import gc
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.llava_rows import COLOURS, row, tiny_rows
from tests.warm_process import WarmServer


def pytest_configure() -> None:
    """Collecting the tests imports torch and transformers, which leave nothing to collect."""
    gc.disable()


def pytest_collection_finish() -> None:
    """Imported modules stay: a full garbage collection, which thresher runs where memory is short,
    need not look through the million objects of torch and transformers each time. Python's own
    collections come less often, because what tests leave behind is small."""
    gc.freeze()
    gc.set_threshold(20_000, 10, 10)
    gc.enable()


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder with public data that some checkouts have beside them; the test is skipped
    elsewhere."""
    folder = Path(__file__).resolve().parents[1] / "../shared"
    if not (folder / "data" / "easy_vqa" / "train.json").is_file():
        pytest.skip("../shared/data (easy_vqa, nlvr) is not beside this checkout")
    return folder


@pytest.fixture(scope="session")
def warm() -> Iterator[WarmServer]:
    """Starts processes that have their imports behind them."""
    server = WarmServer()
    yield server
    server.close()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Debian's chromium, driven by Playwright; the test is skipped where either is absent."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    program = (
        shutil.which("chromium")
        or shutil.which("chromium-browser")
        or shutil.which("google-chrome")
    )
    if program is None:
        pytest.skip("no chromium on PATH (apt-get install chromium)")
    rootless = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_api.sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=program, args=rootless)
        yield opened
        opened.close()


@pytest.fixture
def make_row() -> Any:
    return row


@pytest.fixture
def tiny_pool(tmp_path: Path) -> Path:
    """A LLaVA JSON file of ten rows; its images are in the folder `images` beside it (paths such as
    one/red.png)."""
    folder = tmp_path / "tiny"
    (folder / "images" / "one").mkdir(parents=True)
    for name, colour in COLOURS.items():
        Image.new("RGB", (24, 16), colour).save(folder / "images" / "one" / f"{name}.png")
    file = folder / "pool.json"
    file.write_text(json.dumps(tiny_rows(), indent=1, ensure_ascii=False), encoding="utf-8")
    return file
