"""A teacher's answers: the judge's and the styler's questions, asked of the rows of a sample only.

The sample is not part of the identity: a row that two samples share is asked about once. Everything
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


class _OfASample:
    """What the four have in common: asked of the rows of `sample`, known without it."""

    sample: TeacherSample

    not_identity: ClassVar[tuple[str, ...]] = ("sample",)
    key_fields: ClassVar[tuple[tuple[str, str], ...]] = ()

    @property
    def among(self) -> Signal:
        return self.sample

    def inputs(self) -> Mapping[str, Signal]:
        return {"sample": self.sample}


@dataclass(frozen=True)
class TeacherJudge(_OfASample, Judge):
    """One capability's score, by likelihood."""

    sample: TeacherSample = field(kw_only=True)

    kind: ClassVar[str] = "teacher_judge"

    def batch_key(self) -> Hashable:
        return (super().batch_key(), self.sample)


@dataclass(frozen=True)
class TeacherStyle(_OfASample, Style):
    """One style, by likelihood."""

    sample: TeacherSample = field(kw_only=True)

    kind: ClassVar[str] = "teacher_style"

    def batch_key(self) -> Hashable:
        return (super().batch_key(), self.sample)


@dataclass(frozen=True)
class TeacherWrittenScore(_OfASample, WrittenScore):
    """One capability's score, as the teacher writes it."""

    sample: TeacherSample = field(kw_only=True)

    kind: ClassVar[str] = "teacher_written_score"


@dataclass(frozen=True)
class TeacherWrittenStyles(_OfASample, WrittenStyles):
    """All styles, as the teacher lists them."""

    sample: TeacherSample = field(kw_only=True)

    kind: ClassVar[str] = "teacher_written_styles"
