"""The mixture of a selection, for every method: quotas, kept and dropped rows, filters, token
budgets.

    options          spec: quotas and filters, parsed from the user's options
    before scoring   resolve: rows that the method sees (drop, filter, duplicates) or that are kept
    after scoring    constrain: the method's selection, repeated for groups that need more or fewer
        rows

User documentation: docs/mixture.md.
"""

from thresher.mixture.resolve import ResolvedMixture, budget_exceeds_pool, resolve_mixture
from thresher.mixture.spec import check_mixture

__all__ = ["ResolvedMixture", "budget_exceeds_pool", "check_mixture", "resolve_mixture"]
