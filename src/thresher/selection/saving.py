"""What a selection costs and what it saves: selecting, training time saved per epoch, and when the
first pays off.

Selecting is paid once; every epoch over the subset then takes less time than one over the pool.
Time is estimated from what scoring a row takes, because a training step costs about three times as
much.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from thresher.console.formatting import format_duration
from thresher.errors import ConfigError

if TYPE_CHECKING:
    from thresher.storage.columns import Store

# cost of a training step on a row, relative to scoring it: forward and a backward of twice that
TRAINING_PASSES = 3
# the signal whose seconds are those of one forward pass of the model
SCORED_BY_ONE_PASS = "answer_loss"


@dataclass(frozen=True)
class Saving:
    """A subset compared with its pool.

    pool, kept: rows.
    selecting: seconds that selecting takes, all scoring included; None if it was not measured.
    row_seconds: seconds that scoring one row takes; None if it was not measured.
    model: whether a model is used.
    """

    pool: int
    kept: int
    selecting: float | None
    row_seconds: float | None
    model: bool

    @property
    def rows(self) -> int:
        """Rows saved in each epoch; never negative."""
        return max(self.pool - self.kept, 0)

    @property
    def share(self) -> float:
        """Part of an epoch's rows that is saved, 0 to 1."""
        return self.rows / self.pool if self.pool else 0.0

    @property
    def per_epoch(self) -> float | None:
        """Seconds of training saved in each epoch, estimated; None if nothing was measured."""
        if not self.rows:
            return 0.0
        return None if self.row_seconds is None else TRAINING_PASSES * self.row_seconds * self.rows

    @property
    def trainings(self) -> int | None:
        """Trainings of one epoch from which selecting pays off; None if never, or not known."""
        if not self.rows:
            return None
        if not self.model:
            return 1
        if self.selecting is None or not self.per_epoch:
            return None
        return trainings(self.selecting, self.per_epoch)

    @property
    def selecting_words(self) -> str:
        """ "≈ 3 min 5 s", "no model needed", "not measured"."""
        if not self.model:
            return "no model needed"
        if self.selecting is None:
            return "not measured"
        return f"≈ {format_duration(self.selecting)}" if self.selecting >= 0.05 else "≈ 0 s"

    @property
    def saved_words(self) -> str:
        """ "≈ 8 min 20 s (70% of the rows)"; only the share if the time is not known."""
        if not self.rows:
            return "nothing"
        share = f"{percent(self.share)} of the rows"
        return share if self.per_epoch is None else f"≈ {format_duration(self.per_epoch)} ({share})"

    @property
    def pays_off_words(self) -> str:
        """After how many trainings of one epoch, or that it never does."""
        if not self.rows:
            return "never pays off in time: every row is kept"
        if self.trainings is None:
            return "when it pays off was not measured"
        one = "pays off from the first training of one epoch"
        return (
            one
            if self.trainings == 1
            else (f"pays off from {self.trainings:,} trainings of one epoch")
        )

    def sentence(self) -> str:
        """The three in one line, for a summary."""
        return (
            f"Selecting: {self.selecting_words}; saved per epoch: {self.saved_words}; "
            f"{self.pays_off_words}."
        )

    def to_json(self) -> dict[str, Any]:
        return {
            "selecting_seconds": self.selecting if self.model else 0.0,
            "saved_seconds_per_epoch": self.per_epoch,
            "saved_rows_per_epoch": self.rows,
            "pays_off_from_trainings": self.trainings,
        }


def trainings(selecting: float, saved: float) -> int:
    """From how many trainings on selecting pays off; seconds, `saved` > 0 in each training.

    Arguments:
        selecting: seconds for selecting.
        saved: seconds saved by each training, above 0.
    """
    return max(math.ceil(_as_shown(selecting) / _as_shown(saved)), 1)


def pays_off(selecting: float, saved: float) -> str:
    """When selecting pays off, as text.

    Arguments:
        selecting: seconds for selecting.
        saved: seconds saved by each training.
    """
    n = trainings(selecting, saved)
    return "pays off from the first training" if n == 1 else f"pays off from {n:,} trainings"


def _as_shown(seconds: float) -> float:
    """Rounded as `duration` shows it, so that the three numbers of a sentence fit together."""
    return float(round(seconds)) if seconds >= 1 else seconds


def percent(share: float) -> str:
    """A share from 0 to 1 as text that never rounds to all or nothing.

    >>> [percent(x) for x in (0.0, 0.001, 0.7, 0.9996, 1.0)]
    ['0%', 'less than 1%', '70%', 'more than 99%', '100%']
    """
    if 0 < share < 0.01:
        return "less than 1%"
    if 0.99 < share < 1:
        return "more than 99%"
    return f"{100 * share:.0f}%"


def of_run(run: Mapping[str, Any], store: Store | None, pool: int, kept: int) -> Saving:
    """The saving of a selection that was made. Its signals' cost is in the store, even if their
    values were reused.

    Arguments:
        run: the content of run.yaml.
        store: None if it no longer exists.
        pool: number of rows of the pool.
        kept: number of rows of the subset.
    """
    from thresher.training.registry import training_seconds

    signals = [s for s in run.get("signals") or [] if _needed(s)]
    asked = bool(signals or run.get("trained_models")) or asks_model(run.get("config") or {})
    if not asked or not (run.get("model") or run.get("roles")):
        return Saving(pool, kept, 0.0, None, model=False)
    if store is None or not signals:
        return Saving(pool, kept, None, None, model=True)
    seconds = {s["fingerprint"]: store.cost(s["fingerprint"]) for s in signals}
    total = sum(_needed(s) * seconds[s["fingerprint"]] for s in signals)
    total += sum(training_seconds(store, t["fingerprint"]) for t in run.get("trained_models") or [])
    served = ((run.get("model") or {}).get("identity") or {}).get("architecture") == "openai"
    one_pass = [seconds[s["fingerprint"]] for s in signals if s["signal"] == SCORED_BY_ONE_PASS]
    row = next((x for x in one_pass if x > 0), None) if not served else None
    return Saving(pool, kept, total if all(seconds.values()) else None, row, model=True)


def asks_model(config: Mapping[str, Any]) -> bool:
    """Whether the method, filters and quotas of a request use a model's columns, also where nothing
    is scored or read because the skills of all rows are stored.

    Arguments:
        config: of the request, as `RunRequest.to_mapping` makes it.
    """
    from thresher.methods import load
    from thresher.methods.needs import needs
    from thresher.mixture import may_name_signals
    from thresher.request import RunRequest

    filters, quotas = (tuple(config.get(name) or ()) for name in ("filter", "quota"))
    try:
        method = load(str(config.get("method") or ""), config.get("settings") or {})
        rules = RunRequest(filter=filters, quota=quotas)
        return bool(needs(method)) or may_name_signals(rules)
    except ConfigError:  # a method or an option that this version does not know
        return False


def _needed(signal: Mapping[str, Any]) -> int:
    """The number of rows of a signal in run.yaml. The key was "wanted" in earlier versions."""
    return int(signal.get("needed", signal.get("wanted", 0)))
