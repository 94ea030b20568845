"""Records of a LLaVA pool: one row, and ten of many kinds."""

from __future__ import annotations

from typing import Any

COLOURS = {
    "red": (220, 30, 30),
    "green": (30, 160, 60),
    "blue": (40, 60, 220),
    "grey": (128, 128, 128),
}


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
    result = row("sys", "one/blue.png", "<image>\nName it.", "Blue.", data_source="one")
    result["conversations"].insert(0, {"from": "system", "value": "Be brief."})
    rows.append(result)
    rows.append(row("u", None, "日本語で？", "はい。", source="text"))
    return rows


def row(id: Any, image: Any, question: str, answer: str, **extra: Any) -> dict[str, Any]:
    """One LLaVA record of two turns."""
    record: dict[str, Any] = {"id": id}
    if image is not None:
        record["image"] = image
    turns = [{"from": "human", "value": question}, {"from": "gpt", "value": answer}]
    return {**record, **extra, "conversations": turns}
