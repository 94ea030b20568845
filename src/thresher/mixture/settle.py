"""From what the user asked of the mixture to what a run does: before scoring (`settled_for`) and after it (`Settled.choose`).

Reads the pool's records, files of row names and, for near duplicates, the store. The arithmetic is in `quotas`, `choose`
and `tokens`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from thresher.console.words import counted
from thresher.errors import ConfigError
from thresher.mixture.choose import KEEP, METHOD, UNSCORABLE, Ask, Given, choose
from thresher.mixture.memory import Memory
from thresher.mixture.quotas import Groups, bounds, columns_of, groups
from thresher.mixture.spec import Mixture, parse_filter, parse_quota
from thresher.mixture.tokens import TokenCounts, most_rows, parse_tokens, reached, rows_for
from thresher.samplers import largest_remainder
from thresher.types import Budget, Columns, Findings, Selection

if TYPE_CHECKING:
    from thresher.backends import ModelHandle
    from thresher.console.progress import Progress
    from thresher.pools import Pool
    from thresher.storage.columns import Store

NO_MODEL_SCORES = ("video:", "audio:", "too long:")  # beginnings of the errors of rows that are fine


@dataclass(frozen=True)
class Chosen:
    """A selection over pool rows. `considered` and `evidence` are as long, `rows` is a part of `considered`, best first."""

    rows: np.ndarray
    considered: np.ndarray
    evidence: dict[str, np.ndarray]
    notes: list[str]
    findings: Findings | None = None


@dataclass(frozen=True)
class Settled:
    """What a run does about a mixture. All arrays [n] in pool order."""

    mixture: Mixture
    pool: Pool
    budget: int  # rows asked for; for a budget in tokens a first guess
    within: np.ndarray  # bool: rows that are scored and shown to the method
    keep: np.ndarray  # bool: rows that are taken in any case
    groups: Groups | None
    counts: TokenCounts | None
    evidence: Mapping[str, np.ndarray]  # further reasons
    notes: tuple[str, ...]
    copies: np.ndarray | None = None  # int64 [c, 2]: rows left out as duplicates, and the row that stands for each
    compared: np.ndarray | None = None  # bool: rows among which duplicates were looked for

    def aside(self, error: str) -> bool:
        """Whether a row that fails with this error is one for --unscorable rather than a failure."""
        return self.mixture.unscorable is not None and error.startswith(NO_MODEL_SCORES)

    def choose(self, ask: Ask, columns: Columns, considered: np.ndarray, aside: np.ndarray) -> Chosen:
        """The rows to take. `considered`: pool rows of `columns`; `aside`: unscorable pool rows, in a seeded order."""
        if self.counts is None:
            return self._choose(ask, columns, considered, aside, self.budget)
        self.counts.measured(columns, considered)
        tokens = self.counts.tokens
        most = len(considered) + self._outside_keep(considered, aside)
        most += 0 if self.mixture.unscorable in (None, "drop") else int((~self.keep[aside]).sum())
        guess = rows_for(self.counts, considered if len(considered) else np.arange(len(self.pool)))
        asked = self.counts.budget
        least = max(int(self.keep.sum()), 1)
        found = most_rows(
            lambda k: self._choose(ask, columns, considered, aside, max(k, least)),
            lambda chosen: float(tokens[chosen.rows].sum()),
            asked.amount,
            most,
            guess,
        )
        got = float(tokens[found.rows].sum())
        note = reached(
            {"reached": round(got), "kind": asked.kind, "amount": asked.amount, "rows": len(found.rows)}
            | {"how": self.counts.how}
        )
        return replace(found, notes=[note, *found.notes])

    def without(self, rows: np.ndarray) -> Settled:
        """The same where some pool rows may not be taken, not even those of --keep."""
        keep, within = self.keep.copy(), self.within.copy()
        keep[rows] = within[rows] = False
        return replace(self, keep=keep, within=within)

    def taken_beside(self, aside: int) -> int:
        """Rows that can be taken beside those that the method sees, of which `aside` are known to be unscorable."""
        beside = int((self.keep & ~self.within).sum())
        return beside + (aside if self.mixture.unscorable in ("keep", "random") else 0)

    def plan_notes(self, aside: int) -> list[str]:
        """What a plan says of the mixture: `aside` rows are known to be unscorable."""
        notes = list(self.notes)
        if self.counts is not None:
            asked = self.counts.budget
            notes.append(
                f"{asked.amount:,} {asked.kind} are about {counted(self.budget)} of average length ({self.counts.how}); the rows "
                "are chosen so that the tokens fit."
            )
        if self.keep.any():
            notes.append(f"{counted(int(self.keep.sum()))} of --keep are taken in any case.")
        if self.groups is not None:
            possible = self.within | self.keep
            there = np.bincount(self.groups.of[possible], minlength=len(self.groups))
            for quota, rows in zip(self.groups.quotas, there, strict=False):  # the rest has none
                low, high = quota.rows(min(self.budget, int(possible.sum())))
                most = "any number" if high is None else f"at most {high:,}"
                notes.append(f"--quota {quota.text}: at least {low:,} and {most} of the {int(rows):,} rows there.")
        if aside:
            what = {"keep": "kept", "drop": "left out", "random": "drawn at random in their share"}
            notes.append(
                f"{counted(aside)} that no model here can score (videos, audio, too long): {what[self.mixture.unscorable or 'drop']}."
            )
        return notes

    def _outside_keep(self, considered: np.ndarray, aside: np.ndarray) -> int:
        seen = np.zeros(len(self.pool), bool)
        seen[considered] = True
        return int((self.keep & ~seen).sum())

    def _choose(self, ask: Ask, columns: Columns, considered: np.ndarray, aside: np.ndarray, wanted: int) -> Chosen:
        m = self.mixture
        if not (self.keep.any() or self.groups or m.unscorable):
            return self._plain(ask(columns, min(wanted, len(columns))), considered)
        if not len(columns):  # nothing for the method to choose from
            ask = _nothing
        seen = np.zeros(len(self.pool), bool)
        seen[considered] = True
        kept_outside = np.flatnonzero(self.keep & ~seen)
        unscored = aside[~self.keep[aside]] if m.unscorable in ("keep", "random") else aside[:0]
        notes = []
        taken = int(self.keep.sum())
        if taken > wanted:
            raise ConfigError(f"--keep {m.keep} names {taken:,} rows, and the budget is {wanted:,}. Raise it.")
        if m.unscorable == "keep" and taken + len(unscored) > wanted:
            raise ConfigError(
                f"--unscorable keep: {len(unscored):,} rows that no model can score, and {taken:,} of --keep, are more than "
                f"the budget of {wanted:,}. Raise it, or give --unscorable random or drop."
            )
        k = min(wanted, len(considered) + len(kept_outside) + len(unscored))
        if m.unscorable == "random":  # their own share of what is to be taken, by a seeded draw
            free = int((~self.keep[considered]).sum())
            share = largest_remainder(k - taken, np.array([len(unscored), free]), np.array([len(unscored), free]))
            unscored = unscored[: int(share[0])]
        if len(aside):
            notes.append(_about(len(aside), m.unscorable, len(unscored)))
        outside = np.concatenate([kept_outside, unscored])
        of = np.zeros(len(self.pool), np.int32) if self.groups is None else self.groups.of
        given = Given(self.keep[considered], of[outside].astype(np.int64))
        chosen = choose(ask, columns, k, given, self.groups, of[considered])
        inside = self._plain(chosen, considered)
        extra = {KEEP: kept_outside, UNSCORABLE: unscored}
        whole = _with_outside(inside, extra, [*notes, *inside.notes])
        return replace(
            whole, evidence=whole.evidence | {name: a[whole.considered] for name, a in self.evidence.items()}
        )

    def _plain(self, chosen: Selection, considered: np.ndarray) -> Chosen:
        evidence = {name: np.asarray(a) for name, a in chosen.reason.items()}
        for name, values in self.evidence.items():
            evidence[name] = values[considered]
        return Chosen(considered[chosen.rows], considered, evidence, list(chosen.notes), chosen.findings)


def settled_for(
    mixture: Mixture | None,
    pool: Pool,
    budget: Budget,
    store: Store,
    seed: int,
    progress: Progress | None,
    memory: Memory | None = None,
    model: ModelHandle | None = None,
    score: bool = True,
) -> Settled:
    """What can be known before anything is scored; quotas that the pool cannot meet are refused here.

    A share is of all rows of the pool, also where some are dropped or filtered. `memory`: of earlier calls for the same pool
    and store. `model`: tells the tokens of an image and, with `score`, semantic duplicates (`duplicates.stage`). Raises
    ConfigError, and for duplicates what finding them raises.
    """
    mixture = mixture or Mixture()
    memory = memory or Memory()
    n = len(pool)
    asked = parse_tokens(budget.text)
    notes: list[str] = []
    within = np.ones(n, bool)
    keep = np.zeros(n, bool)
    if mixture.keep is not None:
        keep = memory.listed(mixture.keep, "--keep", pool)
        if (bad := keep & pool.unreadable).any():
            row = int(np.flatnonzero(bad)[0])
            raise ConfigError(f"--keep {mixture.keep}: row {row} cannot be read at all: {pool.problems[row]}.")
    if mixture.drop is not None:
        drop = memory.listed(mixture.drop, "--drop", pool)
        if (both := keep & drop).any():
            row = int(np.flatnonzero(both)[0])
            raise ConfigError(
                f"--keep {mixture.keep} and --drop {mixture.drop} both name {counted(int(both.sum()))}, such as row {row}."
            )
        within &= ~drop
        notes.append(f"{counted(int(drop.sum()))} left out by --drop {mixture.drop}.")
    rules = [parse_filter(text) for text in mixture.filter]
    quotas = [parse_quota(text) for text in mixture.quota]
    columns = memory.columns(pool, [*(r.name for r in rules), *columns_of(quotas, pool)])
    for rule in rules:
        fails = within & ~memory.satisfied(rule, columns) & ~keep
        within &= ~fails
        notes.append(f"{counted(int(fails.sum()))} left out by --filter {rule.text!r}.")
    if not within.any():
        raise ConfigError(f"No row is left: {' '.join(notes)}")
    evidence: dict[str, np.ndarray] = {}
    copies = shown = None
    if mixture.dedup is not None:
        shown = within | keep
        found = memory.representatives(
            pool,
            mixture.dedup,
            within,
            keep,
            store,
            seed=seed,
            progress=progress,
            threshold=mixture.dedup_threshold,
            model=model,
            score=score,
        )
        gone = within & ~found.kept
        within &= found.kept
        copies = np.stack([np.flatnonzero(gone), found.group[gone]], axis=1) if gone.any() else None
        evidence = {"duplicate_group": found.group, "copies": found.copies}
        notes.append(found.note)
        assert not (gone & keep).any(), "a row of --keep was taken for a copy"
    # a kept row that no model can take is not scored, and so cannot fail
    within &= ~(keep & _unusable(pool))
    counts = None if asked is None else memory.counts(pool, asked, model)
    possible = within | keep
    rows = budget.capped(n) if counts is None else rows_for(counts, np.flatnonzero(possible))
    if counts is None and (above := above_the_pool(budget, n)):
        notes.append(above)
    grouped = None
    if quotas:
        grouped = groups(quotas, pool, columns, possible)
        size = len(grouped)
        there = np.bincount(grouped.of[possible], minlength=size)
        if counts is None:  # of a budget in tokens the rows are not known yet
            bounds(grouped, there, np.bincount(grouped.of[keep], minlength=size), min(rows, int(possible.sum())))
    return Settled(mixture, pool, rows, within, keep, grouped, counts, evidence, tuple(notes), copies, shown)


def above_the_pool(budget: Budget, n: int) -> str:
    """What to tell the user of a number of rows above the n of the pool; "" for any other budget in rows or percent."""
    text = budget.text.strip()
    if not (text.isdecimal() and int(text) > n):
        return ""
    return f"--budget {text} is more than the pool has ({counted(n)}): it means all of them."


def _nothing(columns: Columns, k: int) -> Selection:
    return Selection(np.zeros(0, np.int64), {})


def _unusable(pool: Pool) -> np.ndarray:
    """bool [n]: rows that a run with a model would lose, as far as the pool knows."""
    out = np.asarray(pool.facts["missing_images"], bool).copy()
    out[list(pool.problems)] = True
    return out


def _about(there: int, what: str | None, taken: int) -> str:
    done = {"keep": "all kept", "drop": "left out", "random": f"{taken:,} of them drawn at random"}[what or "drop"]
    return f"{counted(there)} that no model here can score (videos, audio, too long): {done}."


def _with_outside(inside: Chosen, extra: Mapping[str, np.ndarray], notes: list[str]) -> Chosen:
    """The rows outside the columns go first where they are of --keep, last where they are unscorable; blank reasons."""
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
    return Chosen(rows, considered, evidence, notes, inside.findings)
