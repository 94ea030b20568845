"""From signals to columns: stored values are loaded, missing ones scored, and failed rows excluded.

A signal's inputs are computed before it, and each distinct signal once. All arrays are in the
pool's canonical order (see `numbering`), so nothing depends on the order of the files.
`ColumnEngine` consists of:

    numbering        pool row, position and key of every row             no I/O
    eligible         which rows are left, and when too many failed       no I/O
    table            the columns computed so far                         no I/O
    scoring_request  which values of a signal the store has              reads the store
    cache            columns kept in memory, if a cache is given         no I/O
    pool_columns     stored columns of a set of rows                     reads and writes the store
    models           opens one model at a time, and trains models        writes trained models
    servers          whether servers that are asked late answer    sends a request to each
    scoring          computes missing values with a model                writes scores
    column_engine    calls all of these in order

Two parts can be replaced. A `Scorer` decides where rows are scored: `LocalScorer` in this process,
`remote.RemoteScorer` in workers that are watched from here; the viewer's scores nothing. A
`ColumnCache` keeps columns in memory from one engine to the next.
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
