"""Rows as the page displays them: the report's cards, with images by URL, and whether the user
pinned or banned the row.

Images are requested by row and number, never by a path; each is scaled down once. Reads records and
images of the pool.
"""

from __future__ import annotations

import io
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from thresher.errors import ImageError
from thresher.html import Card, Thumbnail
from thresher.pools.cards import IMAGES, PIXELS, QUALITY, plain_cards
from thresher.report.gallery import explained
from thresher.report.suspects_section import with_suspicion
from thresher.types import Video
from thresher.viewer.displayed import FAILED, KEPT, DisplayedSelection

if TYPE_CHECKING:
    from thresher.doctor.suspects import Suspect
    from thresher.pools import Pool
    from thresher.types import Sample

CACHE_BYTES = 64_000_000
AT_ONCE = 3  # images decoded at the same time: a large one takes 300 MB


@dataclass(frozen=True)
class Item:
    """A row with its state: `mark` is "pinned", "banned" or "". `suspect`: what is known of its
    answer, where suspects are shown."""

    card: Card
    mark: str
    suspect: Suspect | None = None


def items(
    displayed: DisplayedSelection,
    rows: np.ndarray,
    sign: Callable[[str], str],
    suspects: Mapping[int, Suspect] | None = None,
) -> list[Item]:
    """Rows as the page displays them, in the order of `rows`. Raises PoolError.

    Arguments:
        displayed: the selection.
        rows: int64 [m], pool rows.
        sign: the path of an image -> its address.
        suspects: what is known of these rows' answers, by pool row; None: nothing.
    """
    samples = displayed.pool.samples(rows)
    plain = plain_cards(displayed.pool, rows, samples, max_images=0)
    out = []
    for row, at, card, sample in zip(
        rows.tolist(), displayed.place(rows).tolist(), plain, samples, strict=True
    ):
        mark = "pinned" if displayed.keep[row] else "banned" if displayed.drop[row] else ""
        card = _with_outcome(displayed, row, at, _with_images(card, sample, sign), sample)
        suspect = (suspects or {}).get(row)
        out.append(Item(with_suspicion(card, suspect) if suspect else card, mark, suspect))
    return out


def _with_outcome(
    displayed: DisplayedSelection, row: int, at: int, card: Card, sample: Sample
) -> Card:
    if displayed.drop[row]:
        return replace(card, state="dropped", kind="banned", reason="you banned it")
    state = displayed.state[row]
    if at >= 0:
        card = explained(displayed.made, displayed.explain, at, card, sample, "")
        if displayed.keep[row]:
            return replace(card, kind="pinned", reason=f"you pinned it ({card.reason})")
        return card
    if state == KEPT:
        return replace(card, state="kept", kind="pinned", reason="you pinned it; it has no scores")
    if state == FAILED:
        return replace(
            card, state="failed", kind="could not be used", reason=displayed.failed[row][:400]
        )
    why = sample.problem or (
        "left out before scoring: by a filter, as a duplicate, or because it cannot be used"
    )
    return replace(
        card, state="failed" if sample.problem else "dropped", kind="left out", reason=why[:400]
    )


def _with_images(card: Card, sample: Sample, sign: Callable[[str], str]) -> Card:
    thumbnails = tuple(
        Thumbnail((ref.path or "embedded image")[-120:], sign(f"/image/{card.row}/{i}"))
        for i, ref in enumerate(sample.images[:IMAGES])
    )
    return replace(card, images=thumbnails, more_images=max(len(sample.images) - IMAGES, 0))


class Thumbnails:
    """JPEGs of at most PIXELS a side, kept up to CACHE_BYTES."""

    def __init__(self, pool: Pool) -> None:
        self.pool = pool
        self._made: OrderedDict[tuple[int, int], bytes] = OrderedDict()
        self._bytes = 0
        self._lock, self._turn = threading.Lock(), threading.Semaphore(AT_ONCE)

    def get(self, row: int, number: int) -> bytes:
        """Raises ImageError: no such row or image, or it cannot be read."""
        key = (row, number)
        with self._lock:
            if key in self._made:
                self._made.move_to_end(key)
                return self._made[key]
        data = self._make(row, number)
        with self._lock:
            if key not in self._made:
                self._made[key] = data
                self._bytes += len(data)
            while self._bytes > CACHE_BYTES:
                self._bytes -= len(self._made.popitem(last=False)[1])
        return data

    def _make(self, row: int, number: int) -> bytes:
        from PIL import Image

        if not 0 <= row < len(self.pool):
            raise ImageError(f"the pool has no row {row}")
        images = self.pool.samples([row])[0].images  # as on the cards: with scored videos
        if not 0 <= number < len(images):
            raise ImageError(f"row {row} has no image {number}")
        with self._turn:
            image = self.pool.load_image(images[number])
            if isinstance(image, Video):
                image = Image.fromarray(image.frames[0])
            image.thumbnail((PIXELS, PIXELS), Image.Resampling.BICUBIC, reducing_gap=2.0)
        data = io.BytesIO()
        image.save(data, "JPEG", quality=QUALITY)
        return data.getvalue()
