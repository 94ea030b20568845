"""Quotas, kept rows and unscorable rows with every method."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import yaml

from tests import runs as run
from tests.runs import compute
from tests.text_pools import FirstTies, HighestLoss, Model, Nested, record, write_pool
from thresher import methods
from thresher.backends import resolve
from thresher.cli import main
from thresher.engine import RunContext
from thresher.errors import ConfigError
from thresher.mixture import check_mixture
from thresher.mixture.constrain import interleave
from thresher.mixture.quotas import Bounds, Groups, bounds, group_targets
from thresher.mixture.spec import parse_quota
from thresher.mixture.tokens import TokenCounts
from thresher.pools import Pool, open_pool
from thresher.request import RunRequest
from thresher.selection import folder as output
from thresher.selection.plan import plan
from thresher.selection.select import select as select_rows
from thresher.selection.signals_table import signals_table
from thresher.selection.task import SelectionTask
from thresher.storage.columns import Store
from thresher.types import Budget, Columns, MethodContext, Sample, Selection, Tokens


def pool_of(folder: Path, records: list[dict[str, Any]]) -> Pool:
    return open_pool(write_pool(folder / "pool.json", records))


def texts(n: int) -> list[dict[str, Any]]:
    """Three sources of n/3 rows each."""
    return [record(i) for i in range(n)]


def select(
    pool: Pool,
    budget: str,
    store: Store,
    method: Any = None,
    model: Model | None = None,
    **asked: Any,
) -> Any:
    handle = None if model is None else model.handle
    return run.select(
        pool,
        method or FirstTies(),
        Budget.parse(budget),
        store=store,
        model=handle,
        **asked,
    )


def sources(pool: Pool, rows: np.ndarray) -> dict[str, int]:
    count = np.bincount(pool.source[rows], minlength=len(pool.source_names))
    return dict(zip(pool.source_names, count.tolist(), strict=True))


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


# ------------------------------------------------------------------------------------------- quotas


def test_empty_mixture_has_no_effect(tmp_path: Path, store: Store) -> None:
    pool = pool_of(tmp_path, texts(60))
    plain = run.select(pool, Nested(), Budget.parse("50%"), store=store, model=Model().handle)
    asked = select(pool, "50%", store, Nested(), Model())
    assert plain.rows.tolist() == asked.rows.tolist() and plain.reason.keys() == asked.reason.keys()
    assert plain.notes == asked.notes


@pytest.mark.parametrize("method", [FirstTies(), HighestLoss(), Nested()])
def test_quotas_hold_for_any_method(tmp_path: Path, store: Store, method: Any) -> None:
    pool = pool_of(tmp_path, texts(300))
    out = select(pool, "90", store, method, Model(), quota=("source0=50%..60%", "source1=..10"))
    count = sources(pool, out.rows)
    assert len(out.rows) == 90 and len(np.unique(out.rows)) == 90
    assert 45 <= count["source0"] <= 54 and count["source1"] <= 10
    assert any("Quotas changed the numbers of rows" in note for note in map(str, out.notes))
    taken = dict(zip(out.rows.tolist(), out.reason["taken_by"].tolist(), strict=True))
    assert set(taken.values()) <= {"method", "quota"} and "quota" in taken.values()


def test_satisfied_quota_has_no_effect(tmp_path: Path, store: Store) -> None:
    pool = pool_of(tmp_path, texts(300))
    plain = run.select(pool, HighestLoss(), Budget.parse("90"), store=store, model=Model().handle)
    out = select(pool, "90", store, HighestLoss(), Model(), quota=("source0=1%..99%",))
    assert out.rows.tolist() == plain.rows.tolist()


def test_changed_group_gets_the_methods_best_rows(tmp_path: Path, store: Store) -> None:
    pool = pool_of(tmp_path, texts(300))
    out = select(pool, "60", store, HighestLoss(), Model(), quota=("source2=40",))
    nll = dict(zip(out.considered.tolist(), out.evidence["nll"].tolist(), strict=True))
    for name in range(3):
        members = [r for r in range(300) if pool.source[r] == name]
        own = [r for r in out.rows.tolist() if pool.source[r] == name]
        assert sorted((nll[r] for r in members), reverse=True)[: len(own)] == [nll[r] for r in own]
    assert sources(pool, out.rows)["source2"] == 40
    head = sources(pool, out.rows[:30])["source2"]
    assert 19 <= head <= 21  # any beginning has the mixture of the whole


def test_a_group_by_any_column(tmp_path: Path, store: Store) -> None:
    records = texts(90)
    for i, r in enumerate(records):
        r["meta"] = {"level": "hard" if i % 9 == 0 else "easy"}
    pool = pool_of(tmp_path, records)
    out = select(pool, "30", store, quota=("meta.level:hard=10",))
    assert sum(r % 9 == 0 for r in out.rows.tolist()) == 10
    turns = select(pool, "30", store, quota=("turns:2=30",))
    assert len(turns.rows) == 30
    assert (
        sources(pool, select(pool, "30", store, quota=("source:source1=20",)).rows)["source1"] == 20
    )


def test_text_only_is_a_group(tmp_path: Path, store: Store) -> None:
    (tmp_path / "x.png").write_bytes(b"x")
    records = [record(i, "x.png" if i % 2 else None) for i in range(40)]
    pool = pool_of(tmp_path, records)
    out = select(pool, "20", store, quota=("text_only=3",))
    assert sum(r % 2 == 0 for r in out.rows.tolist()) == 3 and len(out.rows) == 20


@pytest.mark.parametrize(
    ("quota", "words"),
    [
        (("source0=200",), "200 rows and 100 are available. Give at most 100, or add such rows"),
        (
            ("source0=50%", "source1=60%"),
            "they require at least 99 rows (45 of source0, 54 of source1), and the budget is 90. "
            "Lower a quota.",
        ),
        (
            ("source0=..10%", "source1=..5", "source2=..5"),
            "they allow at most 19 rows (9 of source0, 5 of source1, 5 of source2), and the budget "
            "is 90. Raise a quota or lower the budget.",
        ),
        (("source0=50", "source1=60"), "the budget is 90. Lower a quota or raise the budget."),
        (("source0=..10%", "source1=..9%", "source2=..70%"), "the budget is 90. Raise a quota."),
        (("sorce0=5",), "no source is called 'sorce0'. Did you mean 'source0'?"),
        (("source0=5", "source:source0=6"), "overlap: 100 rows are in both"),
        (("turns:7=5",), "no row has turns '7'"),
        (("colour:red=5",), "no row has 'colour'"),
        (
            ("source0=33.4%..33.5%",),
            "no number of rows is at least 33.4% of 90 = 30.06 and at most 33.5% of 90 = 30.15",
        ),
    ],
)
def test_unsatisfiable_quotas_are_refused_with_the_arithmetic(
    tmp_path: Path, store: Store, quota: tuple[str, ...], words: str
) -> None:
    model = Model()
    with pytest.raises(ConfigError) as error:
        select(pool_of(tmp_path, texts(300)), "90", store, HighestLoss(), model, quota=quota)
    assert words in str(error.value)
    assert model.opened == 0  # before anything is spent


@pytest.mark.parametrize(
    ("quotas", "available", "advice"),
    [
        (["a=5"], [2, 50], "Give at most 2, or add such rows to the pool."),
        (["a=5.."], [0, 50], "Leave it out, or add such rows to the pool."),
        (["a=30%.."], [5, 50], "Lower it, or the budget."),
        (["a=30%.."], [0, 50], "Leave it out, or add such rows to the pool."),
        (["a=18", "b=20%.."], [40, 40, 9], "Lower a quota or raise the budget."),
        (["a=70%..", "b=50%.."], [40, 40, 9], "Lower a quota."),
        (["a=..10%", "b=..20%"], [40, 40, 0], "Raise a quota."),
        (["a=..10%", "b=..90%"], [40, 10, 0], "Raise a quota or lower the budget."),
        (["a=..10%", "b=..20%"], [40, 40, 3], "Raise a quota or lower the budget."),
        (["a=..10%", "b=..4"], [40, 40, 0], "Raise a quota or lower the budget."),
    ],
)
def test_the_advice_for_unsatisfiable_quotas_helps(
    quotas: list[str], available: list[int], advice: str
) -> None:
    """A smaller or larger budget is advised exactly if one exists that satisfies the quotas."""
    groups = Groups(tuple(map(parse_quota, quotas)), np.zeros(0, np.int32))
    rows, none = np.array(available), np.zeros(len(available), np.int64)

    def refusal(budget: int) -> str:
        try:
            bounds(groups, rows, none, budget)
        except ConfigError as e:
            return str(e)
        return ""

    assert refusal(20).endswith(f" {advice}")
    satisfied = [k for k in range(1, sum(available) + 1) if not refusal(k)]
    assert any(k > 20 for k in satisfied) == ("raise the budget" in advice)
    assert any(k < 20 for k in satisfied) == (", or the budget" in advice or "lower the" in advice)


@pytest.mark.parametrize(
    "quota",
    ["source0", "=5", "a=", "a=..", "a=5..3", "a=101%", "a=0.5", "a=-3", "a=5%..x", "a=1e3"],
)
def test_invalid_quotas_are_refused(quota: str) -> None:
    with pytest.raises(ConfigError, match="quota="):
        check_mixture(RunRequest(quota=(quota,)))


def test_targets_are_the_nearest_satisfying_counts() -> None:
    rng = np.random.default_rng(0)
    for _ in range(300):
        g = int(rng.integers(1, 5))
        there = rng.integers(1, 30, g)
        low = rng.integers(0, there + 1)
        high = np.array([rng.integers(a, b + 1) for a, b in zip(low, there, strict=True)])
        given = np.array([rng.integers(0, b + 1) for b in high])
        free_low, free_high = np.maximum(low - given, 0), high - given
        total = int(rng.integers(free_low.sum(), free_high.sum() + 1))
        chosen = rng.multinomial(total, there / there.sum())
        out = group_targets(Bounds(low, high, given, there), chosen, total)
        assert out.sum() == total and (out >= free_low).all() and (out <= free_high).all()
        if (free_low <= chosen).all() and (chosen <= free_high).all():
            assert out.tolist() == chosen.tolist()


def test_prefixes_of_interleaved_rows_have_the_mixture() -> None:
    sizes = [3, 30, 67]
    order = interleave(sizes)
    which = np.repeat(np.arange(3), sizes)[order]
    assert sorted(order.tolist()) == list(range(100))
    for k, g in itertools.product(range(101), range(3)):
        assert abs(int((which[:k] == g).sum()) - k * sizes[g] / 100) <= 1


class Stingy:
    """Finds at most ten rows."""

    name, paper, summary = "stingy", "", ""
    __dataclass_fields__: ClassVar[dict[str, Any]] = {}

    def signals(self, context: MethodContext) -> dict[str, Any]:
        return {}

    def select(self, columns: Columns, budget: int, target: Columns | None = None) -> Selection:
        rows = np.argsort(columns.ties)[: min(budget, 10)]
        return Selection(rows, {})


def test_too_few_rows_are_filled_up_to_the_minimum(tmp_path: Path, store: Store) -> None:
    pool = pool_of(tmp_path, texts(300))
    out = select(pool, "90", store, Stingy(), quota=("source0=25..",))
    assert sources(pool, out.rows)["source0"] == 25
    assert any("15 rows were sampled at random for a quota" in note for note in map(str, out.notes))


# ------------------------------------------------------------------------------- keep, drop, filter


def names(folder: Path, lines: list[str], name: str = "rows.txt") -> str:
    (folder / name).write_text("\n".join(lines) + "\n")
    return str(folder / name)


def test_kept_rows_stay_and_count(tmp_path: Path, store: Store) -> None:
    pool = pool_of(tmp_path, texts(60))
    plain = run.select(pool, HighestLoss(), Budget.parse("10"), store=store, model=Model().handle)
    others = [r for r in range(60) if r not in plain.rows.tolist()][:4]
    keep = names(
        tmp_path, ["# mine", *(f"r{r}" for r in others[:2]), *(f"row:{r}" for r in others[2:])]
    )
    out = select(pool, "10", store, HighestLoss(), Model(), keep=keep)
    assert (
        sorted(out.rows[:4].tolist()) == sorted(others)
        and out.rows[4:].tolist() == plain.rows[:6].tolist()
    )
    assert out.reason["taken_by"].tolist() == ["keep"] * 4 + ["method"] * 6
    assert np.isfinite(out.reason["nll"]).all()
    with pytest.raises(ConfigError, match="names 4 rows, and the budget is 3"):
        select(pool, "3", store, keep=keep)


def test_kept_rows_count_for_their_quota(tmp_path: Path, store: Store) -> None:
    pool = pool_of(tmp_path, texts(60))
    own = [r for r in range(60) if pool.source[r] == 0][:5]
    keep = names(tmp_path, [f"row:{r}" for r in own])
    out = select(pool, "20", store, keep=keep, quota=("source0=6",))
    assert sources(pool, out.rows)["source0"] == 6 and set(own) <= set(out.rows.tolist())
    with pytest.raises(ConfigError, match="allows 4 rows and 5 are always taken"):
        select(pool, "20", store, keep=keep, quota=("source0=4",))


def test_a_kept_row_that_no_model_can_score_stays(tmp_path: Path, store: Store) -> None:
    records = texts(40)
    records[3]["image"] = "gone.png"
    records[3]["conversations"][0]["value"] = "<image>\nWhat?"
    pool = pool_of(tmp_path, records)
    out = select(pool, "10", store, HighestLoss(), Model(), keep=names(tmp_path, ["r3"]))
    assert out.rows[0] == 3 and len(out.rows) == 10 and not out.failures
    assert np.isnan(out.reason["nll"][0]) and out.reason["taken_by"][0] == "keep"
    output.write(out, pool, None, tmp_path / "out")
    assert "r3" in (tmp_path / "out" / "subset.json").read_text()


def test_method_does_not_see_dropped_and_filtered_rows(tmp_path: Path, store: Store) -> None:
    records = texts(60)
    for i, r in enumerate(records):
        r["quality"] = None if i == 7 else i / 60
    pool = pool_of(tmp_path, records)
    model = Model()
    out = select(
        pool,
        "100%",
        store,
        HighestLoss(),
        model,
        drop=names(tmp_path, ["r2", "r3"]),
        filter=("quality < 0.5", "source != source1", "length >= 6"),
    )
    expected = [
        i
        for i in range(30)
        if i not in (2, 3)
        and i != 7
        and i % 3 != 1
        and len(("It is x. " * (i % 7 + 1)).split()) >= 6
    ]
    assert sorted(out.rows.tolist()) == expected == sorted(out.considered.tolist())
    assert model.scored == len(expected)
    assert any("2 rows left out by drop=" in n for n in map(str, out.notes))


def test_dropped_rows_cannot_fail(tmp_path: Path, store: Store) -> None:
    records = texts(40)
    for r in records[:10]:
        r["image"] = "gone.png"
        r["conversations"][0]["value"] = "<image>\nWhat?"
    pool = pool_of(tmp_path, records)
    out = select(pool, "5", store, HighestLoss(), Model(), filter=("images == 0",))
    assert not out.failures and len(out.rows) == 5


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"filter": ("quality",)}, 'filter="quality": expected one comparison'),
        ({"filter": ("3",)}, "filter=3: expected one comparison"),
        ({"filter": ("a < 1 and b < 2",)}, "expected one comparison"),
        ({"quota": ("5",)}, "quota=5: expected GROUP=RANGE"),
        ({"quota": ("a=..",)}, "a range needs an end; expected GROUP=RANGE"),
        ({"filter": ("length < long",)}, "compares numbers"),
        ({"dedup": "fuzzy"}, "exact, near, semantic"),
        ({"unscorable": "maybe"}, "keep, drop, random"),
    ],
)
def test_contradictory_options_are_refused(asked: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError) as error:
        check_mixture(RunRequest(**asked))
    assert words in str(error.value)


def test_invalid_filters_are_refused(tmp_path: Path, store: Store) -> None:
    pool = pool_of(tmp_path, texts(30))
    with pytest.raises(ConfigError, match=r"no row has 'lenght'\. Did you mean 'length'\?"):
        select(pool, "5", store, filter=("lenght < 5",))
    with pytest.raises(ConfigError, match="id has no numbers"):
        select(pool, "5", store, filter=("id < 5",))
    with pytest.raises(ConfigError, match="No row is left"):
        select(pool, "5", store, filter=("length > 5000",))


def test_rows_named_by_an_earlier_selection(tmp_path: Path, store: Store) -> None:
    pool = pool_of(tmp_path, texts(60))
    first = select(pool, "10", store)
    output.write(first, pool, None, tmp_path / "first")
    own = set(first.rows.tolist())
    for file in ("selection.parquet", "subset.json"):
        kept = select(
            pool, "20", store, HighestLoss(), Model(), keep=str(tmp_path / "first" / file)
        )
        assert own <= set(kept.rows.tolist())
        rest = select(
            pool, "100%", store, HighestLoss(), Model(), drop=str(tmp_path / "first" / file)
        )
        assert set(rest.rows.tolist()) == set(range(60)) - own
    shuffled = open_pool(write_pool(tmp_path / "shuffled.json", texts(60)[::-1]))
    again = select(shuffled, "10", store, keep=str(tmp_path / "first" / "selection.parquet"))
    assert {59 - r for r in again.rows.tolist()} == own  # by digest, whatever the order
    with pytest.raises(ConfigError, match="not in the pool"):
        select(pool, "10", store, keep=names(tmp_path, ["r1", "nobody"]))
    both = names(tmp_path, ["r1"])
    with pytest.raises(ConfigError, match="both name 1 row, such as row 1"):
        select(pool, "10", store, keep=both, drop=both)


# --------------------------------------------------------------------------------------- unscorable


def with_videos(folder: Path) -> Pool:
    records = texts(60)
    for r in records[::3]:
        r["video"] = "v.mp4"
    return pool_of(folder, records)


def test_unscorable_rows_are_kept_dropped_or_sampled(tmp_path: Path, store: Store) -> None:
    pool = with_videos(tmp_path)
    video = pool.facts["video"]
    dropped = select(pool, "30", store, HighestLoss(), Model(), unscorable="drop")
    assert not video[dropped.rows].any() and len(dropped.rows) == 30 and not dropped.failures
    kept = select(pool, "30", store, HighestLoss(), Model(), unscorable="keep")
    assert video[kept.rows].sum() == 20 and len(kept.rows) == 30
    assert kept.rows[:10].tolist() == dropped.rows[:10].tolist()
    drawn = select(pool, "30", store, HighestLoss(), Model(), unscorable="random")
    assert video[drawn.rows].sum() == 10 and len(drawn.rows) == 30
    assert any(
        "20 rows that no model can score (videos, audio, too long): 10 of them sampled" in n
        for n in map(str, drawn.notes)
    )
    other = select(pool, "30", store, HighestLoss(), Model(), unscorable="random", seed=1)
    assert set(other.rows[video[other.rows]].tolist()) != set(
        drawn.rows[video[drawn.rows]].tolist()
    )


def test_more_unscorable_rows_than_the_budget_are_refused_before_a_model_is_opened(
    tmp_path: Path, store: Store
) -> None:
    pool, model = with_videos(tmp_path), Model()
    task = SelectionTask(pool, HighestLoss(), Budget.parse("10"), RunRequest(unscorable="keep"))
    for does in (select_rows, plan):
        with pytest.raises(ConfigError, match=r"20 rows .* exceed the budget of 10") as caught:
            does(task, RunContext(store, model.handle))
        assert "stored" not in caught.value.message
    assert model.opened == 0
    one_kept = names(tmp_path, ["r0"])  # a row with a video
    with pytest.raises(ConfigError, match=r"19 rows .* and 1 of .keep. exceed the budget of 19"):
        select(pool, "19", store, HighestLoss(), model, unscorable="keep", keep=one_kept)
    assert model.opened == 0
    assert len(select(pool, "20", store, HighestLoss(), model, unscorable="keep").rows) == 20


def test_unscorable_rows_that_are_found_by_scoring_are_refused_with_what_to_do(
    tmp_path: Path, store: Store
) -> None:
    def fails(sample: Sample) -> str:
        return "too long: 9,999 tokens" if int(sample.id.strip('"r')) < 12 else ""

    pool, model = pool_of(tmp_path, texts(60)), Model(fails)
    with pytest.raises(ConfigError, match=r"12 rows .* exceed the budget of 10") as caught:
        select(pool, "10", store, HighestLoss(), model, unscorable="keep")
    assert "What was scored is stored: the changed command scores no row again." in str(
        caught.value
    )
    assert model.scored == 60
    again = Model(fails)
    out = select(pool, "10", store, HighestLoss(), again, unscorable="random")
    assert len(out.rows) == 10 and again.opened == 0


def test_more_kept_rows_than_the_budget_are_refused_before_a_model_is_opened(
    tmp_path: Path, store: Store
) -> None:
    pool, model = pool_of(tmp_path, texts(60)), Model()
    keep = names(tmp_path, ["r1", "r2", "r3"])
    with pytest.raises(ConfigError, match="names 3 rows, and the budget is 2"):
        select(pool, "2", store, HighestLoss(), model, keep=keep)
    assert model.opened == 0


def test_a_budget_in_tokens_holds_all_unscorable_rows_or_is_refused(
    tmp_path: Path, store: Store
) -> None:
    pool = with_videos(tmp_path)
    out = select(pool, "2ktok", store, HighestLoss(), Model(), unscorable="keep")
    assert pool.facts["video"][out.rows].sum() == 20 and len(out.rows) > 20
    with pytest.raises(ConfigError, match=r"less than .* always taken .*unscorable"):
        select(pool, "100tok", store, HighestLoss(), Model(), unscorable="keep")


def test_method_without_a_model_treats_videos_as_other_rows(tmp_path: Path, store: Store) -> None:
    pool = with_videos(tmp_path)
    out = select(pool, "60", store, unscorable="drop")
    assert len(out.rows) == 60


def test_rows_too_long_for_the_model_are_unscorable_and_others_fail(
    tmp_path: Path, store: Store
) -> None:
    def fails(sample: Sample) -> str:
        number = int(sample.id.strip('"r'))
        return "too long: 9,999 tokens" if number < 10 else "broken image" if number == 20 else ""

    pool = pool_of(tmp_path, texts(60))
    out = select(pool, "30", store, HighestLoss(), Model(fails), unscorable="keep")
    assert set(range(10)) <= set(out.rows.tolist()) and [f.row for f in out.failures] == [20]


# ------------------------------------------------------------------------------------------- tokens


def test_a_budget_in_tokens_is_met_from_below(tmp_path: Path, store: Store) -> None:
    pool = pool_of(tmp_path, texts(300))
    tokens = np.maximum(1.4 * pool.facts["answer_words"], pool.facts["answer_chars"] / 4)
    for method in (FirstTies(), Nested()):
        out = select(pool, "1ktok", store, method, Model() if method.name == "nested" else None)
        got = tokens[out.rows].sum()
        if method.name == "first_ties":  # estimated
            assert 1000 - tokens.max() < got <= 1000
        assert out.budget == len(out.rows) and any(
            "of 1,000 requested" in n for n in map(str, out.notes)
        )
    everything = select(pool, "1Mtok", store)
    assert len(everything.rows) == 300


def test_token_counts_of_the_model_are_used(tmp_path: Path, store: Store) -> None:
    pool, model = pool_of(tmp_path, texts(300)), Model()
    column = compute(
        HighestLoss().signals(MethodContext(model.handle.identity))["loss"],
        pool,
        store=store,
        model=model.handle,
    )
    out = select(pool, "500tok", store, HighestLoss(), model)
    got = column.values["tokens"][out.rows].sum()
    assert 500 - column.values["tokens"].max() < got <= 500
    assert any("the model's tokenizer (loss)" in n for n in map(str, out.notes))


def test_total_tokens_count_prompts_and_images(tmp_path: Path, store: Store) -> None:
    (tmp_path / "x.png").write_bytes(b"x")
    pool = pool_of(tmp_path, [record(i, "x.png" if i % 2 else None) for i in range(200)])
    out = select(pool, "20ktok:total", store)
    with_image = int((pool.facts["images"][out.rows] > 0).sum())
    assert with_image * 576 <= 20_000 < (with_image + 3) * 600
    for text in ("5tokk", "0tok", "20Mtok:half"):
        with pytest.raises(ConfigError, match="budget="):
            select(pool, text, store)


def test_tokens_with_quotas(tmp_path: Path, store: Store) -> None:
    pool = pool_of(tmp_path, texts(300))
    out = select(pool, "1ktok", store, HighestLoss(), Model(), quota=("source0=50%",))
    assert abs(sources(pool, out.rows)["source0"] - len(out.rows) / 2) <= 0.5


# ------------------------------------------------------------------------------------ order, replay


def test_file_order_does_not_matter(tmp_path: Path, store: Store) -> None:
    records = texts(120)
    a = pool_of(tmp_path / "a", records)
    b = pool_of(tmp_path / "b", records[::-1])
    asked: dict[str, Any] = {"quota": ("source0=30", "source1=..5"), "filter": ("length < 20",)}
    one, two = (select(p, "50", store, Nested(), Model(), **asked) for p in (a, b))
    assert [119 - r for r in two.rows.tolist()] == one.rows.tolist()


def test_folder_records_the_mixture(
    tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(methods.METHODS, "nested", "tests.text_pools:Nested")
    pool = pool_of(tmp_path, texts(120))
    out = select(
        pool, "30", store, Nested(), Model(), quota=("source0=15",), filter=("length < 15",)
    )
    output.write(out, pool, None, tmp_path / "out")
    config = yaml.safe_load((tmp_path / "out" / "run.yaml").read_text())["config"]
    assert config["quota"] == ["source0=15"] and config["filter"] == ["length < 15"]
    assert {name: config[name] for name in ("quota", "filter")} == out.recipe.request.mixture
    table = signals_table(tmp_path / "out")
    short = pool.facts["answer_words"] < 15
    assert [v is not None for v in table["loss.nll"].to_pylist()] == short.tolist()


def test_replay_and_plan_with_quotas(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pool = write_pool(tmp_path / "pool.json", texts(90))
    shared = ["--store", str(tmp_path / "store"), "--images", str(tmp_path)]
    words = [
        str(pool),
        "-m",
        "length",
        "-b",
        "30",
        *shared,
        "--quota",
        "source0=15",
        "--filter",
        "length < 15",
    ]
    keep = ["--keep", names(tmp_path, ["r1", "r3"])]
    for command in (
        ["select", *words, *keep, "--out", str(tmp_path / "a")],
        ["select", "--config", str(tmp_path / "a" / "run.yaml"), "--out", str(tmp_path / "b")],
        ["plan", "--config", str(tmp_path / "a" / "run.yaml")],
    ):
        with pytest.raises(SystemExit) as stop:
            main(command)
        assert stop.value.code == 0
    result = capsys.readouterr().out
    assert (
        "--quota source0=15: at least 15 and at most 15" in result and "2 rows of --keep" in result
    )
    for file in ("subset.json", "selection.parquet", "evidence.parquet"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


def test_image_tokens_of_the_model_are_used_if_known(tmp_path: Path, tiny_pool: Path) -> None:
    pool = open_pool(tiny_pool, tiny_pool.parent / "images")
    text = "tokens a word, at least one per 4 characters, "
    asked = Tokens("1ktok:total", 1000, True)
    assumed = TokenCounts(pool, asked)
    assert assumed.how.endswith(f"{text}576 an image (assumed, as LLaVA-1.5 has; models differ)")
    demo = TokenCounts(pool, asked, resolve("demo"))
    assert demo.how.endswith(f"{text}9 an image (the model's processor, mean of 4)")
    gained = assumed.tokens - demo.tokens
    assert gained.tolist() == pytest.approx(
        [567.0 * len(s.images) for s in pool.samples(range(len(pool)))]
    )
    assert "image" not in TokenCounts(pool, Tokens("1ktok", 1000, False), resolve("demo")).how
