"""Training rows of winnow's next round: a small selection, divided between two models."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from thresher.samplers.trusted_strata import trusted_strata
from thresher.types import Columns, Field, Signal, seeded_ties


@dataclass(frozen=True)
class TrustedRows:
    """Training rows of one of two models: every second row of a selection from the trusted rows.

    The selection has 2·m rows, or all trusted rows if there are fewer, with m = `fraction` of the
    distinct rows, rounded, at least 1. It does not depend on the budget, so another budget needs no
    new training. Duplicates are trained on by the same model. If all rows are duplicates of one
    row, both models are trained on it.
    """

    trust: Signal
    """Field `nll`, by which rows are trusted."""
    loss: Signal
    """Field `nll`, the difficulty."""
    skills: Signal
    fraction: float
    """Share of the usable rows for each model, 0 < fraction <= 1/2."""
    seed: int
    part: int
    """0 or 1."""
    least: int = 0
    """Minimum of m, itself limited to a quarter of the distinct rows."""
    keep: float = 0.5
    power: float = 0.5
    gain: Signal | None = None
    """With a field `gain`: rows are trusted only where it is above 0 or not known."""

    kind: ClassVar[str] = "trusted_rows"
    version: ClassVar[int] = 1
    fields: ClassVar[tuple[Field, ...]] = (
        Field("chosen", "bool", "the model of this part is trained on this row"),
    )

    def inputs(self) -> Mapping[str, Signal]:
        given = {
            "trust": self.trust,
            "loss": self.loss,
            "skills": self.skills,
            "gain": self.gain,
        }
        return {name: signal for name, signal in given.items() if signal is not None}

    def most_rows(self, distinct: int) -> int:
        """Maximum number of distinct rows that are chosen of `rows`."""
        return max(round(self.fraction * distinct), min(self.least, distinct // 4), 1)

    def pool(self, inputs: Columns) -> dict[str, np.ndarray]:
        digest, first, copy = np.unique(inputs.digest, return_index=True, return_inverse=True)
        n = len(digest)
        strata = trusted_strata(
            np.asarray(inputs["trust"]["nll"])[first],
            np.asarray(inputs["skills"]["leaf"], np.int64)[first],
            2 * self.most_rows(n),
            seeded_ties(digest, self.seed),
            keep=self.keep,
            power=self.power,
            allowed=None if self.gain is None else ~(inputs["gain"]["gain"][first] <= 0),
            difficulty=np.asarray(inputs["loss"]["nll"])[first],
        )
        trusted = strata.rows[strata.trusted[strata.rows]]  # they come first, in a random order
        chosen = np.zeros(n, bool)
        chosen[trusted[self.part if len(trusted) > 1 else 0 :: 2]] = True
        return {"chosen": chosen[copy]}
