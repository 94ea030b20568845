"""The proof benchmark: oracles, chance levels, the queue, tables from synthetic cells; and (slow)
random against an oracle."""

import math
import threading
from datetime import date
from pathlib import Path

import numpy as np
import pytest
from benchmarks.proof import __main__ as command
from benchmarks.proof import setup, stages
from benchmarks.proof.collected import PoolResult
from benchmarks.proof.mixes import ASKED, MIXES
from benchmarks.proof.numbers import Arm, Questions, against
from benchmarks.proof.oracles import Labels, Oracle, oracles
from benchmarks.proof.pages import PAGES
from benchmarks.proof.report import (
    ablations,
    above,
    equal_steps,
    kinds,
    section,
    summary,
)

from thresher.demo.pool import make_pool
from thresher.methods import METHODS, load
from thresher.methods.winnow import Winnow
from thresher.pools import open_pool
from thresher.types import DIGEST, Columns, digests_to_bytes, seeded_ties

ORACLES = dict.fromkeys(stages.ORACLES, load("random"))


def columns(n: int, seed: int = 0) -> Columns:
    digest = np.sort(np.frombuffer(np.random.default_rng(1).bytes(32 * n), dtype=DIGEST))
    return Columns(digest, seeded_ties(digest, seed), np.zeros(n, np.int32), ("a",))


def oracle(kind: list[str], noisy: list[bool], **how: bool) -> tuple[Oracle, Columns]:
    c = columns(len(kind))
    labels = dict(zip(digests_to_bytes(c.digest), zip(kind, noisy, strict=True), strict=True))
    return Oracle(how.get("balanced", False), how.get("clean", False), labels), c


KIND = ["colour"] * 40 + ["chart"] * 6 + ["logic"] * 2 + ["description"] * 12
NOISY = [i % 2 == 0 for i in range(60)]


def test_balanced_oracle_balances_evaluated_kinds() -> None:
    o, c = oracle(KIND, NOISY, balanced=True)
    chosen = [KIND[r] for r in o.select(c, 18).rows]
    assert (chosen.count("logic"), chosen.count("chart"), chosen.count("colour")) == (2, 6, 10)
    # the evaluated kinds are used up: the rest is filled
    assert len({*o.select(c, 55).rows.tolist()}) == 55


def test_clean_oracle_takes_correct_answers_first() -> None:
    o, c = oracle(KIND, NOISY, clean=True)
    assert not any(NOISY[r] for r in o.select(c, 30).rows)
    assert sum(NOISY[r] for r in o.select(c, 36).rows) == 6
    both, c = oracle(KIND, NOISY, balanced=True, clean=True)
    rows = both.select(c, 8).rows
    assert not any(NOISY[r] for r in rows) and [KIND[r] for r in rows].count("chart") == 3


def test_another_seed_samples_other_rows() -> None:
    o, c = oracle(KIND, NOISY, balanced=True)
    other = Columns(c.digest, seeded_ties(c.digest, 9), c.source, c.source_names)
    assert set(o.select(c, 15).rows.tolist()) != set(o.select(other, 15).rows.tolist())


def test_labels_belong_to_their_rows(tmp_path: Path) -> None:
    pool = open_pool(make_pool(tmp_path, 80, 2, MIXES["scarce"]))
    labels = Labels.read(pool)
    sample = pool.samples(np.arange(80))
    assert len(labels.kind) == 80 and set(oracles(pool)) == {
        "oracle: balanced",
        "oracle: clean",
        "oracle: balanced, clean",
    }
    for row in np.flatnonzero(labels.kind == "colour"):
        assert "colo" in sample[row].turns[0].text.lower()


def test_chance() -> None:
    q = Questions(
        np.array(["existence"] * 4 + ["digits"] * 5 + ["colour"] * 4),
        np.array(["yesno"] * 4 + ["word"] * 5 + ["word", "word", "choice", "choice"]),
        np.array(["yes", "no", "yes", "no", "11", "22", "11", "33", "44", "red", "blue", "a", "b"]),
        np.array([2] * 4 + [0] * 5 + [6, 6, 4, 4]),
    )
    assert q.chance() == pytest.approx({"existence": 0.5, "digits": 0.4, "colour": (1 + 1) / 4})
    assert q.by_kind(np.array([1.0, 0, 1, 0] + [1.0] * 5 + [0.0] * 4)) == {
        "existence": 0.5,
        "digits": 1,
        "colour": 0,
    }


def test_above_chance_counts_seeds_and_questions() -> None:
    rng = np.random.default_rng(0)
    calm = lambda share: (rng.random((5, 100)) < share).astype(float)  # noqa: E731
    assert above(calm(0.75), 0.5) and not above(calm(0.55), 0.5)
    by_luck = np.array([[1.0], [1.0], [0.0], [0.0], [0.6]])  # 52%, but only in three seeds of five
    assert not above(np.repeat(by_luck, 100, axis=1), 0.25)


@pytest.mark.parametrize("stage", stages.STAGES, ids=lambda s: s.name)
def test_every_method_of_a_stage_is_loaded(stage: stages.Stage) -> None:
    found = stages.methods_of(stage, ORACLES)
    assert list(found) == [*stage.methods, *stage.oracles]
    assert {m.name for m in found.values()} <= {*METHODS, stages.WORDS}
    assert {*stage.pools} <= {*setup.POOLS}


def test_stages_of_a_page_and_of_a_pool() -> None:
    pages = [stages.of_page(page) for page in PAGES]
    assert sorted(sum(pages, ())) == sorted({s.name for s in stages.STAGES})  # each has one page
    assert {s.name for s in stages.stages_of("control") if s.page == "proof"} == {
        "ten",
        "judged",
        "aimed",
        "others",
    }
    assert stages.pools_of("proof", setup.POOLS) == ("web", "redundant", "scarce", "control")
    assert stages.pools_of("winnow", ("web", "own_mix")) == ("web", "own_mix")


def test_winnow_has_no_guard_that_would_replace_a_losing_selection() -> None:
    everything = [m for s in stages.STAGES for m in stages.methods_of(s, ORACLES).values()]
    chosen = [*everything, *stages.made(*stages.VARIANTS).values()]
    assert {m.guard for m in chosen if isinstance(m, Winnow)} == {"off"}


def test_equal_steps_are_those_of_one_pass_over_30_percent() -> None:
    assert math.ceil(0.3 * setup.Sizes.rows / setup.RECIPE.batch) == stages.LONG


def test_tasks_of_one_pool_never_overlap() -> None:
    queue = command.Queue(("web", "control"), [s.name for s in stages.STAGES])
    first, second = queue.take(), queue.take()
    assert first == ("ten", "web") and second == ("ten", "control")
    taken: list[tuple[str, str] | None] = []
    waiting = threading.Thread(target=lambda: taken.append(queue.take()))
    waiting.start()
    waiting.join(0.05)
    assert taken == []  # both pools are busy
    queue.done("control")
    waiting.join(5)
    assert taken == [("judged", "control")]
    queue.done("web")
    assert queue.take() == ("judged", "web")


def arm(name: str, budget: str, accuracy: float, seeds: int = 5, n: int = 900) -> Arm:
    rng = np.random.default_rng(len(name) + 7 * len(budget))
    difficulty = np.random.default_rng(0).random(n)
    scores = np.stack(
        [
            (difficulty + 0.02 * rng.standard_normal(n) < accuracy).astype(float)
            for _ in range(seeds)
        ]
    )
    shares = {k: 1 / len(ASKED) for k in ASKED}
    return Arm(
        name,
        budget,
        tuple(range(seeds)),
        scores,
        scores,
        np.full(seeds, 0.5),
        np.full(seeds, 0.3),
        shares,
        100,
        3.0,
        9.0,
    )


def result(name: str, **of_stage: list[Arm]) -> PoolResult:
    """A pool with the given arms in each stage."""
    q = Questions(
        np.repeat(np.array(ASKED), 100), np.full(900, "word"), np.full(900, "1"), np.full(900, 4)
    )
    arms = {stage: {(a.method, a.budget): a for a in found} for stage, found in of_stage.items()}
    missing = dict.fromkeys(of_stage, 0)
    return PoolResult(name, 1000, 0.28, q, arms, missing, frozenset({date(2026, 1, 2)}))


@pytest.fixture
def planted() -> PoolResult:
    return result(
        "web",
        ten=[
            arm("random", "10%", 0.5),
            arm("length", "10%", 0.4),
            arm("clipper", "10%", 0.6),
            arm("stratified", "10%", 0.5),
            arm("full", "100%", 0.7),
        ],
        ablations=[arm("random", "10%", 0.5, 3), arm("clipper prefer=none", "10%", 0.6, 3)],
        steps=[arm("random", "10%", 0.5, 3), arm("clipper", "10%", 0.6, 3)],
    )


def test_tables(planted: PoolResult) -> None:
    text = section(planted)
    line = {
        row.split(" | ")[0].strip("| "): row for row in text.splitlines() if row.startswith("| ")
    }
    assert "| **beats random** |" in line["clipper, 10%"] and "| +1" in line["clipper, 10%"]
    assert "worse than random" in line["length, 10%"] and "no gain" in line["stratified, 10%"]
    assert line["full, 100%"].split(" | ")[3:6] == ["100", "", ""]
    assert 60 < int(line["random, 10%"].split(" | ")[3]) < 80  # % of full
    text = summary([planted])
    assert "web, 10%: better than random: clipper; worse: length." in text
    assert "web, 5%: **no method beats random**." in text
    text = ablations([planted])
    assert "| web, 10%: clipper prefer=none |" in text and ": random" not in text
    assert "full pool, one pass" in equal_steps([planted])
    text = kinds([planted])
    # all answers are equal here
    assert "Not significantly above chance" in text and "| colour | 100 |" in text


def test_arms_are_compared_on_their_common_seeds() -> None:
    whole, part = arm("random", "10%", 0.5), arm("clipper", "10%", 0.6, seeds=3)
    verdict = against(part, whole, None)
    assert (
        verdict is not None
        and verdict.kind == "beats"
        and verdict.random.mean == pytest.approx(100 * whole.scores[:3].mean())
    )


@pytest.mark.slow
def test_random_against_the_balanced_oracle(tmp_path: Path) -> None:
    """The whole chain in about a minute: at 5%, right answers balanced over kinds are worth more
    than random rows."""
    from benchmarks.proof.asking import Ask

    from thresher.backends import resolve
    from thresher.compare import compare, make_job
    from thresher.engine import RunContext
    from thresher.storage.columns import Store
    from thresher.training.registry import make_trainer
    from thresher.types import Budget

    sizes = setup.Sizes(rows=6000, per_kind=20)
    setup.make_world(setup.world_folder(tmp_path, sizes), sizes, ("scarce",))
    pool, questions = setup.open_world(setup.world_folder(tmp_path, sizes), "scarce")
    chosen = {"oracle": oracles(pool)["oracle: balanced, clean"]}
    comparison = compare(
        make_job(
            pool,
            questions,
            methods=chosen,
            budgets=[Budget.parse("5%")],
            seeds=3,
            full=False,
            model=resolve("demo", device="cpu"),
            recipe=setup.RECIPE,
        ),
        RunContext(Store(tmp_path / "store"), trainer=make_trainer(device="cpu")),
        tmp_path / "out",
        evaluate=Ask(False),
    )
    verdict = comparison.lines[1].verdict
    assert verdict is not None and verdict.kind == "beats"
