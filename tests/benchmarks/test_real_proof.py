"""The real proof: its pools, questions and pages. No model runs."""

from __future__ import annotations

import json
from argparse import ArgumentTypeError, Namespace
from collections import Counter
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
from benchmarks.proof.numbers import Arm
from benchmarks.real import arms, gate, pools, report, suspects, variants
from benchmarks.real.by_source import Asked, PoolLabels
from benchmarks.real.drawn import agreement, drawn_differences, read_pages
from benchmarks.real.places import DATA, ROOT, outside_repository

SOURCES = {
    "flickr_qa": ("place", "activity", "colour", "existence"),
    "flickr_caption": ("caption",),
    "flickr_match": ("match",),
    "caltech": ("object",),
    "cifar": ("thumbnail",),
    "clothing": ("garment",),
    "clipart": ("category",),
    "scienceqa": ("choice",),
    "machine_caption": ("caption",),
    "mathv": ("maths",),
}


def record(source: str, kind: str, k: int) -> dict[str, Any]:
    answer = ("Yes", "No")[k % 2] if kind == "existence" else f"{kind} {k % 7}"
    turns = [{"from": "human", "value": f"<image>\nA {kind}?"}, {"from": "gpt", "value": answer}]
    name = f"{source}-{kind}-{k}"
    return {
        "id": name,
        "image": f"{name}.jpg",
        "data_source": source,
        "kind": kind,
        "conversations": turns,
    }


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A folder as ../shared/data/real: 100 rows of each kind, 20 questions of each of two kinds."""
    rows = [record(s, k, i) for s, kinds in SOURCES.items() for k in kinds for i in range(100)]
    asked = [record("flickr_qa", k, i) for k in ("place", "colour") for i in range(100, 120)]
    (tmp_path / "data").mkdir()
    (tmp_path / "data/pool.json").write_text(json.dumps(rows), "utf-8")
    (tmp_path / "data/test.json").write_text(json.dumps(asked), "utf-8")
    return tmp_path / "data"


def rows_of(file: Path) -> list[dict[str, Any]]:
    return json.loads(file.read_text("utf-8"))


def test_pools_have_the_faults_that_they_promise(data: Path, tmp_path: Path) -> None:
    world = pools.make_world(data, tmp_path / "out", rows=1300)
    given = {r["id"]: r for r in rows_of(data / "pool.json")}
    made = {name: rows_of(file) for name, file in world.pools.items()}
    assert {r["id"]: r for r in made["mixed"]} == given
    machine = {i for i in given if i.startswith("machine")}
    assert world.wrong["mixed"] == machine and not world.wrong["clean"]

    swapped = {r["id"] for r in made["noisy"] if r != given[r["id"]]}
    assert world.wrong["noisy"] == machine | swapped and not machine & swapped
    assert len(world.wrong["noisy"]) == round(1300 / 3)
    assert all(r.keys() == given[r["id"]].keys() for r in made["noisy"])
    for r in made["noisy"]:
        if r["id"] in swapped:  # an answer of the same kind
            assert pools.answer_of(r).split()[0] in ("Yes", "No", r["kind"])

    sources = Counter(r["data_source"] for r in made["skewed"])
    assert sources["flickr8k"] / len(made["skewed"]) == pytest.approx(0.7, abs=0.01)
    assert set(Counter(r["kind"] for r in made["clean"]).values()) == {pools.BALANCED}
    assert "maths" not in {r["kind"] for r in made["clean"]}
    labels = PoolLabels.of(world, "noisy")
    assert labels.noisy.sum() == len(world.wrong["noisy"])


def test_halves_share_no_picture_and_are_complete(data: Path, tmp_path: Path) -> None:
    world = pools.make_world(data, tmp_path / "out", rows=500)
    development, evaluation = (rows_of(world.questions[half]) for half in pools.HALVES)
    assert len(development) + len(evaluation) == 40 and development and evaluation
    assert not {r["image"] for r in development} & {r["image"] for r in evaluation}


def test_a_picture_in_pool_and_questions_is_refused(data: Path, tmp_path: Path) -> None:
    rows = rows_of(data / "pool.json") + rows_of(data / "test.json")[:1]
    (data / "pool.json").write_text(json.dumps(rows), "utf-8")
    with pytest.raises(SystemExit, match="1 pictures"):
        pools.make_world(data, tmp_path / "out", rows=500)


def test_other_data_than_the_frozen_ones_is_refused(data: Path, tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="differs from the frozen one"):
        pools.make_world(data, tmp_path / "out")


@pytest.mark.skipif(not (DATA / "real").is_dir(), reason="needs ../shared/data/real")
def test_the_frozen_pools_can_be_made_again(tmp_path: Path) -> None:
    world = pools.make_world(DATA / "real", tmp_path)
    assert len(rows_of(world.pools["noisy"])) == 3000
    assert [len(world.wrong[p]) for p in ("mixed", "noisy", "clean")] == [250, 1000, 0]


def test_swapping_depends_on_the_seed_only(data: Path) -> None:
    rows = rows_of(data / "pool.json")
    assert pools.noisy(rows, Random("a")) == pools.noisy(rows, Random("a"))
    assert pools.noisy(rows, Random("a")) != pools.noisy(rows, Random("b"))


def test_weights_are_not_written_into_the_repository(tmp_path: Path) -> None:
    assert outside_repository(tmp_path) == tmp_path.resolve()
    assert outside_repository(ROOT / "out" / "real") == ROOT / "out" / "real"
    with pytest.raises(SystemExit, match="inside the repository"):
        outside_repository(ROOT / "benchmarks")


def test_every_method_of_a_stage_has_settings() -> None:
    assert {m for stage in arms.STAGES for m in stage.methods} <= arms.METHODS.keys()


def test_suspects_count_captions_only() -> None:
    #            not a caption; machine, people, machine, people
    order = np.array([4, 0, 2, 1, 3])
    suspicion = np.array([0.9, 0.6, 0.8, 0.1, 1.0])
    caption = np.array([True, True, True, True, False])
    machine = np.array([True, True, False, False, False])
    found = suspects.summary(order, suspicion, caption, machine)
    assert (found["captions"], found["machine"]) == (4, 2)
    assert (found["listed"], found["listed_machine"]) == (3, 2)
    assert found["auc"] == 0.75


def test_agreement_of_rankings() -> None:
    real = {"a": 3.0, "b": 2.0, "c": 1.0, "only here": 9.0}
    rho, chance, count = agreement(real, {"a": 30.0, "b": 20.0, "c": 10.0, "only there": 0.0})
    assert (rho, count) == (1.0, 3) and chance == pytest.approx(1 / 6, abs=0.02)
    assert np.isnan(agreement(real, {"a": 1.0})[0])


def test_the_synthetic_ranking_is_read_from_its_pages() -> None:
    found = drawn_differences(read_pages())
    assert {"stratified", "perplexity", "clipper", "mllm_selector"} <= found.keys()
    assert found["perplexity"] < found["clipper"]
    assert "winnow" not in found and found["winnow_base"] > 0  # it has trust=base there


ASKED = Asked(np.array(["place"] * 200 + ["colour"] * 200), np.zeros(400, bool), {})
ASKED = Asked(ASKED.kind, ASKED.yes_no, {"place": 0.3, "colour": 0.2})


LABELS = PoolLabels(
    np.array(["a: place"] * 900 + ["a: match, yes"] * 300 + ["a: match, no"] * 1800),
    np.arange(3000) < 240,
)


def scores(share: float, seed: int) -> np.ndarray:
    """Three seeds of 400 questions, of which `share` is right."""
    return (np.random.default_rng(seed).random((3, 400)) < share).astype(np.float32)


@pytest.mark.parametrize(
    ("random", "full", "expected"),
    [(0.5, 0.8, " GO; "), (0.5, 0.5, "NO-GO"), (0.25, 0.8, "NO-GO")],
)
def test_the_gate(random: float, full: float, expected: str) -> None:
    said = gate.verdict(ASKED, np.zeros(400), scores(random, 1), scores(full, 2), "rate 1")
    assert expected in said.splitlines()[0]
    assert ("place" in said.splitlines()[1]) == (random < 0.3)


def test_the_gate_without_the_full_pool_gives_no_verdict() -> None:
    said = gate.verdict(ASKED, np.zeros(400), scores(0.5, 1), None, "rate 1")
    assert "no verdict" in said.splitlines()[0] and "GO" not in said
    assert json.loads(said.splitlines()[-1]).keys() == {"recipe", "random"}


def arm(method: str, budget: str, share: float) -> Arm:
    return Arm(
        method,
        budget,
        (0, 1, 2),
        scores(share, 5),
        None,
        np.zeros(3),
        np.full(3, 0.1),
        {"a: place": 0.25, "a: match, no": 0.75},
        300,
        60.0,
        200.0,
    )


def test_sections_of_the_page() -> None:
    given = [("random", "10%", 0.5), ("winnow", "10%", 0.7), ("length", "10%", 0.3)]
    found = {(m, b): arm(m, b, s) for m, b, s in [*given, ("full", "100%", 0.8)]}
    results = [
        report.PoolResult(name, LABELS, ASKED, {"epochs": found, "steps": {}}, 4)
        for name in ("mixed", "clean")
    ]
    at_a_glance, section = report.glance(results), report.section(results[0])
    assert "winnow, 10%" in at_a_glance and "**+" in at_a_glance and "full" not in at_a_glance
    assert "**beats random**" in section and "worse than random" in section
    assert "| place | 200 | 30 |" in report.kinds(results)
    assert "No correlation" in report.worlds(results)
    assert report.steps(results) == ""
    assert "3,000 rows; 8% are" in section
    contents = report.subsets(results)
    assert "| a: place | 30.0 | 25.0 | 25.0 | 25.0 |" in contents
    assert "| a: match, yes | 10.0 | 0.0 | 0.0 | 0.0 |" in contents


def test_a_restricted_proof_names_its_command() -> None:
    given = {"half": "evaluation", "precision": "auto", "rows": None, "questions": None}
    given["stages"] = ("epochs", "steps")
    whole = Namespace(seeds=3, methods=None, budgets=None, **given)
    assert report.command(whole, tuple(pools.POOLS)) == "make real-proof"
    given["stages"] = ("epochs",)
    part = Namespace(seeds=3, methods=("random", "winnow"), budgets=("10%",), **given)
    assert report.command(part, ["mixed"]) == (
        'make real-proof ARGS="--pools mixed --methods random,winnow --budgets 10% --stages epochs"'
    )


def test_stages_at_a_budget() -> None:
    assert [s.name for s in arms.stages_at(None)] == ["epochs", "steps"]
    assert [s.name for s in arms.stages_at(("30%", arms.FULL_POOL))] == ["epochs"]


def test_a_variant_has_a_name_a_method_and_settings() -> None:
    name, method = variants.variant("all=winnow:keep=1,trust=base")
    assert (name, method.name, method.keep, method.trust) == ("all", "winnow", 1.0, "base")
    with pytest.raises(ArgumentTypeError, match="expected NAME=METHOD:KEY=VALUE"):
        variants.variant("winnow")
