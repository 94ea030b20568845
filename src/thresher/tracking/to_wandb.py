"""`--track wandb`: a run of Weights & Biases in the project $WANDB_PROJECT, else `thresher`.

Reads wandb's own environment variables, such as WANDB_MODE=offline, and the login of `wandb login`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

import wandb

from thresher.tracking.tracker import Table, Value


class WandbTracker:
    """A run of wandb. Each group of numbers has an x axis of its own.

    Arguments:
        run: name of the run.
    """

    def __init__(self, run: str) -> None:
        self._run = wandb.init(
            project=os.environ.get("WANDB_PROJECT") or "thresher",
            name=run,
            reinit="create_new",  # a run that the program itself has started is not touched
            settings=wandb.Settings(console="off"),  # what is printed is not uploaded
        )
        self._groups: list[str] = []

    def settings(self, values: Mapping[str, Value]) -> None:
        self._run.config.update(dict(values))

    def log(self, values: Mapping[str, float], step: int) -> None:
        out = dict(values)
        for group in dict.fromkeys(name.rpartition("/")[0] for name in values):
            axis = f"{group}/step" if group else "step"
            if group not in self._groups:
                self._groups.append(group)
                self._run.define_metric(axis, hidden=True)
                self._run.define_metric(f"{group}/*" if group else "*", step_metric=axis)
            out[axis] = step
        self._run.log(out)

    def summary(self, values: Mapping[str, float]) -> None:
        self._run.summary.update(dict(values))

    def table(self, name: str, table: Table) -> None:
        content = wandb.Table(columns=list(table.columns), data=[list(r) for r in table.rows])
        self._run.log({name: content})

    def text(self, name: str, text: str) -> None:
        self._run.summary.update({name: text})

    def close(self, failed: bool) -> None:
        self._run.finish(exit_code=int(failed))
