"""The finished cells of a pool, stage by stage, for the pages."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import numpy as np
from benchmarks.proof import extras, setup
from benchmarks.proof.numbers import Arm, Key, Questions, against, arms_of
from benchmarks.proof.oracles import Labels
from benchmarks.proof.stages import STAGES, Page, stages_of
from benchmarks.proof.work import job_of

from thresher.backends import resolve
from thresher.compare import RANDOM, Job
from thresher.stats.verdict import Verdict


@dataclass(frozen=True)
class PoolResult:
    """Results for one pool. `stages`: arms by stage; `missing`: number of unfinished cells by
    stage; `days`: on which the finished cells were computed."""

    name: str
    rows: int
    noise: float
    questions: Questions
    stages: Mapping[str, Mapping[Key, Arm]]
    missing: Mapping[str, int]
    days: frozenset[date] = frozenset()

    def among(self, *names: str) -> dict[Key, Arm]:
        """Arms of several stages; of an arm in more than one, that of most seeds."""
        out: dict[Key, Arm] = {}
        for name in names:
            for key, arm in self.stages.get(name, {}).items():
                if key not in out or len(arm.seeds) > len(out[key].seeds):
                    out[key] = arm
        return out

    @property
    def main(self) -> dict[Key, Arm]:
        """Of the tables of single pools: methods and oracles with one pass over the subset."""
        return self.among("ten", "judged", "aimed", "taught", "others", "winnow", "sizes", "dics")


def collect(out: Path, name: str, sizes: setup.Sizes, model: str, page: Page) -> PoolResult:
    pool, questions = setup.open_world(setup.world_folder(out, sizes), name)
    labels = Labels.read(pool)
    hidden = extras.labels_of(Path(questions.path))
    answers = [s.turns[-1].text for s in questions.samples(np.arange(len(questions)))]
    asked = Questions.of(hidden, answers)
    stages, missing = {}, {}
    days: set[date] = set()
    handle = resolve(model, device="cpu")
    for stage in stages_of(name):
        if stage.page == page and stage.methods:
            job = job_of(pool, questions, stage, sizes, handle)
            stages[stage.name], missing[stage.name] = arms_of(
                job, out / "pools" / name, labels, asked.style == "yesno"
            )
            days |= _days(job, out / "pools" / name)
    noise = float(labels.noisy.mean())
    return PoolResult(name, len(pool), noise, asked, stages, missing, frozenset(days))


def _days(job: Job, out: Path) -> set[date]:
    """Days on which the finished cells were written."""
    files = [out / "cells" / f"{cell.fingerprint}.json" for cell in job.cells()]
    return {date.fromtimestamp(file.stat().st_mtime) for file in files if file.exists()}


def from_random(arms: Mapping[Key, Arm], key: Key) -> Verdict | None:
    """The verdict of an arm against random at its budget, over the common seeds. None for random
    itself, an arm without cells, or one without a common seed."""
    arm, random = arms.get(key), arms.get((RANDOM, key[1]))
    if arm is None or random is None or key[0] == RANDOM:
        return None
    return against(arm, random, None)


def unfinished(found: Sequence[PoolResult]) -> str:
    """A paragraph with the numbers of missing cells; "" if there are none."""
    missing: Counter[str] = Counter()
    for p in found:
        missing.update(p.missing)
    what = {s.name: s.what for s in STAGES}
    lacking = ", ".join(f"{what[stage]} {cells}" for stage, cells in missing.items() if cells)
    if not lacking:
        return ""
    return f"\n\n**Not finished**, missing cells: {lacking}. The same command resumes with them."
