"""What is wrong with a pool, by kind, with examples and what a run does about each; and a repaired
copy, where asked for.

    kinds     every kind of finding: its severity, what it is, what a run does
    findings  collecting them: rows by kind, examples, the diagnosis
    rows      what reading the records and their texts tells
    images    what reading every image tells
    copies    near duplicates, and rows that stand in an evaluation set
    repair    `--fix`: a repaired copy and a log of every change

`examine` reads every row and every image and changes nothing.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from thresher.console.progress import NoProgress, Progress
from thresher.doctor.copies import look_for_copies, look_for_leaks
from thresher.doctor.findings import EXAMPLES, Diagnosis, Example, Finding, Findings
from thresher.doctor.images import look_at_images
from thresher.doctor.kinds import KINDS, SEVERITIES
from thresher.doctor.repair import Repaired, repair
from thresher.doctor.rows import CONTEXT, look_at_rows, look_at_texts
from thresher.pools import Pool

__all__ = [
    "CONTEXT",
    "EXAMPLES",
    "KINDS",
    "SEVERITIES",
    "Diagnosis",
    "Example",
    "Finding",
    "Findings",
    "Repaired",
    "examine",
    "look",
    "repair",
]


def examine(
    pool: Pool,
    *,
    workers: int | None = None,
    progress: Progress | None = None,
    near: bool = True,
    evals: Sequence[tuple[str | Path, Pool]] = (),
    context: int = CONTEXT,
) -> Diagnosis:
    """The diagnosis of a pool. As `look`."""
    return look(
        pool, workers=workers, progress=progress, near=near, evals=evals, context=context
    ).diagnosis()


def look(
    pool: Pool,
    *,
    workers: int | None = None,
    progress: Progress | None = None,
    near: bool = True,
    evals: Sequence[tuple[str | Path, Pool]] = (),
    context: int = CONTEXT,
) -> Findings:
    """Look at every row and decode every image once. `workers`: threads (None: one a CPU, at most
    16).

    `near`: look for near duplicates too (needs the extra `duplicates`; without it a note says so).
    `evals`: evaluation sets, each with its name, whose questions must not stand in the pool; their
    images and the pool's are read once more for each.
    `context`: rows of more tokens than this, as estimated from words and images, are reported.
    """
    progress = progress or NoProgress()
    found = Findings(pool)
    look_at_rows(pool, found)
    look_at_texts(pool, found, context, progress)
    table = look_at_images(pool, found, workers or min(os.cpu_count() or 1, 16), progress, near)
    if near:
        look_for_copies(pool, found, table, progress)
    for name, other in evals:
        look_for_leaks(pool, found, str(name), other, progress)
    return found
