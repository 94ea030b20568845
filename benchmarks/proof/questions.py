"""Generates the proof's questions: kinds and, within a kind, answers are equally frequent, so that
guessing without the image does not help. Short correct answers in house style.

Scenes are in no pool and in no training data.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterator, Sequence
from pathlib import Path
from random import Random

from benchmarks.proof.mixes import ASKED

from thresher.demo.house_style import in_house_style
from thresher.demo.llava_rows import Row, write_rows
from thresher.demo.questions import Question, sample_question
from thresher.demo.scenes import COLOURS, Split
from thresher.demo.styles import phrase


def make_questions(
    folder: Path, per_kind: int, seed: int, split: Split, kinds: Sequence[str] = ASKED
) -> Path:
    """Write evaluation.json, images/ and evaluation_labels.jsonl; returns the path of the first.
    The same arguments give the same bytes."""
    rng = Random(f"proof {split} {seed}")
    rows = [
        in_house_style(Row("evaluation", (q.scene,), (phrase(rng, q, "word", "pool"),)))
        for kind in kinds
        for q in balanced_questions(rng, kind, split, per_kind)
    ]
    return write_rows(folder, "evaluation", "evaluation_labels.jsonl", "evaluation", rows)


def balanced_questions(rng: Random, kind: str, split: Split, count: int) -> Iterator[Question]:
    """Random questions, with rejection of answers that already have their share, rounded up."""
    found: Counter[Hashable] = Counter()
    while found.total() < count:
        question = sample_question(rng, kind, split)
        answer, of = _answer(question)
        if found[answer] < -(-count // of):
            found[answer] += 1
            yield question


def _answer(question: Question) -> tuple[Hashable, int]:
    """The value to balance, and the number of its possible values (open answers are not
    balanced)."""
    if not question.candidates:
        return "open", 1
    # two candidates of five shapes: the first or the second named
    if question.kind == "comparison":
        return question.answer == question.slots["first"], 2
    if question.kind == "chart":  # half heights, half colours
        values = len(question.candidates) if question.topic == "chart_value" else len(COLOURS)
        return (question.topic, question.answer), 2 * values
    return question.answer, len(question.candidates)
