"""Findings from reading every video, where videos are scored: files that cannot be used, and rows
in which a video has no place.

Videos are decoded in threads, as a run decodes them. No file content raises an exception.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np

from thresher.console.progress import Progress
from thresher.doctor.findings import Findings
from thresher.errors import ImageError
from thresher.pools import Pool
from thresher.types import RowError, VideoRef

BATCH_ROWS = 512  # rows at once


def check_videos(
    pool: Pool, findings: Findings, workers: int, progress: Progress, no_videos: str = ""
) -> None:
    """Decode every video and add what is found. Does nothing for a pool whose videos are not
    scored.

    Arguments:
        pool: the pool.
        findings: where to add what is found.
        workers: number of threads.
        progress: displays the rows done.
        no_videos: why the model takes no videos, as a row's error; "": it does.
    """
    if pool.video_frames is None:
        return
    rows = np.flatnonzero(pool.facts["video"] & ~pool.has_problem)
    problem_of: dict[str, str] = {}  # identity of a video -> why it cannot be used, "": it can
    found: dict[int, str] = {}  # row -> problem
    progress.start("reading videos", len(rows), 0)
    try:
        with ThreadPoolExecutor(workers) as threads:
            for start in range(0, len(rows), BATCH_ROWS):
                batch = rows[start : start + BATCH_ROWS]
                samples = pool.samples(batch)
                videos = [[r for r in s.images if isinstance(r, VideoRef)] for s in samples]
                new = {r.identity: r for refs in videos for r in refs}
                new = {name: r for name, r in new.items() if name not in problem_of}
                problems = threads.map(lambda ref: _problem(pool, ref), new.values())
                problem_of.update(zip(new, problems, strict=True))
                for row, refs in zip(batch.tolist(), videos, strict=True):
                    problem = next(filter(None, (problem_of[r.identity] for r in refs)), "")
                    if problem:
                        found[row] = problem
                progress.advance(len(batch))
    finally:
        progress.finish()
    findings.bad_videos |= found
    by_kind: dict[str, list[int]] = {}
    for row, problem in found.items():
        by_kind.setdefault(RowError.parse(problem).kind, []).append(row)
    for kind, of_kind in by_kind.items():
        findings.add(kind, np.array(of_kind), lambda row: RowError.parse(found[row]).detail)
    if no_videos:
        refused = np.array([row for row in rows.tolist() if row not in found], np.int64)
        error = RowError.parse(no_videos)
        findings.add(error.kind, refused, lambda row: error.detail)


def _problem(pool: Pool, ref: VideoRef) -> str:
    """Why a video cannot be used, as a row's error; "" if it can."""
    try:
        pool.load_image(ref)
    except ImageError as error:
        return str(error)
    return ""
