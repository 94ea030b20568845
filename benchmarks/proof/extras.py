"""Additional measurements for the report: the untuned model, models with swapped images, and the
effect of demonstrations on the base model. Each is computed once and stored as JSON."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from benchmarks.proof import setup
from benchmarks.proof.asking import Ask
from tools.demo_model.measure_model import measure

from thresher.backends import resolve
from thresher.demo.questions import KINDS
from thresher.pools import Pool, open_pool
from thresher.storage.columns import Store
from thresher.training import fit

CONDITIONS = ("none", "same", "other", "wrong", "other_same_style")


def once(path: Path, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(make()))
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def other_pictures(questions: Path) -> Path:
    """A copy of the questions in which each has the image of the next question of its kind and
    style."""
    target = questions.with_name("other_pictures.json")
    if not target.exists():
        records = json.loads(questions.read_text("utf-8"))
        groups: dict[tuple[str, str], list[int]] = {}
        for i, label in enumerate(labels_of(questions)):
            groups.setdefault((label["kind"], label["style"]), []).append(i)
        pictures = [r["image"] for r in records]
        for group in groups.values():
            for here, there in zip(group, [*group[1:], group[0]], strict=True):
                records[here]["image"] = pictures[there]
        target.write_text(json.dumps(records, indent=1), "utf-8")
    return target


def labels_of(questions: Path) -> list[dict[str, Any]]:
    lines = questions.with_name("evaluation_labels.jsonl").read_text("utf-8").splitlines()
    return [json.loads(line) for line in lines]


def untuned(out: Path, sizes: setup.Sizes, model: str) -> dict[str, Any]:
    """Accuracy of the base model on the questions, with their own and with swapped images."""

    def make() -> dict[str, Any]:
        folder = setup.world_folder(out, sizes) / "questions"
        return {
            name: _score(model, open_pool(file), out)
            for name, file in (
                ("own", folder / "evaluation.json"),
                ("other", other_pictures(folder / "evaluation.json")),
            )
        }

    return once(out / "extras" / "untuned.json", make)


def shuffled(out: Path, sizes: setup.Sizes, model: str, name: str) -> dict[str, Any]:
    """Accuracy of the model tuned on the whole pool (seed 0), with own and with swapped images."""

    def make() -> dict[str, Any]:
        pool, questions = setup.open_world(setup.world_folder(out, sizes), name)
        folder = out / "extras" / f"{name}-model"
        fit(model, pool, None, replace(setup.RECIPE, seed=0), folder, device="cpu")
        other = open_pool(other_pictures(Path(questions.path)))
        found = {
            "own": _score(str(folder), questions, out),
            "other": _score(str(folder), other, out),
        }
        shutil.rmtree(folder)
        return found

    return once(out / "extras" / f"{name}.json", make)


def _score(model: str, questions: Pool, out: Path) -> dict[str, Any]:
    answered = Ask(True)(
        resolve(model, device="cpu"), questions, store=Store(out / "store" / "extras")
    )
    table = answered.rows
    return {
        "correct": [bool(c) for c in table["correct"].to_pylist()],
        "by_choice": table["by_choice"].to_pylist(),
        "said": table["said"].to_pylist(),
    }


def demonstrations(out: Path, model: str, per_kind: int = 60) -> dict[str, Any]:
    """Mean NLL of queries (nats per token) and its standard error, with and without demonstrations
    (`measure_model`)."""

    def make() -> dict[str, Any]:
        from thresher.demo import MODEL_FOLDER

        found = measure(MODEL_FOLDER if model == "demo" else Path(model), per_kind)
        nll = {c: found.nll[c] for c in CONDITIONS}
        return {
            "queries": len(found.kinds),
            "kinds": len(KINDS),
            "nll": {
                c: [float(x.mean()), float(x.std(ddof=1) / np.sqrt(len(x)))] for c, x in nll.items()
            },
            "greedy": {c: float(found.greedy[c].mean()) for c in CONDITIONS},
        }

    return once(out / "extras" / "demonstrations.json", make)
