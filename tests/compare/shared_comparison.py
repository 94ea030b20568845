"""A comparison with fake training that several processes share: its job, and what was computed."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path

from tests.fake_training import FakeEvaluation, FakeTraining
from tests.text_pools import record, write_pool
from tests.warm_process import WarmProcess, WarmServer

# argv: folder, seconds of a training and of an evaluation; "ready" once Python is up, and it goes
# on after a line
JOB = """
import sys
from pathlib import Path
from tests.fake_training import FakeEvaluation, FakeTraining
from tests.text_pools import HighestLoss, Model
from thresher.compare import compare, make_job
from thresher.engine import RunContext
from thresher.methods.mllm_selector import MllmSelector
from thresher.pools import open_pool
from thresher.storage.columns import Store
from thresher.types import Budget

folder, seconds = Path(sys.argv[1]), float(sys.argv[2])
training = FakeTraining(folder / "trainings", seconds=seconds)
evaluation = FakeEvaluation(folder / "evaluations", lambda told: 0.5, seconds=seconds)
made = make_job(
    open_pool(folder / "pool.json"), open_pool(folder / "test.json"),
    methods={"highest_loss": HighestLoss(), "mllm_selector": MllmSelector()},
    budgets=[Budget.parse("10%")], seeds=3, model=Model().handle,
)
print("ready", flush=True)
sys.stdin.readline()
context = RunContext(Store(folder / "store"), trainer=training.trainer)
compare(made, context, folder / "out", evaluate=evaluation, report=print)
"""
CELLS, SEED_MODELS = 12, 3  # three methods and the full pool, three seeds


class SharedComparison:
    """The folder of a comparison, and the processes that compute it."""

    def __init__(self, folder: Path, warm: WarmServer, seconds: float) -> None:
        folder.mkdir(exist_ok=True)
        self.folder, self._warm, self._seconds = folder, warm, seconds
        write_pool(folder / "pool.json", [record(i) for i in range(300)])
        write_pool(folder / "test.json", [record(i) for i in range(10_000, 10_200)])

    def start(self, processes: int) -> list[WarmProcess]:
        """Processes that begin at the same time."""
        started = [self._warm.start(JOB, self.folder, self._seconds) for _ in range(processes)]
        for process in started:
            assert process.stdout.readline() == "ready\n"
        for process in started:
            process.stdin.write("\n")
            process.stdin.flush()
        return started

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


def untimed(text: str, folder: Path) -> str:
    """The content of a compare.json without what was measured, and without its folder.

    Arguments:
        text: the content.
        folder: in which pool and evaluation set are.
    """
    json.loads(text)
    return re.sub(r'("seconds_\w+": )[-\d.e]+', r"\1…", text).replace(str(folder), "")
