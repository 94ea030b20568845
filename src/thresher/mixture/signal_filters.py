"""Filters on signals, and `--drop-suspects`: which rows are excluded once signals are computed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from thresher.console.formatting import pluralize
from thresher.errors import opt
from thresher.mixture.filters import filtered
from thresher.mixture.quotas import column_of
from thresher.mixture.signal_scores import NamedColumns, SignalScores
from thresher.mixture.spec import Filter, Quota
from thresher.signals.named import NamedField, named_field

if TYPE_CHECKING:
    from thresher.engine import RunContext
    from thresher.mixture.cache import MixtureCache
    from thresher.pools import Pool
    from thresher.request import RunRequest

SUSPICION = "suspicion.suspicion"  # under its full name: the records may have a field `suspicion`


@dataclass(frozen=True, eq=False)
class SignalStage:
    """fields: the signals that filters and quotas name, by name as typed. rules, quotas: all of
    them. keep: bool [n], rows that are always taken."""

    pool: Pool
    request: RunRequest
    fields: Mapping[str, NamedField]
    rules: tuple[Filter, ...]
    quotas: tuple[Quota, ...]
    keep: np.ndarray

    def scores(
        self, within: np.ndarray, context: RunContext, cache: MixtureCache, score: bool
    ) -> SignalScores:
        """Compute the signals that filters, quotas and `drop_suspects` name.

        Arguments:
            within: bool [n], the rows to score; kept rows are added if a quota needs their group.
            context: store and models.
            cache: of earlier results.
            score: whether the model may run.
        """
        least = self.request.drop_suspects
        options = [opt("filter", rule.text) for rule in self._rules]
        quotas = [q for q in self.quotas if column_of(q, self.pool) in self.fields]
        options += [opt("quota", quota.text) for quota in quotas]
        fields = dict(self.fields)
        if least is not None:
            options.append(opt("drop_suspects", least))
            suspicion = named_field(SUSPICION)
            assert suspicion is not None, "it is among the named signals"
            fields[SUSPICION] = suspicion
        return cache.scores(
            self.pool,
            fields,
            within | self.keep if quotas else within.copy(),
            self.request,
            context,
            option=options[0],
            required=bool(self.fields),
            score=score,
        )

    def filtered(
        self, within: np.ndarray, columns: NamedColumns, scores: SignalScores
    ) -> tuple[np.ndarray, list[str]]:
        """(remaining rows of `within`, bool [n]; notes).

        A row that could not be scored is excluded as a failure if a filter or quota needs its
        value, and stays if only `--drop-suspects` does. A row that no model can score stays with
        `--unscorable keep` and `random`, and is excluded with `drop`.

        Arguments:
            within: bool [n], rows that are still considered.
            columns: of the pool, signals included.
            scores: the result of `scores`.
        """
        least = self.request.drop_suspects
        if scores.missing:
            options = [opt("filter", rule.text) for rule in self._rules]
            options += [] if least is None else [opt("drop_suspects", least)]
            return within, [
                f"{option}: which rows it leaves out is known only after the model has processed "
                f"{pluralize(scores.missing)}; no row is left out yet."
                for option in options
            ]
        notes: list[str] = []
        if self.fields:
            within, notes = self._without_failed(within, scores)
        exempt = self.keep.copy()
        exempt[scores.aside] = True
        for rule in self._rules:
            left, note = filtered(rule, columns, within, exempt)
            empty = int((within & ~left & scores.columns[rule.name].missing).sum())
            notes.append(f"{note} {pluralize(empty)} of them have no value." if empty else note)
            within = left
        if least is not None:
            suspicion = scores.columns[SUSPICION]
            suspected = within & ~exempt & suspicion.known
            suspected &= suspicion.values >= np.float32(least)
            unknown = int((within & ~suspicion.known).sum())
            also = f" ({pluralize(unknown)} could not be judged)" if unknown else ""
            count = pluralize(int(suspected.sum()))
            notes.append(f"{count} left out by {opt('drop_suspects', least)}{also}.")
            within = within & ~suspected
        return within, notes

    @property
    def _rules(self) -> list[Filter]:
        """The filters on signals."""
        return [rule for rule in self.rules if rule.name in self.fields]

    def _without_failed(
        self, within: np.ndarray, scores: SignalScores
    ) -> tuple[np.ndarray, list[str]]:
        excluded = np.zeros(len(within), bool)
        excluded[scores.failed_rows] = True
        failed = int((excluded & within & ~self.keep).sum())
        if self.request.unscorable == "drop":
            excluded[scores.aside] = True
        note = (
            f"{pluralize(failed)} left out because {', '.join(self.fields)} could not be computed "
            "for them."
        )
        return within & (~excluded | self.keep), [note] if failed else []
