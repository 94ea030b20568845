"""Tracking of experiments (`--track wandb|mlflow|tensorboard`): a run's progress and results in the
tracker that a team uses.

    tracker          the protocol of a tracker, and the table that it takes
    session          a run with a tracker or without one; a tracker that fails does not end the run
    progress         sends progress to a tracker and to the display
    to_wandb …       one module for each tracker, imported when it is opened

Sends nothing unless the option is given.
"""

from thresher.tracking.session import Tracking, require_tracker, tracked
from thresher.tracking.tracker import Table, Tracker, Value

__all__ = ["Table", "Tracker", "Tracking", "Value", "require_tracker", "tracked"]
