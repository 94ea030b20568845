"""The engine with replaced components: scorer, cache, another pool view, part of a pool."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.engine.judge_panel import Judge, Question, identity
from tests.text_pools import Loss, Model, Pair, Partner, Words, record, write_pool
from thresher.backends.fake import IDENTITY
from thresher.engine import (
    CacheQuery,
    ColumnEngine,
    RowColumn,
    RunContext,
    ScoredKeys,
    ScoringRequest,
    create_engine,
)
from thresher.engine.scoring_request import _unique_of_sorted
from thresher.errors import StoreError
from thresher.pools import Pool, open_pool
from thresher.pools.view import PoolView
from thresher.request import RunRequest
from thresher.storage.columns import Store
from thresher.types import ImageRef, Sample, Signal, digests_to_array

LOSS = Loss(IDENTITY)
PAIR = Pair(IDENTITY, Partner(LOSS))
SIGNALS: dict[str, Signal] = {"pair": PAIR, "loss": LOSS, "words": Words()}


@pytest.fixture
def pool(tmp_path: Path) -> Pool:
    return open_pool(write_pool(tmp_path / "pool.json", [record(i % 50) for i in range(60)]))


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


class Constant:
    """A scorer that writes the same value for every row, and notes what it was asked."""

    def __init__(self, store: Store, value: float = 2.0, part: int | None = None) -> None:
        self.store, self.value, self.part = store, value, part
        self.asked: list[list[tuple[str, int]]] = []

    def score(self, requests: Sequence[ScoringRequest]) -> list[ScoredKeys]:
        self.asked.append([(r.label, int(r.missing.sum())) for r in requests])
        out = []
        for r in requests:
            keys = r.keys[r.missing][: self.part]
            fields = {
                f.name: np.full(len(keys), "w", object)
                if f.dtype == "str"
                else np.full(len(keys), self.value, f.dtype)
                for f in r.signal.fields
            }
            self.store.append(r.fingerprint, r.signal.fields, keys, fields, [""] * len(keys))
            out.append(ScoredKeys(r.fingerprint, keys, keys[:0]))
        return out


class Remembers:
    """A cache that returns whatever it was given for a signal's fingerprint."""

    def __init__(self) -> None:
        self.columns: dict[str, RowColumn] = {}
        self.found: list[str] = []

    def get(self, query: CacheQuery) -> RowColumn | None:
        if query.fingerprint in self.columns:
            self.found.append(query.signal.kind)
        return self.columns.get(query.fingerprint)

    def put(self, query: CacheQuery, column: RowColumn) -> None:
        assert query.eligible.all()
        assert all(inner in query.table for inner in query.signal.inputs().values())
        self.columns[query.fingerprint] = column


def test_distinct_digests_are_found_without_sorting() -> None:
    for n in (0, 1, 40):
        digest = np.sort(np.random.default_rng(n).integers(0, 12, n).astype("S32"))
        expected = np.unique(digest, return_index=True, return_inverse=True, return_counts=True)
        found = _unique_of_sorted(digest)
        assert all(
            (a == b).all() and len(a) == len(b) for a, b in zip(found, expected, strict=True)
        )


def test_scorer_can_be_replaced(pool: Pool, store: Store) -> None:
    scorer = Constant(store)
    model = Model()
    engine = create_engine(
        pool, SIGNALS, RunRequest(), RunContext(store, model=model.handle), scorer=scorer
    )
    columns = engine.columns(SIGNALS)
    # copies are one row; inputs come first and under the names that the caller gave them
    assert scorer.asked == [[("loss", 50)], [("pair", 50)]] and model.opened == 0
    assert (columns["pair"]["nll"] == 2).all() and len(columns) == 60
    assert [(r.label, r.needed, r.scored) for r in engine.runs] == [
        ("loss", 50, 50),
        ("pair", 50, 50),
    ]
    again = create_engine(
        pool, SIGNALS, RunRequest(), RunContext(store, model=model.handle), scorer=scorer
    )
    again.columns(SIGNALS)
    assert len(scorer.asked) == 2 and [r.scored for r in again.runs] == [0, 0]


def test_signals_that_share_a_pass_are_one_request(pool: Pool, store: Store) -> None:
    scorer = Constant(store)
    questions = {text: Question(identity("judge"), text) for text in "abc"}
    context = RunContext(store, Judge().handle)
    create_engine(pool, {"b": questions["b"]}, RunRequest(), context, scorer=scorer).columns(
        {"b": questions["b"]}
    )
    create_engine(pool, questions, RunRequest(), context, scorer=scorer).columns(questions)
    # what is stored already is asked along, with nothing missing
    assert scorer.asked == [[("b", 50)], [("a", 50), ("b", 0), ("c", 50)]]


def test_scorer_that_omits_rows_is_an_error(pool: Pool, store: Store) -> None:
    engine = create_engine(
        pool,
        {"loss": LOSS},
        RunRequest(),
        RunContext(store, model=Model().handle),
        scorer=Constant(store, part=47),
    )
    with pytest.raises(StoreError, match="3 rows of loss were scored but are no longer"):
        engine.column(LOSS, "loss")


def test_cache_replaces_the_store(pool: Pool, store: Store) -> None:
    cache, model = Remembers(), Model(lambda s: "broken" if "What is 7 " in s.turns[0].text else "")
    request, context = RunRequest(on_missing="exclude"), RunContext(store, model.handle)
    first = create_engine(pool, {"loss": LOSS}, request, context, cache=cache)
    expected = first.column(LOSS, "loss")
    assert cache.found == []
    empty = RunContext(Store(store.root.with_name("empty")), model=None, roles={"r": model.handle})
    second = create_engine(pool, {"other": LOSS}, RunRequest(), empty, cache=cache)
    assert second.column(LOSS, "other") is expected
    assert cache.found == ["loss"] and [r.label for r in second.runs] == ["other"]
    assert second.runs[0].scored == 0 and second.runs[0].needed == first.runs[0].needed
    # rows that failed leave here, too
    assert np.array_equal(second.eligible.mask, first.eligible.mask)
    assert second.eligible.failed[0].errors == ["broken", "broken"]


@pytest.mark.parametrize("rows", [[0, 3, 4, 41], list(range(0, 60, 2)), [59]])
def test_part_of_a_pool_is_a_mask(pool: Pool, tmp_path: Path, rows: list[int]) -> None:
    """The rows within, scored as if the others were not there."""
    records = [record(i % 50) for i in range(60)]
    part = open_pool(write_pool(tmp_path / "part.json", [records[row] for row in rows]))
    within = np.isin(np.arange(60), rows)
    columns = []
    for source, mask, name in ((pool, within, "whole"), (part, None, "part")):
        store = Store(tmp_path / name)
        engine = create_engine(
            source, SIGNALS, RunRequest(), RunContext(store, model=Model().handle), within=mask
        )
        columns.append(engine.columns(SIGNALS))
        assert [r.needed for r in engine.runs] == [len({row % 50 for row in rows})] * 2
    whole, alone = columns
    assert np.array_equal(whole.digest, alone.digest)
    for name in SIGNALS:
        for field, array in whole[name].items():
            assert np.array_equal(array, alone[name][field]), (name, field)


class Rows:
    """Samples in memory, as much of a pool as the engine reads."""

    def __init__(self, samples: list[Sample]) -> None:
        n = len(samples)
        self._samples = samples
        self.path = self.images_folder = Path("memory")
        self.digest = digests_to_array([s.digest for s in samples])
        self.order = np.argsort(self.digest, kind="stable")
        self.rank = np.argsort(self.order, kind="stable")
        self.source = np.zeros(n, np.int32)
        self.source_names = ("memory",)
        self.unreadable = np.zeros(n, bool)
        self.problems: Mapping[int, str] = {}
        self.facts: Mapping[str, np.ndarray] = {
            "missing_images": np.zeros(n, bool),
            "answer_words": np.array([len(s.turns[1].text.split()) for s in samples], np.int32),
            "answer_chars": np.array([len(s.turns[1].text) for s in samples], np.int32),
            "images": np.zeros(n, np.int32),
            "visual": np.zeros(n, np.int32),
            "turns": np.full(n, 2, np.int32),
        }

    def __len__(self) -> int:
        return len(self._samples)

    def ids(self, rows: Sequence[int] | np.ndarray) -> list[str]:
        return [self._samples[int(row)].id for row in rows]

    def samples(self, rows: Sequence[int] | np.ndarray) -> list[Sample]:
        return [self._samples[int(row)] for row in rows]

    def by_digest(self, digest: bytes) -> Sample:
        return next(s for s in self._samples if s.digest == digest)

    def load_image(self, ref: ImageRef) -> Any:
        raise KeyError(ref)

    def first_images(self, rows: Sequence[int] | np.ndarray) -> list[str]:
        return ["" for _ in rows]

    def missing_image_reasons(self, rows: Sequence[int] | np.ndarray) -> list[str]:
        return ["" for _ in rows]


@pytest.mark.parametrize("n", [1, 33])
def test_the_engine_reads_any_pool_view(pool: Pool, tmp_path: Path, n: int) -> None:
    view: PoolView = Rows(pool.samples(np.arange(n)))
    part = open_pool(write_pool(tmp_path / "part.json", [record(i) for i in range(n)]))
    found = [
        create_engine(
            rows, SIGNALS, RunRequest(), RunContext(Store(tmp_path / name), model=Model().handle)
        ).columns(SIGNALS)
        for rows, name in ((view, "view"), (part, "part"))
    ]
    for name in SIGNALS:
        for field, array in found[0][name].items():
            assert np.array_equal(array, found[1][name][field]), (name, field)


def test_invalid_signal_is_reported(pool: Pool, store: Store) -> None:
    class Nothing:
        kind, version, fields = "nothing", 1, ()

        def inputs(self) -> Mapping[str, Signal]:
            return {}

    with pytest.raises(TypeError):
        ColumnEngine(pool, RunRequest(), RunContext(store)).column(Nothing(), "x")
