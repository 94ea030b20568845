"""What the pages need to know of questions and pools: kinds, chance, wrong rows."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from benchmarks.real.card import chance
from benchmarks.real.pools import World
from benchmarks.real.rows import Row


@dataclass(frozen=True)
class Asked:
    """The questions. `kind`: str [N]; `yes_no`: bool [N]; `chance`: accuracy without the picture by
    kind, 0 to 1, by the better of two strategies (see `card.py`)."""

    kind: np.ndarray
    yes_no: np.ndarray
    chance: Mapping[str, float]

    @classmethod
    def of(cls, questions: Path, pool: Path) -> Asked:
        rows = rows_of(questions)
        yes_no = np.array([r.answer in ("Yes", "No") for r in rows])
        return cls(np.array([r.kind for r in rows]), yes_no, chance(rows, rows_of(pool)))


@dataclass(frozen=True)
class PoolLabels:
    """Labels of a pool, in pool order, as `benchmarks.proof.numbers` wants them. `kind`: "source:
    kind", with the answer to a yes/no question: "flickr_qa: existence, yes"; str [n]. `noisy`:
    machine caption or swapped answer, bool [n]."""

    kind: np.ndarray
    noisy: np.ndarray

    @classmethod
    def of(cls, world: World, pool: str) -> PoolLabels:
        records = records_of(world.pools[pool])
        return cls(
            np.array([_kind(r) for r in records]),
            np.array([r["id"] in world.wrong[pool] for r in records]),
        )


def _kind(record: Mapping[str, Any]) -> str:
    answer = record["conversations"][1]["value"]
    end = f", {answer.lower()}" if answer in ("Yes", "No") else ""
    return f"{record['data_source']}: {record['kind']}{end}"


def records_of(file: Path) -> list[dict[str, Any]]:
    return json.loads(file.read_text("utf-8"))


def rows_of(file: Path) -> list[Row]:
    """The rows of a LLaVA file, in its order."""
    out = []
    for record in records_of(file):
        asked, answered = (turn["value"] for turn in record["conversations"][:2])
        question = asked.replace("<image>\n", "")
        out.append(Row(record["data_source"], record["kind"], question, answered))
    return out
