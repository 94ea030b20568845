"""A small pool for training tests: images of one colour, and questions that can be learned from few
rows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from PIL import Image

from thresher.pools import Pool, open_pool

COLOURS = {
    "red": (230, 20, 20),
    "green": (20, 170, 40),
    "blue": (30, 40, 230),
    "white": (250, 250, 250),
}
KINDS = ("one", "two", "turns", "text", "system")


def record(i: int) -> dict[str, Any]:
    """Row i: one image, two images, two turns, no image, or a system turn; another i is another
    text."""
    names = list(COLOURS)
    first, second = names[i % 4], names[(i // 4 + 1) % 4]
    kind = KINDS[i % 5]
    image: Any = [f"{first}.png", f"{second}.png"] if kind == "two" else f"{first}.png"
    turns = [("human", "<image>\nWhich colour?"), ("gpt", f"It is {first}.")]
    if kind == "two":
        turns = [("human", "<image>\n<image>\nWhich colours?"), ("gpt", f"{first} and {second}")]
    if kind == "turns":
        turns += [("human", "Sure?"), ("gpt", "Yes.")]
    if kind == "text":
        turns = [("human", f"Number {i}?"), ("gpt", "It is a number.")]
        image = None
    if kind == "system":
        turns.insert(0, ("system", "Be brief."))
    turns[-2] = (turns[-2][0], f"{turns[-2][1]} ({i})")
    out: dict[str, Any] = {
        "id": i,
        "conversations": [{"from": who, "value": text} for who, text in turns],
    }
    if image is not None:
        out["image"] = image
    return out


def pool_of(folder: Path, records: list[dict[str, Any]]) -> Pool:
    folder.mkdir(parents=True, exist_ok=True)
    for name, colour in COLOURS.items():
        Image.new("RGB", (28, 28), colour).save(folder / f"{name}.png")
    file = folder / "pool.json"
    file.write_text(json.dumps(records), "utf-8")
    return open_pool(file, folder)
