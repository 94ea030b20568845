"""What a run has taken so far, summed over all its engines: values scored, and the seconds of
scoring and of training. `run.yaml` compares it with what `plan` predicted.

Opening models, waiting for other processes or for a server of files that does not answer, and a
method's arithmetic are not included.
"""

from __future__ import annotations

from dataclasses import dataclass

FIRST_ROWS = 64  # from which the time of a pass is estimated, as many as `plan` measures


@dataclass
class Meter:
    """Counts what a run takes. Changed by the engines of one process.

    scores: values that were scored during the run, those of other processes included.
    scoring_seconds: of the passes of this process; of a pass that workers do, until its end.
    waiting_seconds: for the store's server, or that of the images, during these passes.
    training_seconds: of models that were trained during the run by this process.
    estimated_scores: values of the passes that were long enough to be estimated.
    estimated_seconds: what these passes would take, estimated from their first rows.
    """

    scores: int = 0
    scoring_seconds: float = 0.0
    waiting_seconds: float = 0.0
    training_seconds: float = 0.0
    estimated_scores: int = 0
    estimated_seconds: float = 0.0

    @property
    def idle(self) -> bool:
        """Whether nothing was scored and nothing trained."""
        return self.scores == 0 and self.training_seconds == 0.0

    def add_pass(self, scores: int, seconds: float, waiting: float) -> None:
        """Count a pass.

        Arguments:
            scores: values that it stored: rows times signals.
            seconds: that it took, without `waiting`.
            waiting: seconds in which a server of files did not answer.
        """
        self.scores += scores
        self.scoring_seconds += seconds
        self.waiting_seconds += waiting

    def add_training(self, seconds: float) -> None:
        """Count a model that was trained; `seconds`: that it took."""
        self.training_seconds += seconds

    def estimate_pass(self, scores: int, seconds: float) -> None:
        """Count a pass of which the first rows are scored.

        Arguments:
            scores: values that it will store.
            seconds: that it will take, estimated.
        """
        self.estimated_scores += scores
        self.estimated_seconds += seconds


class FirstRows:
    """Estimates once, from its first rows, what a pass will take.

    Arguments:
        rows: of the pass.
        processes: that share them.
    """

    def __init__(self, rows: int, processes: int = 1) -> None:
        self._rows, self._processes, self._done, self._made = rows, processes, 0, False

    def advance(self, rows: int, seconds: float) -> float | None:
        """Seconds of the whole pass once `FIRST_ROWS` rows are complete, at most once; None before
        and after, and for a pass that ends with these rows.

        Arguments:
            rows: completed since the last call.
            seconds: since the pass began.
        """
        self._done += rows
        if self._made or self._done < FIRST_ROWS or self._done >= self._rows:
            return None
        self._made = True
        return seconds / self._done * self._rows / self._processes
