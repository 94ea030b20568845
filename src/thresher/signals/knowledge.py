"""Which answers the model knows already: CLIPPER's parametric knowledge (P) and world knowledge
(W).

A row is P if greedy decoding gives exactly its answer. Long answers never match exactly, so such a
row is P if its loss is below the pool's median.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from thresher.types import Columns, Field, Signal


@dataclass(frozen=True)
class Knowledge:
    """P or W, from a zero-shot loss.

    The median is over the NLL of all scored rows, long and short, and a long answer must be
    strictly below it. So a pool of long answers is split in half; when a pool grows, long answers
    near the median may change, short ones never.
    """

    loss: Signal
    """Fields `nll`, `tokens`, `greedy_match`."""
    long_answer: int = 32
    """Answers with more tokens are long."""

    kind: ClassVar[str] = "knowledge"
    version: ClassVar[int] = 1
    fields: ClassVar[tuple[Field, ...]] = (
        Field(
            "parametric",
            "bool",
            "True: P, the model knows this answer; False: W, the data must teach it",
        ),
    )

    def inputs(self) -> Mapping[str, Signal]:
        return {"loss": self.loss}

    def pool(self, inputs: Columns) -> dict[str, np.ndarray]:
        """`inputs["loss"]`: the fields of AnswerLoss, each [n]."""
        loss = inputs["loss"]
        nll = np.asarray(loss["nll"], np.float64)
        median = float(np.median(nll)) if len(nll) else 0.0
        long = np.asarray(loss["tokens"]) > self.long_answer
        return {"parametric": np.where(long, nll < median, np.asarray(loss["greedy_match"], bool))}
