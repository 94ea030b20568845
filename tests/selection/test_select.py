"""`run.select` and `compute`: scored, reused and excluded rows; independence of the order."""

from __future__ import annotations

import itertools
import random
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from tests import runs as run
from tests.runs import compute
from tests.text_pools import (
    FirstTies,
    HighestLoss,
    Loss,
    Model,
    Nested,
    Partner,
    Words,
    record,
    write_pool,
)
from thresher.backends.fake import IDENTITY
from thresher.engine import local
from thresher.errors import ConfigError, StoreError, TooManyFailures
from thresher.fingerprint import fingerprint
from thresher.pools import Pool, open_pool
from thresher.selection.result import Outcome
from thresher.storage.columns import Store
from thresher.types import (
    Budget,
    Capability,
    Columns,
    Field,
    Sample,
    SampleSource,
    Scored,
    Selection,
    Signal,
)


def pool_of(folder: Path, records: Sequence[dict[str, Any]], name: str = "pool.json") -> Pool:
    return open_pool(write_pool(folder / name, records))


def texts(n: int, start: int = 0) -> list[dict[str, Any]]:
    return [record(i) for i in range(start, start + n)]


def chosen(pool: Pool, rows: np.ndarray) -> list[bytes]:
    return list(pool.raw(rows))


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def select(
    pool: Pool, method: Any, budget: str, store: Store, model: Model | None = None, **more: Any
) -> Outcome:
    handle = None if model is None else model.handle
    return run.select(pool, method, Budget.parse(budget), store=store, model=handle, **more)


# ----------------------------------------------------------------------------------- what is scored


def test_each_signal_is_scored_once_and_a_second_run_opens_no_model(
    tmp_path: Path, store: Store
) -> None:
    pool, model = pool_of(tmp_path, texts(200)), Model()
    first = select(pool, Nested(), "30%", store, model)
    assert len(first.rows) == 60 and first.budget == 60 and not first.failures and not first.notes
    runs = {s.label: s for s in first.signals}
    # inputs first, and `loss` under the method's own name
    assert list(runs) == ["loss", "with_small", "with_large"]
    assert [runs[label].scored for label in runs] == [200, 200, 200]
    assert (
        runs["with_small"].fingerprint == runs["with_large"].fingerprint != runs["loss"].fingerprint
    )
    assert model.opened == 1 and model.scored == 600

    second = select(pool, Nested(), "30%", store, model)
    assert model.opened == 1
    assert [(s.needed, s.scored, s.reused) for s in second.signals] == [(200, 0, 200)] * 3
    assert (second.rows == first.rows).all()
    assert all((second.reason[name] == first.reason[name]).all() for name in first.reason)


def test_two_inputs_of_one_fingerprint_stay_two_columns(tmp_path: Path, store: Store) -> None:
    """Both pair losses have one fingerprint; the input they leave out of it must still tell them
    apart."""
    outcome = select(pool_of(tmp_path, texts(50)), Nested(), "100%", store, Model())
    assert (outcome.reason["effect"] != 0).all()


def test_another_budget_and_seed_reuse_everything(tmp_path: Path, store: Store) -> None:
    pool, model = pool_of(tmp_path, texts(100)), Model()
    small = select(pool, HighestLoss(), "10", store, model)
    large = select(pool, HighestLoss(), "40", store, model, seed=1)
    assert model.scored == 100
    assert large.rows[:10].tolist() == small.rows.tolist()


def test_exact_duplicates_are_scored_once(tmp_path: Path, store: Store) -> None:
    records = texts(60) + texts(20)
    pool, model = pool_of(tmp_path, records), Model()
    outcome = select(pool, HighestLoss(), "100%", store, model)
    assert model.scored == 60 and outcome.signals[0].needed == 60
    assert sorted(outcome.rows.tolist()) == list(range(80))
    nll = dict(zip(outcome.rows.tolist(), outcome.reason["nll"].tolist(), strict=True))
    assert all(nll[i] == nll[60 + i] for i in range(20))


def test_only_new_rows_of_a_grown_pool_are_scored(tmp_path: Path, store: Store) -> None:
    first, second = Model(), Model()
    select(pool_of(tmp_path, texts(80), "a.json"), HighestLoss(), "10%", store, first)
    outcome = select(
        pool_of(tmp_path, texts(110, start=-10), "b.json"), HighestLoss(), "10%", store, second
    )
    assert (first.scored, second.scored) == (80, 30)
    assert (outcome.signals[0].needed, outcome.signals[0].reused) == (110, 80)


def test_rows_of_one_image_are_scored_together_in_limited_calls(
    tmp_path: Path, store: Store, monkeypatch: Any
) -> None:
    (tmp_path / "images").mkdir()
    for i in range(5):
        (tmp_path / "images" / f"{i}.jpg").write_bytes(b"x" * (i + 1))
    records = [record(i, f"images/{i % 5}.jpg") for i in range(50)]
    calls: list[list[Sample]] = []

    @dataclass(frozen=True)
    class Spy(Loss):
        kind: ClassVar[str] = "spied_loss"

        def rows(
            self, samples: Sequence[Sample], inputs: Any, backend: Any, pool: SampleSource
        ) -> Iterator[Scored]:
            calls.append(list(samples))
            return backend.answer_loss(samples, pool)

    monkeypatch.setattr(
        local.score, "__kwdefaults__", {**local.score.__kwdefaults__, "rows_per_call": 20}
    )
    seen = []
    for turn, order in enumerate((records, random.Random(1).sample(records, 50))):
        calls.clear()
        compute(
            Spy(IDENTITY),
            pool_of(tmp_path, order),
            store=Store(tmp_path / str(turn)),
            model=Model().handle,
        )
        assert sum(len(c) for c in calls) == 50 and max(len(c) for c in calls) == 20
        images = [s.images[0].path for c in calls for s in c]
        assert sum(a != b for a, b in itertools.pairwise(images)) == 4
        seen.append([s.digest for c in calls for s in c])
    assert seen[0] == seen[1]


# ------------------------------------------------------------------------------------ interruptions


class Stop(Exception):
    pass


@pytest.mark.parametrize("how", [Stop, KeyboardInterrupt])
def test_complete_results_are_stored_on_interruption(
    tmp_path: Path, store: Store, how: type[BaseException]
) -> None:
    left = [70]

    def fails(sample: Sample) -> str:
        left[0] -= 1
        if left[0] < 0:
            raise how
        return ""

    pool = pool_of(tmp_path, texts(100))
    with pytest.raises(how):
        select(pool, HighestLoss(), "10%", store, Model(fails, kwargs={"piece": 10}))
    model = Model()
    outcome = select(pool, HighestLoss(), "10%", store, model)
    # blocks of 50 and 25 rows, asked in pieces of 10: 65 were complete
    assert model.scored == 35 and outcome.signals[0].reused == 65


def blocks_of(rows: int) -> local.Blocks:
    """All rows at once."""
    left = [np.arange(rows)]
    return lambda flush: left.pop() if left else None


@pytest.mark.parametrize(
    ("rows", "seconds", "flushes"),
    [(25, 1e9, [30, 30, 30, 10]), (10**9, 0.0, [10] * 10), (10**9, 1e9, [100])],
)
def test_results_are_flushed_by_number_and_time(
    rows: int, seconds: float, flushes: list[int]
) -> None:
    kept: list[int] = []
    samples = [Sample(str(i), ()) for i in range(100)]
    local.score(
        [Loss(IDENTITY)],
        lambda at: [samples[i] for i in at],
        blocks_of(100),
        None,
        Model(kwargs={"piece": 10}).handle.open,
        None,
        lambda at, pieces: kept.append(len(at)),
        flush_rows=rows,
        flush_seconds=seconds,
    )
    assert kept == flushes


@pytest.mark.parametrize("fault", ["twice", "never", "outside"])
def test_a_signal_that_yields_wrong_positions_is_caught(fault: str) -> None:
    class Wrong(Loss):
        def rows(
            self, samples: Sequence[Sample], inputs: Any, backend: Any, pool: SampleSource
        ) -> Iterator[Scored]:
            index = {"twice": [0, 1, 1, 2], "never": [0, 2], "outside": [0, 1, 3]}[fault]
            m = len(index)
            yield Scored(
                np.array(index),
                {"nll": np.zeros(m), "tokens": np.ones(m), "greedy_match": np.ones(m)},
                [""] * m,
            )

    with pytest.raises(AssertionError, match=r"twice|never|outside"):
        local.score(
            [Wrong(IDENTITY)],
            lambda at: [Sample("", ())] * 3,
            blocks_of(3),
            None,
            lambda: None,
            None,
            lambda *_: None,
        )


def test_full_disk_stops_the_run_and_the_next_resumes(
    tmp_path: Path, store: Store, monkeypatch: Any
) -> None:
    pool, model = pool_of(tmp_path, texts(100)), Model(kwargs={"piece": 10})
    monkeypatch.setattr(
        local.score, "__kwdefaults__", {**local.score.__kwdefaults__, "flush_rows": 20}
    )
    publish, writes = Store.write, []

    def full_after_two(self: Store, path: Path, data: bytes) -> None:
        if path.suffix == ".parquet":
            writes.append(path)
        if len(writes) > 2:
            raise StoreError(f"Scores could not be written to {path}: the disk is full.")
        publish(self, path, data)

    with monkeypatch.context() as m:
        m.setattr(Store, "write", full_after_two)
        with pytest.raises(StoreError, match="disk is full"):
            select(pool, HighestLoss(), "10", store, model)
    assert len(writes) == 3  # the failed write is not tried again on the way out
    again = Model()
    select(pool, HighestLoss(), "10", store, again)
    assert again.scored == 60


def test_damaged_part_is_reported_and_rescored(tmp_path: Path, store: Store) -> None:
    pool = pool_of(tmp_path, texts(40))
    first = select(pool, HighestLoss(), "10", store, Model())
    (part,) = store.parts(first.signals[0].fingerprint)
    part.write_bytes(part.read_bytes()[:100])
    model = Model()
    with pytest.warns(UserWarning, match=part.name):
        second = select(pool, HighestLoss(), "10", store, model)
    assert model.scored == 40 and (second.rows == first.rows).all()
    assert any(part.stem in note and "damaged" in note for note in map(str, second.notes))


# ----------------------------------------------------------------------------------------- failures


def broken(every: int) -> Any:
    """Rows i with i % every == 0 fail."""

    def fails(sample: Sample) -> str:
        i = int(re.findall(r"\d+", sample.turns[0].text)[0])
        return f"image {i}.jpg is broken" if i % every == 0 else ""

    return fails


def test_failed_rows_are_excluded_and_counted(tmp_path: Path, store: Store) -> None:
    pool, model = pool_of(tmp_path, texts(100)), Model(broken(25))
    outcome = select(pool, Nested(), "100%", store, model)
    assert [f.row for f in outcome.failures] == [0, 25, 50, 75] and outcome.excluded == 4
    first = outcome.failures[0]
    assert (first.id, first.signal, first.error) == ("r0", "loss", "image 0.jpg is broken")
    assert bytes.fromhex(first.digest) == pool.sample(0).digest
    assert sorted(outcome.rows.tolist()) == [i for i in range(100) if i % 25]
    assert outcome.budget == 100 and len(outcome.rows) == 96
    assert (
        "96 rows instead of 100" in outcome.notes[1].text
        and "4 × image 0.jpg is broken" in outcome.notes[0].text
    )
    # rows that failed once are not asked again
    assert [s.needed for s in outcome.signals] == [100, 96, 96]
    assert model.scored == 292 and outcome.signals[0].failed == 4


def test_errors_are_stored_and_retried_on_request(tmp_path: Path, store: Store) -> None:
    pool = pool_of(tmp_path, texts(100))
    select(pool, HighestLoss(), "10", store, Model(broken(25)))
    healed = Model()
    assert select(pool, HighestLoss(), "10", store, healed).excluded == 4
    assert healed.opened == 0
    outcome = select(pool, HighestLoss(), "10", store, healed, retry_errors=True)
    assert healed.scored == 4 and outcome.excluded == 0 and outcome.signals[0].reused == 96
    still = Model(broken(25))
    assert select(pool, HighestLoss(), "10", store, still, retry_errors=True).excluded == 0
    assert still.opened == 0  # a success is never tried again


def test_on_missing(tmp_path: Path) -> None:
    pool = pool_of(tmp_path, texts(100))
    with pytest.raises(TooManyFailures) as e:
        select(pool, HighestLoss(), "10", Store(tmp_path / "auto"), Model(broken(10)))
    assert "10 of 100 rows" in str(e.value) and "10 × image 0.jpg is broken" in str(e.value)
    assert 'on_missing="exclude"' in str(e.value) and "thresher doctor" in str(e.value)
    assert "retry_errors=True" in str(e.value)
    excluded = select(
        pool, HighestLoss(), "10", Store(tmp_path / "auto"), Model(broken(10)), on_missing="exclude"
    )
    assert excluded.excluded == 10 and len(excluded.rows) == 10
    with pytest.raises(TooManyFailures, match=r"refuse. allows none"):
        select(
            pool,
            HighestLoss(),
            "10",
            Store(tmp_path / "refuse"),
            Model(broken(50)),
            on_missing="refuse",
        )
    # 5% is allowed
    assert (
        select(pool, HighestLoss(), "10", Store(tmp_path / "five"), Model(broken(20))).excluded == 5
    )
    with pytest.raises(TooManyFailures, match="no row is left"):
        select(
            pool,
            HighestLoss(),
            "10",
            Store(tmp_path / "all"),
            Model(broken(1)),
            on_missing="exclude",
        )
    with pytest.raises(ConfigError, match=r"on_missing=.maybe"):
        select(pool, HighestLoss(), "10", Store(tmp_path / "x"), Model(), on_missing="maybe")


def test_scoring_stops_early_if_all_rows_fail(
    tmp_path: Path, store: Store, monkeypatch: Any
) -> None:
    monkeypatch.setattr(
        local.score, "__kwdefaults__", {**local.score.__kwdefaults__, "flush_rows": 20}
    )
    pool, model = pool_of(tmp_path, texts(1000)), Model(broken(1), kwargs={"piece": 10})
    with pytest.raises(TooManyFailures):
        select(pool, HighestLoss(), "10", store, model)
    assert model.scored < 100
    again = Model()
    with pytest.raises(TooManyFailures):
        select(pool, HighestLoss(), "10", store, again)
    assert again.opened == 0  # what is known to fail is enough


def test_missing_images_fail_before_a_model_is_opened(tmp_path: Path, store: Store) -> None:
    (tmp_path / "there.jpg").write_bytes(b"x")
    records = [record(i, "there.jpg") for i in range(90)] + [
        record(i, f"gone{i}.jpg") for i in range(90, 100)
    ]
    pool, model = pool_of(tmp_path, records), Model()
    with pytest.raises(
        TooManyFailures, match=r"10 × missing-image: gone90\.jpg: no such image in "
    ):
        select(pool, HighestLoss(), "10", store, model)
    assert model.opened == 0
    outcome = select(pool, HighestLoss(), "100%", store, model, on_missing="exclude")
    assert outcome.excluded == 10 and model.scored == 90 and outcome.failures[0].signal == "pool"
    assert [f.error for f in outcome.failures] == [
        f"missing-image: gone{i}.jpg: no such image in {tmp_path}" for i in range(90, 100)
    ]
    plain = select(pool, FirstTies(), "100%", store)
    assert len(plain.rows) == 100 and plain.excluded == 0
    assert [n.text for n in plain.notes] == [
        "10 rows point at images that do not exist; see `thresher doctor`."
    ]


def test_unsafe_image_path_is_not_called_missing(tmp_path: Path, store: Store) -> None:
    (tmp_path / "there.jpg").write_bytes(b"x")
    records = [record(i, "there.jpg") for i in range(97)]
    records += [
        record(97, "../up.jpg"),
        record(98, "/etc/passwd"),
        record(99, "http://x.org/a.jpg"),
    ]
    pool = pool_of(tmp_path, records)
    errors = [f.error for f in select(pool, HighestLoss(), "10", store, Model()).failures]
    assert errors[0].startswith("unsafe-path: ../up.jpg: .. could leave")
    assert errors[1].startswith("unsafe-path: /etc/passwd: an absolute path")
    assert errors[2].startswith("remote-url: http://x.org/a.jpg: ")
    assert pool.missing_image_reasons([0, 97]) == ["", errors[0]]


def test_repaired_image_is_rescored_and_newest_error_is_kept(tmp_path: Path, store: Store) -> None:
    """Also where a repair keeps the size: other bytes are another image."""
    image = tmp_path / "a.jpg"
    records = [*texts(39), record(39, "a.jpg")]
    file = write_pool(tmp_path / "pool.json", records)

    def fails(sample: Sample) -> str:
        return (tmp_path / sample.images[0].path).read_text() if sample.images else ""

    def errors(**more: Any) -> list[str]:
        pool = open_pool(file, cache=store.root / "pools")
        return [
            f.error for f in select(pool, HighestLoss(), "10", store, Model(fails), **more).failures
        ]

    with image.open("w") as f:
        f.write("torn")
    assert errors() == ["torn"]
    image.write_text("broken")  # in place: the folder's time does not change
    assert errors() == ["broken"]
    image.write_text("absurd")
    assert errors() == ["absurd"]
    assert errors(retry_errors=True) == ["absurd"]
    image.write_text("brittl")
    assert errors(retry_errors=True) == ["brittl"]  # not the first of the alphabet
    image.write_text("")
    assert errors() == []


def test_problem_rows_are_eligible_without_a_model(tmp_path: Path, store: Store) -> None:
    records: list[Any] = texts(100)
    records[3] = {**records[3], "video": "v.mp4"}
    records[7] = {"id": 7, "conversations": None}
    pool, model = pool_of(tmp_path, records), Model()
    plain = select(pool, FirstTies(), "100%", store)
    assert sorted(plain.rows.tolist()) == [i for i in range(100) if i != 7]
    assert [(f.row, f.id, f.signal) for f in plain.failures] == [(7, "7", "pool")]
    scored = select(pool, HighestLoss(), "100%", store, model)
    assert [f.row for f in scored.failures] == [3, 7] and model.scored == 98
    assert "video" in scored.failures[0].error and "unreadable" in scored.failures[1].error


def test_missing_model_and_impossible_budgets_fail_first(tmp_path: Path, store: Store) -> None:
    pool, model = pool_of(tmp_path, texts(10)), Model()
    with pytest.raises(ConfigError, match="`model`"):
        select(pool, HighestLoss(), "3", store)
    with pytest.raises(ConfigError, match="at most 100%"):
        select(pool, HighestLoss(), "150%", store, model)
    assert model.opened == 0 and not store.root.exists()


def test_a_budget_above_the_pool_is_all_of_it(tmp_path: Path, store: Store) -> None:
    pool = pool_of(tmp_path, [*texts(29), {"id": 7, "conversations": None}])
    for method, model in ((FirstTies(), None), (HighestLoss(), Model())):
        outcome = select(pool, method, "100000", store, model, on_missing="exclude")
        assert sorted(outcome.rows.tolist()) == list(range(29)) and outcome.budget == 30
        assert "budget=100000 is more than the pool has (30 rows): it means all of them." in map(
            str, outcome.notes
        )
        assert any(
            "29 rows instead of 30: only 29 rows could be used, and all were taken" in n
            for n in map(str, outcome.notes)
        )
    for budget in ("30", "100%"):
        assert not any(
            "more than the pool" in n
            for n in map(str, select(pool, FirstTies(), budget, store).notes)
        )


# ------------------------------------------------------------------------------------ order, purity


def test_a_shuffled_pool_gives_the_same_rows_in_the_same_rank(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"x")
    records = texts(150) + [record(i, "a.jpg") for i in range(150, 300)] + texts(30)
    for i, r in enumerate(records[300:]):
        r["id"] = i  # duplicates except for the id
    results = []
    for seed in range(3):
        order = random.Random(seed).sample(records, len(records)) if seed else records
        pool = pool_of(tmp_path, order, f"{seed}.json")
        outcome = select(
            pool,
            Nested(),
            "25%",
            Store(tmp_path / f"store{seed}"),
            Model(kwargs={"piece": 7 + 30 * seed}),
        )
        results.append(
            (chosen(pool, outcome.rows), {k: v.tolist() for k, v in outcome.reason.items()})
        )
    assert len(results[0][0]) == 82
    assert results[0] == results[1] == results[2]


def test_invalid_result_of_a_method_is_an_error(tmp_path: Path, store: Store) -> None:
    @dataclass(frozen=True)
    class Twice(FirstTies):
        def select(self, columns: Columns, budget: int, target: Columns | None = None) -> Selection:
            return Selection(np.zeros(budget, np.int64), {})

    with pytest.raises(AssertionError, match="twice"):
        select(pool_of(tmp_path, texts(5)), Twice(), "2", store)


def test_the_store_key_holds_the_input_values(tmp_path: Path, store: Store) -> None:
    """Another partner is another question: all rows are asked again, and the first answers stay
    valid."""

    @dataclass(frozen=True)
    class Depends(Loss):
        words: Words

        kind: ClassVar[str] = "depends"
        not_identity: ClassVar[tuple[str, ...]] = ("words",)
        fields: ClassVar[tuple[Field, ...]] = (Field("doubled", "int32", "twice the words"),)
        needs: ClassVar[Capability] = Capability.NONE

        def inputs(self) -> Mapping[str, Signal]:
            return {"words": self.words}

        def rows(
            self,
            samples: Sequence[Sample],
            inputs: Columns | None,
            backend: Any,
            pool: SampleSource,
        ) -> Iterator[Scored]:
            assert inputs is not None and backend is None
            doubled = 2 * inputs["words"]["words"]
            yield Scored(np.arange(len(samples)), {"doubled": doubled}, [""] * len(samples))

    @dataclass(frozen=True)
    class MoreWords(Words):
        kind: ClassVar[str] = "more_words"

        def facts(self, facts: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
            return {"words": facts["answer_words"] + 1}

    pool = pool_of(tmp_path, texts(20))
    words = pool.facts["answer_words"]
    for turn, signal in enumerate(
        (Depends(IDENTITY, Words()), Depends(IDENTITY, MoreWords()), Depends(IDENTITY, Words()))
    ):
        column = compute(signal, pool, store=store)
        assert (column.values["doubled"] == 2 * (words + turn % 2)).all()
    assert (
        sum(
            __import__("pyarrow.parquet").parquet.read_metadata(p).num_rows
            for p in store.parts(fingerprint(signal))
        )
        == 40
    )


def test_compute_gives_columns_in_pool_order(tmp_path: Path, store: Store) -> None:
    pool, model = pool_of(tmp_path, texts(40)), Model(broken(39))
    column = compute(Partner(Loss(IDENTITY)), pool, store=store, model=model.handle)
    assert np.flatnonzero(~column.known).tolist() == [0, 39]
    assert column.errors[39] == "image 39.jpg is broken" and column.errors[5] == ""
    loss = compute(Loss(IDENTITY), pool, store=store, model=model.handle)
    known = np.flatnonzero(column.known)
    assert (
        known[np.argsort(loss.values["nll"][known])].tolist()
        == known[np.argsort(column.values["rank"][known])].tolist()
    )
    assert sorted(column.values["rank"][known].tolist()) == list(range(38))


def test_progress_counts_every_row_once(tmp_path: Path, store: Store) -> None:
    messages: list[Any] = []

    class Told:
        def start(self, label: str, total: int, done: int) -> None:
            messages.append([label, total, done])

        def advance(self, n: int) -> None:
            messages[-1].append(n)

        def finish(self) -> None:
            messages[-1].append("end")

    select(
        pool_of(tmp_path, texts(30), "a.json"), HighestLoss(), "3", store, Model(), progress=Told()
    )
    pool = pool_of(tmp_path, texts(50), "b.json")
    select(pool, HighestLoss(), "3", store, Model(kwargs={"piece": 12}), progress=Told())
    select(pool, HighestLoss(), "3", store, Model(), progress=Told())  # nothing to say
    assert [(piece[:3], sum(piece[3:-1]), piece[-1]) for piece in messages] == [
        (["loss", 30, 0], 30, "end"),
        (["loss", 50, 30], 20, "end"),
    ]
