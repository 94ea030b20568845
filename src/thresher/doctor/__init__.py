"""What is wrong with a pool, by kind, with examples and what a run does about each; and optionally
a repaired copy.

    kinds     every kind of finding: its severity, what it is, what a run does
    findings  collecting them: rows by kind, examples, the diagnosis
    rows      findings from the records and their texts
    images    findings from reading every image
    videos    findings from reading every video, where videos are scored
    copies    near duplicates, and rows that occur in an evaluation set
    repair    `--fix`: a repaired copy and a log of every change

`diagnose` reads every row and every image and changes nothing.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from thresher.console.progress import NoProgress, Progress
from thresher.doctor.copies import find_eval_leaks, find_near_duplicates
from thresher.doctor.findings import EXAMPLES, Diagnosis, Example, Finding, Findings
from thresher.doctor.images import check_images
from thresher.doctor.kinds import KINDS, SEVERITIES
from thresher.doctor.repair import RepairResult, repair
from thresher.doctor.rows import CONTEXT, check_rows, check_texts
from thresher.doctor.videos import check_videos
from thresher.pools import Pool
from thresher.pools.token_estimate import ASSUMED, MediaTokens

__all__ = [
    "CONTEXT",
    "EXAMPLES",
    "KINDS",
    "SEVERITIES",
    "Diagnosis",
    "Example",
    "Finding",
    "Findings",
    "RepairResult",
    "diagnose",
    "find_problems",
    "repair",
]


def diagnose(
    pool: Pool,
    *,
    workers: int | None = None,
    progress: Progress | None = None,
    near: bool = True,
    evals: Sequence[tuple[str | Path, Pool]] = (),
    context: int = CONTEXT,
    media: MediaTokens = ASSUMED,
) -> Diagnosis:
    """The diagnosis of a pool: every row is checked, and every image and scored video decoded once.

    Arguments:
        pool: the pool.
        workers: threads; None: one per CPU, at most 16.
        progress: displays the rows and images done.
        near: find near duplicates too (needs the extra `duplicates`; without it a note says so).
        evals: evaluation sets, each with its name, whose questions must not appear in the pool.
        context: rows with more tokens than this, estimated from words and images, are reported.
        media: tokens of images and videos.
    """
    return find_problems(
        pool,
        workers=workers,
        progress=progress,
        near=near,
        evals=evals,
        context=context,
        media=media,
    ).diagnosis()


def find_problems(
    pool: Pool,
    *,
    workers: int | None = None,
    progress: Progress | None = None,
    near: bool = True,
    evals: Sequence[tuple[str | Path, Pool]] = (),
    context: int = CONTEXT,
    media: MediaTokens = ASSUMED,
) -> Findings:
    """Check every row, and decode every image and scored video once.

    Arguments:
        pool: the pool.
        workers: threads; None: one per CPU, at most 16.
        progress: displays the rows and images done.
        near: find near duplicates too (needs the extra `duplicates`; without it a note says so).
        evals: evaluation sets, each with its name, whose questions must not appear in the pool.
            The images of both are read once more for each.
        context: rows with more tokens than this, estimated from words and images, are reported.
        media: tokens of images and videos.
    """
    progress = progress or NoProgress()
    findings = Findings(pool)
    check_rows(pool, findings)
    check_texts(pool, findings, context, progress, media)
    workers = workers or min(os.cpu_count() or 1, 16)
    signatures = check_images(pool, findings, workers, progress, near)
    check_videos(pool, findings, workers, progress, media.no_videos)
    if near:
        find_near_duplicates(pool, findings, signatures, progress)
    for name, evaluation in evals:
        find_eval_leaks(pool, findings, str(name), evaluation, progress)
    return findings
