"""The mixture of a selection, for every method: quotas, kept and dropped rows, filters, token
budgets.

    options          spec: quotas and filters, parsed from the user's options
    before scoring   resolve: rows that the method sees (drop, filter, duplicates) or that are kept;
        signal_names, signal_scores, signal_filters: signals in filters and quotas
    after scoring    constrain: the method's selection, repeated for groups that need more or fewer
        rows

User documentation: docs/mixture.md.
"""

from thresher.mixture.resolve import ResolvedMixture, budget_exceeds_pool, resolve_mixture
from thresher.mixture.signal_names import asks_for_signals, may_name_signals
from thresher.mixture.signal_scores import SignalScores
from thresher.mixture.spec import check_mixture

__all__ = [
    "ResolvedMixture",
    "SignalScores",
    "asks_for_signals",
    "budget_exceeds_pool",
    "check_mixture",
    "may_name_signals",
    "resolve_mixture",
]
