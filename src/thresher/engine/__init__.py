"""From signals to columns: stored values are loaded, missing ones scored, and failed rows excluded.

Inputs come first and each distinct signal once. All arrays are in the pool's canonical order (see
`numbering`), so nothing depends on the order of the files. `ColumnEngine` consists of:

    numbering        pool row, position and key of every row          touches nothing
    eligible         which rows are left, and when too many failed    touches nothing
    table            the columns so far                               touches nothing
    scoring_request  what the store holds of a signal                 reads the store
    cache            columns kept in memory, if a cache is given      touches nothing
    pool_columns     columns of a set of rows that are stored   reads and writes the store
    models           one is open at a time                            writes trained models
    scoring          asks models for what is missing                  writes scores
    column_engine    the order of all that

Two parts can be replaced. A `Scorer` decides where rows are scored: `LocalScorer` in this
process, another for a cluster; the viewer's scores nothing. A `ColumnCache` keeps columns in memory
from one engine to the next.
"""

from thresher.engine.cache import CacheQuery, ColumnCache, RowColumn
from thresher.engine.column_engine import ColumnEngine, create_engine
from thresher.engine.context import RunContext
from thresher.engine.eligible import AUTO_LIMIT, commonest
from thresher.engine.scoring import ScoredKeys, Scorer
from thresher.engine.scoring_request import ScoringRequest, SignalRun

__all__ = [
    "AUTO_LIMIT",
    "CacheQuery",
    "ColumnCache",
    "ColumnEngine",
    "RowColumn",
    "RunContext",
    "ScoredKeys",
    "Scorer",
    "ScoringRequest",
    "SignalRun",
    "commonest",
    "create_engine",
]
