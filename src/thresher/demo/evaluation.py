"""Generates evaluation sets of the synthetic world: balanced over kinds of question, with correct
answers, on scenes that are in no pool and in no training data.

Wordings and formats are those of the pool, which a tuned model has seen.
"""

from collections.abc import Sequence
from pathlib import Path
from random import Random

from thresher.demo.house_style import in_house_style
from thresher.demo.llava_rows import Row, write_rows
from thresher.demo.questions import KINDS, sample_question
from thresher.demo.scenes import Split
from thresher.demo.styles import phrase

_WITH_CHOICES = ("colour", "shape", "position", "count", "spatial", "comparison", "chart")


def make_evaluation(
    folder: Path,
    per_kind: int = 200,
    seed: int = 0,
    split: Split = "evaluation",
    *,
    kinds: Sequence[str] = KINDS,
    house_style: bool = False,
) -> Path:
    """Write evaluation.json, images/ and evaluation_labels.jsonl (kind, style, candidates).

    Yes and no are equally frequent; a third of the questions with options is multiple choice.

    Arguments:
        folder: where to write.
        per_kind: number of questions of each kind.
        seed: of the generator.
        split: "evaluation", or "development" for a set on other scenes, to make decisions on.
        kinds: of question.
        house_style: write short answers in the format of their kind, as `make_pool` does; no
            multiple choice.

    Returns the path of evaluation.json. Raises ValueError for another split.
    """
    if split not in ("evaluation", "development"):
        raise ValueError(
            "an evaluation needs held-out scenes: split 'evaluation' or 'development', not "
            f"{split!r}"
        )
    rng = Random(f"{split} {seed}")
    rows: list[Row] = []
    for kind in kinds:
        for k in range(per_kind):
            required = ("yes", "no")[k % 2]
            while True:
                question = sample_question(rng, kind, split)
                if question.candidates != ("yes", "no") or question.answer == required:
                    break
            choice = kind in _WITH_CHOICES and k % 3 == 2 and not house_style
            style = "choice" if choice else "word"
            rows.append(
                Row("evaluation", (question.scene,), (phrase(rng, question, style, "pool"),))
            )
    if house_style:
        rows = [in_house_style(row) for row in rows]
    return write_rows(folder, "evaluation", "evaluation_labels.jsonl", "evaluation", rows)
