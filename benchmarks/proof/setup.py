"""The world of the proof: pools, questions, sizes, and the recipe of the trainings.

Nothing here was tuned on the evaluation questions: sizes are limited by time; the learning rate was
chosen on development questions and a pool of another seed.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks.proof.mixes import ASKED, MIXES, OWN_MIX
from benchmarks.proof.questions import make_own_questions, make_questions

from thresher.demo.pool import make_pool
from thresher.demo.scenes import Split
from thresher.duplicates import find_contamination
from thresher.pools import Pool, open_pool
from thresher.training.recipe import Recipe

POOLS = tuple(MIXES)
RECIPE = Recipe(lora=False, batch=8, learning_rate=1e-3)


@dataclass(frozen=True)
class Sizes:
    """Rows per pool, questions per kind, seeds of the main table and of the smaller stages."""

    rows: int = 6000
    per_kind: int = 100
    seeds: int = 5
    fewer_seeds: int = 3


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
        if name == OWN_MIX.name:
            count = sizes.per_kind * len(ASKED)
            make_own_questions(questions_file(folder, name).parent, OWN_MIX, count, seed, split)
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
    those of its evaluation, from the validation questions those of a pool or the evaluation."""
    for name in pools:
        path = folder / name / "pool.json"
        remove_repeats(path, "hidden_labels.jsonl", [questions_file(folder, name)])
    validated = [name for name in pools if name != OWN_MIX.name]
    questions = folder / "questions" / "evaluation.json"
    others = [*(folder / name / "pool.json" for name in validated), questions]
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


def questions_file(folder: Path, pool: str) -> Path:
    """The questions of a pool: the same for all, but for the one that has its own."""
    owner = folder / pool if pool == OWN_MIX.name else folder
    return owner / "questions" / "evaluation.json"


def open_world(folder: Path, pool: str) -> tuple[Pool, Pool]:
    """The pool and the questions."""
    return open_pool(folder / pool / "pool.json"), open_pool(questions_file(folder, pool))
