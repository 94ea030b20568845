"""MLLM-Selector: train a seed model on a few rows, then sample rows by their loss under that model.

Yiwei Ma et al., arXiv:2503.20502. No public code: implemented from the paper;
docs/methods/mllm_selector.md says what the authors state, what we chose and what was measured. Pure
arithmetic on stored columns; the seed model is trained by the run, because the necessity is a loss
under a `TrainedModel`.

    n1 seed rows             random sample; the seed model M_s is the given model fine-tuned on it
    necessity                NLL of the answer under M_s, nats per token; higher: more needed
    S_final                  seed rows + rows sampled from groups by necessity
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from thresher.errors import ConfigError
from thresher.methods.explanation import Evidence, Explanation, GroupShares, Histogram, Why, joined
from thresher.methods.needs import require_embedder, require_model
from thresher.methods.settings import setting
from thresher.samplers import argsort_descending, weighted_strata
from thresher.signals.answer_loss import AnswerLoss
from thresher.signals.seed_rows import SeedRows
from thresher.signals.skill_labels import skill_columns, skill_reasons
from thresher.signals.skills import balanced_groups
from thresher.training.recipe import Recipe
from thresher.types import Columns, MethodContext, Selection, Signal, TrainedModel


@dataclass(frozen=True)
class MllmSelector:
    """Takes the seed rows, and samples the rest from groups by necessity under the seed model.

    Best first: by necessity under the seed model, which was trained on the seed rows, so these tend
    to come last.
    """

    seed_fraction: float = setting(
        0.05, "share of the pool that the seed model is trained on; at most budget / 3 rows"
    )
    alpha: float = setting(
        2.0,
        "how much more rows groups of high necessity give; 0: all equal; very large: the top rows",
    )
    groups: int = setting(10, "number of groups of equal size by necessity")
    max_percentile: float = setting(
        99.5, "rows above this percentile of necessity are held back as suspected noise; 100: none"
    )
    balance: Literal["source", "skill", "none"] = setting(
        "source",
        "source, skill: take equally many rows from every source or skill within a group, as far "
        "as it has them",
    )
    epochs: float = setting(1.0, "epochs of the seed model's training")
    learning_rate: float | None = setting(
        None, "learning rate of the seed model's training; none: the trainer's default"
    )

    name: ClassVar[str] = "mllm_selector"
    paper: ClassVar[str] = "Ma et al., MLLM-Selector, arXiv:2503.20502"
    summary: ClassVar[str] = (
        "Trains a seed model on a few rows; takes rows that it finds hard, from all sources."
    )

    def __post_init__(self) -> None:
        if not 0 < self.seed_fraction <= 1:
            raise ConfigError(
                ": a share above 0 and at most 1, such as 0.05.",
                option="settings.seed_fraction",
                value=self.seed_fraction,
            )
        if self.alpha < 0:
            raise ConfigError(
                ": 0 or more; 0 takes the same from every group.",
                option="settings.alpha",
                value=self.alpha,
            )
        if self.groups < 1:
            raise ConfigError(": at least 1.", option="settings.groups", value=self.groups)
        if not 0 < self.max_percentile <= 100:
            raise ConfigError(
                ": above 0, at most 100, such as 99.5.",
                option="settings.max_percentile",
                value=self.max_percentile,
            )
        if self.epochs <= 0:
            raise ConfigError(": above 0, such as 1.", option="settings.epochs", value=self.epochs)
        if self.learning_rate is not None and self.learning_rate <= 0:
            raise ConfigError(
                ": above 0, such as 2e-4, or none.",
                option="settings.learning_rate",
                value=self.learning_rate,
            )

    def signals(self, context: MethodContext) -> Mapping[str, Signal]:
        """At most a third of the selection is seed rows, so the seed model of a small budget is
        trained on fewer rows."""
        most = None if context.budget is None else context.budget // 3
        rows = SeedRows(self.seed_fraction, context.seed, most)
        recipe = Recipe(epochs=self.epochs, learning_rate=self.learning_rate, seed=context.seed)
        model = require_model(context, self.name)
        trained = TrainedModel(model, recipe, rows)
        named: dict[str, Signal] = {"seed_rows": rows, "necessity": AnswerLoss(trained)}
        if self.balance == "skill":
            named |= skill_columns(require_embedder(context, self.name))
        return named

    def select(self, columns: Columns, budget: int, target: Columns | None = None) -> Selection:
        n, k = len(columns), min(budget, len(columns))
        necessity = np.asarray(columns["necessity"]["nll"], np.float32)
        seed = np.flatnonzero(columns["seed_rows"]["chosen"])
        seed = seed[np.argsort(columns.ties[seed], kind="stable")][:k]
        seed_row = np.zeros(n, bool)
        seed_row[seed] = True
        limit = np.percentile(necessity, self.max_percentile) if n else np.inf
        held = ~seed_row & (necessity > limit)
        free = np.flatnonzero(~seed_row & ~held)
        sampled = weighted_strata(
            necessity[free],
            k - len(seed),
            columns.ties[free],
            groups=self.groups,
            alpha=self.alpha,
            balance=balanced_groups(columns, self.balance, free),
        )
        group = np.full(n, -1, np.int32)
        group[free] = sampled.group
        kept = np.r_[seed, free[sampled.rows]]
        notes = [f"The seed model was trained on {len(seed):,} of the selected rows."]
        if held.any():
            notes.append(
                f"{int(held.sum()):,} rows above the {self.max_percentile:g}th percentile of "
                f"necessity ({limit:.2f} nats) are held back as suspected noise."
            )
        if len(kept) < k:  # the budget is nearly the pool
            suspects = np.flatnonzero(held)
            back = suspects[argsort_descending(-necessity[suspects], columns.ties[suspects])][
                : k - len(kept)
            ]
            kept = np.r_[kept, back]
            notes.append(
                f"{len(back):,} of the rows held back are taken nevertheless: no other rows are "
                "left."
            )
        kept = kept[argsort_descending(necessity[kept], columns.ties[kept])]
        reason = {"necessity": necessity, "group": group, "seed_row": seed_row, "held": held}
        if self.balance == "skill":
            reason |= skill_reasons(columns)
        return Selection(kept.astype(np.int64), reason, tuple(notes))

    @classmethod
    def explain(cls, evidence: Evidence) -> Explanation:
        if not evidence.has("necessity", "group", "seed_row", "held"):
            return Explanation()
        seeds, held = int(evidence.reasons["seed_row"].sum()), int(evidence.reasons["held"].sum())
        shares = GroupShares(
            "group",
            "necessity",
            "loss, nats per token",
            axis="group by necessity, 1 = least",
            alt="Share of each group of necessity that was kept.",
            caption="Groups are of equal size; harder ones contribute more. Seed rows and "
            "held-back "
            "rows are in no group.",
        )
        return Explanation(
            _explain_rows(evidence),
            lead=f"A seed model was trained on {seeds:,} random rows. Necessity is its loss on "
            f"every row: what it still finds hard. {held:,} rows of the highest necessity are "
            "suspected to be noise.",
            drawings=(Histogram("necessity"), shares),
            drawn=frozenset({"necessity", "group"}),
        )


def _explain_rows(evidence: Evidence) -> Callable[[int], Why]:
    r, kept = evidence.reasons, evidence.kept
    groups = int(r["group"].max(initial=0)) + 1

    def why(i: int) -> Why:
        value = float(r["necessity"][i])
        loss = "loss under the seed model unknown"
        if np.isfinite(value):
            loss = f"loss {value:.2f} nats per token under the seed model"
        loss_among = joined(loss, evidence.standing("necessity", i))
        group = int(r["group"][i])
        place = (
            f"group {group + 1} of {groups} by necessity"
            if group >= 0
            else "in no group of necessity"
        )
        if r["seed_row"][i]:
            return Why(
                "seed row",
                f"a seed row, chosen at random: the seed model was trained on it ({loss})",
            )
        if r["held"][i]:
            text = f"suspected noise: {loss_among}"
            return Why("kept despite suspected noise" if kept[i] else "held back as noise", text)
        text = f"{place}; {loss_among}"
        return Why(
            "random sample of its group" if kept[i] else "enough rows of its group kept", text
        )

    return why
