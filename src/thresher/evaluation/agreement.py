"""Whether two backends give the same numbers for one model: some rows of a pool, scored by both.

Compared are the loss of the answers, the number of their tokens, the loss after a demonstration,
and the log-probabilities of a question's answers. Nothing is stored.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from thresher.console.formatting import pluralize
from thresher.errors import CapabilityError, ConfigError, PoolError, in_python, spelled
from thresher.signals.query import Query, judge_prompt
from thresher.stats.correlation import spearman
from thresher.types import Sample, SampleSource, Scored, seeded_ties

if TYPE_CHECKING:
    from thresher.backends import ModelHandle
    from thresher.pools import Pool

ROWS = 64
TOLERANCE = 0.02
WORST = 3  # rows that are named for each number
NEGLIGIBLE = 1e-3  # differences that are not worth a row's name
QUESTION = Query("\nIs the last answer above right? Answer yes or no.", ("Yes", "No", "yes", "no"))


@dataclass(frozen=True)
class Difference:
    """One number of r rows by two backends.

    name: what it is. unit: of the number, "" for a count.
    rows: int64 [r], rows of the pool. first, second: float64 [r].
    failed: for each backend, the rows that only it could not score -> why.
    """

    name: str
    unit: str
    rows: np.ndarray
    first: np.ndarray
    second: np.ndarray
    failed: tuple[Mapping[int, str], Mapping[int, str]] = ({}, {})

    @property
    def sizes(self) -> np.ndarray:
        """float64 [r], the absolute differences."""
        return np.abs(self.first - self.second)

    @property
    def mean(self) -> float:
        """Mean absolute difference; NaN without rows."""
        return float(self.sizes.mean()) if len(self.rows) else float("nan")

    @property
    def largest(self) -> float:
        """Largest absolute difference; NaN without rows."""
        return float(self.sizes.max()) if len(self.rows) else float("nan")

    @property
    def correlation(self) -> float:
        """Spearman's correlation of the two; NaN where one is constant."""
        return spearman(self.first, self.second) if len(self.rows) > 1 else float("nan")

    def worst(self) -> list[tuple[int, float, float]]:
        """The rows that differ most, largest difference first: (row, first, second)."""
        place: dict[int, int] = {}  # of each row's largest difference
        for i in np.argsort(-self.sizes, kind="stable").tolist():
            place.setdefault(int(self.rows[i]), i)
        return [
            (row, float(self.first[i]), float(self.second[i]))
            for row, i in list(place.items())[:WORST]
            if self.sizes[i] >= NEGLIGIBLE
        ]

    def exceeds(self, tolerance: float) -> bool:
        """Whether the backends disagree; not if there is nothing to compare.

        Arguments:
            tolerance: largest mean difference of a number with a unit; counts must be equal.
        """
        alone = any(map(len, self.failed))
        if not len(self.rows):
            return alone
        return alone or not self.mean <= (tolerance if self.unit else 0)


@dataclass(frozen=True)
class Agreement:
    """The comparison of two backends.

    model: as the user named it. backends: their names.
    rows: int, rows that were asked.
    differences: of each number.
    missing: what a backend cannot give, as sentences.
    tolerance: of the mean difference, in nats.
    """

    model: str
    backends: tuple[str, str]
    rows: int
    differences: tuple[Difference, ...]
    missing: tuple[str, ...]
    tolerance: float

    @property
    def agree(self) -> bool:
        """Whether there are numbers to compare, and all of them agree."""
        compared = any(len(d.rows) for d in self.differences)
        return compared and not any(d.exceeds(self.tolerance) for d in self.differences)

    def to_json(self) -> dict[str, Any]:
        """Everything, as plain values."""
        return {
            "model": self.model,
            "backends": list(self.backends),
            "rows": self.rows,
            "tolerance": self.tolerance,
            "agree": self.agree,
            "numbers": [
                {
                    "name": d.name,
                    "unit": d.unit,
                    "rows": len(d.rows),
                    "mean": _plain(d.mean),
                    "max": _plain(d.largest),
                    "correlation": _plain(d.correlation),
                    "agrees": not d.exceeds(self.tolerance),
                    "worst": [
                        {"row": row, name_a: a, name_b: b}
                        for name_a, name_b in [self.backends]
                        for row, a, b in d.worst()
                    ],
                    "failed": {
                        name: {str(row): why for row, why in failed.items()}
                        for name, failed in zip(self.backends, d.failed, strict=True)
                    },
                }
                for d in self.differences
            ],
            "missing": [spelled(text, in_python) for text in self.missing],
        }


def compare_backends(
    model: str,
    handles: Mapping[str, ModelHandle],
    pool: Pool,
    *,
    rows: int = ROWS,
    seed: int = 0,
    tolerance: float = TOLERANCE,
) -> Agreement:
    """Score some rows with two backends and compare the numbers.

    Arguments:
        model: as the user named it.
        handles: name of a backend -> the model in it; two of them.
        pool: where the rows are from.
        rows: how many, drawn by `seed`.
        seed: of the draw.
        tolerance: largest mean difference, in nats.

    Raises ConfigError, PoolError (no row can be scored), CapabilityError if the backends have no
    number in common, and what the backends raise.
    """
    if rows < 1:
        raise ConfigError(": expected at least 1.", option="rows", value=rows)
    if not tolerance >= 0:
        raise ConfigError(": expected nats, 0 or more.", option="tolerance", value=tolerance)
    chosen = _draw(pool, rows, seed)
    samples = pool.samples(chosen)
    found: list[dict[str, _Numbers]] = []
    missing: list[str] = []
    for name, handle in handles.items():
        numbers: dict[str, _Numbers] = {}
        backend = handle.open()
        for part in (_losses, _one_shot, _answers):
            try:
                numbers |= part(backend, samples, pool)
            except CapabilityError as error:
                missing.append(f"{name}: {error.message}")
        found.append(numbers)
        del backend  # its memory is free before the next one is opened
    first, second = found
    common = [name for name in first if name in second]
    if not common:
        raise CapabilityError(" ".join(dict.fromkeys(missing)))
    return Agreement(
        model,
        (*handles,),  # type: ignore[arg-type]
        len(samples),
        tuple(_difference(name, chosen, first[name], second[name]) for name in common),
        tuple(dict.fromkeys(missing)),
        tolerance,
    )


# ------------------------------------------------------------------------- the numbers of a backend


@dataclass(frozen=True)
class _Numbers:
    """values: float64 [n, k], not finite where unknown. errors: n texts."""

    unit: str
    values: np.ndarray
    errors: list[str]


def _losses(backend: Any, samples: Sequence[Sample], pool: SampleSource) -> dict[str, _Numbers]:
    values, errors = _collect(backend.answer_loss(samples, pool, False), len(samples))
    return {
        "loss of the answer": _Numbers("nats", values["nll"], errors),
        "tokens of the answer": _Numbers("", values["tokens"], errors),
    }


def _one_shot(backend: Any, samples: Sequence[Sample], pool: SampleSource) -> dict[str, _Numbers]:
    """Each row after the one before it. Rows whose pair is too long have no number."""
    if len(samples) < 2:
        return {}
    shown = [samples[i - 1] for i in range(len(samples))]
    values, errors = _collect(backend.one_shot(samples, shown, pool), len(samples))
    errors = ["" if e.startswith("too long") else e for e in errors]
    return {"loss after a demonstration": _Numbers("nats", values["nll"], errors)}


def _answers(backend: Any, samples: Sequence[Sample], pool: SampleSource) -> dict[str, _Numbers]:
    prompts = [judge_prompt(sample, "") for sample in samples]
    values, errors = _collect(backend.ask(prompts, [QUESTION], pool), len(samples))
    return {"answers to a question": _Numbers("nats", values["logprob"], errors)}


def _collect(pieces: Iterator[Scored], n: int) -> tuple[dict[str, np.ndarray], list[str]]:
    """The values as float64 [n, k], and the errors, in the order of the samples."""
    values: dict[str, np.ndarray] = {}
    errors = [""] * n
    for piece in pieces:
        for name, column in piece.values.items():
            numbers = np.asarray(column, np.float64).reshape(len(piece.index), -1)
            target = values.setdefault(name, np.full((n, numbers.shape[1]), np.nan))
            target[piece.index] = numbers
        for i, error in zip(piece.index.tolist(), piece.errors, strict=True):
            errors[i] = error
    return values, errors


def _difference(name: str, chosen: np.ndarray, first: _Numbers, second: _Numbers) -> Difference:
    ok = [np.array([not e for e in numbers.errors], bool) for numbers in (first, second)]
    known = np.isfinite(first.values) & np.isfinite(second.values) & (ok[0] & ok[1])[:, None]
    alone = tuple(
        {int(chosen[i]): mine.errors[i] for i in np.flatnonzero(~good & other).tolist()}
        for mine, good, other in ((first, ok[0], ok[1]), (second, ok[1], ok[0]))
    )
    row, _ = np.nonzero(known)
    return Difference(
        name,
        first.unit,
        chosen[row],
        first.values[known],
        second.values[known],
        alone,  # type: ignore[arg-type]
    )


def _draw(pool: Pool, rows: int, seed: int) -> np.ndarray:
    """int64 [r], at most `rows` rows that a model can score, in the pool's order. Raises
    PoolError."""
    usable = np.ones(len(pool), bool)
    usable[list(pool.problems)] = False
    usable &= ~np.asarray(pool.facts["missing_images"], bool)
    found = np.flatnonzero(usable)
    if not len(found):
        raise PoolError(f"{pool.path}: none of its {pluralize(len(pool))} can be scored.")
    order = np.argsort(pool.digest[found], kind="stable")
    ties = np.empty(len(found), np.uint64)
    ties[order] = seeded_ties(pool.digest[found][order], seed)
    return np.sort(found[np.argsort(ties, kind="stable")[:rows]])


def _plain(x: float) -> float | None:
    return x if np.isfinite(x) else None
