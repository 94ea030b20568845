"""A comparison with fake training that several processes share: its job, and what was computed."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path

from tests.fake_training import FakeEvaluation, FakeTraining
from tests.text_pools import HighestLoss, Model, record, write_pool
from tests.warm_process import WarmProcess, WarmServer
from thresher.compare import Evaluate, Job, make_job
from thresher.engine import RunContext
from thresher.methods.mllm_selector import MllmSelector
from thresher.pools import open_pool
from thresher.storage.columns import Store
from thresher.types import Budget

# argv: folder, seconds of a training and of an evaluation; "ready" once Python is up, and it goes
# on after a line
JOB = """
import sys
from pathlib import Path
from tests.compare.shared_comparison import job_in
from thresher.compare import compare

folder = Path(sys.argv[1])
job, context, evaluate = job_in(folder, float(sys.argv[2]))
print("ready", flush=True)
sys.stdin.readline()
compare(job, context, folder / "out", evaluate=evaluate, report=print)
"""
CELLS, SEED_MODELS = 12, 3  # three methods and the full pool, three seeds


def write_pools(folder: Path) -> None:
    """A pool and an evaluation set.

    `folder`: to write them to.
    """
    write_pool(folder / "pool.json", [record(i) for i in range(300)])
    write_pool(folder / "test.json", [record(i) for i in range(10_000, 10_200)])


def job_in(folder: Path, seconds: float) -> tuple[Job, RunContext, Evaluate]:
    """The comparison of the pools in a folder, with fake training and evaluation.

    Arguments:
        folder: with what `write_pools` wrote.
        seconds: of a training, and of an evaluation.
    """
    training = FakeTraining(folder / "trainings", seconds=seconds)
    job = make_job(
        open_pool(folder / "pool.json"),
        open_pool(folder / "test.json"),
        methods={"highest_loss": HighestLoss(), "mllm_selector": MllmSelector()},
        budgets=[Budget.parse("10%")],
        seeds=3,
        model=Model().handle,
    )
    context = RunContext(Store(folder / "store"), trainer=training.trainer)
    return job, context, FakeEvaluation(folder / "evaluations", lambda told: 0.5, seconds=seconds)


class Computed:
    """What was computed in a folder so far.

    folder: of the comparison.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def finished(self) -> set[str]:
        """Fingerprints of the finished cells."""
        return {p.stem for p in (self.folder / "out" / "cells").glob("*.json")}

    def evaluated(self) -> Counter[str]:
        """How often each cell's model was evaluated."""
        log = FakeEvaluation(self.folder / "evaluations", lambda told: 0.5)
        return Counter(call["model"] for call in log.calls())

    def trained(self) -> int:
        return len(FakeTraining(self.folder / "trainings").calls())

    def written(self) -> str:
        """compare.json without what was measured and without paths."""
        return untimed((self.folder / "out" / "compare.json").read_text(), self.folder)


class SharedComparison(Computed):
    """The folder of a comparison, and the processes that compute it."""

    def __init__(self, folder: Path, warm: WarmServer, seconds: float) -> None:
        super().__init__(folder)
        self._warm, self._seconds = warm, seconds
        write_pools(folder)

    def start(self, processes: int) -> list[WarmProcess]:
        """Processes that begin at the same time."""
        started = [self._warm.start(JOB, self.folder, self._seconds) for _ in range(processes)]
        for process in started:
            assert process.stdout.readline() == "ready\n"
        for process in started:
            process.stdin.write("\n")
            process.stdin.flush()
        return started


def untimed(text: str, folder: Path) -> str:
    """The content of a compare.json without what was measured, and without its folder.

    Arguments:
        text: the content.
        folder: in which pool and evaluation set are.
    """
    json.loads(text)
    return re.sub(r'("seconds_\w+": )[-\d.e]+', r"\1…", text).replace(str(folder), "")
