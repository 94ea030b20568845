"""Resolve a mixture: what a run does before scoring (`resolve_mixture`) and after it (`choose`).

Reads the pool's records, files of row lists and, for near duplicates, the store. The arithmetic is
in `quotas`, `constrain` and `tokens`.

Longer than 400 lines because the order of the steps (filters, lists, copies, quotas) decides what
each of them counts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from thresher.console.formatting import pluralize
from thresher.errors import ConfigError, opt
from thresher.mixture.cache import MixtureCache
from thresher.mixture.constrain import (
    KEEP,
    METHOD,
    UNSCORABLE,
    ForcedRows,
    SelectFn,
    constrained_selection,
)
from thresher.mixture.filters import filtered
from thresher.mixture.quotas import Groups, bounds, column_of, groups
from thresher.mixture.signal_filters import SignalStage
from thresher.mixture.signal_names import signals_in
from thresher.mixture.signal_scores import NamedColumns, SignalScores, is_unscorable
from thresher.mixture.spec import check_mixture, parse_filter, parse_quota
from thresher.mixture.tokens import (
    TokenCounts,
    describe_budget,
    estimate_rows,
    largest_selection,
)
from thresher.samplers import largest_remainder
from thresher.types import Budget, Columns, Findings, Note, Rows, Selection, Share, Tokens

if TYPE_CHECKING:
    from thresher.engine import RunContext
    from thresher.engine.eligible import FailedRows
    from thresher.pools import Pool
    from thresher.request import RunRequest


@dataclass(frozen=True)
class PoolSelection:
    """A selection over pool rows.

    `rows`: int64 [k], best first, a subset of `considered`. `considered`: int64 [c]. `evidence`:
    name -> array [c].
    """

    rows: np.ndarray
    considered: np.ndarray
    evidence: dict[str, np.ndarray]
    notes: list[str | Note]
    findings: Findings | None = None


@dataclass(frozen=True)
class ResolvedMixture:
    """What a run does about a mixture. All arrays are [n] in pool order."""

    request: RunRequest
    pool: Pool
    budget: int  # number of rows; an estimate for a budget in tokens
    within: np.ndarray  # bool: rows that are scored and given to the method
    keep: np.ndarray  # bool: rows that are always taken
    groups: Groups | None
    counts: TokenCounts | None
    evidence: Mapping[str, np.ndarray]  # further reasons
    notes: tuple[str, ...]
    copies: np.ndarray | None = None  # int64 [c, 2]: duplicates left out, and the row kept for each
    compared: np.ndarray | None = None  # bool: rows among which duplicates were searched
    scores: SignalScores | None = None  # of signals that options name

    def is_unscorable(self, error: str) -> bool:
        """Whether a row with this error counts for --unscorable rather than as a failure."""
        return is_unscorable(self.request, error)

    @property
    def failed(self) -> tuple[FailedRows, ...]:
        """Rows that were excluded because a signal of a filter or quota could not be computed."""
        return self.scores.failed if self.scores is not None and self.scores.required else ()

    def choose(
        self, method: SelectFn, columns: Columns, considered: np.ndarray, unscorable: np.ndarray
    ) -> PoolSelection:
        """Select rows.

        Arguments:
            method: the method.
            columns: c rows.
            considered: int64 [c], the pool rows of `columns`.
            unscorable: int64 [a], unscorable pool rows in a seeded order.
        """
        if self.counts is None:
            return self._choose(method, columns, considered, unscorable, self.budget)
        self.counts.use_measured(columns, considered)
        tokens = self.counts.tokens
        max_rows = len(considered) + self._outside_keep(considered, unscorable)
        max_rows += (
            0 if self.request.unscorable in (None, "drop") else int((~self.keep[unscorable]).sum())
        )
        guess = estimate_rows(
            self.counts, considered if len(considered) else np.arange(len(self.pool))
        )
        token_budget = self.counts.budget
        min_rows = max(int(self.keep.sum()) + self._always_unscored(unscorable), 1)
        found = largest_selection(
            lambda k: self._choose(method, columns, considered, unscorable, max(k, min_rows)),
            lambda chosen: float(tokens[chosen.rows].sum()),
            token_budget.amount,
            max_rows,
            guess,
        )
        n_tokens = float(tokens[found.rows].sum())
        note = describe_budget(
            {
                "reached": round(n_tokens),
                "kind": token_budget.kind,
                "amount": token_budget.amount,
                "rows": len(found.rows),
            }
            | {"how": self.counts.how}
        )
        return replace(found, notes=[note, *found.notes])

    def check_always_taken(self, unscorable: np.ndarray, *, scored: bool) -> None:
        """Raise ConfigError if the rows that are taken in any case exceed a budget in rows.

        Arguments:
            unscorable: int64 [a], pool rows that are known to be unscorable.
            scored: whether rows may have been scored already, for the message.
        """
        if self.counts is None:
            self._check_always_taken(unscorable, self.budget, scored=scored)

    def _check_always_taken(self, unscorable: np.ndarray, total: int, *, scored: bool) -> None:
        taken, unscored = int(self.keep.sum()), self._always_unscored(unscorable)
        if taken > total:
            raise kept_rows_exceed(taken, total, self.request.keep)
        if taken + unscored <= total or not unscored:
            return
        kept = f" and {taken:,} of {opt('keep')}" if taken else ""
        stored = (
            " What was scored is stored: the changed command scores no row again." if scored else ""
        )
        raise ConfigError(
            f": {pluralize(unscored)} that no model can score{kept} exceed the budget of "
            f"{total:,}. Raise the budget, or give {opt('unscorable', 'random')} or drop.{stored}",
            option="unscorable",
            value="keep",
        )

    def _always_unscored(self, unscorable: np.ndarray) -> int:
        """Number of unscorable rows (int64 [a]) that are taken in any case, besides those of
        --keep."""
        if self.request.unscorable != "keep":
            return 0
        return int((~self.keep[unscorable]).sum())

    def excluding(self, rows: np.ndarray) -> ResolvedMixture:
        """A copy in which some pool rows may not be taken, not even those of --keep."""
        keep, within = self.keep.copy(), self.within.copy()
        keep[rows] = within[rows] = False
        return replace(self, keep=keep, within=within)

    def n_outside_method(self, n_unscorable: int) -> int:
        """Number of rows that can be selected besides those that the method scores.

        `n_unscorable`: number of unscorable rows.
        """
        kept_outside = int((self.keep & ~self.within).sum())
        return kept_outside + (n_unscorable if self.request.unscorable in ("keep", "random") else 0)

    def plan_notes(self, n_unscorable: int) -> list[str]:
        """Notes for a plan. `n_unscorable`: number of unscorable rows."""
        notes = list(self.notes)
        if self.counts is not None:
            token_budget = self.counts.budget
            notes.append(
                f"{token_budget.amount:,} {token_budget.kind} are about {pluralize(self.budget)} "
                f"of average "
                f"length ({self.counts.how}); rows are selected to fit the token budget."
            )
        if self.keep.any():
            notes.append(f"{pluralize(int(self.keep.sum()))} of {opt('keep')} are always taken.")
        if self.groups is not None:
            possible = self.within | self.keep
            available = np.bincount(self.groups.label[possible], minlength=len(self.groups))
            # the rest has none
            for quota, rows in zip(self.groups.quotas, available, strict=False):
                low, high = quota.rows(min(self.budget, int(possible.sum())))
                maximum = "any number" if high is None else f"at most {high:,}"
                notes.append(
                    f"{opt('quota', quota.text)}: at least {low:,} and {maximum} of the "
                    f"{int(rows):,} rows there."
                )
        if n_unscorable:
            treatments = {"keep": "kept", "drop": "left out", "random": "sampled at random"}
            treatment = treatments[self.request.unscorable or "drop"]
            notes.append(
                f"{pluralize(n_unscorable)} that no model can score (videos, audio, too long): "
                f"{treatment}."
            )
        return notes

    def _outside_keep(self, considered: np.ndarray, unscorable: np.ndarray) -> int:
        is_considered = np.zeros(len(self.pool), bool)
        is_considered[considered] = True
        return int((self.keep & ~is_considered).sum())

    def _choose(
        self,
        method: SelectFn,
        columns: Columns,
        considered: np.ndarray,
        unscorable: np.ndarray,
        total: int,
    ) -> PoolSelection:
        m = self.request
        if not (self.keep.any() or self.groups or m.unscorable):
            return self._over_pool(method(columns, min(total, len(columns))), considered)
        if not len(columns):
            method = _select_nothing
        is_considered = np.zeros(len(self.pool), bool)
        is_considered[considered] = True
        kept_outside = np.flatnonzero(self.keep & ~is_considered)
        unscored = (
            unscorable[~self.keep[unscorable]]
            if m.unscorable in ("keep", "random")
            else unscorable[:0]
        )
        notes = []
        taken = int(self.keep.sum())
        self._check_always_taken(unscorable, total, scored=True)
        k = min(total, len(considered) + len(kept_outside) + len(unscored))
        if m.unscorable == "random":  # a seeded random sample, in proportion to their number
            free = int((~self.keep[considered]).sum())
            share = largest_remainder(
                k - taken, np.array([len(unscored), free]), np.array([len(unscored), free])
            )
            unscored = unscored[: int(share[0])]
        if len(unscorable):
            notes.append(_unscorable_note(len(unscorable), m.unscorable, len(unscored)))
        outside = np.concatenate([kept_outside, unscored])
        label = np.zeros(len(self.pool), np.int32) if self.groups is None else self.groups.label
        forced = ForcedRows(self.keep[considered], label[outside].astype(np.int64))
        chosen = constrained_selection(method, columns, k, forced, self.groups, label[considered])
        inside = self._over_pool(chosen, considered)
        extra = {KEEP: kept_outside, UNSCORABLE: unscored}
        combined = _with_outside(inside, extra, [*notes, *inside.notes])
        return replace(
            combined,
            evidence=combined.evidence
            | {
                name: a[combined.considered]
                for name, a in self.evidence.items()
                if name not in chosen.reason
            },
        )

    def _over_pool(self, chosen: Selection, considered: np.ndarray) -> PoolSelection:
        evidence = {name: np.asarray(a) for name, a in chosen.reason.items()}
        for name, values in self.evidence.items():
            evidence.setdefault(name, values[considered])
        return PoolSelection(
            considered[chosen.rows], considered, evidence, list(chosen.notes), chosen.findings
        )


def resolve_mixture(
    pool: Pool,
    budget: Rows | Share | Tokens,
    request: RunRequest,
    context: RunContext,
    cache: MixtureCache | None = None,
    score: bool = True,
) -> ResolvedMixture:
    """Resolve the mixture options of a request before anything is scored.

    A percentage refers to all rows of the pool, even if some are dropped or filtered.

    Arguments:
        pool: the pool.
        budget: the budget, in rows, percent or tokens.
        request: the mixture options and the seed.
        context: the store of duplicate columns; the model for tokens per image and, with `score`,
            semantic duplicates and suspects.
        cache: of earlier calls for the same pool and store.
        score: whether the model may be run.

    Raises ConfigError for invalid options and quotas that the pool cannot meet, and what finding
    duplicates raises.
    """
    check_mixture(request)
    cache = cache or MixtureCache()
    n = len(pool)
    notes: list[str] = []
    within = np.ones(n, bool)
    keep = np.zeros(n, bool)
    if request.keep is not None:
        keep = cache.rows_in_file(request.keep, "keep", pool)
        if (unreadable := keep & pool.unreadable).any():
            row = int(np.flatnonzero(unreadable)[0])
            raise ConfigError(
                f": row {row} cannot be read at all: {pool.problems[row]}.",
                option="keep",
                value=request.keep,
            )
        kept = int(keep.sum())
        if not isinstance(budget, Tokens) and kept > budget.rows(n):
            raise kept_rows_exceed(kept, budget.rows(n), request.keep)
    if request.drop is not None:
        drop = cache.rows_in_file(request.drop, "drop", pool)
        if (in_both := keep & drop).any():
            row = int(np.flatnonzero(in_both)[0])
            raise ConfigError(
                f" and {opt('drop', request.drop)} both name "
                f"{pluralize(int(in_both.sum()))}, such as row {row}.",
                option="keep",
                value=request.keep,
            )
        within &= ~drop
        notes.append(f"{pluralize(int(drop.sum()))} left out by {opt('drop', request.drop)}.")
    rules = [parse_filter(text) for text in request.filter]
    quotas = [parse_quota(text) for text in request.quota]
    named = [*(r.name for r in rules), *(column_of(q, pool) for q in quotas)]
    records = cache.columns(pool, [name for name in named if name is not None])
    fields, name_notes = signals_in(rules, quotas, pool, records)
    notes += name_notes
    columns = NamedColumns(records, {})
    for rule in (r for r in rules if r.name not in fields):
        within, note = filtered(rule, columns, within, keep)
        notes.append(note)
    scores = None
    if (fields or request.drop_suspects is not None) and within.any():
        plain = [q for q in quotas if column_of(q, pool) not in fields]
        groups(plain, pool, columns, within | keep)  # mistakes are found before rows are scored
        stage = SignalStage(pool, request, fields, tuple(rules), tuple(quotas), keep)
        scores = stage.scores(within, context, cache, score)
        columns = NamedColumns(records, scores.columns)
        within, signal_notes = stage.filtered(within, columns, scores)
        notes += signal_notes
    if not within.any():
        raise ConfigError(f"No row is left: {' '.join(notes)}")
    evidence: dict[str, np.ndarray] = {}
    if scores is not None:
        shown = (name for name in fields if name in scores.columns)
        evidence = {name: scores.columns[name].reasons() for name in shown}
    copies = compared = None
    if request.dedup is not None:
        compared = within | keep
        found = cache.representatives(pool, within, keep, request, context, score=score)
        removed = within & ~found.kept
        within &= found.kept
        copies = (
            np.stack([np.flatnonzero(removed), found.group[removed]], axis=1)
            if removed.any()
            else None
        )
        evidence |= {"duplicate_group": found.group, "copies": found.copies}
        notes.append(found.note)
        assert not (removed & keep).any(), "a row of --keep was removed as a duplicate"
    # a kept row that cannot be used is not scored, and so cannot fail
    within &= ~(keep & _unusable(pool))
    counts = cache.counts(pool, budget, context.model) if isinstance(budget, Tokens) else None
    possible = within | keep
    if counts is not None:
        rows = estimate_rows(counts, np.flatnonzero(possible))
    else:
        assert not isinstance(budget, Tokens)
        rows = budget.rows(n)
    if exceeds_note := budget_exceeds_pool(budget, n):
        notes.append(exceeds_note)
    grouped = None
    unknown = [q for q in quotas if column_of(q, pool) in fields and scores and scores.missing]
    notes += [f"{opt('quota', q.text)}: its rows are known once they are scored." for q in unknown]
    if known := [q for q in quotas if q not in unknown]:
        grouped = groups(known, pool, columns, possible)
        size = len(grouped)
        available = np.bincount(grouped.label[possible], minlength=size)
        if counts is None:  # for a budget in tokens the number of rows is not known yet
            bounds(
                grouped,
                available,
                np.bincount(grouped.label[keep], minlength=size),
                min(rows, int(possible.sum())),
            )
    return ResolvedMixture(
        request,
        pool,
        rows,
        within,
        keep,
        grouped,
        counts,
        evidence,
        tuple(notes),
        copies,
        compared,
        scores,
    )


def kept_rows_exceed(taken: int, total: int, keep: str | None) -> ConfigError:
    """The error for more rows of --keep than the budget has.

    Arguments:
        taken: number of rows of --keep.
        total: the budget in rows.
        keep: the value of the option.
    """
    return ConfigError(
        f" names {pluralize(taken)}, and the budget is {total:,}. Raise the budget, or keep fewer.",
        option="keep",
        value=keep,
    )


def budget_exceeds_pool(budget: Budget, n: int) -> str:
    """The note for a number of rows above the pool's n; "" for any other budget.

    Arguments:
        budget: of the request.
        n: number of rows of the pool.
    """
    if not (isinstance(budget, Rows) and budget.count > n):
        return ""
    given = opt("budget", budget.count)
    return f"{given} is more than the pool has ({pluralize(n)}): it means all of them."


def _select_nothing(columns: Columns, k: int) -> Selection:
    return Selection(np.zeros(0, np.int64), {})


def _unusable(pool: Pool) -> np.ndarray:
    """Rows that cannot be used with a model, as far as the pool knows, bool [n]."""
    out = np.asarray(pool.facts["missing_images"], bool).copy()
    out[list(pool.problems)] = True
    return out


def _unscorable_note(available: int, option: str | None, taken: int) -> str:
    treatment = {
        "keep": "all kept",
        "drop": "left out",
        "random": (f"{taken:,} of them sampled at random"),
    }[option or "drop"]
    return f"{pluralize(available)} that no model can score (videos, audio, too long): {treatment}."


def _with_outside(
    inside: PoolSelection, extra: Mapping[str, np.ndarray], notes: list[str | Note]
) -> PoolSelection:
    """Add rows outside the columns: those of --keep first, unscorable ones last; with blank
    reasons.
    """
    outside = np.concatenate(list(extra.values()))
    evidence = dict(inside.evidence)
    evidence.setdefault("taken_by", np.full(len(inside.considered), METHOD))
    for name, values in evidence.items():
        blank = np.zeros(len(outside), values.dtype)
        if values.dtype.kind == "f":
            blank[:] = np.nan
        if values.dtype.kind == "O":
            blank[:] = ""
        if name == "taken_by":
            blank = np.repeat(np.array(list(extra), "U10"), [len(r) for r in extra.values()])
        evidence[name] = np.concatenate([values, blank])
    rows = np.concatenate([extra[KEEP], inside.rows, extra[UNSCORABLE]])
    considered = np.concatenate([inside.considered, outside])
    return PoolSelection(rows, considered, evidence, notes, inside.findings)
