"""Generates the proof's questions.

Kinds and, within a kind, answers are equally frequent, so that guessing without the image does not
help. Short correct answers in house style. `make_own_questions` follows the mix of a pool instead.

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
from thresher.demo.mixes import Mix
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


def make_own_questions(folder: Path, mix: Mix, count: int, seed: int, split: Split) -> Path:
    """Likewise, with the kinds and answer styles of the pool's rows, in the same shares.

    `mix`: its rows have one turn and one image of their own.
    """
    rng = Random(f"proof {split} {mix.name} {seed}")
    rows = []
    for _ in range(count):
        source = rng.choices(mix.sources, [s.share for s in mix.sources])[0]
        kind, style = (
            rng.choices(list(w), list(w.values()))[0] for w in (source.kinds, source.styles)
        )
        question = sample_question(rng, kind, split)
        instruct = rng.random() < source.instruct
        turn = phrase(rng, question, style, "pool", instruct=instruct, lowercase=source.lowercase)
        rows.append(in_house_style(Row(source.name, (question.scene,), (turn,))))
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
