"""The proof's questions: every kind equally often, every answer of a kind equally often, short
right answers in house style.

So whoever does not look at the picture has no commonest answer to give. Scenes are those that no
pool and no training has.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterator
from pathlib import Path
from random import Random

from benchmarks.proof.mixes import ASKED

from thresher.demo.house_style import in_house_style
from thresher.demo.llava_rows import Row, write_rows
from thresher.demo.questions import Question, sample_question
from thresher.demo.scenes import COLOURS, Split
from thresher.demo.styles import phrase


def make_questions(folder: Path, per_kind: int, seed: int, split: Split) -> Path:
    """Writes evaluation.json, images/ and evaluation_labels.jsonl; returns the former's path. Same
    arguments, same bytes."""
    rng = Random(f"proof {split} {seed}")
    rows = [
        in_house_style(Row("evaluation", (q.scene,), (phrase(rng, q, "word", "pool"),)))
        for kind in ASKED
        for q in balanced_questions(rng, kind, split, per_kind)
    ]
    return write_rows(folder, "evaluation", "evaluation_labels.jsonl", "evaluation", rows)


def balanced_questions(rng: Random, kind: str, split: Split, count: int) -> Iterator[Question]:
    """Draws until `count` questions are found in which no answer is more frequent than its share,
    rounded up."""
    found: Counter[Hashable] = Counter()
    while found.total() < count:
        question = sample_question(rng, kind, split)
        answer, of = _answer(question)
        if found[answer] < -(-count // of):
            found[answer] += 1
            yield question


def _answer(question: Question) -> tuple[Hashable, int]:
    """What is to be equally frequent, and how many of these a kind has (open answers: each as often
    as it comes)."""
    if not question.candidates:
        return "open", 1
    # two candidates of five shapes: the first or the second named
    if question.kind == "comparison":
        return question.answer == question.slots["first"], 2
    if question.kind == "chart":  # half heights, half colours
        values = len(question.candidates) if question.topic == "chart_value" else len(COLOURS)
        return (question.topic, question.answer), 2 * values
    return question.answer, len(question.candidates)
