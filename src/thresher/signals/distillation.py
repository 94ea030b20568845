"""What scorer and styler learn from: the row and the judge's or styler's question, with the
teacher's answer to it.

    scorer   body + capability query  ->  the teacher's score, a whole number 0 … 5; one lesson a
                                          capability
    styler   body + style query       ->  the teacher's styles, separated by a comma and a space

A styler that is to be read by likelihood gets one lesson a style instead of one list: after lists,
nearly all probability is on the style that lists begin with; after single styles it is shared among
the styles of a row.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from thresher.signals.capabilities import STYLES
from thresher.signals.judge import SYSTEM
from thresher.signals.query import derived
from thresher.signals.style import QUERY, filled, style_names
from thresher.signals.teacher import (
    TeacherJudge,
    TeacherStyle,
    TeacherWrittenScore,
    TeacherWrittenStyles,
)
from thresher.types import Columns, Sample, Signal, Turn


@dataclass(frozen=True)
class ScoreLessons:
    """A lesson for each of the teacher's scores that is known."""

    kind: ClassVar[str] = "score_examples"

    scores: tuple[TeacherJudge | TeacherWrittenScore, ...]
    """Of one system turn."""

    def inputs(self) -> Mapping[str, Signal]:
        return {f"score_{i}": signal for i, signal in enumerate(self.scores)}

    def of_row(self, sample: Sample, at: int, columns: Columns) -> Sequence[Sample]:
        row = derived(sample, self.scores[0].system)
        lessons = []
        for i, signal in enumerate(self.scores):
            score = taught_score(columns[f"score_{i}"])[at]
            if np.isfinite(score):
                query = signal.prompt.replace("{capability}", signal.capability.wording)
                lessons.append(lesson(row, query, str(int(score))))
        return lessons


@dataclass(frozen=True)
class StyleLessons:
    """One lesson for the row's list of styles, or one for each of its styles; none for a row
    without a style."""

    kind: ClassVar[str] = "style_examples"

    styles: tuple[TeacherStyle, ...] | tuple[TeacherWrittenStyles]
    one_by_one: bool
    names: tuple[str, ...] = STYLES
    prompt: str = QUERY
    system: str = SYSTEM

    def inputs(self) -> Mapping[str, Signal]:
        signals: tuple[Signal, ...] = self.styles
        return {f"style_{i}": signal for i, signal in enumerate(signals)}

    def of_row(self, sample: Sample, at: int, columns: Columns) -> Sequence[Sample]:
        row_of = [
            {f: a[at : at + 1] for f, a in columns[f"style_{i}"].items()}
            for i in range(len(self.styles))
        ]
        named = style_names(int(taught_bits(row_of)[0]), self.names)
        answers = named if self.one_by_one else ((", ".join(named),) if named else ())
        row = derived(sample, self.system)
        return [lesson(row, filled(self.prompt, self.names), answer) for answer in answers]


def lesson(row: Sample, query: str, answer: str) -> Sample:
    """`row`: from `query.derived`."""
    turns = (*row.turns[:-1], Turn("user", row.turns[-1].text + query), Turn("assistant", answer))
    return Sample(row.id, turns, row.images, row.source, row.problem, row.media)


def taught_score(values: Mapping[str, np.ndarray]) -> np.ndarray:
    """A teacher's scores as whole numbers, float32 [n]; NaN where it was not asked or wrote no
    number."""
    if "best" in values:
        return np.where(np.isfinite(values["score"]), values["best"], np.nan).astype(np.float32)
    return np.asarray(values["score"], np.float32)


def taught_bits(values: Sequence[Mapping[str, np.ndarray]]) -> np.ndarray:
    """A teacher's styles, bit k for style k: int32 [n]; 0: not asked, or none recognised. `values`:
    as `StyleLessons` asks."""
    if len(values) == 1 and "styles" in values[0]:
        return np.asarray(values[0]["styles"], np.int32)
    bits = np.zeros(len(values[0]["chosen"]), np.int32)
    for k, value in enumerate(values):
        bits |= np.asarray(value["chosen"], np.int32) << k
    return bits
