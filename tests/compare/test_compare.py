"""`compare` with fake training and evaluation: cells, caching, kills, verdicts, files and plan."""

from __future__ import annotations

import dataclasses
import json
import os
import random
import signal
import subprocess
import sys
import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from PIL import Image

from tests.compare.shared_comparison import CELLS, SEED_MODELS, SharedComparison
from tests.fake_training import FakeEvaluation, FakeTraining
from tests.text_pools import HighestLoss, Model, record, write_pool
from tests.validation_sets import validation
from tests.warm_process import WarmServer
from thresher.cli import main
from thresher.compare import (
    Comparison,
    Job,
    check_leaks,
    chosen_rows,
    compare,
    make_job,
    read_answers,
)
from thresher.compare import plan as compare_plan
from thresher.compare.opening import load_methods
from thresher.compare.printing import show, show_plan
from thresher.doctor import find_problems
from thresher.engine import RunContext
from thresher.errors import ConfigError, PoolError, opt
from thresher.methods.error_driven import ErrorDriven
from thresher.methods.mllm_selector import MllmSelector
from thresher.methods.random import Random
from thresher.pools import Pool, open_pool
from thresher.report import compare_report
from thresher.storage.columns import Store
from thresher.training.recipe import Recipe
from thresher.types import Budget, Columns, Selection

KEYS = {
    "method",
    "budget",
    "rows",
    "seed",
    "accuracy",
    "macro",
    "seconds_selection",
    "seconds_training",
    "notes",
}


def pools(folder: Path, rows: int = 300, test: int = 1500) -> tuple[Pool, Pool]:
    pool = open_pool(write_pool(folder / "pool.json", [record(i) for i in range(rows)]))
    return pool, open_pool(
        write_pool(folder / "test.json", [record(i) for i in range(10_000, 10_000 + test)])
    )


class Bench:
    """A comparison on synthetic pools with planned accuracies."""

    def __init__(self, folder: Path, gain: float = 0.0, test: int = 1500) -> None:
        self.folder = folder
        self.pool, self.test = pools(folder, test=test)
        self.training = FakeTraining(folder / "trainings")
        self.evaluation = FakeEvaluation(folder / "evaluations", self._accuracy)
        self.gain = gain

    def _accuracy(self, result: dict[str, Any]) -> float:
        if result["rows"] == len(self.pool):
            return 0.8
        highest = np.argsort(-self.loss())[: result["rows"]]
        return 0.5 + self.gain * (result["sum"] == highest.sum())

    def loss(self) -> np.ndarray:
        backend = Model().handle.open()
        nll = np.zeros(len(self.pool))
        for piece in backend.answer_loss(self.pool.samples(np.arange(len(self.pool))), self.pool):
            nll[piece.index] = piece.values["nll"]
        return nll

    def job(self, **more: Any) -> Job:
        values = {
            "methods": {"highest_loss": HighestLoss()},
            "budgets": [Budget.parse("10%")],
            "seeds": 3,
            **more,
        }
        return make_job(self.pool, self.test, model=Model().handle, **values)

    def run(self, job: Job | None = None, **more: Any) -> Comparison:
        return compare(
            job or self.job(),
            RunContext(Store(self.folder / "store"), trainer=self.training.trainer),
            self.folder / "out",
            evaluate=self.evaluation,
            **more,
        )


def test_gain_is_found_and_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bench = Bench(tmp_path, gain=0.07)
    messages: list[str] = []
    comparison = bench.run(report=messages.append)
    assert len(messages) == 9 and messages[0] == "1 of 9: random 10%, seed 0"
    written = json.loads((tmp_path / "out" / "compare.json").read_text())
    assert len(written["cells"]) == 9 and all(set(cell) >= KEYS for cell in written["cells"])
    assert Counter((c["method"], c["budget"], c["rows"]) for c in written["cells"]) == {
        ("random", "10%", 30): 3,
        ("highest_loss", "10%", 30): 3,
        ("full", "100%", 300): 3,
    }
    assert sorted(c["seed"] for c in written["cells"]) == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    (verdict,) = written["verdicts"]
    assert verdict["method"] == "highest_loss" and verdict["kind"] == "beats"
    assert 5 < verdict["difference"] < 9 and verdict["interval"][0] > 0
    assert verdict["percent_of_full"] == pytest.approx(100 * 0.57 / 0.8, abs=3)
    assert verdict["seconds_training"] == pytest.approx(0.3) and verdict[
        "seconds_saved"
    ] == pytest.approx(2.7)
    show(comparison, tmp_path / "out")
    output = capsys.readouterr().out
    assert "beats random" in output and "highest_loss at 10%: beats random by" in output
    assert "saves 3 s of training" in output and "compare.svg" in output
    image = ET.fromstring((tmp_path / "out" / "compare.svg").read_text())
    texts = [t.text for t in image.iter("{http://www.w3.org/2000/svg}text")]
    assert (
        "highest_loss" in texts
        and "10% (30 rows)" in texts
        and any("full pool" in (t or "") for t in texts)
    )
    # cells, difference, legend
    assert len(list(image.iter("{http://www.w3.org/2000/svg}circle"))) == 2 + 1 + 2
    # models of finished cells are deleted
    assert not list((tmp_path / "out" / "cells").glob("*/model"))


def test_cell_stores_subset_and_answers(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.run()
    prepared = bench.job()
    for cell in prepared.cells():
        rows = chosen_rows(tmp_path / "out", cell, bench.pool)
        assert len(rows) == cell.rows and len(read_answers(tmp_path / "out", cell)) == len(
            bench.test
        )
        result = next(
            c
            for c in bench.training.calls()
            if c["sum"] == int(rows.sum()) and c["seed"] == cell.seed
        )
        assert result["rows"] == cell.rows
    # the same records in another order: the cells are found, and the subset is the same records
    turned = open_pool(
        write_pool(tmp_path / "turned.json", [record(i) for i in reversed(range(300))])
    )
    again = make_job(
        turned,
        bench.test,
        methods={"highest_loss": HighestLoss()},
        budgets=[Budget.parse("10%")],
        seeds=3,
        model=Model().handle,
    )
    for before, after in zip(prepared.cells(), again.cells(), strict=True):
        assert before.fingerprint == after.fingerprint
        ids = bench.pool.ids(chosen_rows(tmp_path / "out", before, bench.pool))
        assert turned.ids(chosen_rows(tmp_path / "out", after, turned)) == ids


def test_no_gain_verdict(tmp_path: Path) -> None:
    comparison = Bench(tmp_path).run()
    verdict = comparison.lines[1].verdict
    assert (
        verdict is not None
        and verdict.kind == "no gain"
        and verdict.words.startswith("no gain over random (")
    )
    assert abs(verdict.difference.mean) < 2


def test_finished_cell_is_reused(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    first = bench.run()
    assert len(bench.training.calls()) == 9
    again = bench.run()
    assert len(bench.training.calls()) == len(bench.evaluation.calls()) == 9
    assert again.to_json() == first.to_json()
    bench.run(bench.job(seeds=4))  # one more seed: three more cells
    assert len(bench.training.calls()) == 12
    bench.run(
        bench.job(budgets=[Budget.parse("30"), Budget.parse("20%")])
    )  # 30 is 10%: the same rows
    assert len(bench.training.calls()) == 12 + 6
    bench.run(bench.job(methods={"highest_loss": HighestLoss(), "mllm_selector": MllmSelector()}))
    assert len(bench.training.calls()) == 18 + 3 * 2  # each with its own seed model
    bench.run(bench.job(methods={"mllm_selector": MllmSelector(alpha=0)}))
    # other settings are other cells; the seed models are there
    assert len(bench.training.calls()) == 24 + 3


@pytest.mark.parametrize(
    "change",
    [{"recipe": Recipe(epochs=2)}, {"equal": "steps"}, {"score": "choice"}],
)
def test_changed_inputs_make_new_cells(tmp_path: Path, change: dict[str, Any]) -> None:
    bench = Bench(tmp_path)
    before, after = bench.job().cells(), bench.job(**change).cells()
    assert not {c.fingerprint for c in before} & {c.fingerprint for c in after}


@dataclasses.dataclass(frozen=True)
class Newer(HighestLoss):
    added: ClassVar[dict[str, Any]] = {"first": 1}
    first: int = 1


def test_a_setting_that_was_added_later_keeps_finished_cells(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    before, same, other = (
        {c.fingerprint for c in bench.job(methods={"m": method}, full=False).cells()}
        for method in (HighestLoss(), Newer(), Newer(first=2))
    )
    assert before == same and len(before) == 6
    assert len(before & other) == 3  # those of random


def test_another_pool_or_test_makes_new_cells(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    prints = [{c.fingerprint for c in bench.job().cells()}]
    pool = open_pool(write_pool(tmp_path / "more.json", [record(i) for i in range(301)]))
    bigger = make_job(
        pool, bench.test, methods={}, budgets=[Budget.parse("30")], seeds=3, model=Model().handle
    )
    prints.append({c.fingerprint for c in bigger.cells()})
    turned = open_pool(
        write_pool(tmp_path / "turned.json", [record(i) for i in reversed(range(10_000, 11_500))])
    )
    other = make_job(
        bench.pool, turned, methods={}, budgets=[Budget.parse("30")], seeds=3, model=Model().handle
    )
    # per-row scores are in the order of the file
    prints.append({c.fingerprint for c in other.cells()})
    same = open_pool(write_pool(tmp_path / "same.json", [record(i) for i in reversed(range(300))]))
    reordered = make_job(
        same, bench.test, methods={}, budgets=[Budget.parse("30")], seeds=3, model=Model().handle
    )
    # the order of the pool does not matter
    assert {c.fingerprint for c in reordered.cells()} < prints[0]
    assert not prints[0] & prints[1] and not prints[0] & prints[2]


def test_equal_steps(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.run(bench.job(equal="steps", recipe=Recipe(epochs=2, batch=8), seeds=1))
    assert {c["steps"] for c in bench.training.calls()} == {75}  # 300 rows, twice, 8 a step
    assert {c["seed"] for c in bench.training.calls()} == {0}


def test_seeds_affect_sampling_and_training(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.run(bench.job(full=False))
    drawn = [(c["seed"], c["sum"]) for c in bench.training.calls()]
    assert sorted(s for s, _ in drawn) == [0, 0, 1, 1, 2, 2]
    # highest_loss takes the same rows three times, random does not
    assert len({total for _, total in drawn}) == 4


def test_unusable_rows_are_in_no_cell(tmp_path: Path) -> None:
    records = [record(i) for i in range(100)]
    for i in range(3):
        records[i]["image"] = "gone.jpg"
        records[i]["conversations"][0]["value"] = "<image>\nWhat?"
    bench = Bench(tmp_path)
    bench.pool = open_pool(write_pool(tmp_path / "broken.json", records))
    bench.run(bench.job(budgets=[Budget.parse("97")], seeds=1))
    assert {(c["rows"], c["sum"]) for c in bench.training.calls()} == {(97, sum(range(3, 100)))}


def test_rows_that_fail_under_one_model_are_excluded_for_all(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.evaluation = dataclasses.replace(bench.evaluation, failed=(3, 8))
    comparison = bench.run()
    assert any("2 rows of `eval` failed under some model" in str(note) for note in comparison.notes)
    assert comparison.about["eval_rows"] == 1498


def test_one_seed_gives_a_note(tmp_path: Path) -> None:
    comparison = Bench(tmp_path).run(None)
    assert not any("One seed" in str(note) for note in comparison.notes)
    (tmp_path / "b").mkdir()
    bench = Bench(tmp_path / "b")
    comparison = bench.run(bench.job(seeds=1, full=False))
    assert any("One seed" in str(note) for note in comparison.notes)
    assert comparison.lines[0].percent_of_full is None and comparison.lines[0].seconds_saved is None


def test_notes_of_selections_are_stored_and_printed_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bench = Bench(tmp_path)
    made = make_job(
        bench.pool,
        bench.test,
        methods={"highest_loss": HighestLoss()},
        budgets=[Budget.parse("10%"), Budget.parse("20%")],
        seeds=2,
        model=Model(fails=lambda s: "too dark" if s.id in ('"r3"', '"r8"') else "").handle,
    )
    note = "2 of 300 rows could not be used and were left out: 2 × too dark."
    for _ in range(2):  # the second from the cells that are kept
        comparison = bench.run(made)
        assert [c.notes for c in comparison.cells if c.method == "highest_loss"] == [(note,)] * 4
        assert not any(c.notes for c in comparison.cells if c.method != "highest_loss")
        assert comparison.selection_notes() == [f"highest_loss 10%, 20%, seeds 0 and 1: {note}"]
        show(comparison, tmp_path / "out")
        printed = " ".join(capsys.readouterr().out.split())
        assert (
            printed.count("Note from highest_loss 10%, 20%, seeds 0 and 1: 2 of 300 rows could")
            == 1
        )
    written = json.loads((tmp_path / "out" / "compare.json").read_text())
    assert [c["notes"] for c in written["cells"] if c["method"] == "highest_loss"] == [[note]] * 4
    assert written["selection_notes"] == comparison.selection_notes()
    page = compare_report.write(tmp_path / "out").read_text()
    assert page.count(f"highest_loss 10%, 20%, seeds 0 and 1: {note}") == 1


@dataclasses.dataclass(frozen=True)
class Guarded(HighestLoss):
    """Falls back to random rows, in another order, as winnow's guard may: here for even budgets."""

    def select(self, columns: Columns, budget: int, target: Columns | None = None) -> Selection:
        if budget % 2:
            return super().select(columns, budget, target)
        rows = Random().select(columns, budget).rows[::-1].copy()
        return Selection(rows, {}, (f"random; {opt('settings.guard', 'off')} is not",))


def test_random_rows_of_a_method_are_named_and_not_trained_on_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bench = Bench(tmp_path)
    job = bench.job(
        methods={"guarded": Guarded()},
        budgets=[Budget.parse("30"), Budget.parse("31")],
        full=False,
    )
    comparison = bench.run(job)
    # 3 seeds: random at 30 and 31, guarded at 31
    assert len(bench.training.calls()) == len(bench.evaluation.calls()) == 9
    lines = {(line.method, line.budget): line for line in comparison.lines}
    same = lines["guarded", "30"]
    assert same.random_seeds == (0, 1, 2) and lines["guarded", "31"].random_seeds == ()
    assert same.verdict is not None and same.verdict.difference.mean == 0
    assert same.seconds_training == lines["random", "30"].seconds_training
    first = {c.method: c for c in job.cells() if (c.budget, c.seed) == ("30", 0)}
    rows = {name: chosen_rows(tmp_path / "out", cell, bench.pool) for name, cell in first.items()}
    assert rows["guarded"].tolist() == rows["random"][::-1].tolist()  # in its own order
    answers = [read_answers(tmp_path / "out", cell) for cell in first.values()]
    assert answers[0].equals(answers[1])
    assert comparison.selection_notes() == [
        "guarded 30, seeds 0 to 2: random; --set guarded.guard=off is not"
    ]
    show(comparison, tmp_path / "out")
    line = "guarded at 30: no gain over random (+0.0 ± "
    printed = " ".join(capsys.readouterr().out.split())
    assert line in printed and "; it selected the rows of random in every seed" in printed
    page = compare_report.write(tmp_path / "out").read_text()
    assert "; it selected the rows of random in every seed" in page
    written = json.loads((tmp_path / "out" / "compare.json").read_text())
    assert [v["seeds_with_random_rows"] for v in written["verdicts"]] == [[0, 1, 2], []]
    for verdict in written["verdicts"]:  # as of an earlier version
        del verdict["seeds_with_random_rows"]
    assert "rows of random" not in compare_report.build(written)


def test_two_processes_train_on_the_same_rows_once(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.training.seconds = 0.05
    job = bench.job(methods={"guarded": Guarded()}, budgets=[Budget.parse("30")], full=False)
    with ThreadPoolExecutor(2) as both:
        first, second = both.map(lambda _: bench.run(job), range(2))
    assert len(bench.training.calls()) == len(bench.evaluation.calls()) == 3
    assert first.to_json() == second.to_json()
    assert [line.random_seeds for line in first.lines] == [(), (0, 1, 2)]


def test_models_that_are_kept_are_all_trained(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    job = bench.job(methods={"guarded": Guarded()}, full=False, seeds=1)
    bench.run(job, keep_models=True)
    assert len(list((tmp_path / "out" / "cells").glob("*/model"))) == 2


def test_concurrent_comparisons_compute_every_cell_once(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    texts: list[str] = []
    with ThreadPoolExecutor(2) as both:
        first, second = both.map(lambda _: bench.run(report=texts.append), range(2))
    assert len(bench.training.calls()) == len(texts) == 9
    assert first.to_json() == second.to_json()


def test_cell_of_an_older_version_without_notes_is_read(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    before = bench.run()
    for path in (tmp_path / "out" / "cells").glob("*.json"):
        data = json.loads(path.read_text())
        assert data.pop("notes") == [] and data.pop("files") and data.pop("sha256")
        path.write_text(json.dumps(data))
    assert bench.run().to_json() == before.to_json()
    assert len(bench.training.calls()) == 9


@pytest.mark.parametrize("suffix", [".json", ".npz", ".parquet"])
@pytest.mark.parametrize(
    "damage",
    [lambda b: b"", lambda b: b[: len(b) // 2], lambda b: b[:40] + bytes([b[40] ^ 1]) + b[41:]],
)
def test_damaged_cell_is_reported_and_recomputed(
    tmp_path: Path, suffix: str, damage: Callable[[bytes], bytes]
) -> None:
    bench = Bench(tmp_path, test=150)
    before = bench.run(bench.job(seeds=1))
    trained = len(bench.training.calls())
    file = sorted((tmp_path / "out" / "cells").glob(f"*{suffix}"))[0]
    file.write_bytes(damage(file.read_bytes()))
    again = bench.run(bench.job(seeds=1))
    assert [(c.method, c.rows, c.accuracy, c.macro) for c in again.cells] == [
        (c.method, c.rows, c.accuracy, c.macro) for c in before.cells
    ]
    assert len(bench.training.calls()) == trained + 1


def test_cost_of_reused_scores_is_reported(tmp_path: Path) -> None:
    """Seed 1 reuses all scores of seed 0; choosing would take as long if it had been alone."""
    bench = Bench(tmp_path)

    class Slow(Model):
        def _open(self) -> Any:
            self.kwargs = {"seconds_per_row": 0.001}
            return super()._open()

    slow = Slow()
    made = make_job(
        bench.pool,
        bench.test,
        methods={"highest_loss": HighestLoss()},
        budgets=[Budget.parse("10%")],
        seeds=2,
        model=slow.handle,
    )
    comparison = bench.run(made)
    assert slow.scored == 300
    seconds = [c.seconds_selection for c in comparison.cells if c.method == "highest_loss"]
    assert min(seconds) >= 0.3 and max(seconds) < 2


# -------------------------------------------------------------------------------------------- kills


def test_killed_comparison_resumes_without_repeating_cells(
    tmp_path: Path, warm: WarmServer
) -> None:
    shared = SharedComparison(tmp_path, warm, seconds=0.03)
    moments = random.Random(os.urandom(8))
    killed = 0
    finished: set[str] = set()
    for _ in range(8):
        (process,) = shared.start(1)
        try:
            process.wait(moments.uniform(0.02, 0.4))
        except subprocess.TimeoutExpired:
            process.kill()
            killed += process.wait() == -signal.SIGKILL
        assert finished <= shared.finished()
        finished = shared.finished()
    assert killed >= 3
    before = shared.evaluated()
    (process,) = shared.start(1)
    assert process.wait() == 0, process.stderr.read()
    after = shared.evaluated()
    assert len(after) == CELLS
    assert all(after[cell] == before[cell] for cell in finished), (
        "a finished cell was evaluated again"
    )
    assert after.total() <= CELLS + killed  # at most the one that was under way
    assert CELLS + SEED_MODELS <= shared.trained() <= CELLS + SEED_MODELS + killed
    written = json.loads((tmp_path / "out" / "compare.json").read_text())
    assert len(written["cells"]) == CELLS and len(written["verdicts"]) == 2
    assert shared.start(1)[0].wait() == 0
    assert shared.evaluated() == after


# --------------------------------------------------------------------------------- plan and command


def test_the_plan(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bench = Bench(tmp_path)
    methods = {"highest_loss": HighestLoss(), "mllm_selector": MllmSelector()}
    made = bench.job(methods=methods, seeds=2, recipe=Recipe(epochs=2))
    store = Store(tmp_path / "store")
    p = compare_plan.plan(made, RunContext(store), tmp_path / "out")
    assert [(c.method, c.rows, c.seeds, c.done, c.training_rows) for c in p.cells] == [
        ("random", 30, 2, 0, 120),
        ("highest_loss", 30, 2, 0, 120),
        ("mllm_selector", 30, 2, 0, 120),
        ("full", 300, 2, 0, 1200),
    ]
    # highest_loss scores the pool once for both seeds, mllm_selector once for each of two seed
    # models of 10 rows
    assert (p.unfinished, p.to_score, p.own_training_rows, p.answers) == (8, 900, 20, 8 * 1500)
    assert p.hours == pytest.approx(0.01 * (3 * (1560 + 20) + 900 + 2 * 12_000) / 3600)
    # a small cell is 180 + 3,000, a full one 1,800 + 3,000; of two devices, one takes the first and
    # the third, the other one the second and the full one of seed 0, and so on
    on_two = compare_plan.plan(made, RunContext(store), tmp_path / "out", devices=2)
    assert on_two.hours == pytest.approx(0.01 * (3 * 20 + 900 / 2 + (3180 + 4800) * 2) / 3600)
    show_plan(on_two)
    assert " on 2 devices, measured" in " ".join(capsys.readouterr().out.split())
    show_plan(p)
    captured = " ".join(capsys.readouterr().out.split())
    assert "8 cells to run: 1,560 rows to train on (and at most 20 to train models on" in captured
    assert (
        not (tmp_path / "out").exists() and not bench.training.calls() and not store.root.exists()
    )
    bench.run(made)
    done = compare_plan.plan(made, RunContext(store), tmp_path / "out")
    assert (done.unfinished, done.to_score, done.training_rows, done.hours) == (0, 0, 0, None)
    assert [c.done for c in done.cells] == [2, 2, 2, 2]
    show_plan(done)
    assert "nothing is left to do" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"seeds": 0}, "seeds=0"),
        ({"equal": "time"}, 'equal="time"'),
        ({"budgets": []}, "`budgets`"),
        ({"budgets": [Budget.parse("10%"), Budget.parse("30")]}, "same number of rows"),
        ({"budgets": [Budget.parse("400")]}, "budget=400 asks for more rows than the pool has"),
        (
            {"budgets": [Budget.parse("1Mtok")]},
            'budget="1Mtok": budgets in tokens cannot be compared',
        ),
        ({"methods": {"full": HighestLoss()}}, "not a method"),
    ],
)
def test_invalid_comparisons_are_refused(
    tmp_path: Path, change: dict[str, Any], match: str
) -> None:
    with pytest.raises(ConfigError, match=match):
        Bench(tmp_path).job(**change)


def test_test_questions_in_the_pool_are_refused(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    leaky = open_pool(write_pool(tmp_path / "leaky.json", [record(i) for i in range(290, 400)]))
    bench.test = leaky
    with pytest.raises(
        PoolError, match="10 rows of the pool repeat questions of the evaluation set"
    ):
        bench.run()
    assert not bench.training.asked


@pytest.mark.parametrize("extra", [True, False])
@pytest.mark.parametrize(
    "disguise", ["other path", "other answer", "other file format", "no question"]
)
def test_compare_and_doctor_find_the_same_leaks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, extra: bool, disguise: str
) -> None:
    """A question leaks by its words and pixels, not by the path of its image."""
    if extra:
        pytest.importorskip("rensa")
        pytest.importorskip("imagehash")
    else:
        monkeypatch.setitem(sys.modules, "rensa", None)
        monkeypatch.setitem(sys.modules, "imagehash", None)
    folder = tmp_path / "images"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for i in range(4):
        pixels = rng.integers(0, 256, (12, 12, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{i}.png")
        Image.fromarray(pixels).save(
            folder / f"again{i}.{'bmp' if 'format' in disguise else 'png'}"
        )
    ask = "<image>" if disguise == "no question" else "<image>\nWhat is it?"

    def rows(name: str, numbers: range, answer: str = "Noise.") -> list[dict[str, Any]]:
        out = [record(1000 + i) for i in numbers]
        for row, i in zip(out, numbers, strict=True):
            turns = [{"from": "human", "value": ask}, {"from": "gpt", "value": answer}]
            row |= {"image": name.format(i), "conversations": turns}
        return out

    ext = "bmp" if "format" in disguise else "png"
    answer = "Snow." if disguise == "other answer" else "Noise."
    pool = open_pool(write_pool(tmp_path / "leaky.json", rows("{}.png", range(3))), folder)
    test = rows(f"again{{}}.{ext}", range(2, 4), answer)
    other = open_pool(write_pool(tmp_path / "other.json", test), folder)
    seen = find_problems(pool, near=False, evals=[("other", other)])
    assert seen.rows["eval-leak"].tolist() == [2]
    assert any("Only exact copies" in str(note) for note in seen.notes) is not extra
    bench = Bench(tmp_path)
    prepared = make_job(
        pool, other, methods={}, budgets=[Budget.parse("1")], seeds=3, model=Model().handle
    )
    with pytest.raises(
        PoolError,
        match=r"1 row of the pool repeats .* \(1 exact\): row 2 repeats "
        r"evaluation row 0",
    ):
        bench.run(prepared)
    with pytest.raises(PoolError, match="1 row of the pool repeats"):
        check_leaks(prepared, RunContext(Store(tmp_path / "store")))
    assert not bench.training.asked


@pytest.mark.parametrize(
    ("number", "match"),
    [
        (7, r"of the pool repeats .* validation set"),
        (10_007, r"of the validation set repeats .* of the evaluation set"),
    ],
)
def test_validation_questions_in_the_pool_or_the_test_are_refused_before_the_first_cell(
    tmp_path: Path, number: int, match: str
) -> None:
    """Not word for word: in capitals."""
    pytest.importorskip("rensa")
    bench = Bench(tmp_path)
    leak = record(number)
    leak["conversations"][0]["value"] = leak["conversations"][0]["value"].upper()
    target = open_pool(write_pool(tmp_path / "validation.json", [*validation(20), leak]))
    with pytest.raises(PoolError, match=match) as refused:
        bench.run(bench.job(methods={"error_driven": ErrorDriven()}, target=target))
    assert "on_leak" not in str(refused.value) and not bench.training.asked


def test_methods_and_their_settings_on_the_command_line() -> None:
    got = load_methods(
        "clipper, random,mllm_selector,clipper",
        ["mllm_selector.alpha=0", ("clipper.bins=10 clipper.prefer=none")],
    )
    assert list(got) == ["clipper", "random", "mllm_selector"]
    assert got["mllm_selector"] == MllmSelector(alpha=0) and got["clipper"].bins == 10  # type: ignore[attr-defined]
    with pytest.raises(ConfigError, match=r"method=.cliper.: there is no such method"):
        load_methods("cliper", [])
    with pytest.raises(ConfigError, match=r"expected METHOD\.KEY=VALUE.*clipper\.KEY=0"):
        load_methods("clipper", ["alpha=0"])
    # named as they are typed here, whatever is wrong with them
    with pytest.raises(ConfigError, match=r"^--set winnow\.guard=maybe: guard of winnow must be"):
        load_methods("clipper,winnow", ["winnow.guard=maybe"])
    with pytest.raises(ConfigError, match=r"^--set winnow\.gard=on: winnow has no setting 'gard'"):
        load_methods("clipper,winnow", ["winnow.gard=on"])
    with pytest.raises(ConfigError, match=r"^--set winnow\.keep=2: expected a share above 0"):
        load_methods("clipper,winnow", ["winnow.keep=2"])
    with pytest.raises(ConfigError, match="name at least one"):
        load_methods("random", [])


def test_questions_that_cannot_be_evaluated_are_refused_before_the_first_cell(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pool = write_pool(tmp_path / "pool.json", [record(i) for i in range(20)])
    unanswered = [record(i) for i in range(100, 110)]
    for row in unanswered:
        row["conversations"] = row["conversations"][:1]
    test = write_pool(tmp_path / "test.json", unanswered)
    out = tmp_path / "out"
    words = [
        str(pool),
        "--eval",
        str(test),
        "--methods",
        "length",
        "--model",
        "demo",
        "--seeds",
        "1",
        "--out",
        str(out),
    ]
    for more in ([], ["--plan", "--no-probe"], ["--on-missing", "exclude"]):
        with pytest.raises(SystemExit) as ended:
            main(["compare", *words, "--store", str(tmp_path / "store"), *more])
        assert ended.value.code == 1
        stderr = capsys.readouterr().err
        assert (
            "test.json: None of the 10 rows can be evaluated: 10 × no-answer" in stderr
            and not out.exists()
        )


def test_unused_validation_set_is_reported(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pool = write_pool(tmp_path / "pool.json", [record(i) for i in range(20)])
    test = write_pool(tmp_path / "test.json", [record(i) for i in range(100, 110)])
    aim = write_pool(tmp_path / "aim.json", [record(i) for i in range(200, 210)])
    words = [
        str(pool),
        "--eval",
        str(test),
        "--methods",
        "length",
        "--model",
        "demo",
        "--plan",
        "--no-probe",
    ]
    words += [
        "--out",
        str(tmp_path / "out"),
        "--store",
        str(tmp_path / "store"),
        "--validation",
        str(aim),
    ]
    with pytest.raises(SystemExit) as ended:
        main(["compare", *words])
    assert ended.value.code == 0
    assert "aim.json is not used" in capsys.readouterr().err


def test_a_model_behind_a_server_is_refused_before_the_first_cell(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pool = write_pool(tmp_path / "pool.json", [record(i) for i in range(20)])
    test = write_pool(tmp_path / "test.json", [record(i) for i in range(100, 110)])
    words = [
        str(pool),
        "--eval",
        str(test),
        "--methods",
        "length",
        "--model",
        "http://127.0.0.1:1/v1#big",
    ]
    with pytest.raises(SystemExit) as ended:
        main(
            ["compare", *words, "--out", str(tmp_path / "out"), "--store", str(tmp_path / "store")]
        )
    stderr = capsys.readouterr().err
    assert ended.value.code == 2 and "'big' is behind a server" in stderr and "Cell" not in stderr
