"""The guard: compares a selection with random rows by two small trainings, evaluated on held-out
rows.

The criterion is the exact greedy match with the given answer, paired by row. The loss is not
suitable: on noisy pools it favours a random subset, which has the noise of the held-out rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from thresher.samplers.trusted_strata import trusted_strata
from thresher.types import Columns, Field, Signal, seeded_ties

LEVEL = 0.05  # one-sided level: probability of refusing a selection that is as good as random
UNREAD_LEVEL = 0.25  # the same where the model cannot judge the pool: there a gain is unlikely
LEAST = 5  # minimum number of differing answers for any significant result: 1/2^5 is below `LEVEL`


@dataclass(frozen=True)
class HeldOut:
    """A random sample of distinct rows on which the guard's models are evaluated: `most`, but at
    most a fifth of the distinct rows; empty if there are fewer than `LEAST`."""

    seed: int
    most: int = 1000

    kind: ClassVar[str] = "held_out"
    version: ClassVar[int] = 2
    fields: ClassVar[tuple[Field, ...]] = (
        Field("chosen", "bool", "the guard's models are evaluated on this row"),
    )

    def inputs(self) -> Mapping[str, Signal]:
        return {}

    def pool(self, inputs: Columns) -> dict[str, np.ndarray]:
        digest, first = np.unique(inputs.digest, return_index=True)
        # from the end of the order: `random` and seed rows come from its beginning
        order = np.argsort(seeded_ties(digest, self.seed), kind="stable")[::-1]
        count = min(self.most, len(digest) // 5)
        drawn = np.zeros(len(inputs), bool)
        drawn[first[order[: count if count >= LEAST else 0]]] = True
        return {"chosen": drawn}


@dataclass(frozen=True)
class GuardRows:
    """Training rows of one of the guard's models: `rows` rows that are neither held out nor
    duplicates of held-out rows."""

    held: HeldOut
    rows: int
    seed: int
    trust: Signal | None = None
    """With a field `nll`, by which rows are trusted; None: a random draw, and the fields below have
    no meaning."""
    loss: Signal | None = None
    """With a field `nll`, the difficulty."""
    skills: Signal | None = None
    keep: float = 0.5
    power: float = 0.5
    gain: Signal | None = None
    """With a field `gain`: rows are trusted only where it is above 0 or not known."""

    kind: ClassVar[str] = "guard_rows"
    version: ClassVar[int] = 1
    fields: ClassVar[tuple[Field, ...]] = (
        Field("chosen", "bool", "the guard's model is trained on this row"),
    )

    def inputs(self) -> Mapping[str, Signal]:
        given = {
            "held": self.held,
            "trust": self.trust,
            "loss": self.loss,
            "skills": self.skills,
            "gain": self.gain,
        }
        return {name: signal for name, signal in given.items() if signal is not None}

    def pool(self, inputs: Columns) -> dict[str, np.ndarray]:
        held = np.asarray(inputs["held"]["chosen"], bool)
        free = np.flatnonzero(~np.isin(inputs.digest, inputs.digest[held]))
        ties = seeded_ties(inputs.digest, self.seed)[free]
        if self.trust is None:
            rows = np.argsort(ties, kind="stable")[: self.rows]
        else:
            rows = trusted_strata(
                np.asarray(inputs["trust"]["nll"])[free],
                np.asarray(inputs["skills"]["leaf"], np.int64)[free],
                self.rows,
                ties,
                keep=self.keep,
                power=self.power,
                allowed=None if self.gain is None else ~(inputs["gain"]["gain"][free] <= 0),
                difficulty=np.asarray(inputs["loss"]["nll"])[free],
            ).rows
        chosen = np.zeros(len(inputs), bool)
        chosen[free[rows]] = True
        return {"chosen": chosen}


@dataclass(frozen=True)
class GuardVerdict:
    """Compares two models on the held-out rows. All rows have the same values."""

    held: HeldOut
    selected: Signal
    """`PartLoss` under the model of the selection."""
    random: Signal
    """`PartLoss` under the model of the random rows."""
    judgement: Signal | None = None
    """With a bool field `readable`; None: the base is taken to judge the pool."""

    kind: ClassVar[str] = "guard_verdict"
    decides: ClassVar[bool] = True  # recorded in run.yaml, and repeated
    version: ClassVar[int] = 1
    added: ClassVar[Mapping[str, Any]] = {"judgement": None}
    fields: ClassVar[tuple[Field, ...]] = (
        Field("rows", "int32", "rows that both models were asked about; 0: too few distinct rows"),
        Field("better", "int32", "of these, answered as given after the selection only"),
        Field("worse", "int32", "of these, answered as given after the random rows only"),
        Field("chance", "float32", "of so many or more `worse` if both were equally good"),
        Field("passed", "bool", "the selection is not worse, by the chance"),
    )

    def inputs(self) -> Mapping[str, Signal]:
        given = {
            "held": self.held,
            "selected": self.selected,
            "random": self.random,
            "judgement": self.judgement,
        }
        return {name: signal for name, signal in given.items() if signal is not None}

    def pool(self, inputs: Columns) -> dict[str, np.ndarray]:
        held = np.asarray(inputs["held"]["chosen"], bool)
        ours = np.asarray(inputs["selected"]["greedy_match"], bool)[held]
        theirs = np.asarray(inputs["random"]["greedy_match"], bool)[held]
        better, worse = int((ours & ~theirs).sum()), int((theirs & ~ours).sum())
        n, level, chance = len(inputs), LEVEL, sign_test(better, worse)
        if self.judgement is not None and not np.all(inputs["judgement"]["readable"]):
            level = UNREAD_LEVEL
        return {
            "rows": np.full(n, held.sum(), np.int32),
            "better": np.full(n, better, np.int32),
            "worse": np.full(n, worse, np.int32),
            "chance": np.full(n, chance, np.float32),
            "passed": np.full(n, chance >= level or better + worse < LEAST),
        }


def sign_test(better: int, worse: int) -> float:
    """One-sided sign test: probability of at least `worse` tails in `better` + `worse` fair coin
    tosses.

    Arguments:
        better: number of pairs in which the first value is better.
        worse: number of pairs in which it is worse; ties are left out.

    >>> [round(sign_test(*pair), 4) for pair in ((0, 0), (2, 0), (0, 2), (20, 40))]
    [1.0, 1.0, 0.25, 0.0067]
    """
    from scipy.stats import binom

    return float(binom.sf(worse - 1, better + worse, 0.5))
