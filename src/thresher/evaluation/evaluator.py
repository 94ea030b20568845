"""One model on one set of questions: each row is asked to choose or to answer, and what it says is
scored.

What is asked of the model are two ordinary row signals (`Answer`, `Choice`), so answers are stored
as they come, a stopped evaluation goes on where it was, and another `by` costs nothing. Ties pool,
store and signals together; writes answers into the store only.
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
from thresher.errors import ConfigError, TooManyFailures, did_you_mean
from thresher.evaluation.groups import groups
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
MOST_ANSWERS = 32  # different answers of a set that can still be a list of candidates
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
    """Ask `model` the last question of every row of `pool`.

    `score`: auto asks rows whose candidates are recognised (see `signals/candidates.py`) to choose
    and the others to answer; generate has all answered; choice has all choose, rows without
    candidates of their own among all answers of such rows in the pool, if these are at most 32.
    `on_missing`: auto tolerates failed rows up to 5% of the pool, exclude any number, refuse none.
    Raises ConfigError, TooManyFailures, StoreError, and what opening the model raises.
    """
    if max_new_tokens < 1:
        raise ConfigError(
            f"--max-new-tokens {max_new_tokens}: expected a number of tokens, at least 1."
        )
    began = time.monotonic()
    names = groups(pool, by)
    asked, limit, otherwise = _questions(pool, score, on_missing)
    usable = asked.usable
    if score == "auto":
        choosing = np.array([asked.offered[r] is not None for r in usable.tolist()], bool)
    else:
        choosing = np.full(len(usable), score == "choice")
    request = RunRequest(retry_errors=retry_errors)
    # the model is opened once, however many signals ask it
    context = RunContext(store, replace(model, open=cache(model.open)), progress=progress)
    jobs: list[tuple[str, np.ndarray, RowSignal]] = [
        ("choice", usable[choosing], Choice(model.identity, otherwise)),
        ("generate", usable[~choosing], Answer(model.identity, max_new_tokens)),
    ]
    told: dict[int, _Told] = {}
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
            told[int(pool_rows[position])] = _Told(
                name, {f: a[position] for f, a in values.items()}
            )
        for failed in eligible.failed:
            asked.errors.update(
                zip(pool_rows[failed.positions].tolist(), failed.errors, strict=True)
            )
        limit.before = Counter(asked.errors.values())

    table = _table(pool, asked, names, told)
    cut = sum(t.scored == "generate" and not t.values["finished"] for t in told.values())
    about = {
        "model": model.name,
        "identity": asdict(model.identity),
        "data": str(pool.path),
        "score": score,
        "grouped_by": by,
        "max_new_tokens": max_new_tokens,
    }
    seconds = time.monotonic() - began
    return summarise(table, asked.cluster, cut=cut, asked=scored_now, seconds=seconds, about=about)


def check(pool: Pool, *, score: str = "auto", on_missing: OnMissing = "auto") -> None:
    """Raises what `evaluate` would raise of these rows before it opens a model: for runs that spend
    much before they ask.

    ConfigError (`score`, no set of candidates), TooManyFailures (rows without an image or an
    answer).
    """
    _questions(pool, score, on_missing)


# ------------------------------------------------------------------------------------ what is asked


def _questions(
    pool: Pool, score: str, on_missing: OnMissing
) -> tuple[_Asked, _Limit, tuple[str, ...]]:
    """The rows as questions, how many of them may fail, and what rows without candidates choose
    among."""
    if score not in SCORES:
        raise ConfigError(
            f"--score {score}: expected one of "
            f"{', '.join(SCORES)}.{did_you_mean(score, list(SCORES))}"
        )
    asked = _Asked(pool)
    allowed = {"auto": len(pool) // AUTO_LIMIT, "refuse": 0, "exclude": len(pool) - 1}[on_missing]
    limit = _Limit(allowed, len(pool), Counter(asked.errors.values()))
    limit.check(Counter(), scored=False)
    return asked, limit, _closed_set(asked, asked.usable) if score == "choice" else ()


class _Asked:
    """The rows of a pool as questions: what is expected, what is offered, which image, and which
    rows nobody can answer."""

    def __init__(self, pool: Pool) -> None:
        n = len(pool)
        self.expected = [""] * n
        self.offered: list[Candidates | None] = [None] * n
        self.errors: dict[int, str] = dict(pool.problems)
        self.cluster = np.arange(n)  # rows with the same images have the same number
        gone = np.flatnonzero(pool.facts["missing_images"])
        for row, why in zip(gone.tolist(), pool.missing_image_reasons(gone), strict=True):
            self.errors.setdefault(row, why)
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


def _closed_set(asked: _Asked, usable: np.ndarray) -> tuple[str, ...]:
    """The different answers of rows that offer no candidates, each in its commonest form, by name.
    Raises ConfigError."""
    forms: dict[str, Counter[str]] = {}
    for row in usable.tolist():
        if asked.offered[row] is None:
            forms.setdefault(normalise(asked.expected[row]), Counter())[asked.expected[row]] += 1
    if len(forms) > MOST_ANSWERS or len(forms) == 1:
        rows = sum(c.total() for c in forms.values())
        raise ConfigError(
            f"--score choice: {rows:,} rows offer no candidates to choose from, and have "
            f"{len(forms):,} different answers; 2 to {MOST_ANSWERS} could be a list of "
            "candidates. Give --score auto, or generate."
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
        gone = reasons.total()
        if gone >= self.rows:
            raise TooManyFailures(
                f"None of the {self.rows:,} rows can be evaluated: {commonest(reasons)}. Is the "
                "image folder the right one, and does every row end with an answer? `thresher "
                "doctor` says what is wrong with the file."
            )
        if gone > self.allowed:
            raise TooManyFailures(
                f"{gone:,} of {self.rows:,} rows cannot be evaluated, and at most "
                f"{self.allowed:,} may fail. Commonest reasons: {commonest(reasons)}. An accuracy "
                "of the rest would mislead; to have it anyway, give --on-missing exclude. What "
                "was answered is stored."
            )


# ------------------------------------------------------------------------------------------ scoring


@dataclass(frozen=True)
class _Told:
    """What the model said of one row: the fields of `Choice` or `Answer`."""

    scored: str
    values: dict[str, Any]


def _conclusion(text: str) -> str:
    """A text without the train of thought in it; one that holds none stays as it is."""
    bare = strip_reasoning(text)
    return text if bare == text.strip() else bare


def _table(pool: Pool, asked: _Asked, names: Sequence[str], told: dict[int, _Told]) -> pa.Table:
    """One row a row of the pool, in its order."""
    n = len(pool)
    columns: dict[str, list[Any]] = {
        name: [None] * n
        for name in ("scored", "answer", "said", "correct", "anls", "relaxed", "margin", "finished")
    }
    # test sets repeat few answers many times
    memo: dict[tuple[str, str], tuple[bool, float, bool]] = {}
    for row, t in told.items():
        said, wanted, offered = str(t.values["text"]), asked.expected[row], asked.offered[row]
        answer = said
        if t.scored == "generate":
            answer, wanted = _conclusion(said), _conclusion(wanted) or wanted
            answer = answer if offered is None else match_candidate(answer, offered)
        marks = memo.get((answer, wanted))
        if marks is None:
            marks = (
                exact_match(answer, wanted),
                anls(answer, wanted),
                relaxed_accuracy(answer, wanted),
            )
            memo[answer, wanted] = marks
        columns["scored"][row], columns["answer"][row], columns["said"][row] = (
            t.scored,
            answer,
            said,
        )
        columns["correct"][row], columns["anls"][row], columns["relaxed"][row] = marks
        if t.scored == "choice":
            columns["margin"][row] = float(t.values["margin"])
        else:
            columns["finished"][row] = bool(t.values["finished"])
    every = np.arange(n)
    return pa.table(
        {
            "row": pa.array(every, pa.int64()),
            "id": pa.array(pool.ids(every), pa.string()),
            "digest": pa.array([d.hex() for d in digests_to_bytes(pool.digest)], pa.string()),
            "group": pa.array(list(names), pa.string()),
            "scored": pa.array(columns["scored"], pa.string()),
            "expected": pa.array([_text(t) for t in asked.expected], pa.string()),
            "answer": pa.array([_text(t) for t in columns["answer"]], pa.string()),
            "said": pa.array([_text(t) for t in columns["said"]], pa.string()),
            "correct": pa.array(columns["correct"], pa.bool_()),
            "anls": pa.array(columns["anls"], pa.float64()),
            "relaxed": pa.array(columns["relaxed"], pa.bool_()),
            "margin": pa.array(columns["margin"], pa.float32()),
            "finished": pa.array(columns["finished"], pa.bool_()),
            "image": pa.array(asked.cluster, pa.int64()),
            "error": pa.array([asked.errors.get(r, "") for r in range(n)], pa.string()),
        }
    )


def _text(text: str | None) -> str | None:
    """Text that parquet can hold: lone surrogates are written out."""
    return None if text is None else text.encode("utf-8", "backslashreplace").decode("utf-8")
