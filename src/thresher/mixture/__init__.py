"""Control over what a selection is made of, for every method: quotas, rows that must stay or go, filters, token budgets.

    what is asked    spec.Mixture, out of the texts that the user typed
    before scoring   within: which rows the method sees at all (drop, filter, duplicates), which are taken anyway (keep)
    after scoring    choose: the method's selection, asked again for groups that must give more or fewer rows

docs/mixture.md says it for users.
"""

from thresher.mixture.settle import Settled, above_the_pool, settled_for
from thresher.mixture.spec import Mixture

__all__ = ["Mixture", "Settled", "above_the_pool", "settled_for"]
