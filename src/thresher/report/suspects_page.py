"""The list of `thresher suspects` as one HTML file that loads nothing: by skill, with images."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from thresher.console.formatting import format_percent, pluralize
from thresher.doctor.suspects import Suspect, Suspects
from thresher.pools import Pool
from thresher.pools.cards import plain_cards
from thresher.report import page
from thresher.report.suspects_section import SkillGroup, skill_title, with_suspicion
from thresher.request.spelling import as_flag

MOST_CARDS = 200


def write_page(found: Suspects, pool: Pool, path: Path) -> Path:
    """Write the list, whole or not at all; returns its path. Raises StoreError, PoolError.

    Arguments:
        found: the suspects.
        pool: whose rows they are.
        path: of the HTML file; missing folders are created.
    """
    return page.write_page(path, _build(found, pool))


def _build(found: Suspects, pool: Pool) -> str:
    """The page: the first `MOST_CARDS` listed rows."""
    shown = found.rows[:MOST_CARDS]
    lead = (
        f"{pluralize(found.found)} of {found.judged:,} "
        f"({format_percent(found.found, found.judged)}) with a suspicion of "
        f"{found.options.threshold:g} or more by the loss of {found.model}, where suspicion is the "
        f"confidence from 0 to 1 that the answer is wrong. About {found.expected_wrong:,.0f} of "
        "them are wrong."
    )
    if len(shown) < found.found:
        lead += f" Shown: the {len(shown):,} most likely; {as_flag('out', 'FILE.jsonl')} lists all."
    return page.render(
        "suspects_page.html.jinja",
        {
            "title": f"{pluralize(found.found)} likely to be wrong",
            "lead": lead,
            "pool_name": found.path,
            "notes": [note.spelled(as_flag) for note in found.notes],
            "groups": _groups(found, shown, pool),
        },
    )


def _groups(found: Suspects, shown: tuple[Suspect, ...], pool: Pool) -> list[SkillGroup]:
    """The rows `shown` by skill, the skill of the most likely row first."""
    rows = np.array([s.row for s in shown], np.int64)
    cards = plain_cards(pool, rows, pool.samples(rows))
    listed: dict[int, int] = {}
    for suspect in found.rows:
        listed[suspect.skill] = listed.get(suspect.skill, 0) + 1
    by_skill: dict[int, list[int]] = {}
    for i, suspect in enumerate(shown):
        by_skill.setdefault(suspect.skill, []).append(i)
    return [
        SkillGroup(
            skill_title(shown[at[0]]),
            shown[at[0]].skill_rows,
            listed[skill],
            None,
            tuple(with_suspicion(cards[i], shown[i]) for i in at),
        )
        for skill, at in by_skill.items()
    ]
