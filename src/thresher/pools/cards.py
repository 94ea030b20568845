"""Rows of a pool as cards for pages: shortened texts and image thumbnails. Reads records and
images.

Bounded: characters of text, images per row, and bytes of images in total; each place where
something was left out shows it.
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
from thresher.types import ImageRef, Sample, Turn, Video

if TYPE_CHECKING:
    from thresher.pools.view import PoolView

PIXELS = 160  # the longer side of a thumbnail
QUALITY = 72
IMAGES = 4  # a row
MESSAGES = 6  # a row
CHARACTERS = 700  # a message
ROW_CHARACTERS = 1_500  # a row; each message gets at least MIN_CHARACTERS
MIN_CHARACTERS = 60
THUMBNAIL_BYTES = 3_500_000  # of all thumbnails, as base64
THREADS = 4

_LEADING_PLACEHOLDERS = re.compile(r"\A(?:\s*<image>)+\s*")


def plain_cards(
    pool: PoolView,
    rows: np.ndarray,
    samples: Sequence[Sample],
    max_images: int = IMAGES,
    thumbnail_bytes: int | None = None,
) -> list[Card]:
    """Cards for rows of which only the pool is known: state "row", with the row's problem as
    reason.

    Arguments:
        pool: of the rows.
        rows: int64 [r], pool rows.
        samples: the samples of `rows`.
        max_images: thumbnails per row.
        thumbnail_bytes: of all thumbnails together; None: THUMBNAIL_BYTES.
    """
    thumbnails_by_row = thumbnails(pool, samples, max_images, thumbnail_bytes)
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
            tuple(row_thumbnails),
            max(len(sample.images) - max_images, 0),
        )
        for row, id_, sample, row_thumbnails in zip(
            rows.tolist(), pool.ids(rows), samples, thumbnails_by_row, strict=True
        )
    ]


def _messages(turns: Sequence[Turn]) -> list[Message]:
    out, characters_left = [], ROW_CHARACTERS
    for turn in turns:
        out.append(
            message(turn.role, turn.text, max(min(CHARACTERS, characters_left), MIN_CHARACTERS))
        )
        characters_left -= len(out[-1].text)
    return out


def message(role: str, text: str, max_characters: int = CHARACTERS) -> Message:
    """A turn, shortened to `max_characters`; leading image placeholders are dropped, because the
    images are displayed.

    Arguments:
        role: of the turn.
        text: of the turn.
        max_characters: maximum length.
    """
    name = {"user": "Question", "assistant": "Answer", "system": "System"}.get(role, "Message")
    body = _LEADING_PLACEHOLDERS.sub("", text)
    return Message(name, body[:max_characters], len(body) if len(body) > max_characters else 0)


def thumbnails(
    pool: PoolView,
    samples: Sequence[Sample],
    max_images: int = IMAGES,
    max_bytes: int | None = None,
) -> list[list[Thumbnail]]:
    """Thumbnails of each row's first images, as data URIs.

    Arguments:
        pool: where images are loaded from.
        samples: the rows.
        max_images: maximum per row.
        max_bytes: of all thumbnails together; None: THUMBNAIL_BYTES.
    """
    refs = [ref for s in samples for ref in s.images[:max_images]]
    unique_refs = list(dict.fromkeys(refs))
    with ThreadPoolExecutor(THREADS) as threads:
        by_ref = dict(
            zip(
                unique_refs, threads.map(lambda ref: thumbnail(pool, ref), unique_refs), strict=True
            )
        )
    bytes_left = THUMBNAIL_BYTES if max_bytes is None else max_bytes
    out: list[list[Thumbnail]] = [[] for _ in samples]
    # selected rows come first, then dropped ones: alternate between the two halves
    half = (len(samples) + 1) // 2
    order = sorted(range(len(samples)), key=lambda i: (i % half if half else 0, i))
    for i in order:
        for ref in samples[i].images[:max_images]:
            thumb = by_ref[ref]
            if len(thumb.uri) > bytes_left:
                thumb = Thumbnail(thumb.name, problem="omitted to limit the size of this file")
            bytes_left -= len(thumb.uri)
            out[i].append(thumb)
    return out


def thumbnail(pool: PoolView, ref: ImageRef) -> Thumbnail:
    """A JPEG with sides of at most PIXELS, as a data URI.

    Arguments:
        pool: where the image is loaded from.
        ref: the image.
    """
    from PIL import Image

    name = (ref.path or "embedded image")[-120:]
    try:
        image = pool.load_image(ref)
        if isinstance(image, Video):
            image = Image.fromarray(image.frames[0])
    except ImageError as error:
        return Thumbnail(name, problem=str(error)[:200])
    image.thumbnail((PIXELS, PIXELS), Image.Resampling.BICUBIC, reducing_gap=2.0)
    data = io.BytesIO()
    image.save(data, "JPEG", quality=QUALITY)
    return Thumbnail(name, "data:image/jpeg;base64," + base64.b64encode(data.getvalue()).decode())
