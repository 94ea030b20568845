"""Aggregates finished cells: scores of an arm (one method at one budget) over seeds and by kind,
its yes-rate, and the composition of its subsets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from benchmarks.proof.oracles import Labels

from thresher.answers.normalise import normalise
from thresher.compare import Job, Result, chosen_rows, read_answers, read_cell
from thresher.stats.verdict import Interval, Verdict, compare_to_random, mean_over_seeds

Key = tuple[str, str]  # method, budget


@dataclass(frozen=True)
class Arm:
    """One method at one budget, over S seeds and N questions.

    scores: [S, N], 0 or 1.
    by_choice: likewise, by candidate likelihood; NaN for rows without candidates; None: not
        measured.
    noise: [S], share of wrong rows in the subset.
    kinds: share of each kind in the subset, mean over seeds.
    """

    method: str
    budget: str
    seeds: tuple[int, ...]
    scores: np.ndarray
    by_choice: np.ndarray | None
    yes_rate: np.ndarray
    noise: np.ndarray
    kinds: Mapping[str, float]
    rows: int
    seconds_selection: float
    seconds_training: float

    @property
    def mean(self) -> Interval:
        return mean_over_seeds(self.scores)


@dataclass(frozen=True)
class Questions:
    """Labels of the questions. `kind`, `style`: str [N]; `expected`: normalised answers;
    `candidates`: number of candidate answers, 0 = open."""

    kind: np.ndarray
    style: np.ndarray
    expected: np.ndarray
    candidates: np.ndarray

    @classmethod
    def of(cls, labels: Sequence[Mapping[str, Any]], expected: Sequence[str]) -> Questions:
        return cls(
            np.array([x["kind"] for x in labels]),
            np.array([x["style"] for x in labels]),
            np.array([normalise(e) for e in expected]),
            np.array([len(x["candidates"]) for x in labels]),
        )

    def chance(self) -> dict[str, float]:
        """Chance accuracy of each kind, 0 to 1: without the image, but with the candidates and the
        answer frequencies.

        For each style the better of two strategies: a random candidate, or always the most
        frequent answer.
        """
        out = {}
        for kind in dict.fromkeys(self.kind.tolist()):
            right = 0.0
            here = self.kind == kind
            for style in dict.fromkeys(self.style[here].tolist()):
                part = here & (self.style == style)
                _, counts = np.unique(self.expected[part], return_counts=True)
                one_of = np.where(
                    self.candidates[part] > 0, 1 / np.maximum(self.candidates[part], 1), 0.0
                )
                right += max(float(one_of.sum()), float(counts.max()))
            out[kind] = right / int(here.sum())
        return out

    def by_kind(self, scores: np.ndarray) -> dict[str, float]:
        """Mean score of each kind, 0 to 1. `scores`: [..., N]."""
        return {
            k: float(scores[..., self.kind == k].mean()) for k in dict.fromkeys(self.kind.tolist())
        }


def arms_of(job: Job, out: Path, labels: Labels, yes_no: np.ndarray) -> tuple[dict[Key, Arm], int]:
    """Arms with at least one finished cell, over their finished seeds, and the number of missing
    cells.

    job: the comparison.
    out: folder of its cells.
    labels: hidden labels of the pool.
    yes_no: bool [N], whether a question is answered with yes or no.
    """
    found: dict[Key, list[tuple[Result, np.ndarray, Any, np.ndarray]]] = {}
    missing = 0
    for cell in job.cells():
        read = read_cell(out, cell)
        if read is None:
            missing += 1
            continue
        result, scores, _ = read
        known = (
            result,
            np.nan_to_num(scores),
            read_answers(out, cell),
            chosen_rows(out, cell, job.pool),
        )
        found.setdefault((cell.method, cell.budget), []).append(known)
    return {key: _arm(key, cells, labels, yes_no) for key, cells in found.items()}, missing


def _arm(key: Key, cells: list[Any], labels: Labels, yes_no: np.ndarray) -> Arm:
    answers = [
        np.array([normalise(t or "") for t in table["said"].to_pylist()])
        for _, _, table, _ in cells
    ]
    choice = None
    if all("by_choice" in table.column_names for _, _, table, _ in cells):
        marks = [
            [np.nan if m is None else float(m) for m in table["by_choice"].to_pylist()]
            for _, _, table, _ in cells
        ]
        choice = np.array(marks)
    kinds = np.concatenate([labels.kind[rows] for *_, rows in cells])
    names, counts = np.unique(kinds, return_counts=True)
    return Arm(
        key[0],
        key[1],
        tuple(r.seed for r, *_ in cells),
        np.stack([s for _, s, *_ in cells]).astype(np.float64),
        choice,
        np.array([float((t[yes_no] == "yes").mean()) for t in answers]),
        np.array([float(labels.noisy[rows].mean()) for *_, rows in cells]),
        {str(n): int(c) / len(kinds) for n, c in zip(names, counts, strict=True)},
        round(float(np.mean([r.rows for r, *_ in cells]))),
        float(np.mean([r.seconds_selection for r, *_ in cells])),
        float(np.mean([r.seconds_training for r, *_ in cells])),
    )


def against(arm: Arm, random: Arm, full: Arm | None) -> Verdict | None:
    """The verdict over the common seeds; None without a common seed."""
    seeds = [s for s in arm.seeds if s in random.seeds]
    if not seeds:
        return None
    a, b = (x.scores[[x.seeds.index(s) for s in seeds]] for x in (arm, random))
    return compare_to_random(a, b, None, None if full is None else full.scores)
