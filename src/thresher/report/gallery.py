"""A seeded sample of kept and of dropped rows, with thumbnails, texts, scores and the reason.

Reads records and images of the pool. The numbers of rows, characters, images per row and total
image bytes are limited, and truncation is marked. Texts are not escaped here; the template does it.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from thresher.console.formatting import number_text
from thresher.html import Card
from thresher.pools.cards import IMAGES, plain_cards
from thresher.report.breakdown import sample_rows
from thresher.report.columns import Meaning, meaning
from thresher.report.folder import LoadedSelection
from thresher.report.words import Explain, explainer
from thresher.types import Sample

ROWS = 96  # kept, and as many dropped
BEST = 24  # of the kept, the first by rank
FAILED = 12  # of the dropped, at most, rows that could not be used
HIGHEST = 3  # number of a method's many scores that a card shows
LONG = 160  # maximum characters of a text reason
LEFT_OUT = (
    "left out before the method: by a filter, as a dropped or suspected row, or as a duplicate"
)


@dataclass(frozen=True)
class Gallery:
    """Cards of sampled rows, and the values to filter them by."""

    kept: tuple[Card, ...]
    dropped: tuple[Card, ...]
    kept_rows: int  # in the selection, not only in the sample
    dropped_rows: int
    best: int  # number of `kept` cards that are the best by rank
    sources: tuple[str, ...] = field(default=())
    kinds: tuple[str, ...] = field(default=())

    @property
    def kept_caption(self) -> str:
        """Describes which of the kept rows are in the sample."""
        if not self.kept_rows:
            return "None."
        if self.best == self.kept_rows:
            return (
                "The only one."
                if self.kept_rows == 1
                else (f"All {self.kept_rows:,}, best rank first.")
            )
        best = "the best by rank" if self.best == 1 else f"the {self.best:,} best by rank"
        if len(self.kept) == self.kept_rows:
            return f"All {self.kept_rows:,}: {best} first."
        return (
            f"{len(self.kept):,} of {self.kept_rows:,} rows: {best} and a random sample of the "
            "others."
        )

    @property
    def dropped_caption(self) -> str:
        """Describes which of the dropped rows are in the sample."""
        if not self.dropped_rows:
            return "None."
        if len(self.dropped) == self.dropped_rows:
            return "The only one." if self.dropped_rows == 1 else f"All {self.dropped_rows:,}."
        return f"A random sample of {len(self.dropped):,} of {self.dropped_rows:,} rows."


def gallery(selection: LoadedSelection, rows: int = ROWS) -> Gallery:
    """A deterministic sample of kept and dropped rows. Raises PoolError.

    Arguments:
        selection: to sample from.
        rows: maximum number of rows on each side.
    """
    kept_rows = selection.kept_rows
    best = kept_rows[: min(BEST, rows // 4 or 1)]
    kept = np.r_[best, _sample_sources(selection, kept_rows[len(best) :], rows - len(best))]
    dropped_rows = selection.rows[~selection.kept]
    failed = {f.row: f.error for f in selection.failures}
    broken = sample_rows(selection, np.array(sorted(failed), np.int64), min(FAILED, rows // 4 or 1))
    dropped = np.r_[_sample_sources(selection, dropped_rows, rows - len(broken)), broken].astype(
        np.int64
    )
    cards = make_cards(selection, np.r_[kept, dropped].astype(np.int64), failed)
    left, right = tuple(cards[: len(kept)]), tuple(cards[len(kept) :])
    return Gallery(
        left,
        right,
        len(kept_rows),
        len(selection.pool) - len(kept_rows),
        len(best),
        tuple(sorted({c.source for c in cards})),
        tuple(sorted({c.kind for c in cards})),
    )


def make_cards(
    selection: LoadedSelection,
    rows: np.ndarray,
    failed: dict[int, str] | None = None,
    images: int = IMAGES,
    max_image_bytes: int | None = None,
) -> list[Card]:
    """Cards of the given pool rows, in the same order. Raises PoolError.

    Arguments:
        selection: with ranks and reasons of the rows.
        rows: int64, pool rows.
        failed: pool row -> why it could not be used.
        images: maximum number of images per row.
        max_image_bytes: maximum total size of the thumbnails; None: the default of `plain_cards`.
    """
    explain = explainer(selection)
    samples = selection.pool.samples(rows)
    plain = plain_cards(selection.pool, rows, samples, images, max_image_bytes)
    at = np.searchsorted(selection.rows, rows)
    seen = np.isin(rows, selection.rows)
    return [
        explained(
            selection, explain, i if there else -1, card, sample, (failed or {}).get(card.row, "")
        )
        for card, sample, i, there in zip(plain, samples, at.tolist(), seen.tolist(), strict=True)
    ]


def _sample_sources(selection: LoadedSelection, rows: np.ndarray, most: int) -> np.ndarray:
    """A seeded random sample that contains two rows of each source, for up to 16 sources."""
    if len(rows) <= most:
        return sample_rows(selection, rows, max(most, 1))
    source = selection.pool.source[rows]
    first: list[np.ndarray] = []
    names = np.unique(source)
    if len(names) <= 16 and most >= 2 * len(names):
        first = [sample_rows(selection, rows[source == name], 2) for name in names]
    sure = np.concatenate([*first, np.zeros(0, np.int64)]).astype(np.int64)
    drawn = np.r_[sure, sample_rows(selection, rows[~np.isin(rows, sure)], most - len(sure))]
    return drawn[np.argsort(selection.sampling_keys[drawn], kind="stable")]


def explained(
    selection: LoadedSelection, explain: Explain, at: int, card: Card, sample: Sample, error: str
) -> Card:
    """The card with the row's state, rank, reason and scores.

    Arguments:
        selection: with ranks and reasons of the rows.
        explain: from `explainer`.
        at: position in `selection.rows`; -1: the method did not see the row.
        card: of the row, with texts and images.
        sample: the row.
        error: why the row could not be used, if known.
    """
    if at < 0 and not error and not sample.problem:
        return replace(card, state="dropped", kind="left out", reason=LEFT_OUT)
    if at < 0:
        reason = (error or sample.problem)[:400]
        return replace(card, state="failed", kind="could not be used", reason=reason)
    why = explain(at)
    rank = int(selection.rank[at]) + 1
    state = "kept" if rank else "dropped"
    return replace(
        card,
        state=state,
        rank=rank,
        kind=why.kind,
        reason=why.text,
        scores=tuple(_scores(selection, at)),
    )


def _scores(selection: LoadedSelection, at: int) -> list[tuple[str, str]]:
    """(name, value) of a row's reasons; of the `score_` columns, only the highest."""
    out, many = [], []
    for name, values in selection.reasons.items():
        what = meaning(name, selection.settings)
        if name.startswith("score_"):
            if not np.isnan(values[at]):
                many.append((float(values[at]), what.brief.removeprefix("score: ")))
        elif not name.startswith("teacher_"):
            out.append((what.brief, number_text(values[at], _unit(what))[:LONG]))
    highest = sorted(many, key=lambda pair: -pair[0])[:HIGHEST]
    if highest:
        out.append(
            ("highest", ", ".join(f"{name} {number_text(value)}" for value, name in highest))
        )
    return out


def _unit(what: Meaning) -> str:
    return "" if " to " in what.unit else what.unit.removesuffix(" per token")
