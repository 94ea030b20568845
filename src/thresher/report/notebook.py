"""HTML of a selection in a notebook: counts, sources, notes and a few example rows.

Reads only a few records and images, whatever the size of the pool, and stays under 200 KB.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from thresher.console.formatting import format_percent, pluralize
from thresher.html import Card, NotebookView, render_notebook_view
from thresher.pools.notebook import (
    IMAGES,
    ROWS,
    THUMBNAIL_BYTES,
    display_name,
    rows_or_reason,
    shorten_notes,
    source_shares,
)
from thresher.report.breakdown import media_counts, sample_rows
from thresher.report.folder import of_outcome
from thresher.report.gallery import make_cards
from thresher.selection.groups import failure_kinds
from thresher.selection.result import LEFT_OUT

if TYPE_CHECKING:
    from thresher.pools import Pool
    from thresher.selection.result import Outcome


KEPT = 4  # of a selection's rows; half of them the best by rank


def chosen_html(outcome: Outcome, pool: Pool, settings: Mapping[str, str], what: object) -> str:
    """HTML of a selection in memory: counts, method, and example rows kept and not kept.

    Arguments:
        outcome: the selection.
        pool: its pool.
        settings: the method settings that the user gave.
        what: the object to describe if rendering fails.
    """
    return render_notebook_view(lambda: _chosen(outcome, pool, settings), what)


# -------------------------------------------------------------------------------------- a selection


def _chosen(outcome: Outcome, pool: Pool, settings: Mapping[str, str]) -> NotebookView:
    recipe = outcome.recipe
    n, k = len(pool), len(outcome.rows)
    facts = pool.facts
    words, all_words = (
        int(facts["answer_words"][outcome.rows].sum()),
        int(facts["answer_words"].sum()),
    )
    scored = sum(s.scored for s in outcome.signals)
    counts = [
        ("Rows kept", format_percent(k, n), f"{k:,} of {n:,}"),
        ("Answer words", format_percent(words, all_words), f"{words:,} of {all_words:,}"),
        *media_counts(facts, outcome.rows),
    ]
    if outcome.excluded:
        counts.append(("Left out", f"{outcome.excluded:,}", "could not be used"))
    if outcome.signals:
        counts.append(
            (
                "Scored now",
                f"{scored:,}",
                (f"{sum(s.reused + s.elsewhere for s in outcome.signals):,} from the store"),
            )
        )
    why_left_out = [
        f"{pluralize(len(kind))} left out: {kind[0].error}"
        for kind in failure_kinds(outcome.failures)[:2]
    ]
    notes = why_left_out + [str(note) for note in outcome.notes if note.kind != LEFT_OUT]
    rows, why = rows_or_reason(lambda: _kept_and_not(outcome, pool))
    rows_caption = "The best by rank, some other kept rows, and some that were not kept."
    given = "".join(f" {key}={value}" for key, value in settings.items())
    lead = f"{recipe.method}{given}, budget {recipe.budget}, seed {recipe.request.seed}" + (
        f", model {recipe.model}" if recipe.model else ""
    )
    kept = np.bincount(pool.source[outcome.rows], minlength=len(pool.source_names))
    return NotebookView(
        f"{k:,} of {n:,} rows of {display_name(pool)} kept",
        lead,
        tuple(c for c in counts if c[1] != "-"),
        ("pool", "kept"),
        source_shares(pool, kept),
        (),
        shorten_notes(notes),
        rows_caption,
        tuple(rows),
        why,
    )


def _kept_and_not(outcome: Outcome, pool: Pool) -> list[Card]:
    selection = of_outcome(outcome, pool)
    kept = selection.kept_rows
    best = kept[: KEPT // 2]
    others = sample_rows(selection, kept[len(best) :], KEPT - len(best))
    dropped = sample_rows(
        selection, selection.rows[~selection.kept], ROWS - len(best) - len(others)
    )
    rows = np.concatenate([best, others, dropped]).astype(np.int64)
    return make_cards(selection, rows, images=IMAGES, max_image_bytes=THUMBNAIL_BYTES)
