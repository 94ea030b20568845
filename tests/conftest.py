"""Fixtures that many tests share: the public data beside the checkout, and a small pool made on the
spot."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.warm_process import WarmServer

COLOURS = {
    "red": (220, 30, 30),
    "green": (30, 160, 60),
    "blue": (40, 60, 220),
    "grey": (128, 128, 128),
}


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


def tiny_rows() -> list[dict[str, Any]]:
    """Ten good rows of three sources: one image, two images, several turns, a system turn, text
    only, mixed ids."""
    rows: list[dict[str, Any]] = []
    for i, colour in enumerate(COLOURS):
        rows.append(
            row(
                f"a{i}",
                f"one/{colour}.png",
                "<image>\nWhat colour?",
                colour.capitalize(),
                data_source="one",
            )
        )
    rows.append(
        row(
            4,
            ["one/red.png", "one/blue.png"],
            "<image>\n<image>\nSame?",
            "No, red and blue.",
            data_source="two",
        )
    )
    rows.append(row(5, None, "What is two and two?", "Four.", source="text"))
    rows.append(row("a0", "one/green.png", "Is it green? <image>", "Yes.", data_source="two"))
    chat = row(
        "chat", "one/grey.png", "<image>\nWhat is this?", "A grey square.", data_source="two"
    )
    chat["conversations"] += [
        {"from": "human", "value": "Sure?"},
        {"from": "gpt", "value": "Yes, quite sure — größer geht’s nicht."},
    ]
    rows.append(chat)
    told = row("sys", "one/blue.png", "<image>\nName it.", "Blue.", data_source="one")
    told["conversations"].insert(0, {"from": "system", "value": "Be brief."})
    rows.append(told)
    rows.append(row("u", None, "日本語で？", "はい。", source="text"))
    return rows


def row(id: Any, image: Any, question: str, answer: str, **extra: Any) -> dict[str, Any]:
    """One LLaVA record of two turns."""
    record: dict[str, Any] = {"id": id}
    if image is not None:
        record["image"] = image
    turns = [{"from": "human", "value": question}, {"from": "gpt", "value": answer}]
    return {**record, **extra, "conversations": turns}


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
