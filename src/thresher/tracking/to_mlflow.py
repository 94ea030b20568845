"""`--track mlflow`: a run in the experiment $MLFLOW_EXPERIMENT_NAME, else `thresher`, at
$MLFLOW_TRACKING_URI, else where mlflow keeps local runs.

Works with the package mlflow-skinny. A run that the program itself has started is not touched.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping

from mlflow.entities import Metric, Param
from mlflow.tracking import MlflowClient
from mlflow.utils.time import get_current_time_millis

from thresher.tracking.tracker import Table, Value

_NOT_IN_NAMES = re.compile(r"[^\w\-. :/]")
LONGEST_SETTING = 6000  # characters: mlflow's limit on the value of a parameter


class MlflowTracker:
    """A run of mlflow: numbers are metrics, tables and texts are artifacts.

    Arguments:
        run: name of the run.
    """

    def __init__(self, run: str) -> None:
        self._client = MlflowClient()
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME") or "thresher"
        found = self._client.get_experiment_by_name(name)
        experiment = self._client.create_experiment(name) if found is None else found.experiment_id
        self._run = self._client.create_run(experiment, run_name=run).info.run_id

    def settings(self, values: Mapping[str, Value]) -> None:
        self._client.log_batch(
            self._run,
            params=[Param(_name(k), str(v)[:LONGEST_SETTING]) for k, v in values.items()],
        )

    def log(self, values: Mapping[str, float], step: int) -> None:
        now = get_current_time_millis()
        self._client.log_batch(
            self._run, metrics=[Metric(_name(k), float(v), now, step) for k, v in values.items()]
        )

    def summary(self, values: Mapping[str, float]) -> None:
        self.log(values, 0)

    def table(self, name: str, table: Table) -> None:
        content = {"columns": list(table.columns), "data": [list(row) for row in table.rows]}
        self._client.log_dict(self._run, content, f"{_name(name)}.json")

    def text(self, name: str, text: str) -> None:
        self._client.log_text(self._run, text, f"{_name(name)}.md")

    def close(self, failed: bool) -> None:
        self._client.set_terminated(self._run, "FAILED" if failed else "FINISHED")


def _name(text: str) -> str:
    """A name that mlflow accepts: `_` for other characters, such as `%`."""
    return _NOT_IN_NAMES.sub("_", text)
