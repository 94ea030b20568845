"""A teacher's answers to the judge's and the styler's questions, for the rows of a sample only.

The sample is not part of the identity: a row that is in two samples is computed once. Everything
else is as in `judge`, `style` and `written_score`.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from typing import ClassVar

from thresher.signals.judge import Judge
from thresher.signals.style import Style, WrittenStyles
from thresher.signals.teacher_sample import TeacherSample
from thresher.signals.written_score import WrittenScore
from thresher.types import Signal


class _SampledSignal:
    """Base class: computed for the rows of `sample`, which is not part of the identity."""

    sample: TeacherSample

    not_identity: ClassVar[tuple[str, ...]] = ("sample",)
    key_fields: ClassVar[tuple[tuple[str, str], ...]] = ()

    @property
    def among(self) -> Signal:
        return self.sample

    def inputs(self) -> Mapping[str, Signal]:
        return {"sample": self.sample}


@dataclass(frozen=True)
class TeacherJudge(_SampledSignal, Judge):
    """One capability's score, by likelihood."""

    sample: TeacherSample = field(kw_only=True)

    kind: ClassVar[str] = "teacher_judge"

    def batch_key(self) -> Hashable:
        return (super().batch_key(), self.sample)


@dataclass(frozen=True)
class TeacherStyle(_SampledSignal, Style):
    """One style, by likelihood."""

    sample: TeacherSample = field(kw_only=True)

    kind: ClassVar[str] = "teacher_style"

    def batch_key(self) -> Hashable:
        return (super().batch_key(), self.sample)


@dataclass(frozen=True)
class TeacherWrittenScore(_SampledSignal, WrittenScore):
    """One capability's score, as generated text."""

    sample: TeacherSample = field(kw_only=True)

    kind: ClassVar[str] = "teacher_written_score"


@dataclass(frozen=True)
class TeacherWrittenStyles(_SampledSignal, WrittenStyles):
    """All styles, as a generated list."""

    sample: TeacherSample = field(kw_only=True)

    kind: ClassVar[str] = "teacher_written_styles"
