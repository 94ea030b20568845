"""CLIPPER: a coreset with the pool's distribution of perplexity, from a zero-shot and two one-shot
passes; no training.

Xiao An, Jiaxing Sun, Ting Hu, Wei He, arXiv:2603.28058. No public code: implemented from
the paper; docs/methods/clipper.md says what the authors state, what we chose and what was measured.
Pure arithmetic on stored columns.

    nll           NLL0, zero-shot
    nll_one_shot  mean over the one-shot passes
    effect        NLL0 - that mean; positive: demonstrations helped
    knowledge     P (parametric: the model knows the answer) or W (the data must teach it)

Differs from a literal implementation of the paper: bins get their rows by cumulative apportionment
instead of the largest remainder, and by default (`mirror=both`) the distribution of the zero-shot
perplexity is matched too. A coreset that matches both NLL0 and the one-shot mean has the pool's
mean effect, by arithmetic, so the preference decides only between similar rows. `mirror=one_shot`
leaves the preference free, and the zero-shot distribution shifts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from thresher.console.formatting import pluralize
from thresher.errors import ConfigError
from thresher.methods.explanation import (
    Distributions,
    Evidence,
    Explanation,
    Histogram,
    Multiples,
    Why,
)
from thresher.methods.needs import require_embedder, require_model
from thresher.methods.settings import setting
from thresher.samplers import (
    MatchedSample,
    ks_distance,
    largest_remainder,
    match_distribution,
    median_random_ks,
)
from thresher.signals.demonstrations import Demonstrations
from thresher.signals.knowledge import Knowledge
from thresher.signals.one_shot import OneShot, zero_shot
from thresher.signals.skill_labels import skill_columns, skill_reasons
from thresher.signals.skills import balanced_groups
from thresher.types import Columns, MethodContext, Selection, Signal

ONE_SHOT_BLOCK = 8
"""Neighbouring rows among which the preference chooses when only the one-shot NLL is matched. Over
a whole bin, the match is worse than that of a random sample once thousands of rows are taken; over
eight rows, the preference is nearly as free and the match stays far better."""


SUBSETS = {
    "P_d": "known, demonstrations",
    "P_q": "known, queries",
    "W_d": "not known, demonstrations",
    "W_q": "not known, queries",
}


@dataclass(frozen=True)
class Clipper:
    """Divides the budget over P and W, then over bins of `nll_one_shot`; within a bin, some rows
    are taken by preference and the rest at random.

    Best first: the rows taken by preference (`critical`), most preferred first, then the others in
    the order of a seeded hash.
    """

    prefer: Literal["most_helped", "least_helped", "none"] = setting(
        "most_helped",
        "which rows to prefer: those that a demonstration helps most or least",
    )
    prefer_share: float = setting(
        0.5, "share of each bin's rows taken by preference, 0 to 1; the rest at random"
    )
    knowledge_ratio: float | None = setting(
        None,
        "share of the budget for rows whose answer the model knows (P), 0 to 1; none: as in the "
        "pool",
    )
    mirror: Literal["both", "one_shot"] = setting(
        "both",
        "match the distribution of both perplexities, or of the one-shot perplexity only, which "
        "leaves the preference free",
    )
    balance: Literal["none", "source", "skill"] = setting(
        "none",
        "source, skill: take equally many rows from every source or skill within a bin, as far "
        "as it has them",
    )
    bins: int = setting(
        20, "most bins of log-perplexity in P and in W; fewer if few rows are taken"
    )
    bank: int = setting(
        32,
        "demonstrations of each kind in each half; more need more memory, fewer are less diverse",
    )
    long_answer: int = setting(
        32,
        "answers of more tokens count as known by their perplexity instead of by exact match",
    )

    name: ClassVar[str] = "clipper"
    paper: ClassVar[str] = "An et al., CLIPPER, arXiv:2603.28058"
    summary: ClassVar[str] = (
        "Matches the pool's perplexity; prefers rows that demonstrations help; no training."
    )

    def __post_init__(self) -> None:
        if not 0 <= self.prefer_share <= 1:
            raise ConfigError(
                ": a share from 0 to 1, such as 0.5.",
                option="settings.prefer_share",
                value=self.prefer_share,
            )
        if self.knowledge_ratio is not None and not 0 <= self.knowledge_ratio <= 1:
            raise ConfigError(
                ": a share from 0 to 1, such as 0.2, or none.",
                option="settings.knowledge_ratio",
                value=self.knowledge_ratio,
            )
        for name, least in (("bins", 1), ("bank", 1), ("long_answer", 0)):
            if getattr(self, name) < least:
                raise ConfigError(
                    f": at least {least}.", option=f"settings.{name}", value=getattr(self, name)
                )

    def signals(self, context: MethodContext) -> Mapping[str, Signal]:
        model, seed = require_model(context, self.name), context.seed
        loss = zero_shot(model)
        knowledge = Knowledge(loss, self.long_answer)
        p = Demonstrations(knowledge, "P", seed, self.bank)
        w = Demonstrations(knowledge, "W", seed, self.bank)
        named: dict[str, Signal] = {
            "loss": loss,
            "knowledge": knowledge,
            "demonstration_p": p,
            "demonstration_w": w,
            "one_shot_p": OneShot(model, p),
            "one_shot_w": OneShot(model, w),
        }
        if self.balance == "skill":
            named |= skill_columns(require_embedder(context, self.name))
        return named

    def select(self, columns: Columns, budget: int, target: Columns | None = None) -> Selection:
        n = len(columns)
        notes: list[str] = []
        nll = np.asarray(columns["loss"]["nll"], np.float32)
        known = np.asarray(columns["knowledge"]["parametric"], bool)
        one_shot = mean_of_passes(columns["one_shot_p"]["nll"], columns["one_shot_w"]["nll"])
        effect = nll - one_shot
        probed = np.isfinite(one_shot)
        if not probed.all():
            bare = int((~probed).sum())
            have = "has" if bare == 1 else "have"
            notes.append(
                f"{pluralize(bare)} {have} no demonstration: the zero-shot perplexity is used "
                "instead."
            )
        long = sum(without_room(columns, kind) for kind in "pw")
        if long:
            were = "was" if long == 1 else "were"
            notes.append(
                f"{pluralize(long)} {were} too long together with a demonstration; those pairs "
                "were left out."
            )
        perplexity = np.where(probed, one_shot, nll)
        response = np.where(probed, effect, np.float32(0))
        ranking = -response if self.prefer == "least_helped" else response

        rows: list[np.ndarray] = []
        critical = np.zeros(n, bool)
        bin_ = np.zeros(n, np.int32)
        for kind, group, quota in self._budgets(known, min(budget, n), notes):
            matched = self._mirror(columns, group, quota, perplexity, nll, ranking)
            rows.append(group[matched.rows])
            critical[group] = matched.preferred
            bin_[group] = matched.bin
            used = int(matched.bin.max(initial=0)) + 1
            if len(group) and used < self.bins:
                notes.append(
                    f"{kind} has {used} of {self.bins} bins: few rows to take, or many of equal "
                    "perplexity."
                )
        kept = np.concatenate(rows)
        kept = kept[
            np.lexsort((columns.ties[kept], np.where(critical[kept], -ranking[kept], np.inf)))
        ]
        if len(kept):
            notes.append(mirrored(nll, perplexity, kept))

        half = np.asarray(columns["demonstration_p"]["half"])
        subset = np.array([["P_d", "P_q"], ["W_d", "W_q"]])[(~known).astype(int), half]
        reason = {
            "nll": nll,
            "nll_one_shot": one_shot,
            "effect": effect,
            "knowledge": np.where(known, "P", "W"),
            "subset": subset,
            "bin": bin_,
            "critical": critical,
        }
        if self.balance == "skill":
            reason |= skill_reasons(columns)
        return Selection(kept, reason, tuple(notes))

    def _budgets(
        self, known: np.ndarray, budget: int, notes: list[str]
    ) -> list[tuple[str, np.ndarray, int]]:
        """("P" or "W", rows of the pool int64 [m], number to take) for both kinds."""
        groups = [np.flatnonzero(known), np.flatnonzero(~known)]
        size = np.array([len(g) for g in groups])
        weights = (
            size
            if self.knowledge_ratio is None
            else np.array([self.knowledge_ratio, 1 - self.knowledge_ratio])
        )
        quota = largest_remainder(budget, weights, size)
        for kind, g, q in zip("PW", size, quota, strict=True):
            if g == 0:
                notes.append(
                    "The model "
                    f"{'knows none of the answers' if kind == 'P' else 'knows every answer'}: no "
                    f"{kind} rows."
                )
            elif self.knowledge_ratio is not None:
                asked = round(budget * float(weights["PW".index(kind)]))
                if asked > q + 1:
                    notes.append(
                        f"knowledge_ratio asks for {asked:,} {kind} rows and the pool has {g:,}: "
                        "the rest goes to the other kind."
                    )
        return [(kind, g, int(q)) for kind, g, q in zip("PW", groups, quota, strict=True)]

    def _mirror(
        self,
        columns: Columns,
        group: np.ndarray,
        quota: int,
        perplexity: np.ndarray,
        nll: np.ndarray,
        ranking: np.ndarray,
    ) -> MatchedSample:
        both = self.mirror == "both"
        # With two numbers to match, more bins than half the square root of the rows to take leave
        # too few rows per bin for the second.
        bins = min(self.bins, int(np.ceil(np.sqrt(quota) / 2))) if both else self.bins
        return match_distribution(
            perplexity[group],
            quota,
            columns.ties[group],
            bins=max(bins, 1),
            preference=None if self.prefer == "none" else ranking[group],
            share=self.prefer_share,
            also=nll[group] if both else None,
            balance=balanced_groups(columns, self.balance, group),
            block=1 if both else ONE_SHOT_BLOCK,
        )

    @classmethod
    def explain(cls, evidence: Evidence) -> Explanation:
        words = evidence.has("knowledge", "bin", "effect", "critical")
        why = _explain_rows(evidence) if words else None
        if not evidence.has("nll", "nll_one_shot", "subset"):
            return Explanation(why)
        return Explanation(
            why,
            lead="CLIPPER keeps rows so that their perplexities are distributed as in the pool; "
            "among similar rows it prefers those that a demonstration helps most (or least: "
            "setting `prefer`). P: answers that the model knows; W: answers that the data must "
            "teach it.",
            drawings=(
                Distributions(("nll", "nll_one_shot")),
                Multiples("nll_one_shot", "subset", SUBSETS),
                Histogram("effect"),
            ),
            drawn=frozenset({"nll", "nll_one_shot", "effect"}),
        )


def mean_of_passes(*passes: np.ndarray) -> np.ndarray:
    """Mean of the finite one-shot NLLs of each row, float32 [n]; NaN where none is finite."""
    stacked = np.stack([np.asarray(p, np.float64) for p in passes])
    there = np.isfinite(stacked)
    count = there.sum(0)
    total = np.where(there, stacked, 0.0).sum(0)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan).astype(np.float32)


def without_room(columns: Columns, kind: str) -> int:
    """Number of rows that have a demonstration of `kind` ("p" or "w") but do not fit into the
    model's context together with it.

    Arguments:
        columns: of a pool, with a demonstration and a one-shot loss for each kind.
        kind: "p" (parametric knowledge) or "w" (no knowledge).
    """
    has = np.asarray(columns[f"demonstration_{kind}"]["digest"], "S32") != b""
    return int((has & np.isnan(columns[f"one_shot_{kind}"]["nll"])).sum())


def mirrored(nll: np.ndarray, perplexity: np.ndarray, kept: np.ndarray) -> str:
    """How well the kept rows match both perplexity distributions, as a note.

    Arguments:
        nll: float32 [n], zero-shot loss of the pool's rows, in nats per token.
        perplexity: float32 [n], their one-shot loss.
        kept: int64 [k], indices of the kept rows.
    """
    zero, one = ks_distance(nll, nll[kept]), ks_distance(perplexity, perplexity[kept])
    return (
        f"Distance from the pool's distribution of log-perplexity (KS): zero-shot {zero:.4f}, "
        f"one-shot {one:.4f}; a random subset of this size has about "
        f"{median_random_ks(len(nll), len(kept)):.4f}."
    )


def _explain_rows(evidence: Evidence) -> Callable[[int], Why]:
    r, kept = evidence.reasons, evidence.kept
    least = evidence.settings.get("prefer") == "least_helped"
    group = {
        "P": "answers that the model knows (P)",
        "W": ("answers that the model does not know (W)"),
    }

    def why(i: int) -> Why:
        knowledge = str(r["knowledge"][i])
        where = f"bin {int(r['bin'][i])} of the {group.get(knowledge, knowledge)}"
        effect = float(r["effect"][i])
        helps = change_of_loss(effect)
        if kept[i] and r["critical"][i]:
            return Why("preferred in its bin", f"{where}; {helps}: {preference(effect, least)}")
        if kept[i]:
            return Why(
                "random sample of its bin",
                f"random sample of {where}, to match the pool's distribution; {helps}",
            )
        return Why(
            "enough similar rows kept",
            f"enough similar rows were already kept ({where}; {helps})",
        )

    return why


def change_of_loss(effect: float) -> str:
    """What a demonstration does to a row's loss, as text.

    Arguments:
        effect: nats per token; positive: the loss falls.

    >>> [change_of_loss(x) for x in (0.25, -0.25, 0.001, float("nan"))]
    ['a demonstration lowers its loss by 0.25 nats per token',
     'a demonstration raises its loss by 0.25 nats per token',
     'a demonstration leaves its loss as it is',
     'no demonstration was available or fitted']
    """
    if not np.isfinite(effect):
        return "no demonstration was available or fitted"
    text = f"{abs(effect):.2f}"
    if float(text) == 0:
        return "a demonstration leaves its loss as it is"
    return (
        f"a demonstration {'lowers' if effect > 0 else 'raises'} its loss by {text} nats per token"
    )


def preference(effect: float, least: bool) -> str:
    """How a preferred row compares with its bin, as text.

    Arguments:
        effect: nats per token; positive: a demonstration helps.
        least: whether rows that are helped least are preferred.

    >>> preference(0.25, False), preference(-0.25, False)
    ('among the most helped of its bin', 'among the least harmed of its bin')
    >>> preference(0.25, True), preference(-0.25, True), preference(0.0, False)
    ('among the least helped of its bin', 'among the most harmed of its bin',
     'few rows of its bin are helped more')
    """
    if not np.isfinite(effect) or float(f"{effect:.2f}") == 0:
        return f"few rows of its bin are helped {'less' if least else 'more'}"
    if effect > 0:
        return f"among the {'least' if least else 'most'} helped of its bin"
    return f"among the {'most' if least else 'least'} harmed of its bin"
