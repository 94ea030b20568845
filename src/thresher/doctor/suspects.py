"""`thresher suspects`: lists the rows whose answers are likely wrong, most suspicious first.

The suspicion of a row is the signal `signals.suspicion`. The list may include the model's own
answers, and has notes about its reliability. Writes only scores, into the store.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache

import numpy as np

from thresher.answers.candidates import expected, question
from thresher.answers.metrics import exact_match
from thresher.console.formatting import pluralize
from thresher.doctor.suspicion_notes import suspicion_notes
from thresher.engine import ColumnEngine, RunContext, create_engine
from thresher.errors import ConfigError, opt
from thresher.pools import Pool
from thresher.request import RunRequest
from thresher.signals.answer import Answer
from thresher.signals.suspicion import SUSPECTED, UNCHECKED, suspicion_signals
from thresher.types import IMAGE_PLACEHOLDER, Columns, Note, Signal, digests_to_bytes

THRESHOLD = 0.5
"""Default minimum suspicion of a listed row."""
_READ_ROWS = 8192  # at once


@dataclass(frozen=True)
class SuspectOptions:
    """Options of the list.

    threshold: minimum suspicion of a listed row, 0 … 1; 0 lists all rows.
    limit: maximum number of listed rows; None: no limit.
    answers: generate the model's own answer to the last question of each listed row.
    image_gain: check suspicions by the rows' images, with a second pass without images.
    leaves: number of skills; None: one per 30 rows.
    max_new_tokens: of a generated answer.
    """

    threshold: float = THRESHOLD
    limit: int | None = None
    answers: bool = False
    image_gain: bool = True
    leaves: int | None = None
    max_new_tokens: int = 32

    def __post_init__(self) -> None:
        if not 0 <= self.threshold <= 1:
            raise ConfigError(
                ": a suspicion is from 0 to 1; give for example 0.5.",
                option="threshold",
                value=self.threshold,
            )
        for name in ("limit", "leaves", "max_new_tokens"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ConfigError(": expected at least 1.", option=name, value=value)


@dataclass(frozen=True)
class Suspect:
    """One listed row.

    row: pool row.
    skill: number of the skill.
    suspicion, hump, agreement, rank, skill_rows: see `signals.suspicion`; agreement is None if
        unknown.
    nll, gain: nats per token; gain is None if unknown.
    given, answer: the last answer of the file, and the model's own (None: not generated).
    same: whether both are equal; None without the model's answer.
    """

    row: int
    id: str
    digest: str
    skill: int
    skill_words: str
    skill_group: str
    suspicion: float
    nll: float
    rank: int
    skill_rows: int
    gain: float | None
    hump: float
    agreement: float | None
    question: str
    given: str
    answer: str | None = None
    same: bool | None = None


@dataclass(frozen=True)
class SkillCount:
    """How many rows of one skill are suspected.

    skill, words: number of the skill and its characteristic words.
    judged: rows of the skill with a suspicion.
    found: of these, rows at or above the threshold.
    """

    skill: int
    words: str
    judged: int
    found: int


@dataclass(frozen=True)
class Suspects:
    """The list of suspects.

    rows: most suspicious first.
    judged: number of rows with a suspicion.
    found: number of rows at or above the threshold, also those beyond the limit.
    expected_wrong: sum of the suspicions of the found rows.
    by_skill: all skills with judged rows, by number.
    failed: rows that could not be scored.
    """

    path: str
    model: str
    pool_rows: int
    judged: int
    found: int
    expected_wrong: float
    by_skill: tuple[SkillCount, ...]
    failed: int
    options: SuspectOptions
    rows: tuple[Suspect, ...]
    notes: tuple[Note, ...]
    asked: int  # rows that went through the model now

    @property
    def skills(self) -> int:
        """Number of skills with judged rows."""
        return len(self.by_skill)


def find_suspects(
    pool: Pool, request: RunRequest, context: RunContext, options: SuspectOptions
) -> Suspects:
    """Score missing rows, and list the rows with a high suspicion.

    Sorted by suspicion in steps of 0.01; ties by whether the image contradicts the answer, then by
    the rank of the loss in the skill.

    Arguments:
        pool: the pool.
        request: how to treat rows that cannot be scored.
        context: the model and the store.
        options: of the list.

    Raises CapabilityError, TooManyFailures, StoreError, and what opening the model raises.
    """
    assert context.model is not None, "the command asks for one"
    # the model is opened once, for scores and answers
    model = replace(context.model, open=cache(context.model.open))
    context = replace(context, model=model)
    signals = signals_for(context, options)
    engine = create_engine(pool, signals, request, context)
    columns = engine.columns(signals)
    rows = engine.eligible.pool_rows  # [e] int64
    suspicion = columns["suspicion"]["suspicion"]
    reaches = suspicion >= np.float32(options.threshold)
    order = suspicion_order(columns)
    listed = order[reaches[order]][: options.limit]
    failed = sum(len(f.positions) for f in engine.eligible.failed)
    engine.close()
    answers, asked = (
        _own_answers(pool, rows[listed], request, context, options.max_new_tokens)
        if options.answers and len(listed)
        else ({}, 0)
    )
    return Suspects(
        path=str(pool.path),
        model=model.name,
        pool_rows=len(pool),
        judged=len(columns),
        found=int(reaches.sum()),
        expected_wrong=float(suspicion[reaches].sum()),
        by_skill=tuple(_by_skill(columns["skills"], reaches)),
        failed=failed,
        options=options,
        rows=tuple(suspects_of(pool, rows, listed, columns, answers)),
        notes=tuple(_notes(columns, failed, len(pool), options, answers, len(listed))),
        asked=max((run.scored for run in engine.runs), default=0) + asked,
    )


def signals_for(context: RunContext, options: SuspectOptions) -> dict[str, Signal]:
    """The signals that a list needs, by label.

    Arguments:
        context: the models.
        options: of the list.
    """
    assert context.model is not None, "the command asks for one"
    embedder = None if context.embedder is None else context.embedder.identity
    return suspicion_signals(
        context.model.identity, options.leaves, image_gain=options.image_gain, embedder=embedder
    )


def _by_skill(skills: Mapping[str, np.ndarray], reaches: np.ndarray) -> Iterator[SkillCount]:
    """The rows of each skill, and those that are found.

    Arguments:
        skills: the fields `leaf` and `words`, [n].
        reaches: bool [n], the found rows.
    """
    leaves, first, code, judged = np.unique(
        skills["leaf"], return_index=True, return_inverse=True, return_counts=True
    )
    found = np.bincount(code[reaches], minlength=len(leaves))
    for k, leaf in enumerate(leaves.tolist()):
        words = str(skills["words"][first[k]])
        yield SkillCount(leaf, words, int(judged[k]), int(found[k]))


def suspicion_order(columns: Columns) -> np.ndarray:
    """Row indices, int64 [n], most suspicious first. `columns`: named as in `suspicion_signals`."""
    found = columns["suspicion"]
    helped = np.zeros(len(columns), bool)
    if "gain" in columns.values:
        helped = np.asarray(columns["gain"]["gain"]) > 0
    place = found["rank"] / np.maximum(found["rows"], 1)
    steps = np.round(np.asarray(found["suspicion"], np.float64) * 100)
    order: np.ndarray = np.lexsort((-place, helped, -steps))
    return order


def _own_answers(
    pool: Pool, rows: np.ndarray, request: RunRequest, context: RunContext, max_new_tokens: int
) -> tuple[dict[int, str], int]:
    """Pool row -> the model's answer to its last question (without failed rows), and the number of
    answers generated now."""
    within = np.zeros(len(pool), bool)  # [n]
    within[rows] = True
    assert context.model is not None
    signal = Answer(context.model.identity, max_new_tokens)
    scoring = replace(request, on_missing="exclude")
    engine = ColumnEngine(pool, scoring, context, within=within)
    texts = engine.column(signal, "answers")["text"]  # [n], by position
    mask = engine.eligible.mask
    said = zip(engine.eligible.pool_rows.tolist(), texts[mask].tolist(), strict=True)
    answers = {row: str(text) for row, text in said}
    engine.close()
    return answers, sum(run.scored for run in engine.runs)


def suspects_of(
    pool: Pool,
    rows: np.ndarray,
    listed: np.ndarray,
    columns: Columns,
    answers: Mapping[int, str],
) -> Iterator[Suspect]:
    """The rows `listed`, in this order.

    Arguments:
        pool: the pool.
        rows: int64 [e], pool rows of `columns`.
        listed: int64 [k], indices into `rows`.
        columns: named as in `suspicion_signals`; without `gain` nothing was checked by images.
        answers: pool row -> the model's own answer, of those that are known.
    """
    found, skills = columns["suspicion"], columns["skills"]
    loss = columns["loss"]["nll"]
    gain = columns["gain"]["gain"] if "gain" in columns.values else np.full(len(rows), np.nan)
    ids = pool.ids(rows[listed])
    digests = digests_to_bytes(pool.digest[rows[listed]])
    for start in range(0, len(listed), _READ_ROWS):
        part = listed[start : start + _READ_ROWS]
        for k, (i, sample) in enumerate(
            zip(part.tolist(), pool.samples(rows[part]), strict=True), start
        ):
            row, given = int(rows[i]), expected(sample)
            answer = answers.get(row)
            yield Suspect(
                row=row,
                id=ids[k],
                digest=digests[k].hex(),
                skill=int(skills["leaf"][i]),
                skill_words=str(skills["words"][i]),
                skill_group=str(skills["parent_words"][i]),
                suspicion=float(found["suspicion"][i]),
                nll=float(loss[i]),
                rank=int(found["rank"][i]),
                skill_rows=int(found["rows"][i]),
                gain=_known(gain[i]),
                hump=float(found["hump"][i]),
                agreement=_known(found["agreement"][i]),
                question=question(sample).replace(IMAGE_PLACEHOLDER, " ").strip(),
                given=given,
                answer=answer,
                same=None if answer is None else exact_match(answer, given),
            )


def _known(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


def _notes(
    columns: Columns,
    failed: int,
    pool_rows: int,
    options: SuspectOptions,
    answers: Mapping[int, str],
    listed: int,
) -> list[Note]:
    """Notes about the reliability of the list."""
    notes = []
    if failed:
        text = f"{failed:,} of {pool_rows:,} rows could not be scored and are not judged."
        notes.append(Note("suspects", text))
    notes += suspicion_notes(columns)
    if "gain" not in columns.values and (columns["suspicion"]["hump"] >= SUSPECTED).any():
        text = (
            f"Nothing was checked by images ({opt('image_gain', False)}): no suspicion is above "
            f"{UNCHECKED}, so give a lower {opt('threshold')} to list rows."
        )
        notes.append(Note("suspects", text))
    if options.answers and len(answers) < listed:
        text = f"{pluralize(listed - len(answers))} of the list could not be answered."
        notes.append(Note("suspects", text))
    return notes
