"""The rows themselves: a seeded sample of kept and of dropped rows, with thumbnails, texts, scores
and the reason.

Reads records and images of the pool. Bounded: a number of rows, characters of text, images a row,
and bytes of images in all; a note says what is left out. Texts are passed on as
text: the template escapes them.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from thresher.console.formatting import number_text
from thresher.html import Card
from thresher.pools.cards import IMAGES, plain_cards
from thresher.report.breakdown import draw
from thresher.report.columns import Meaning, meaning
from thresher.report.folder import LoadedSelection
from thresher.report.words import Explain, explainer
from thresher.types import Sample

ROWS = 96  # kept, and as many dropped
BEST = 24  # of the kept, the first by rank
FAILED = 12  # of the dropped, at most, rows that could not be used
HIGHEST = 3  # of a method's many scores, those that a card shows
LONG = 160  # characters of a reason that is text


@dataclass(frozen=True)
class Gallery:
    """Cards, and what may be filtered by."""

    kept: tuple[Card, ...]
    dropped: tuple[Card, ...]
    kept_rows: int  # in all
    dropped_rows: int
    best: int  # how many of `kept` are the first by rank
    sources: tuple[str, ...] = field(default=())
    kinds: tuple[str, ...] = field(default=())

    @property
    def said_kept(self) -> str:
        """Which of the kept rows are shown."""
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
    def said_dropped(self) -> str:
        """Which of the others are shown."""
        if not self.dropped_rows:
            return "None."
        if len(self.dropped) == self.dropped_rows:
            return "The only one." if self.dropped_rows == 1 else f"All {self.dropped_rows:,}."
        return f"A random sample of {len(self.dropped):,} of {self.dropped_rows:,} rows."


def gallery(made: LoadedSelection, rows: int = ROWS) -> Gallery:
    """A sample of both sides, the same for the same selection."""
    kept_rows = made.kept_rows
    best = kept_rows[: min(BEST, rows // 4 or 1)]
    kept = np.r_[best, _spread(made, kept_rows[len(best) :], rows - len(best))]
    dropped_rows = made.rows[~made.kept]
    failed = {f.row: f.error for f in made.failures}
    broken = draw(made, np.array(sorted(failed), np.int64), min(FAILED, rows // 4 or 1))
    dropped = np.r_[_spread(made, dropped_rows, rows - len(broken)), broken].astype(np.int64)
    cards = make_cards(made, np.r_[kept, dropped].astype(np.int64), failed)
    left, right = tuple(cards[: len(kept)]), tuple(cards[len(kept) :])
    return Gallery(
        left,
        right,
        len(kept_rows),
        len(made.pool) - len(kept_rows),
        len(best),
        tuple(sorted({c.source for c in cards})),
        tuple(sorted({c.kind for c in cards})),
    )


def make_cards(
    made: LoadedSelection,
    rows: np.ndarray,
    failed: dict[int, str] | None = None,
    images: int = IMAGES,
    picture_bytes: int | None = None,
) -> list[Card]:
    """Cards of these pool rows, in this order. `failed`: pool row -> why it could not be used.

    `images`: images of a row, at most; `picture_bytes`: of all of them (None: PICTURE_BYTES).
    """
    explain = explainer(made)
    samples = made.pool.samples(rows)
    plain = plain_cards(made.pool, rows, samples, images, picture_bytes)
    at = np.searchsorted(made.rows, rows)  # where the method saw the row
    seen = np.isin(rows, made.rows)
    return [
        explained(made, explain, i if there else -1, card, sample, (failed or {}).get(card.row, ""))
        for card, sample, i, there in zip(plain, samples, at.tolist(), seen.tolist(), strict=True)
    ]


def _spread(made: LoadedSelection, rows: np.ndarray, most: int) -> np.ndarray:
    """A seeded draw in which every one of up to 16 sources has a row or two."""
    if len(rows) <= most:
        return draw(made, rows, max(most, 1))
    source = made.pool.source[rows]
    first: list[np.ndarray] = []
    names = np.unique(source)
    if len(names) <= 16 and most >= 2 * len(names):
        first = [draw(made, rows[source == name], 2) for name in names]
    sure = np.concatenate([*first, np.zeros(0, np.int64)]).astype(np.int64)
    drawn = np.r_[sure, draw(made, rows[~np.isin(rows, sure)], most - len(sure))]
    return drawn[np.argsort(made.sampling_keys[drawn], kind="stable")]


def explained(
    made: LoadedSelection, explain: Explain, at: int, card: Card, sample: Sample, error: str
) -> Card:
    """The card with what became of the row and why. `at`: its place in `made.rows`, -1: the method
    did not see it."""
    if at < 0:
        reason = (error or sample.problem or "it was left out")[:400]
        return replace(card, state="failed", kind="could not be used", reason=reason)
    why = explain(at)
    rank = int(made.rank[at]) + 1
    state = "kept" if rank else "dropped"
    return replace(
        card,
        state=state,
        rank=rank,
        kind=why.kind,
        reason=why.text,
        scores=tuple(_scores(made, at)),
    )


def _scores(made: LoadedSelection, at: int) -> list[tuple[str, str]]:
    """Every reason of a row; of many scores of one kind, the highest."""
    out, many = [], []
    for name, values in made.reasons.items():
        what = meaning(name, made.settings)
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
