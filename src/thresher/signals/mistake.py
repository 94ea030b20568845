"""The mistaken step of each wrong rationale: the first after which the reader believes the wrong
answer, and goes on to.

Yao et al., arXiv:2412.15652: with m_t = p(wrong) - p(right) after step t, the mistake is the first
step with m_t > delta that keeps m above delta for `lam` (λ) further steps, as far as the rationale
has them. Pure arithmetic: another δ or λ asks no model.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from thresher.signals.reasoning import take_apart
from thresher.types import Columns, Field, Signal, digests_to_bytes

How = Literal["switch", "random", "last"]


def switch_step(margins: Sequence[float], delta: float, lam: int) -> int | None:
    """`margins[0]`: before any step; `margins[t]`: after step t. The mistaken step, counted from 0;
    None: it never switches.

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
    """`how`: switch reads the margins; random draws a step; last takes the last one (the paper's
    ablations)."""

    rationale: Signal
    """Fields `text`, `right`."""
    margins: Signal | None
    """Field `margins`; None unless `how` is switch."""
    how: How = "switch"
    delta: float = 0.1
    lam: int = 1
    seed: int = 0
    """Of the draw."""

    kind: ClassVar[str] = "mistake"
    version: ClassVar[int] = 1
    fields: ClassVar[tuple[Field, ...]] = (
        Field(
            "chosen",
            "bool",
            "there is a mistaken step: the answer is wrong, and something was written",
        ),
        Field("step", "int32", "the mistaken step, 0 = first; -1: none"),
        Field(
            "switched",
            "bool",
            "the reader's mind changed there; false where it never did and the last step stands in",
        ),
        Field("text", "str", "the mistaken step"),
        Field("before", "str", "the steps before it, a line each"),
    )

    def inputs(self) -> Mapping[str, Signal]:
        return {"rationale": self.rationale} | (
            {} if self.margins is None else {"margins": self.margins}
        )

    def pool(self, inputs: Columns) -> dict[str, np.ndarray]:
        n = len(inputs)
        told = inputs["rationale"]
        step = np.full(n, -1, np.int32)
        switched = np.zeros(n, bool)
        text = np.full(n, "", object)
        before = np.full(n, "", object)
        digest = digests_to_bytes(inputs.digest)
        for i in np.flatnonzero(~np.asarray(told["right"], bool)).tolist():
            steps = take_apart(str(told["text"][i])).steps
            if not steps:
                continue
            at, found = len(steps) - 1, False
            if self.how == "random":
                drawn = hashlib.sha256(b"step %d|" % self.seed + digest[i]).digest()
                at, found = int.from_bytes(drawn[:8], "big") % len(steps), True
            elif self.how == "switch":
                switch = switch_step(
                    json.loads(str(inputs["margins"]["margins"][i]) or "[]"), self.delta, self.lam
                )
                if switch is not None:
                    at, found = min(switch, len(steps) - 1), True
            step[i], switched[i], text[i] = at, found, steps[at]
            before[i] = "\n".join(steps[:at])
        return {
            "chosen": step >= 0,
            "step": step,
            "switched": switched,
            "text": text,
            "before": before,
        }
