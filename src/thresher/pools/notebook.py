"""How a pool is displayed in a notebook, with parts for other objects: sources, notes, example
rows.

Reads at most ROWS records and as many images, whatever the size of the pool; the page stays under
200 KB.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from thresher.console.formatting import format_percent, pluralize, truncate
from thresher.html import TEXT, Card, Message, NotebookView, Share
from thresher.pools.cards import plain_cards
from thresher.types import RowError

if TYPE_CHECKING:
    from thresher.pools.view import DescribedPool

ROWS = 6
IMAGES = 2  # of a row
THUMBNAIL_BYTES = 120_000  # of all thumbnails
SOURCES = 6
NOTES = 4
MESSAGE_CHARACTERS = 320  # characters of a message


def pool_view(pool: DescribedPool) -> NotebookView:
    """A pool: rows, images, sources, problems, and a row of each of its largest sources."""
    index, facts = pool.index, pool.facts
    n, images, videos = len(pool), len(index.image_path), int(facts["video"].sum())
    missing = facts["missing_images"]
    problem_count = int((pool.has_problem | missing).sum())
    counts = (
        ("Rows", f"{n:,}", f"in {pluralize(len(pool.file_specs), 'file')}"),
        ("Images", f"{images:,}", f"shown in {pluralize(int((facts['images'] > 0).sum()))}"),
        *([("With a video", f"{videos:,}", video_detail(pool.video_frames))] if videos else []),
        ("Sources", f"{len(pool.source_names):,}", ""),
        (
            "Problems",
            pluralize(problem_count) if problem_count else "none",
            "`thresher doctor` explains" if problem_count else "found while parsing",
        ),
    )
    by_kind: Counter[str] = Counter()
    for code, text in enumerate(index.problem_texts):
        rows_with_it = pool.has_problem & (index.problem == code)
        by_kind[RowError.parse(text).kind] += int(rows_with_it.sum())
    notes = [
        f"{pluralize(number)}: {kind}"
        for kind, number in sorted(by_kind.items(), key=lambda k: (-k[1], k[0]))
        if number
    ]
    if missing.any():
        notes.append(f"{pluralize(int(missing.sum()))}: an image that does not exist")
    notes += pool.notes
    rows, reason = rows_or_reason(lambda: _example_cards(pool))
    lead = (
        f"{pool.format}, images in {pool.images_folder}" if images else f"{pool.format}, no images"
    )
    caption = (
        "A few rows, one of each of the largest sources."
        if len(pool.source_names) > 1
        else "A few rows."
    )
    return NotebookView(
        display_name(pool),
        lead,
        counts,
        ("of rows",),
        source_shares(pool, None),
        (),
        shorten_notes(notes),
        caption,
        tuple(rows),
        reason,
    )


def video_detail(frames: int | None) -> str:
    """What models do with rows with videos. `frames`: most frames of a video; None: not scored."""
    return "not scored" if frames is None else f"{pluralize(frames, 'frame')} of each are scored"


def _example_cards(pool: DescribedPool) -> list[Card]:
    """The first row, by digest, of each of the largest sources, then others; the last is one with a
    problem, if there is any.
    """
    order, by_digest = pool.order, pool.source[pool.order]
    found = [int(order[np.argmax(by_digest == source)]) for source in _largest_sources(pool)]
    found += (
        order[np.linspace(0, len(order), ROWS, endpoint=False).astype(np.int64)].tolist()
        if len(order)
        else []
    )
    found = list(dict.fromkeys(found))[:ROWS]
    with_problem = order[pool.has_problem[order]]
    if len(with_problem) and not pool.has_problem[found].any():
        found[-1] = int(with_problem[0])
    rows = np.array(found, np.int64)
    return plain_cards(pool, rows, pool.samples(rows), IMAGES, THUMBNAIL_BYTES)


def rows_or_reason(make: Callable[[], list[Card]]) -> tuple[list[Card], str]:
    """The rows, or why they cannot be displayed (the counts do not need the pool's files)."""
    try:
        return [_shorten_card(card) for card in make()], ""
    except Exception as error:  # noqa: BLE001 - the counts do not need the files
        return [], f"The rows cannot be displayed: {error}"[:TEXT]


def _shorten_card(card: Card) -> Card:
    """The first question and its answer, shortened, and the number of other messages."""
    displayed = [m for m in card.messages if m.role != "System"][:2]
    more = len(card.messages) + card.more_messages - len(displayed)
    shortened = tuple(
        Message(
            m.role,
            m.text[:MESSAGE_CHARACTERS],
            m.cut or (len(m.text) if len(m.text) > MESSAGE_CHARACTERS else 0),
        )
        for m in displayed
    )
    return replace(card, messages=shortened, more_messages=more)


def _largest_sources(pool: DescribedPool) -> list[int]:
    """Indices of the largest sources, at most SOURCES, largest first."""
    counts = np.bincount(pool.source, minlength=len(pool.source_names))
    return [i for i in np.argsort(-counts, kind="stable")[:SOURCES].tolist() if counts[i]]


def source_shares(pool: DescribedPool, selected: np.ndarray | None) -> tuple[Share, ...]:
    """The largest sources, and all others in one line; () if there is only one.

    Arguments:
        pool: its sources.
        selected: int [sources], selected rows of each source; None: not displayed.
    """
    names, counts = pool.source_names, np.bincount(pool.source, minlength=len(pool.source_names))
    if len(names) < 2:
        return ()
    largest = _largest_sources(pool)
    labelled = [(truncate(names[i]) or "(none)", [i]) for i in largest]
    rest = np.setdiff1d(np.flatnonzero(counts), largest)
    if len(rest):
        labelled.append((f"{len(rest):,} smaller", rest.tolist()))
    before = np.array([counts[members].sum() for _, members in labelled])
    after = (
        None if selected is None else np.array([selected[members].sum() for _, members in labelled])
    )
    parts = [(before, len(pool))] + ([] if after is None else [(after, int(after.sum()))])
    top = max(rows.max() / max(total, 1) for rows, total in parts) or 1.0
    return tuple(
        Share(
            name,
            tuple(float(100 * rows[i] / max(total, 1) / top) for rows, total in parts),
            tuple(format_percent(int(rows[i]), total) for rows, total in parts),
        )
        for i, (name, _) in enumerate(labelled)
    )


def shorten_notes(notes: list[str]) -> tuple[str, ...]:
    """At most NOTES notes of at most TEXT characters."""
    lines = [note if len(note) <= TEXT else note[: TEXT - 1] + "…" for note in notes[:NOTES]]
    if len(notes) > NOTES:
        lines.append(f"and {len(notes) - NOTES} more")
    return tuple(lines)


def display_name(pool: DescribedPool) -> str:
    """The file's name, or the pool's spec if it has several files."""
    return (pool.path.name if len(pool.file_specs) == 1 else pool.spec)[:120] or "a pool"
