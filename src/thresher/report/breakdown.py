"""Counts of pool rows and kept rows by source, skill, answer length, answer style, images and
turns.

Only the answer style needs the texts of rows; in a large pool it is estimated from a random sample.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from thresher.console.formatting import format_percent, truncate
from thresher.report.folder import LoadedSelection
from thresher.report.style import STYLES, style_of_row
from thresher.selection.groups import by_source, lengths, skill_labels
from thresher.stats.distinct import distinct_texts

STYLE_ROWS = 4000  # maximum number of pool rows, and of kept rows, whose answers are read
MOST_TEXTS = 12


@dataclass(frozen=True)
class Part:
    """One bar. `pool` and `kept` are numbers of rows (of the sample if the panel is sampled)."""

    label: str
    pool: int
    kept: int


@dataclass(frozen=True)
class Panel:
    """A group of bars. `of_pool`, `of_kept`: numbers of rows that make 100%. `paired`: whether the
    kept rows are among the counted pool rows."""

    title: str
    parts: tuple[Part, ...]
    of_pool: int
    of_kept: int
    note: str = ""
    paired: bool = True
    # column headers; the first is "" if there are no pool counts
    heads: tuple[str, str] = ("Pool", "Kept")
    rate_head: str = "Kept of these"

    def pool_share(self, part: Part) -> float:
        """Percent of the pool's rows."""
        return 100 * part.pool / self.of_pool if self.of_pool else 0.0

    def kept_share(self, part: Part) -> float:
        """Percent of the kept rows."""
        return 100 * part.kept / self.of_kept if self.of_kept else 0.0

    def rate(self, part: Part) -> float | None:
        """Percent of this bar's rows that are kept; None if unknown."""
        return 100 * part.kept / part.pool if self.paired and part.pool else None

    @property
    def top(self) -> float:
        """The largest share, percent."""
        return max((max(self.pool_share(p), self.kept_share(p)) for p in self.parts), default=0.0)


def panels(selection: LoadedSelection) -> list[Panel]:
    """Panels by source, skill (where skills are among the reasons), answer length, answer style,
    images and videos, and turns, single-bar ones included."""
    pool, kept = selection.pool, selection.in_pool
    facts = pool.facts
    skill = skill_labels(selection.reasons)
    return [
        _panel(
            "Source",
            [(truncate(name), mask) for name, mask in by_source(pool.source, pool.source_names)],
            kept,
        ),
        *([] if skill is None else [by_text("Skill", skill, selection.kept)]),
        _panel("Answer length", lengths(facts["answer_words"]), kept),
        styles(selection),
        _panel(*media(facts, pool.video_frames), kept),
        _panel("Messages per row", _small(facts["turns"], "message", 9), kept),
    ]


def media_counts(facts: Mapping[str, np.ndarray], kept: np.ndarray) -> list[tuple[str, str, str]]:
    """(name, share, numbers) of the images of kept rows and, if the pool has any, of the rows with
    videos.

    Arguments:
        facts: of the pool.
        kept: int64 [k] or bool [n], the kept rows.
    """
    images = np.asarray(facts["images"])
    some, every = int(images[kept].sum()), int(images.sum())
    out = [("Images shown", format_percent(some, every), f"{some:,} of {every:,}")]
    video = np.asarray(facts["video"], bool)
    if video.any():
        some, every = int(video[kept].sum()), int(video.sum())
        out.append(("Videos shown", format_percent(some, every), f"{some:,} of {every:,} rows"))
    return out


def media(
    facts: Mapping[str, np.ndarray], frames: int | None
) -> tuple[str, list[tuple[str, np.ndarray]]]:
    """The title of a panel and its groups: rows by number of images; rows with a video, if there
    are any, in a group of their own.

    Arguments:
        facts: of the pool.
        frames: most frames of a video that are scored; None: videos are not scored.
    """
    video = np.asarray(facts["video"], bool)
    groups = _small(np.where(video, -1, facts["images"]), "image")
    if not video.any():
        return "Images per row", groups
    label = "a video" if frames is not None else "a video (not scored)"
    return "Images and videos per row", [*groups, (label, video)]


def _panel(title: str, groups: Sequence[tuple[str, np.ndarray]], kept: np.ndarray) -> Panel:
    parts = tuple(Part(name, int(mask.sum()), int((mask & kept).sum())) for name, mask in groups)
    return Panel(title, parts, len(kept), int(kept.sum()))


def _small(values: np.ndarray, noun: str, most: int = 4) -> list[tuple[str, np.ndarray]]:
    """Groups of small integers: 0, 1, … and "`most` or more"; only those that occur."""
    out = [(f"{i} {noun}{'' if i == 1 else 's'}", values == i) for i in range(most)]
    out.append((f"{most} or more {noun}s", values >= most))
    return [(name, mask) for name, mask in out if mask.any()]


def styles(selection: LoadedSelection) -> Panel:
    """Panel by style of the longest answer, from random samples if there are more than STYLE_ROWS
    rows."""
    kept_rows = selection.kept_rows
    pool_rows = sample_rows(selection, np.arange(len(selection.pool)), STYLE_ROWS)
    some_kept = sample_rows(selection, kept_rows, STYLE_ROWS)
    union = np.union1d(pool_rows, some_kept)
    code = np.full(len(selection.pool), -1, np.int16)
    for row, sample in zip(union.tolist(), selection.pool.samples(union), strict=True):
        code[row] = STYLES.index(
            style_of_row([t.text for t in sample.turns if t.role == "assistant"])
        )
    n, k = len(pool_rows), len(some_kept)
    in_pool = np.bincount(code[pool_rows], minlength=len(STYLES))
    in_kept = np.bincount(code[some_kept], minlength=len(STYLES))
    parts = tuple(
        Part(name, int(a), int(b))
        for name, a, b in zip(STYLES, in_pool, in_kept, strict=True)
        if a or b
    )
    sampled = n < len(selection.pool) or k < len(kept_rows)
    note = (
        f"Estimated from {n:,} rows of the pool and {k:,} of the kept, sampled at random."
        if sampled
        else ""
    )
    return Panel("Answer style", parts, n, k, note, paired=not sampled)


def by_text(title: str, values: np.ndarray, kept: np.ndarray) -> Panel:
    """Panel by a text or boolean value; beyond MOST_TEXTS values the rarest are merged.

    Arguments:
        title: of the panel.
        values: [c], one per row that the method saw.
        kept: bool [c].
    """
    names, code = distinct_texts(values)
    groups = [
        ("none" if not name.strip() else name, mask)
        for name, mask in by_source(code, names, MOST_TEXTS, others="others")
    ]
    return _panel(title, groups, kept)


def is_free_text(values: np.ndarray) -> bool:
    """Whether the texts are too diverse to count: the most frequent cover less than 20% of rows."""
    counts = np.bincount(distinct_texts(values)[1])
    return len(counts) > MOST_TEXTS and float(np.sort(counts)[-MOST_TEXTS:].sum()) < 0.2 * len(
        values
    )


def sample_rows(selection: LoadedSelection, rows: np.ndarray, most: int) -> np.ndarray:
    """A random sample of pool rows, independent of the file order.

    Arguments:
        selection: with the keys that order the sample.
        rows: int64 [m], pool rows to sample from.
        most: size of the sample; all rows if there are no more.
    """
    if len(rows) <= most:
        return np.asarray(rows)
    return np.asarray(rows)[np.argsort(selection.sampling_keys[rows], kind="stable")[:most]]
