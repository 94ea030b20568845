"""Semantic duplicates: similarity, representatives, stored columns, and the cost in a plan."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests import runs as run
from tests.runs import plan
from tests.text_pools import FirstTies, HighestLoss, Model, record, write_pool
from thresher.backends import ModelHandle
from thresher.backends.fake import FakeBackend
from thresher.cli import main
from thresher.duplicates import embedding, semantic
from thresher.duplicates.embedding import PARTS
from thresher.duplicates.stage import Representatives, representatives
from thresher.engine import RunContext
from thresher.errors import CapabilityError, ConfigError
from thresher.mixture import check_mixture
from thresher.pools import Pool, open_pool
from thresher.request import RunRequest
from thresher.selection import folder as output
from thresher.signals import vectors
from thresher.signals.vectors import WIDTH, as_bytes, from_bytes, project
from thresher.storage.columns import Store
from thresher.types import Budget, ImageRef, Sample, SampleSource, Scored, Turn

# ------------------------------------------------------------------------------------------- groups


def values_of(
    images: Any, question: Any, answer: Any, forms: Sequence[bytes] | None = None
) -> dict[str, np.ndarray]:
    """Fields of `RowEmbedding` out of few numbers a row."""
    out = {}
    for name, rows in zip(PARTS, (images, question, answer), strict=True):
        given = np.asarray(rows, np.float32)
        out[name] = as_bytes(project(given, WIDTH))
    return out | {"form": np.array(forms or [b"one"] * len(given), "S8")}


def angles(degrees: Sequence[float]) -> np.ndarray:
    """Unit vectors in a plane, and their opposites, so that their mean is 0."""
    at = np.deg2rad(np.asarray(degrees, float))
    return np.stack([np.cos(at), np.sin(at)], axis=1)


def groups(
    values: dict[str, np.ndarray], order: Sequence[int] | None = None, threshold: float = 0.95
) -> list[int]:
    m = len(values["form"])
    return semantic.semantic_groups(
        values, np.arange(m) if order is None else np.asarray(order), threshold
    ).tolist()


def test_all_parts_must_be_similar_and_groups_are_not_transitive() -> None:
    """Rows 0-3 are 15 degrees apart (cosine 0.966), rows 4-7 are their opposites, which puts the
    mean at 0."""
    plane = angles([0, 15, 30, 45, 180, 195, 210, 225])
    same = np.ones((8, 2))
    # 2 is like 1, but 1 does not stay
    assert groups(values_of(same, plane, same)) == [0, 0, 2, 2, 4, 4, 6, 6]
    for parts in ((plane, same, same), (same, same, plane), (plane, plane, plane)):
        assert groups(values_of(*parts)) == [0, 0, 2, 2, 4, 4, 6, 6]
    assert groups(values_of(same, plane, same), threshold=0.97) == list(range(8))
    apart = angles([0, 90, 0, 90, 180, 270, 180, 270])
    # the images differ where the questions agree
    assert groups(values_of(apart, plane, same)) == list(range(8))


def test_common_component_is_subtracted() -> None:
    """A large common direction: without taking it off, every cosine would be above 0.99."""
    plane = angles([0, 15, 30, 45, 180, 195, 210, 225])
    shared = np.hstack([0.05 * plane, np.ones((8, 1))])
    assert groups(values_of(shared, shared, shared)) == [0, 0, 2, 2, 4, 4, 6, 6]


def test_first_row_is_kept() -> None:
    values = values_of(
        np.ones((8, 2)), angles([0, 15, 30, 45, 180, 195, 210, 225]), np.ones((8, 2))
    )
    assert groups(values, [1, 0, 2, 3, 5, 4, 6, 7]) == [1, 1, 1, 3, 5, 5, 5, 7]


def test_rows_of_another_form_are_not_similar() -> None:
    same = np.ones((4, 2))
    assert groups(values_of(same, same, same)) == [0, 0, 0, 0]  # all at the mean
    assert groups(values_of(same, same, same, [b"a", b"b", b"a", b"b"])) == [0, 1, 0, 1]
    some = np.array([[0, 0], [0, 0], [1, 0], [-1, 0]])
    # text rows are alike, whatever the images of others
    assert groups(values_of(some, same, same)) == [0, 0, 2, 3]


def test_block_size_has_no_effect_and_no_pair_is_missed(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((40, 24))
    of = rng.integers(0, 40, 300)
    parts = [centres[of] + 0.2 * rng.standard_normal((300, 24)) for _ in range(3)]
    values = values_of(*(p / np.linalg.norm(p, axis=1, keepdims=True) for p in parts))
    order = rng.permutation(300)
    whole = semantic.semantic_groups(values, order, 0.95)
    units = [semantic.centred(from_bytes(values[n])).astype(np.float32) for n in PARTS]
    cosine = np.minimum.reduce([u @ u.T for u in units])
    by_hand, stay = np.arange(300), []
    for row in order.tolist():
        like = [s for s in stay if cosine[row, s] >= 0.95]
        by_hand[row] = like[0] if like else row
        stay += [] if like else [row]
    assert 50 < len(stay) < 290
    assert whole.tolist() == by_hand.tolist()
    monkeypatch.setattr(semantic, "ROWS", 7)
    monkeypatch.setattr(semantic, "LEADERS", 5)
    assert semantic.semantic_groups(values, order, 0.95).tolist() == whole.tolist()


def test_projection_preserves_cosines() -> None:
    rng = np.random.default_rng(1)
    one = rng.standard_normal((50, 2000)).astype(np.float32)
    other = one + 0.3 * rng.standard_normal((50, 2000)).astype(np.float32)
    one, other = (v / np.linalg.norm(v, axis=1, keepdims=True) for v in (one, other))
    true = (one * other).sum(axis=1)
    short = [project(v, WIDTH) for v in (one, other)]
    short = [v / np.linalg.norm(v, axis=1, keepdims=True) for v in short]
    assert short[0].shape == (50, WIDTH)
    assert np.abs((short[0] * short[1]).sum(axis=1) - true).max() < 4 * (1 - true.min() ** 2) / 16
    assert np.array_equal(project(one[7:8], WIDTH), project(one, WIDTH)[7:8])  # a row alone
    assert vectors._signs(8, 8)[0].tolist() == pytest.approx(
        [0.35355339 * s for s in vectors._signs(8, 8)[0] / 0.35355339]
    )


def test_a_short_answer_must_have_the_same_words() -> None:
    def of(answer: str, *images: str) -> bytes:
        turns = (Turn("user", "Is it red?"), Turn("assistant", answer))
        return embedding.form_hash(Sample("0", turns, tuple(ImageRef(path=i) for i in images)))

    assert of("Yes.") == of(" yes") != of("No.")
    assert of("Yes.") != of("Yes.", "a.png") == of("Yes.", "b.png")
    long = "word " * 15
    assert of(long + "one") == of(long + "two") != of("word " * 14 + "one")


# ---------------------------------------------------------------------------------------- the stage

WORDS = [
    "small",
    "red",
    "boat",
    "beside",
    "a",
    "long",
    "grey",
    "pier",
    "two",
    "men",
    "in",
    "blue",
    "coats",
    "mend",
    "nets",
]


@pytest.fixture
def records() -> list[dict[str, Any]]:
    """40 rows; rows 30-39 are rows 0-9 with one word of the answer changed."""
    rng = random.Random(0)
    rows = []
    for i in range(30):
        row = record(i)
        row["conversations"] = [
            {"from": "human", "value": " ".join(rng.choices(WORDS, k=8)) + f" {i}"},
            {
                "from": "gpt",
                "value": " ".join(f"{rng.choice(WORDS)}{rng.randrange(50)}" for _ in range(60)),
            },
        ]
        rows.append(row)
    for i in range(10):
        question, answer = (turn["value"] for turn in rows[i]["conversations"])
        turns = [
            {"from": "human", "value": question},
            {"from": "gpt", "value": answer.rpartition(" ")[0] + " changed"},
        ]
        rows.append({**rows[i], "id": f"r{30 + i}", "conversations": turns})
    return rows


@pytest.fixture
def pool(tmp_path: Path, records: list[dict[str, Any]]) -> Pool:
    return open_pool(write_pool(tmp_path / "pool.json", records))


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def copies(
    pool: Pool, keep: np.ndarray, store: Store, model: ModelHandle | None = None
) -> Representatives:
    request, everything = RunRequest(dedup="semantic"), np.ones(len(pool), bool)
    return representatives(pool, everything, keep, request, RunContext(store, model))


SEMANTIC: dict[str, Any] = {"dedup": "semantic"}


def test_selection_lists_representatives(pool: Pool, store: Store, tmp_path: Path) -> None:
    model = Model()
    out = run.select(
        pool, FirstTies(), Budget.parse("100%"), store=store, model=model.handle, **SEMANTIC
    )
    assert len(out.rows) == 30 and model.scored == 40
    copies = dict(zip(out.rows.tolist(), out.reason["copies"].tolist(), strict=True))
    assert sorted(copies.values()) == [1] * 20 + [2] * 10
    assert out.copies is not None and all(abs(a - b) == 30 for a, b in out.copies.tolist())
    assert any(
        "cosine of at least 0.95): 10 rows left out as copies, in 10 groups" in note
        for note in map(str, out.notes)
    )
    output.write(out, pool, None, tmp_path / "out")
    assert (tmp_path / "out" / "duplicates.parquet").exists()
    again = Model()
    run.select(pool, FirstTies(), Budget.parse("5"), store=store, model=again.handle, **SEMANTIC)
    assert again.opened == 0  # the column is there
    loose = SEMANTIC | {"dedup_threshold": 0.9999}
    strict = run.select(
        pool, FirstTies(), Budget.parse("100%"), store=store, model=again.handle, **loose
    )
    assert len(strict.rows) == 40 and again.opened == 0


def test_kept_rows_do_not_depend_on_file_order(
    pool: Pool, store: Store, tmp_path: Path, records: list[dict[str, Any]]
) -> None:
    def kept(pool: Pool, records: list[dict[str, Any]]) -> set[str]:
        everything = np.ones(len(pool), bool)
        found = copies(pool, ~everything, store, Model().handle)
        return {records[r]["id"] for r in np.flatnonzero(found.kept)}

    mixed = random.Random(5).sample(records, len(records))
    assert kept(open_pool(write_pool(tmp_path / "mixed.json", mixed)), mixed) == kept(pool, records)


def test_kept_rows_are_the_representatives(pool: Pool, store: Store) -> None:
    keep = np.zeros(len(pool), bool)
    keep[[3, 33, 34]] = True
    found = copies(pool, keep, store, Model().handle)
    assert found.kept[[3, 33, 34]].all() and not found.kept[4] and found.group[4] == 34


def test_killed_run_resumes(pool: Pool, store: Store) -> None:
    handed_on = []

    class Killed(FakeBackend):
        def embed_rows(self, samples: Sequence[Sample], pool: SampleSource) -> Iterator[Scored]:
            for piece in super().embed_rows(samples, pool):
                if len(handed_on) == 2:
                    raise KeyboardInterrupt
                handed_on.append(len(piece.index))
                yield piece

    model = Model(kwargs={"piece": 8})
    killed = Model()
    killed._open = lambda: Killed(piece=8)  # type: ignore[method-assign, assignment]
    with pytest.raises(KeyboardInterrupt):
        run.select(
            pool, FirstTies(), Budget.parse("10"), store=store, model=killed.handle, **SEMANTIC
        )
    run.select(pool, FirstTies(), Budget.parse("10"), store=store, model=model.handle, **SEMANTIC)
    assert model.scored == 40 - sum(handed_on) < 40


def test_unscorable_row_is_never_a_duplicate(pool: Pool, store: Store) -> None:
    bad = pool.sample(2).digest
    model = Model(fails=lambda s: "too long: 9,000 tokens" if s.digest == bad else "")
    out = run.select(
        pool, FirstTies(), Budget.parse("100%"), store=store, model=model.handle, **SEMANTIC
    )
    assert {2, 32} <= set(out.rows.tolist()) and len(out.rows) == 31
    assert any("(1 row that the model cannot process" in note for note in map(str, out.notes))


def test_plan_reports_the_cost_and_then_none(pool: Pool, store: Store) -> None:
    model = Model()
    p = plan(pool, HighestLoss(), Budget.parse("20"), model.handle, store, **SEMANTIC)
    assert [(s.label, s.signal, s.to_score, s.upper_bound) for s in p.signals] == [
        ("dedup", "row_embedding", 40, False), ("loss", "loss", 40, True),
    ]  # fmt: skip
    assert p.to_score == 80 and p.upper_bound and p.hours is not None and p.hours > 0
    assert any("known only after the model has processed 40 rows" in note for note in p.notes)
    assert not (store.root / "columns").exists()
    run.select(pool, FirstTies(), Budget.parse("20"), store=store, model=model.handle, **SEMANTIC)
    p = plan(pool, HighestLoss(), Budget.parse("20"), Model().handle, store, **SEMANTIC)
    assert [(s.label, s.to_score) for s in p.signals] == [
        ("dedup", 0),
        ("loss", 30),
    ] and not p.upper_bound


def test_impossible_requests_are_refused(pool: Pool, store: Store) -> None:
    everything = np.ones(len(pool), bool)
    with pytest.raises(ConfigError, match='model="demo"'):
        copies(pool, ~everything, store)
    served = Model().handle
    served = type(served)(
        "far", type(served.identity)("x", "openai", "float32", "jpeg"), served.open
    )
    with pytest.raises(CapabilityError, match='dedup="near"'):
        copies(pool, ~everything, store, served)
    for wrong, words in (
        ({"dedup": "semantic", "dedup_threshold": 1.5}, "from 0.5 to 1"),
        ({"dedup": "near", "dedup_threshold": 0.2}, "from 0.7 to 1"),
        ({"dedup": "exact", "dedup_threshold": 0.9}, 'dedup="exact" has none'),
        ({"dedup_threshold": 0.9}, "`dedup` is not given"),
    ):
        with pytest.raises(ConfigError, match=words):
            check_mixture(RunRequest(**wrong))  # type: ignore[arg-type]
    asked = RunRequest(dedup="near", dedup_threshold=0.75, filter=("length < 9",))
    assert asked.mixture == {"dedup": "near", "dedup_threshold": 0.75, "filter": ["length < 9"]}


def command(words: list[str]) -> Any:
    with pytest.raises(SystemExit) as end:
        main(words)
    return end.value.code or 0


def test_semantic_dedup_uses_the_model_for_a_method_without_one(
    tiny_pool: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("THRESHER_STORE", str(tmp_path / "store"))
    images = ["--images", str(tiny_pool.parent / "images")]
    asked = [
        str(tiny_pool),
        *images,
        "--method",
        "length",
        "--budget",
        "5",
        "--dedup",
        "semantic",
        "--model",
        "demo",
    ]
    assert command(["plan", *asked, "--no-probe"]) == 0
    assert "dedup" in capsys.readouterr().out
    assert (
        command(["select", *asked, "--dedup-threshold", "0.9", "--out", str(tmp_path / "one")]) == 0
    )
    assert "cosine of at least 0.9" in " ".join(capsys.readouterr().out.split())
    result = output.read(tmp_path / "one")
    assert result["model"]["name"] == "demo" and result["config"]["dedup_threshold"] == 0.9
    assert (
        command(
            [
                "select",
                "--config",
                str(tmp_path / "one" / "run.yaml"),
                "--out",
                str(tmp_path / "two"),
            ]
        )
        == 0
    )
    assert (tmp_path / "one/subset.json").read_bytes() == (
        tmp_path / "two/subset.json"
    ).read_bytes()
    assert (
        command(["signals", str(tmp_path / "one"), "--out", str(tmp_path / "columns.parquet")]) == 0
    )
