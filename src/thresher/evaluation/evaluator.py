"""Evaluates one model on one set of questions: it chooses among candidates or generates an answer,
and the answer is scored.

The model runs as two ordinary row signals (`Answer`, `Choice`), so answers are stored as they are
generated, an interrupted evaluation resumes where it left off, and another `by` needs no model.
Writes answers into the store only.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pyarrow as pa

from thresher.answers.candidates import Candidates, candidates, expected
from thresher.answers.matching import match_candidate
from thresher.answers.metrics import anls, exact_match, relaxed_accuracy
from thresher.answers.normalise import normalise
from thresher.answers.parsing import strip_reasoning
from thresher.engine import AUTO_LIMIT, ColumnEngine, RunContext, commonest
from thresher.errors import ConfigError, TooManyFailures, did_you_mean, opt
from thresher.evaluation.groups import group_names
from thresher.evaluation.report import Evaluation, summarise
from thresher.request import OnMissing, RunRequest
from thresher.signals.answer import Answer
from thresher.signals.choice import Choice
from thresher.types import RowSignal, Sample, digests_to_bytes

if TYPE_CHECKING:
    from thresher.backends import ModelHandle
    from thresher.console.progress import Progress
    from thresher.pools import Pool
    from thresher.storage.columns import Store

Score = Literal["auto", "generate", "choice"]
SCORES = ("auto", "generate", "choice")
MAX_CANDIDATES = 32  # distinct answers that can still serve as candidates
CHUNK = 8192


def evaluate(
    model: ModelHandle,
    pool: Pool,
    *,
    score: Score = "auto",
    by: str = "source",
    store: Store,
    progress: Progress | None = None,
    max_new_tokens: int = 32,
    on_missing: OnMissing = "auto",
    retry_errors: bool = False,
) -> Evaluation:
    """Evaluate `model` on the last question of every row of `pool`.

    Arguments:
        model: the model.
        pool: the questions with their expected answers.
        score: "auto": rows with recognised candidates (`answers/candidates.py`) are scored by
            likelihood, the others by generated answers; "generate": all by generated answers;
            "choice": all by likelihood, rows without candidates among all answers of such rows
            in the pool, if these are at most 32.
        by: the field that groups rows; "source": the pool's sources.
        store: where answers are stored.
        progress: displays the rows done.
        max_new_tokens: limit of a generated answer.
        on_missing: "auto" tolerates failed rows up to 5% of the pool, "exclude" any number,
            "refuse" none.
        retry_errors: try rows again whose failure is stored.

    Raises ConfigError, TooManyFailures, StoreError, and what opening the model raises.
    """
    check_options(score, max_new_tokens)
    started = time.monotonic()
    names = group_names(pool, by)
    questions, limit, closed_set = _questions(pool, score, on_missing)
    usable = questions.usable
    if score == "auto":
        is_choice = np.array([questions.offered[r] is not None for r in usable.tolist()], bool)
    else:
        is_choice = np.full(len(usable), score == "choice")
    request = RunRequest(retry_errors=retry_errors)
    # the model is opened once, for all signals
    context = RunContext(store, replace(model, open=cache(model.open)), progress=progress)
    jobs: list[tuple[str, np.ndarray, RowSignal]] = [
        ("choice", usable[is_choice], Choice(model.identity, closed_set)),
        ("generate", usable[~is_choice], Answer(model.identity, max_new_tokens)),
    ]
    answers: dict[int, _Answer] = {}
    scored_now = 0
    for name, rows, signal in jobs:
        if not len(rows):
            continue
        within = np.zeros(len(pool), bool)  # [n]
        within[rows] = True
        engine = ColumnEngine(pool, request, context, within=within, limit=limit)
        values = engine.column(signal, name)  # field -> [n], by position
        scored_now += sum(run.scored for run in engine.runs)
        pool_rows, eligible = engine.numbering.pool_rows, engine.eligible
        for position in np.flatnonzero(eligible.mask).tolist():
            answers[int(pool_rows[position])] = _Answer(
                name, {f: a[position] for f, a in values.items()}
            )
        for failed in eligible.failed:
            questions.errors.update(
                zip(pool_rows[failed.positions].tolist(), failed.errors, strict=True)
            )
        limit.before = Counter(questions.errors.values())

    table = _table(pool, questions, names, answers)
    cut = sum(t.scored == "generate" and not t.values["finished"] for t in answers.values())
    metadata = {
        "model": model.name,
        "identity": asdict(model.identity),
        "data": str(pool.path),
        "score": score,
        "grouped_by": by,
        "max_new_tokens": max_new_tokens,
    }
    seconds = time.monotonic() - started
    return summarise(
        table, questions.cluster, cut=cut, asked=scored_now, seconds=seconds, about=metadata
    )


def check_options(score: str, max_new_tokens: int) -> None:
    """Raise ConfigError for values that `evaluate` refuses whatever the rows are.

    Arguments:
        score: "auto", "generate" or "choice", as in `evaluate`.
        max_new_tokens: limit of a generated answer.
    """
    if score not in SCORES:
        raise ConfigError(
            f": expected one of {', '.join(SCORES)}.{did_you_mean(score, list(SCORES))}",
            option="score",
            value=score,
        )
    if max_new_tokens < 1:
        raise ConfigError(
            ": expected a number of tokens, at least 1.",
            option="max_new_tokens",
            value=max_new_tokens,
        )


def check_rows(pool: Pool, *, score: str = "auto", on_missing: OnMissing = "auto") -> None:
    """Raise what `evaluate` would raise for these rows before it opens a model: for commands that
    train or select first.

    ConfigError (`score`, no set of candidates), TooManyFailures (rows without an image or an
    answer).

    Arguments:
        pool: the questions with their expected answers.
        score: "auto", "generate" or "choice", as in `evaluate`.
        on_missing: "auto", "exclude" or "refuse", as in `evaluate`.
    """
    check_options(score, max_new_tokens=1)
    _questions(pool, score, on_missing)


# ---------------------------------------------------------------------------------------- questions


def _questions(
    pool: Pool, score: str, on_missing: OnMissing
) -> tuple[_Questions, _Limit, tuple[str, ...]]:
    """The rows as questions, the limit of failures, and the candidates of rows without candidates
    of their own.
    """
    questions = _Questions(pool)
    allowed = {"auto": len(pool) // AUTO_LIMIT, "refuse": 0, "exclude": len(pool) - 1}[on_missing]
    limit = _Limit(allowed, len(pool), Counter(questions.errors.values()))
    limit.check(Counter(), scored=False)
    return questions, limit, _closed_set(questions, questions.usable) if score == "choice" else ()


class _Questions:
    """The rows of a pool as questions: expected answers, candidates, images, and rows that cannot
    be answered.
    """

    def __init__(self, pool: Pool) -> None:
        n = len(pool)
        self.expected = [""] * n
        self.offered: list[Candidates | None] = [None] * n
        self.errors: dict[int, str] = dict(pool.problems)
        self.cluster = np.arange(n)  # equal for rows with the same images
        missing = np.flatnonzero(pool.facts["missing_images"])
        for row, reason in zip(missing.tolist(), pool.missing_image_reasons(missing), strict=True):
            self.errors.setdefault(row, reason)
        first: dict[tuple[str, ...], int] = {}
        for start in range(0, n, CHUNK):
            rows = np.arange(start, min(start + CHUNK, n))
            for row, sample in zip(rows.tolist(), pool.samples(rows), strict=True):
                self._add(row, sample, first)
        self.usable = np.array([r for r in range(n) if r not in self.errors], np.int64)

    def _add(self, row: int, sample: Sample, first: dict[tuple[str, ...], int]) -> None:
        if sample.images:
            self.cluster[row] = first.setdefault(tuple(i.identity for i in sample.images), row)
        if row in self.errors:
            return
        self.expected[row] = expected(sample)
        self.offered[row] = candidates(sample)
        if not self.expected[row]:
            self.errors[row] = (
                "no-answer: the last assistant turn is empty, so there is nothing to compare with"
            )


def _closed_set(questions: _Questions, usable: np.ndarray) -> tuple[str, ...]:
    """The distinct answers of rows without candidates, each in its most frequent form, sorted.
    Raises ConfigError.
    """
    forms: dict[str, Counter[str]] = {}
    for row in usable.tolist():
        if questions.offered[row] is None:
            forms.setdefault(normalise(questions.expected[row]), Counter())[
                questions.expected[row]
            ] += 1
    if len(forms) > MAX_CANDIDATES or len(forms) == 1:
        rows = sum(c.total() for c in forms.values())
        raise ConfigError(
            f": {rows:,} rows have no candidates, and {len(forms):,} distinct answers; 2 to "
            f"{MAX_CANDIDATES} answers can serve as candidates. Give {opt('score', 'auto')}, or "
            "generate.",
            option="score",
            value="choice",
        )
    return tuple(sorted(min(c, key=lambda form: (-c[form], form)) for c in forms.values()))


@dataclass
class _Limit:
    """How many rows of the whole pool may fail (an `engine.eligible.FailureLimit`).

    `before`: errors of rows that failed earlier.
    """

    allowed: int
    rows: int
    before: Counter[str]

    def check(self, reasons: Counter[str], scored: bool = True) -> None:
        reasons = self.before + reasons
        failed = reasons.total()
        if failed >= self.rows:
            raise TooManyFailures(
                f"None of the {self.rows:,} rows can be evaluated: {commonest(reasons)}. Is the "
                "image folder correct, and does every row end with an answer? `thresher doctor` "
                "finds problems of the file."
            )
        if failed > self.allowed:
            raise TooManyFailures(
                f"{failed:,} of {self.rows:,} rows cannot be evaluated, and at most "
                f"{self.allowed:,} may fail. Most common reasons: {commonest(reasons)}. The "
                "accuracy of the others would be misleading; to compute it anyway, give "
                f"{opt('on_missing', 'exclude')}. Answers so far are stored."
            )


# ------------------------------------------------------------------------------------------ scoring


@dataclass(frozen=True)
class _Answer:
    """The model's answer to one row: the fields of `Choice` or `Answer`."""

    scored: str
    values: dict[str, Any]


def _without_reasoning(text: str) -> str:
    """A text without the reasoning in it; unchanged if it has none."""
    stripped = strip_reasoning(text)
    return text if stripped == text.strip() else stripped


def _table(
    pool: Pool, questions: _Questions, names: Sequence[str], answers: dict[int, _Answer]
) -> pa.Table:
    """One row per row of the pool, in its order."""
    n = len(pool)
    columns: dict[str, list[Any]] = {
        name: [None] * n
        for name in ("scored", "answer", "said", "correct", "anls", "relaxed", "margin", "finished")
    }
    # test sets have few distinct answers
    cache: dict[tuple[str, str], tuple[bool, float, bool]] = {}
    for row, given in answers.items():
        text, expected, offered = (
            str(given.values["text"]),
            questions.expected[row],
            questions.offered[row],
        )
        answer = text
        if given.scored == "generate":
            answer, expected = _without_reasoning(text), _without_reasoning(expected) or expected
            answer = answer if offered is None else match_candidate(answer, offered)
        scores = cache.get((answer, expected))
        if scores is None:
            scores = (
                exact_match(answer, expected),
                anls(answer, expected),
                relaxed_accuracy(answer, expected),
            )
            cache[answer, expected] = scores
        columns["scored"][row], columns["answer"][row], columns["said"][row] = (
            given.scored,
            answer,
            text,
        )
        columns["correct"][row], columns["anls"][row], columns["relaxed"][row] = scores
        if given.scored == "choice":
            columns["margin"][row] = float(given.values["margin"])
        else:
            columns["finished"][row] = bool(given.values["finished"])
    all_rows = np.arange(n)
    return pa.table(
        {
            "row": pa.array(all_rows, pa.int64()),
            "id": pa.array(pool.ids(all_rows), pa.string()),
            "digest": pa.array([d.hex() for d in digests_to_bytes(pool.digest)], pa.string()),
            "group": pa.array(list(names), pa.string()),
            "scored": pa.array(columns["scored"], pa.string()),
            "expected": pa.array(
                [_encodable_text(given) for given in questions.expected], pa.string()
            ),
            "answer": pa.array(
                [_encodable_text(given) for given in columns["answer"]], pa.string()
            ),
            "said": pa.array([_encodable_text(given) for given in columns["said"]], pa.string()),
            "correct": pa.array(columns["correct"], pa.bool_()),
            "anls": pa.array(columns["anls"], pa.float64()),
            "relaxed": pa.array(columns["relaxed"], pa.bool_()),
            "margin": pa.array(columns["margin"], pa.float32()),
            "finished": pa.array(columns["finished"], pa.bool_()),
            "image": pa.array(questions.cluster, pa.int64()),
            "error": pa.array([questions.errors.get(r, "") for r in range(n)], pa.string()),
        }
    )


def _encodable_text(text: str | None) -> str | None:
    """Text that parquet can store: lone surrogates are escaped."""
    return None if text is None else text.encode("utf-8", "backslashreplace").decode("utf-8")
