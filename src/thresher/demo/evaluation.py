"""Writes evaluation sets of the toy world: balanced over kinds, right answers, scenes that no pool
and no training has.

Wordings and formats are the pool's, since a tuned model is asked as it was taught. Scoring answers
is not done here.
"""

from pathlib import Path
from random import Random

from thresher.demo.llava_rows import Row, write_rows
from thresher.demo.questions import KINDS, sample_question
from thresher.demo.scenes import Split
from thresher.demo.styles import phrase

_WITH_CHOICES = ("colour", "shape", "position", "count", "spatial", "comparison", "chart")


def make_evaluation(
    folder: Path, per_kind: int = 200, seed: int = 0, split: Split = "evaluation"
) -> Path:
    """Writes evaluation.json, images/ and evaluation_labels.jsonl (kind, style, candidates);
    returns the former's path.

    Yes and no are equally frequent; a third of the kinds with options is multiple choice.
    `split="development"` gives a set of the same make for decisions, on other scenes.
    """
    if split not in ("evaluation", "development"):
        raise ValueError(
            "an evaluation needs held-out scenes: split 'evaluation' or 'development', not "
            f"{split!r}"
        )
    rng = Random(f"{split} {seed}")
    rows: list[Row] = []
    for kind in KINDS:
        for k in range(per_kind):
            wanted = ("yes", "no")[k % 2]
            while True:
                question = sample_question(rng, kind, split)
                if question.candidates != ("yes", "no") or question.answer == wanted:
                    break
            style = "choice" if kind in _WITH_CHOICES and k % 3 == 2 else "word"
            rows.append(
                Row("evaluation", (question.scene,), (phrase(rng, question, style, "pool"),))
            )
    return write_rows(folder, "evaluation", "evaluation_labels.jsonl", "evaluation", rows)
