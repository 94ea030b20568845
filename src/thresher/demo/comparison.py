"""The demo's comparison: train on the selection and on random rows, test on held-out questions.

Trained models and answers are kept in the store, so a second run costs nothing.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from thresher.backends import ModelHandle
from thresher.console.progress import Progress
from thresher.demo.evaluation import make_evaluation
from thresher.evaluation import evaluate
from thresher.pools import Pool, open_pool
from thresher.stats.verdict import Verdict, compare_to_random
from thresher.storage.columns import Store
from thresher.training.recipe import Recipe
from thresher.training.registry import make_trainer, trained_model
from thresher.types import TrainedIdentity, digests_to_bytes

PER_KIND = 50  # questions of each kind
ASKED = (
    "colour",
    "shape",
    "position",
    "existence",
    "comparison",
    "digits",
    "letters",
    "chart",
    "logic",
)
"""Kinds of questions whose images the built-in model reads, as in the proof: a small training can
teach the pool's answer style, but not a new ability such as counting."""


@dataclass(frozen=True)
class Trial:
    """Result of the comparison. `questions`: number of held-out questions."""

    questions: int
    verdict: Verdict

    def sentences(self) -> list[str]:
        """The result as text, with the uncertainty of the difference."""
        v = self.verdict
        gap = f"{v.difference.mean:+.1f} points, 95% interval {v.difference.low:+.1f} to "
        gap += f"{v.difference.high:+.1f}"
        ends = {
            "beats": "The interval is above zero: here winnow beats random rows.",
            "no gain": "The interval contains zero: this comparison does not show a difference.",
            "worse": "The interval is below zero: here random rows are better.",
        }
        return [
            f"{self.questions:,} questions about new images, of the kinds that the model can read, "
            f"in the pool's style: answered right {v.mean.mean:.0f}% after winnow's rows and "
            f"{v.random.mean:.0f}% after the random rows ({gap}).",
            f"{ends[v.kind]} It allows for other questions and, by an estimate, for other draws: "
            "each model was trained once. `thresher compare` repeats such trainings on your data.",
        ]


def compare_with_random(
    pool: Pool,
    selected: np.ndarray,
    random: np.ndarray,
    model: ModelHandle,
    store: Store,
    folder: Path,
    seed: int,
    progress: Progress,
) -> Trial:
    """Train `model` on each subset, and ask both.

    Arguments:
        pool: the rows.
        selected, random: int64 [k], rows of `pool`.
        model: the base.
        store: keeps models and answers.
        folder: where the questions are written.
        seed: of questions and training.
        progress: displays training and answering.
    """
    path = make_evaluation(folder, PER_KIND, seed, kinds=ASKED, house_style=True)
    questions = open_pool(path, cache=store.root / "pools")
    recipe = Recipe(lora=False, batch=8, seed=seed, precision="fp32")
    right = []
    for rows in (selected, random):
        trained = _trained(pool, rows, model, recipe, store, progress)
        answers = evaluate(trained, questions, score="generate", store=store, progress=progress)
        table = answers.rows.sort_by("row")
        right.append(np.array(table["correct"].to_pylist(), float)[None])
    # questions about one image tend to be answered right together
    image = np.unique(_images(questions), return_inverse=True)[1]
    return Trial(len(questions), compare_to_random(right[0], right[1], image))


def _trained(
    pool: Pool,
    rows: np.ndarray,
    model: ModelHandle,
    recipe: Recipe,
    store: Store,
    progress: Progress,
) -> ModelHandle:
    digests = b"".join(sorted(digests_to_bytes(pool.digest[rows])))
    identity = TrainedIdentity(
        model.identity, recipe, "sha256:" + hashlib.sha256(digests).hexdigest()
    )
    trainer = make_trainer(device="cpu", dtype="float32", cache=store.root / "models")
    return trained_model(identity, model, pool, np.sort(rows), store, trainer, progress)


def _images(questions: Pool) -> list[str]:
    return [s.images[0].identity for s in questions.samples(np.arange(len(questions)))]
