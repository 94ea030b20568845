"""Examples of rows that winnow excluded for a high loss: question, given answer, model's answer."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from thresher.engine import ColumnEngine, RunContext
from thresher.pools import Pool
from thresher.request import RunRequest
from thresher.selection.result import Outcome
from thresher.signals.answer import Answer
from thresher.stats.two_normals import upper_component
from thresher.types import IMAGE_PLACEHOLDER

MAX_NEW_TOKENS = 24
MAX_CHARACTERS = 60  # of a question or an answer; rows with longer ones are not displayed


@dataclass(frozen=True)
class LeftOut:
    """A row of the pool. `own`: the model's answer; "" if it is empty."""

    row: int
    question: str
    given: str
    own: str


def left_out(
    outcome: Outcome, pool: Pool, request: RunRequest, context: RunContext, count: int
) -> list[LeftOut]:
    """The excluded rows that are most likely wrong, each from another group of skills.

    Judged by the losses alone: rows most probably in the upper component of their skill's losses.
    Only rows with one short question and answer, which fit on a line. Labels are not used.

    Arguments:
        outcome: a selection of winnow.
        pool: that it was made from.
        request, context: of the selection; its model answers the questions.
        count: most rows to return.
    """
    reason = outcome.evidence
    loss, skill = np.asarray(reason["loss"], np.float64), np.asarray(reason["skill"], np.int64)
    size = np.bincount(skill)
    middle = np.zeros(len(size))
    order = np.lexsort((loss, skill))
    start = np.cumsum(size) - size
    filled = size > 0
    middle[filled] = loss[order][(start + size // 2)[filled]]
    hump = upper_component(loss, skill)
    worst = np.lexsort((-(loss - middle[skill]), -np.round(hump, 2)))
    chosen: list[tuple[int, str, str]] = []
    groups: list[str] = []
    kept = np.isin(outcome.considered, outcome.rows)
    for i in worst.tolist():
        if len(chosen) == count or hump[i] < 0.5:
            break
        group = str(reason["skill_group"][i])
        if kept[i] or reason["trusted"][i] or group in groups:
            continue
        row = int(outcome.considered[i])
        sample = pool.samples(np.array([row]))[0]
        turns = [t for t in sample.turns if t.role != "system"]
        question = turns[0].text.replace(IMAGE_PLACEHOLDER, "").strip().split("\n")[0]
        if len(turns) != 2 or max(len(question), len(turns[1].text)) > MAX_CHARACTERS:
            continue
        groups.append(group)
        chosen.append((row, question, turns[1].text))
    own = _own_answers(pool, [row for row, *_ in chosen], request, context)
    return [LeftOut(row, question, given, own.get(row, "")) for row, question, given in chosen]


def _own_answers(
    pool: Pool, rows: list[int], request: RunRequest, context: RunContext
) -> dict[int, str]:
    """Pool row -> the model's answer to its question."""
    if not rows or context.model is None:
        return {}
    within = np.zeros(len(pool), bool)
    within[rows] = True
    signal = Answer(context.model.identity, MAX_NEW_TOKENS)
    engine = ColumnEngine(pool, replace(request, on_missing="exclude"), context, within=within)
    texts = engine.column(signal, "answers")["text"]
    mask = engine.eligible.mask
    answers = zip(engine.eligible.pool_rows.tolist(), texts[mask].tolist(), strict=True)
    engine.close()
    return {row: str(text) for row, text in answers}
