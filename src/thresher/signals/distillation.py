"""Training examples for scorer and styler: the row and the question, with the teacher's answer.

    scorer   row + capability query  ->  the teacher's score, an integer 0 … 5; one example per
                                         capability
    styler   row + style query       ->  the teacher's styles, separated by a comma and a space

A styler that is used by likelihood gets one example per style instead of one list: after training
on lists, nearly all probability is on the style with which lists begin; after single styles, it is
divided among the styles of a row.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from thresher.signals.capabilities import STYLES
from thresher.signals.judge import SYSTEM
from thresher.signals.query import judge_prompt
from thresher.signals.style import QUERY, style_names, with_styles
from thresher.signals.teacher import (
    TeacherJudge,
    TeacherStyle,
    TeacherWrittenScore,
    TeacherWrittenStyles,
)
from thresher.types import Columns, Sample, Signal, Turn


@dataclass(frozen=True)
class ScoreExamples:
    """One example for each known score of the teacher."""

    kind: ClassVar[str] = "score_examples"
    version: ClassVar[int] = 1  # images stay where the row has them

    scores: tuple[TeacherJudge | TeacherWrittenScore, ...]
    """Signals with the same system turn."""

    def inputs(self) -> Mapping[str, Signal]:
        return {f"score_{i}": signal for i, signal in enumerate(self.scores)}

    def of_row(self, sample: Sample, at: int, columns: Columns) -> Sequence[Sample]:
        row = judge_prompt(sample, self.scores[0].system)
        examples = []
        for i, signal in enumerate(self.scores):
            score = teacher_score(columns[f"score_{i}"])[at]
            if np.isfinite(score):
                query = signal.prompt.replace("{capability}", signal.capability.wording)
                examples.append(distillation_example(row, query, str(int(score))))
        return examples


@dataclass(frozen=True)
class StyleExamples:
    """One example for the row's list of styles, or one for each of its styles; none for a row
    without a style."""

    kind: ClassVar[str] = "style_examples"
    version: ClassVar[int] = 1  # images stay where the row has them

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
        named = style_names(int(teacher_styles(row_of)[0]), self.names)
        answers = named if self.one_by_one else ((", ".join(named),) if named else ())
        row = judge_prompt(sample, self.system)
        return [
            distillation_example(row, with_styles(self.prompt, self.names), answer)
            for answer in answers
        ]


def distillation_example(row: Sample, query: str, answer: str) -> Sample:
    """A training example.

    Arguments:
        row: from `query.judge_prompt`.
        query: appended to its user turn.
        answer: the assistant's turn.
    """
    turns = (*row.turns[:-1], Turn("user", row.turns[-1].text + query), Turn("assistant", answer))
    return Sample(row.id, turns, row.images, row.source, row.problem, row.media)


def teacher_score(values: Mapping[str, np.ndarray]) -> np.ndarray:
    """A teacher's scores, float32 [n] with integer values; NaN where it was not asked or gave no
    number."""
    if "best" in values:
        return np.where(np.isfinite(values["score"]), values["best"], np.nan).astype(np.float32)
    return np.asarray(values["score"], np.float32)


def teacher_styles(values: Sequence[Mapping[str, np.ndarray]]) -> np.ndarray:
    """A teacher's styles, int32 [n]; bit k: style k; 0: not asked, or none recognised.

    Arguments:
        values: columns of `StyleExamples.styles`.
    """
    if len(values) == 1 and "styles" in values[0]:
        return np.asarray(values[0]["styles"], np.int32)
    bits = np.zeros(len(values[0]["chosen"]), np.int32)
    for k, value in enumerate(values):
        bits |= np.asarray(value["chosen"], np.int32) << k
    return bits
