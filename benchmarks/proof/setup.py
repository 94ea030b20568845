"""Configuration of the proof: pools, methods, ablations, budgets, seeds, sizes and the recipe.

To add a method, add a line to METHODS; only its cells are then computed. Nothing here was tuned on
the evaluation questions: sizes are limited by time; the learning rate was chosen on development
questions and a pool of another seed; methods use their defaults.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks.proof.mixes import CONTROL, MIXES
from benchmarks.proof.questions import make_questions

from thresher.compare import Equal
from thresher.demo.pool import make_pool
from thresher.demo.scenes import Split
from thresher.duplicates import find_contamination
from thresher.methods import load
from thresher.pools import Pool, open_pool
from thresher.training.recipe import Recipe
from thresher.types import Method

METHODS = ("random", "stratified", "length", "perplexity", "clipper", "mllm_selector", "mmssr")
ABLATIONS: dict[str, tuple[str, dict[str, str]]] = {
    "clipper prefer=none": ("clipper", {"prefer": "none"}),
    "clipper balance=source": ("clipper", {"balance": "source"}),
    "clipper mirror=one_shot": ("clipper", {"mirror": "one_shot"}),
    "mllm_selector alpha=0": ("mllm_selector", {"alpha": "0"}),
    "mllm_selector balance=none": ("mllm_selector", {"balance": "none"}),
}
TAUGHT: dict[str, tuple[str, dict[str, str]]] = {
    # the teacher (hidden labels) scores a tenth of the rows; models distilled from it score the
    # others. Number of steps: by agreement with the teacher on held-out rows of a pool of another
    # seed (300: 0.11, 1000: 0.36)
    "mmssr, taught": (
        "mmssr",
        {"teacher": "labels", "teacher_fraction": "0.1", "train": "full", "steps": "1000"},
    ),
}
JUDGED: dict[str, tuple[str, dict[str, str]]] = {
    # the hidden labels score every row: mmSSR's sampler with a perfect judge
    "oracle: mmssr, judged right": ("mmssr", {"judge": "labels"}),
    "oracle: mmssr, judged right, threshold=0": ("mmssr", {"judge": "labels", "threshold": "0"}),
}
AIMED: dict[str, tuple[str, dict[str, str]]] = {
    # a rule-based teacher that sees every scene finds the mistakes of the untuned base model on
    # validation questions and names the skills
    "oracle: error_driven, taught right": (
        "error_driven",
        {"teacher": "rules", "ask": "plain", "max_new_tokens": "64"},
    ),
}
# stage -> methods for which the hidden labels act as a model
LABELLED = {"judged": JUDGED, "taught": TAUGHT, "aimed": AIMED}
# methods of the comparison with equal steps
STEPS_METHODS = ("random", "clipper", "mllm_selector", "oracle: balanced, clean")
POOLS = tuple(MIXES)
RECIPE = Recipe(lora=False, batch=8, learning_rate=1e-3)


@dataclass(frozen=True)
class Sizes:
    """Rows per pool, questions per kind, seeds of the main table and of the smaller stages."""

    rows: int = 6000
    per_kind: int = 100
    seeds: int = 5
    fewer_seeds: int = 3


@dataclass(frozen=True)
class Stage:
    """A comparison on each of its pools. `score`: "generate", or "both" to score by candidate
    likelihood too."""

    name: str
    budgets: tuple[str, ...]
    full: bool
    equal: Equal
    score: str
    control: bool  # also on the control pool
    few: bool  # with the smaller number of seeds


STAGES = (
    Stage("ten", ("10%",), True, "epochs", "both", True, False),
    Stage("judged", ("10%",), False, "epochs", "both", True, False),
    Stage("aimed", ("10%",), False, "epochs", "both", True, False),
    Stage("taught", ("10%",), False, "epochs", "both", False, True),
    Stage("ablations", ("10%",), False, "epochs", "both", False, True),
    Stage("others", ("5%", "30%"), False, "epochs", "generate", True, False),
    Stage("steps", ("10%",), False, "steps", "generate", False, True),
)


def stages_of(pool: str) -> tuple[Stage, ...]:
    return tuple(s for s in STAGES if s.control or pool != CONTROL.name)


def methods_of(stage: Stage, oracles: Mapping[str, Method]) -> dict[str, Method]:
    """The methods of a stage, by their name in the tables."""
    if stage.name == "ablations":
        return {name: load(method, settings) for name, (method, settings) in ABLATIONS.items()}
    if stage.name in LABELLED:
        return {
            name: load(method, settings)
            for name, (method, settings) in LABELLED[stage.name].items()
        }
    every: dict[str, Method] = {name: load(name) for name in METHODS} | dict(oracles)
    return {name: m for name, m in every.items() if stage.name != "steps" or name in STEPS_METHODS}


def smaller(sizes: Sizes, rows: int | None, per_kind: int | None, seeds: int | None) -> Sizes:
    given = {"rows": rows, "per_kind": per_kind, "seeds": seeds}
    return replace(sizes, **{name: value for name, value in given.items() if value is not None})


def make_world(folder: Path, sizes: Sizes, pools: tuple[str, ...] = POOLS) -> None:
    """Write missing pools and questions. Their seed differs from that of the development pools."""
    write_world(folder, sizes, pools, seed=1, split="evaluation")


def make_development(folder: Path, sizes: Sizes, pools: tuple[str, ...] = POOLS) -> None:
    """Write development pools (another seed) and development questions (other scenes), on which
    choices are made. The proof does not use them."""
    write_world(folder, sizes, pools, seed=100, split="development")


def write_world(
    folder: Path, sizes: Sizes, pools: tuple[str, ...], seed: int, split: Split
) -> None:
    new = [name for name in pools if not (folder / name / "hidden_labels.jsonl").exists()]
    for name in new:
        make_pool(folder / name, sizes.rows, seed, MIXES[name], house_style=True)
    if not (folder / "questions" / "evaluation_labels.jsonl").exists():
        make_questions(folder / "questions", sizes.per_kind, seed, split)
    if not (folder / "validation" / "evaluation_labels.jsonl").exists():
        make_questions(
            folder / "validation", max(sizes.per_kind // 2, 1), 1000 + seed, "development"
        )
        new = list(pools)
    if new:
        apart(folder, new)


def apart(folder: Path, pools: Sequence[str]) -> None:
    """Remove rows that repeat a question, since two scenes can look nearly the same: from each pool
    those of the evaluation, from the validation questions those of a pool or the evaluation."""
    questions = folder / "questions" / "evaluation.json"
    for name in pools:
        remove_repeats(folder / name / "pool.json", "hidden_labels.jsonl", [questions])
    others = [*(folder / name / "pool.json" for name in pools), questions]
    remove_repeats(folder / "validation" / "evaluation.json", "evaluation_labels.jsonl", others)


def remove_repeats(path: Path, labels: str, others: Sequence[Path]) -> None:
    """Remove the rows of `path` that repeat a row of `others`, and their lines in `labels`."""
    pool = open_pool(path)
    repeats = {leak.row for other in others for leak in find_contamination(pool, open_pool(other))}
    if not repeats:
        return
    label_path = path.with_name(labels)
    records = json.loads(path.read_text("utf-8"))
    lines = label_path.read_text("utf-8").splitlines(keepends=True)
    kept = [k for k in range(len(records)) if k not in repeats]
    label_path.write_text("".join(lines[k] for k in kept), "utf-8")
    path.write_text(json.dumps([records[k] for k in kept], indent=1) + "\n", "utf-8")


def world_folder(out: Path, sizes: Sizes) -> Path:
    return out / f"world-{sizes.rows}-{sizes.per_kind}"


def open_validation(folder: Path) -> Pool:
    """The validation set of error-driven tuning: questions on scenes of the development split."""
    return open_pool(folder / "validation" / "evaluation.json")


def open_world(folder: Path, pool: str) -> tuple[Pool, Pool]:
    """The pool and the questions."""
    return open_pool(folder / pool / "pool.json"), open_pool(
        folder / "questions" / "evaluation.json"
    )
