"""The rows themselves: a seeded sample of kept and of dropped rows, with thumbnails, texts, scores and the reason.

Reads records and images of the pool. Bounded: a number of rows, characters of text, images a row, and bytes of pictures
in all; what is left out is said where it is missing. Texts are passed on as text: the template escapes them.
"""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace

import numpy as np

from thresher.errors import ImageError
from thresher.pools import Pool
from thresher.report.columns import Meaning, meaning, shown
from thresher.report.folder import Made
from thresher.report.tally import draw
from thresher.report.words import Explain, explainer
from thresher.types import ImageRef, Sample, Turn

ROWS = 96  # kept, and as many dropped
BEST = 24  # of the kept, the first by rank
FAILED = 12  # of the dropped, at most, rows that could not be used
PIXELS = 160  # the longer side of a thumbnail
QUALITY = 72
IMAGES = 4  # a row
MESSAGES = 6  # a row
CHARACTERS = 700  # a message
ROW_CHARACTERS = 1_500  # a row; a message has LEAST of them in any case
LEAST = 60
PICTURE_BYTES = 3_500_000  # of all thumbnails, as base64
THREADS = 4
HIGHEST = 3  # of a method's many scores, those that a card shows
LONG = 160  # characters of a reason that is text

_MARKS = re.compile(r"\A(?:\s*<image>)+\s*")


@dataclass(frozen=True)
class Message:
    """`role` is what people call it. `cut`: characters in all, where `text` is not all of them; else 0."""

    role: str
    text: str
    cut: int = 0


@dataclass(frozen=True)
class Thumbnail:
    """`uri`: a JPEG data URI, or "" with `problem` saying why there is none."""

    name: str
    uri: str = ""
    problem: str = ""


@dataclass(frozen=True)
class Card:
    """One row. `state`: kept, dropped or failed; "row" where nothing was selected."""

    row: int
    id: str
    source: str
    state: str
    rank: int  # 1 = best; 0 = not kept
    kind: str  # of reason, to filter by
    reason: str
    scores: tuple[tuple[str, str], ...]
    messages: tuple[Message, ...]
    more_messages: int
    images: tuple[Thumbnail, ...]
    more_images: int
    other: str = ""  # what another selection says of the row


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
            return "The only one." if self.kept_rows == 1 else f"All {self.kept_rows:,}, best rank first."
        best = "the best by rank" if self.best == 1 else f"the {self.best:,} best by rank"
        if len(self.kept) == self.kept_rows:
            return f"All {self.kept_rows:,}: {best} first."
        return f"{len(self.kept):,} of {self.kept_rows:,} rows: {best} and a random sample of the others."

    @property
    def said_dropped(self) -> str:
        """Which of the others are shown."""
        if not self.dropped_rows:
            return "None."
        if len(self.dropped) == self.dropped_rows:
            return "The only one." if self.dropped_rows == 1 else f"All {self.dropped_rows:,}."
        return f"A random sample of {len(self.dropped):,} of {self.dropped_rows:,} rows."


def gallery(made: Made, rows: int = ROWS) -> Gallery:
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
    made: Made,
    rows: np.ndarray,
    failed: dict[int, str] | None = None,
    images: int = IMAGES,
    picture_bytes: int | None = None,
) -> list[Card]:
    """Cards of these pool rows, in this order. `failed`: pool row -> why it could not be used.

    `images`: pictures of a row, at most; `picture_bytes`: of all of them (None: PICTURE_BYTES).
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


def plain_cards(
    pool: Pool, rows: np.ndarray, samples: Sequence[Sample], images: int = IMAGES, picture_bytes: int | None = None
) -> list[Card]:
    """Cards of rows of which only the pool is known: state "row", for a reason their problem. `samples`: those of `rows`."""
    pictures = thumbnails(pool, samples, images, picture_bytes)
    return [
        Card(
            row,
            id_[:80],
            (sample.source or "(none)")[:80],
            "row",
            0,
            "",
            sample.problem[:400],
            (),
            tuple(_messages(sample.turns[:MESSAGES])),
            max(len(sample.turns) - MESSAGES, 0),
            tuple(shown),
            max(len(sample.images) - images, 0),
        )
        for row, id_, sample, shown in zip(rows.tolist(), pool.ids(rows), samples, pictures, strict=True)
    ]


def _spread(made: Made, rows: np.ndarray, most: int) -> np.ndarray:
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
    return drawn[np.argsort(made.lot[drawn], kind="stable")]


def explained(made: Made, explain: Explain, at: int, card: Card, sample: Sample, error: str) -> Card:
    """The card with what became of the row and why. `at`: its place in `made.rows`, -1: the method did not see it."""
    if at < 0:
        reason = (error or sample.problem or "it was left out")[:400]
        return replace(card, state="failed", kind="could not be used", reason=reason)
    why = explain(at)
    rank = int(made.rank[at]) + 1
    state = "kept" if rank else "dropped"
    return replace(card, state=state, rank=rank, kind=why.kind, reason=why.text, scores=tuple(_scores(made, at)))


def _scores(made: Made, at: int) -> list[tuple[str, str]]:
    """Every reason of a row; of many scores of one kind, the highest."""
    out, many = [], []
    for name, values in made.reasons.items():
        what = meaning(name, made.settings)
        if name.startswith("score_"):
            if not np.isnan(values[at]):
                many.append((float(values[at]), what.brief.removeprefix("score: ")))
        elif not name.startswith("teacher_"):
            out.append((what.brief, shown(values[at], _unit(what))[:LONG]))
    highest = sorted(many, key=lambda pair: -pair[0])[:HIGHEST]
    if highest:
        out.append(("highest", ", ".join(f"{name} {shown(value)}" for value, name in highest)))
    return out


def _unit(what: Meaning) -> str:
    return "" if " to " in what.unit else what.unit.removesuffix(" per token")


def _messages(turns: Sequence[Turn]) -> list[Message]:
    out, left = [], ROW_CHARACTERS
    for turn in turns:
        out.append(message(turn.role, turn.text, max(min(CHARACTERS, left), LEAST)))
        left -= len(out[-1].text)
    return out


def message(role: str, text: str, most: int = CHARACTERS) -> Message:
    """A turn, cut to `most` characters; the image marks at its beginning are dropped, because the images are shown."""
    name = {"user": "Question", "assistant": "Answer", "system": "System"}.get(role, "Message")
    body = _MARKS.sub("", text)
    return Message(name, body[:most], len(body) if len(body) > most else 0)


# ---------------------------------------------------------------------------------------------- pictures


def thumbnails(
    pool: Pool, samples: Sequence[Sample], most: int = IMAGES, most_bytes: int | None = None
) -> list[list[Thumbnail]]:
    """Up to `most` a row; none any more once `most_bytes` (None: PICTURE_BYTES) are used."""
    refs = [ref for s in samples for ref in s.images[:most]]
    different = list(dict.fromkeys(refs))
    with ThreadPoolExecutor(THREADS) as threads:
        made = dict(zip(different, threads.map(lambda ref: thumbnail(pool, ref), different), strict=True))
    left = PICTURE_BYTES if most_bytes is None else most_bytes
    out: list[list[Thumbnail]] = [[] for _ in samples]
    half = (len(samples) + 1) // 2  # kept first, then dropped: take from both ends' beginnings in turn
    order = sorted(range(len(samples)), key=lambda i: (i % half if half else 0, i))
    for i in order:
        for ref in samples[i].images[:most]:
            small = made[ref]
            if len(small.uri) > left:
                small = Thumbnail(small.name, problem="left out, to keep this file small")
            left -= len(small.uri)
            out[i].append(small)
    return out


def thumbnail(pool: Pool, ref: ImageRef) -> Thumbnail:
    """A JPEG of at most PIXELS a side, as a data URI."""
    from PIL import Image

    name = (ref.path or "embedded image")[-120:]
    try:
        image = pool.load_image(ref)
    except ImageError as error:
        return Thumbnail(name, problem=str(error)[:200])
    image.thumbnail((PIXELS, PIXELS), Image.Resampling.BICUBIC, reducing_gap=2.0)
    data = io.BytesIO()
    image.save(data, "JPEG", quality=QUALITY)
    return Thumbnail(name, "data:image/jpeg;base64," + base64.b64encode(data.getvalue()).decode())
