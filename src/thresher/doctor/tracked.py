"""What a tracker gets of a list of suspects: how many rows are suspected, in which skills, and the
notes."""

from __future__ import annotations

from thresher.doctor.suspects import Suspects
from thresher.request.spelling import as_flag
from thresher.tracking import Table, Tracking


def track_suspects(found: Suspects, tracking: Tracking) -> None:
    """Send a list of suspects to the tracker of its run.

    Arguments:
        found: the list.
        tracking: of the run.
    """
    tracking.summary(
        {
            "counts/rows": found.pool_rows,
            "counts/judged": found.judged,
            "counts/failed": found.failed,
            "counts/suspected": found.found,
            "counts/listed": len(found.rows),
            "counts/skills": found.skills,
            "expected_wrong": found.expected_wrong,
            "share/suspected": found.found / found.judged if found.judged else None,
            # of the listed rows that the model answered: only where it was asked to
            "share/same_answer": _same(found),
        }
    )
    tracking.table("skills", skill_table(found))
    tracking.text("summary", "\n\n".join(f"Note: {n.spelled(as_flag)}" for n in found.notes))


def skill_table(found: Suspects) -> Table:
    """The skills, those with the largest share of suspected rows first."""
    ranked = sorted(found.by_skill, key=lambda s: (-s.found / s.judged, s.skill))
    return Table(
        ("skill", "words", "judged", "suspected", "share"),
        tuple((s.skill, s.words, s.judged, s.found, s.found / s.judged) for s in ranked),
    )


def _same(found: Suspects) -> float | None:
    """Share of the listed rows with an answer of the model whose answer is the given one; None
    without any."""
    same = [row.same for row in found.rows if row.same is not None]
    return sum(same) / len(same) if same else None
