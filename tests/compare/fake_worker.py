"""A worker process of `--devices` whose trainings and evaluations are fake: `python -m` runs it in
place of `thresher.compare.worker`.

It is asked for {"folder": …, "seconds": of a training, "error": …}: with an error it fails with
that at its first cell.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.compare.shared_comparison import job_in
from thresher import errors
from thresher.compare import worker
from thresher.compare.cell_runner import CellRunner
from thresher.selection.worker_state import Reports


def compute(given: Mapping[str, Any], reports: Reports) -> None:
    job, context, evaluate = job_in(Path(given["folder"]), given["seconds"])
    runner = CellRunner(
        job, replace(context, progress=reports), Path(given["folder"]) / "out", evaluate
    )

    def begin(task: str) -> None:
        reports.begin(task)
        if given["error"]:
            raise getattr(errors, given["error"])("the reason")

    runner.run_missing(begin, lambda: reports.count(1))
    reports.begin("")


if __name__ == "__main__":
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(worker, "compute", compute)
        worker.main()
