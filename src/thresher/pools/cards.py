"""Rows of a pool as cards: texts cut to a length, images as thumbnails. Reads records and images of
the pool.

Bounded: characters of text, images a row, and bytes of images in all; what is left out is said
where it is missing.
"""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np

from thresher.errors import ImageError
from thresher.html import Card, Message, Thumbnail
from thresher.types import ImageRef, Sample, Turn

if TYPE_CHECKING:
    from thresher.pools.view import PoolView

PIXELS = 160  # the longer side of a thumbnail
QUALITY = 72
IMAGES = 4  # a row
MESSAGES = 6  # a row
CHARACTERS = 700  # a message
ROW_CHARACTERS = 1_500  # a row; a message has LEAST of them in any case
LEAST = 60
PICTURE_BYTES = 3_500_000  # of all thumbnails, as base64
THREADS = 4

_MARKS = re.compile(r"\A(?:\s*<image>)+\s*")


def plain_cards(
    pool: PoolView,
    rows: np.ndarray,
    samples: Sequence[Sample],
    images: int = IMAGES,
    picture_bytes: int | None = None,
) -> list[Card]:
    """Cards of rows of which only the pool is known: state "row", for a reason their problem.
    `samples`: those of `rows`."""
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
        for row, id_, sample, shown in zip(
            rows.tolist(), pool.ids(rows), samples, pictures, strict=True
        )
    ]


def _messages(turns: Sequence[Turn]) -> list[Message]:
    out, left = [], ROW_CHARACTERS
    for turn in turns:
        out.append(message(turn.role, turn.text, max(min(CHARACTERS, left), LEAST)))
        left -= len(out[-1].text)
    return out


def message(role: str, text: str, most: int = CHARACTERS) -> Message:
    """A turn, cut to `most` characters; the image marks at its beginning are dropped, because the
    images are shown."""
    name = {"user": "Question", "assistant": "Answer", "system": "System"}.get(role, "Message")
    body = _MARKS.sub("", text)
    return Message(name, body[:most], len(body) if len(body) > most else 0)


def thumbnails(
    pool: PoolView, samples: Sequence[Sample], most: int = IMAGES, most_bytes: int | None = None
) -> list[list[Thumbnail]]:
    """Up to `most` a row; none any more once `most_bytes` (None: PICTURE_BYTES) are used."""
    refs = [ref for s in samples for ref in s.images[:most]]
    different = list(dict.fromkeys(refs))
    with ThreadPoolExecutor(THREADS) as threads:
        made = dict(
            zip(different, threads.map(lambda ref: thumbnail(pool, ref), different), strict=True)
        )
    left = PICTURE_BYTES if most_bytes is None else most_bytes
    out: list[list[Thumbnail]] = [[] for _ in samples]
    # kept first, then dropped: take from both ends' beginnings in turn
    half = (len(samples) + 1) // 2
    order = sorted(range(len(samples)), key=lambda i: (i % half if half else 0, i))
    for i in order:
        for ref in samples[i].images[:most]:
            small = made[ref]
            if len(small.uri) > left:
                small = Thumbnail(small.name, problem="left out, to keep this file small")
            left -= len(small.uri)
            out[i].append(small)
    return out


def thumbnail(pool: PoolView, ref: ImageRef) -> Thumbnail:
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
