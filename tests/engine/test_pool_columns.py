"""Stored pool signals: computed once per set of rows, and loaded without their inputs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from tests import runs as run
from tests.text_pools import record, write_pool
from thresher.pools import Pool, open_pool
from thresher.storage.columns import Store
from thresher.types import (
    Budget,
    Capability,
    Columns,
    Field,
    MethodContext,
    Sample,
    SampleSource,
    Scored,
    Selection,
    Signal,
)

computed: list[int] = []  # rows of each computation of `Ranks`
scored: list[int] = []


@dataclass(frozen=True)
class Words:
    """A row signal that fails for some rows."""

    failing: str = ""

    kind: ClassVar[str] = "test_words"
    version: ClassVar[int] = 1
    needs: ClassVar[Capability] = Capability.NONE
    fields: ClassVar[tuple[Field, ...]] = (Field("words", "int32", "words of the answers"),)

    def inputs(self) -> Mapping[str, Signal]:
        return {}

    def rows(
        self, samples: Sequence[Sample], inputs: Columns | None, backend: Any, pool: SampleSource
    ) -> Iterator[Scored]:
        scored.append(len(samples))
        words = np.array([len(s.turns[-1].text.split()) for s in samples], np.int32)
        errors = ["planted" if s.id.strip('"') in self.failing.split() else "" for s in samples]
        yield Scored(np.arange(len(samples)), {"words": words}, errors)


@dataclass(frozen=True)
class Ranks:
    """A stored pool signal: the rank of each row's words, and the first word of its answer."""

    words: Signal

    kind: ClassVar[str] = "test_ranks"
    version: ClassVar[int] = 1
    fields: ClassVar[tuple[Field, ...]] = (
        Field("rank", "int32", "rows of fewer words"),
        Field("first", "str", "first word of the answer"),
    )

    def inputs(self) -> Mapping[str, Signal]:
        return {"words": self.words}

    def pool_rows(
        self, inputs: Columns, samples: Callable[[np.ndarray], Sequence[Sample]]
    ) -> dict[str, np.ndarray]:
        computed.append(len(inputs))
        words = inputs["words"]["words"]
        some = np.arange(0, len(inputs), 2)  # rows are read by their place in the inputs
        first = np.full(len(inputs), "", object)
        first[some] = [s.turns[-1].text.split()[2] for s in samples(some)]
        return {"rank": np.searchsorted(np.sort(words), words).astype(np.int32), "first": first}


@dataclass(frozen=True)
class ByRank:
    failing: str = ""

    name: ClassVar[str] = "by_rank"
    paper: ClassVar[str] = ""
    summary: ClassVar[str] = "For tests."

    def signals(self, context: MethodContext) -> Mapping[str, Signal]:
        return {"ranks": Ranks(Words(self.failing))}

    def select(self, columns: Columns, budget: int, target: Columns | None = None) -> Selection:
        ranks = columns["ranks"]
        rows = np.lexsort((columns.ties, ranks["rank"]))[:budget].astype(np.int64)
        return Selection(rows, {"rank": ranks["rank"], "first": ranks["first"]})


@pytest.fixture(autouse=True)
def _counts() -> None:
    computed.clear()
    scored.clear()


def pool_of(folder: Path, numbers: Sequence[int]) -> Pool:
    return open_pool(write_pool(folder / "pool.json", [record(i) for i in numbers]))


def digests(pool: Pool, outcome: Any) -> list[bytes]:
    return [pool.digest[r] for r in outcome.rows.tolist()]


def test_another_budget_and_seed_reuse_the_column(tmp_path: Path) -> None:
    pool, store = pool_of(tmp_path, range(50)), Store(tmp_path / "store")
    first = run.select(pool, ByRank(), Budget.parse("10"), store=store)
    assert computed == [50] and sum(scored) == 50
    more = run.select(pool, ByRank(), Budget.parse("20"), store=store, seed=4)
    assert computed == [50] and sum(scored) == 50
    assert set(first.reason["rank"].tolist()) <= set(more.reason["rank"].tolist())
    assert [r.label for r in more.signals] == []  # its inputs are not even loaded
    assert more.evidence["first"].dtype == object
    assert (first.evidence["rank"] == more.evidence["rank"]).all()


def test_values_do_not_depend_on_file_order(tmp_path: Path) -> None:
    numbers = [*range(40), 3, 3, 7]  # copies of a row
    (tmp_path / "other").mkdir()
    pool, other = pool_of(tmp_path, numbers), pool_of(tmp_path / "other", numbers[::-1])
    store = Store(tmp_path / "store")
    a = run.select(pool, ByRank(), Budget.parse("12"), store=store)
    b = run.select(other, ByRank(), Budget.parse("12"), store=store)
    assert computed == [43]  # one set of rows
    assert digests(pool, a) == digests(other, b)
    words = np.array([len(s.turns[-1].text.split()) for s in pool.samples(a.considered)])
    assert (np.argsort(words, kind="stable") >= 0).all()
    assert (a.evidence["rank"] == np.searchsorted(np.sort(words), words)).all()
    firsts = [s.turns[-1].text.split()[2] for s in pool.samples(a.considered)]
    assert all(f in ("", w) for f, w in zip(a.evidence["first"].tolist(), firsts, strict=True))


def test_another_set_of_rows_has_its_own_column(tmp_path: Path) -> None:
    pool, store = pool_of(tmp_path, range(50)), Store(tmp_path / "store")
    run.select(pool, ByRank(), Budget.parse("10"), store=store)
    fewer = run.select(pool, ByRank(), Budget.parse("10"), store=store, filter=("id != r3",))
    assert computed == [50, 49] and fewer.evidence["rank"].max() <= 48
    (tmp_path / "grown").mkdir()
    run.select(pool_of(tmp_path / "grown", range(60)), ByRank(), Budget.parse("10"), store=store)
    assert computed == [50, 49, 60] and sum(scored) == 60  # of the inputs new rows only
    run.select(pool, ByRank(), Budget.parse("11"), store=store, filter=("id != r3",))
    assert computed == [50, 49, 60]


@pytest.mark.parametrize("failing", ["r5", "r5 r6"])
def test_rows_with_failed_inputs_are_excluded(tmp_path: Path, failing: str) -> None:
    pool, store = pool_of(tmp_path, range(50)), Store(tmp_path / "store")
    missing = len(failing.split())
    for budget in ("10", "12"):
        outcome = run.select(pool, ByRank(failing), Budget.parse(budget), store=store)
        assert outcome.excluded == missing and len(outcome.considered) == 50 - missing
    assert computed == [50 - missing]


def test_plan_computes_no_pool_column(tmp_path: Path) -> None:
    pool, store = pool_of(tmp_path, range(50)), Store(tmp_path / "store")
    before = run.plan(pool, ByRank(), Budget.parse("10"), None, store, probe=False)
    assert before.to_score == 50 and computed == []
    run.select(pool, ByRank(), Budget.parse("10"), store=store)
    after = run.plan(pool, ByRank(), Budget.parse("10"), None, store, probe=False)
    assert after.to_score == 0 and computed == [50]
