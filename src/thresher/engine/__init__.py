"""From signals to columns: what is stored is loaded, what is missing is scored, and rows that fail
leave.

Inputs come first and each distinct signal once. All arrays here are in the pool's canonical order
("positions"), so nothing depends on the order of the file. Ties pools, store, engine and backend
together; `run` and `plan` use it.

    means        store, models and rules that all of it is given      touches nothing
    active       which rows are still in, and when too many have left    touches nothing
    requests     what a signal wants of the store, and under which keys  reads the store
    passes       asking models: one is open at a time
        writes scores and trained models into the store
    computation  signal by signal, inputs first                          by the three above

`Computation` is one class over `active`, `passes` and `computation`, each of which adds a step to
the one before.
"""

from thresher.engine.active import AUTO_LIMIT, OnMissing, commonest
from thresher.engine.computation import Computation, begin
from thresher.engine.means import Means
from thresher.engine.requests import Request, SignalRun

__all__ = [
    "AUTO_LIMIT",
    "Computation",
    "Means",
    "OnMissing",
    "Request",
    "SignalRun",
    "begin",
    "commonest",
]
