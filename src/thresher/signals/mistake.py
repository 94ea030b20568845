"""The mistaken step of each wrong rationale: the first after which the teacher prefers the wrong
answer, and keeps doing so.

Yao et al., arXiv:2412.15652: with m_t = p(wrong) - p(right) after step t, the mistake is the first
step with m_t > delta after which m stays above delta for `lam` (λ) further steps, or to the end of
the rationale. Pure arithmetic: another δ or λ needs no model.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from thresher.signals.reasoning import split_reasoning
from thresher.types import Columns, Field, Signal, digests_to_bytes

How = Literal["switch", "random", "last"]


def switch_step(margins: Sequence[float], delta: float, lam: int) -> int | None:
    """The mistaken step, counted from 0; None if the answer never switches.

    Arguments:
        margins: p(wrong) - p(right); `margins[0]` before the first step, `margins[t]` after step t.
        delta: smallest margin of a switch, exclusive.
        lam: further steps for which it has to hold.

    >>> switch_step([-0.5, -0.2, 0.3, 0.4], 0.1, 1), switch_step([-0.5, 0.3, -0.2, 0.4], 0.1, 1)
    (1, 2)
    >>> switch_step([-0.5, -0.2, 0.1], 0.1, 1) is None
    True
    """
    for t in range(1, len(margins)):
        if all(m > delta for m in margins[t : t + lam + 1]):
            return t - 1
    return None


@dataclass(frozen=True)
class Mistake:
    """how: switch: by the margins; random: a random step; last: the last step (the latter two are
    the paper's ablations)."""

    rationale: Signal
    """Fields `text`, `right`."""
    margins: Signal | None
    """Field `margins`; None unless `how` is switch."""
    how: How = "switch"
    delta: float = 0.1
    lam: int = 1
    seed: int = 0
    """For `how` random."""

    kind: ClassVar[str] = "mistake"
    version: ClassVar[int] = 1
    fields: ClassVar[tuple[Field, ...]] = (
        Field(
            "chosen",
            "bool",
            "there is a mistaken step: the answer is wrong, and there is reasoning",
        ),
        Field("step", "int32", "the mistaken step, 0 = first; -1: none"),
        Field(
            "switched",
            "bool",
            "the teacher's answer switched there; false: it never did, and the last step is used",
        ),
        Field("text", "str", "the mistaken step"),
        Field("before", "str", "the steps before it, one per line"),
    )

    def inputs(self) -> Mapping[str, Signal]:
        return {"rationale": self.rationale} | (
            {} if self.margins is None else {"margins": self.margins}
        )

    def pool(self, inputs: Columns) -> dict[str, np.ndarray]:
        n = len(inputs)
        rationales = inputs["rationale"]
        step = np.full(n, -1, np.int32)
        switched = np.zeros(n, bool)
        text = np.full(n, "", object)
        before = np.full(n, "", object)
        digest = digests_to_bytes(inputs.digest)
        for i in np.flatnonzero(~np.asarray(rationales["right"], bool)).tolist():
            steps = split_reasoning(str(rationales["text"][i])).steps
            if not steps:
                continue
            mistaken, is_switch = len(steps) - 1, False
            if self.how == "random":
                seeded_hash = hashlib.sha256(b"step %d|" % self.seed + digest[i]).digest()
                mistaken = int.from_bytes(seeded_hash[:8], "big") % len(steps)
                is_switch = True
            elif self.how == "switch":
                switch = switch_step(
                    json.loads(str(inputs["margins"]["margins"][i]) or "[]"), self.delta, self.lam
                )
                if switch is not None:
                    mistaken, is_switch = min(switch, len(steps) - 1), True
            step[i], switched[i], text[i] = mistaken, is_switch, steps[mistaken]
            before[i] = "\n".join(steps[:mistaken])
        return {
            "chosen": step >= 0,
            "step": step,
            "switched": switched,
            "text": text,
            "before": before,
        }
