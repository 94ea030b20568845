"""Pools that are made to break methods which distrust high losses or select by score, with their
hidden labels, and questions on scenes that are in no pool.

    one_skill    the wrong rows are concentrated in one skill: 60% of its rows are wrong
    own_answers  the wrong answers are those that the base gives itself
    rare_hard    a rare skill that the base can hardly do, whose rows are all right
    near_copies  six in ten rows are reworded copies of one row in ten
    half_text    every other row has no image
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.proof import setup
from benchmarks.proof.mixes import ASKED
from benchmarks.proof.questions import make_questions

from thresher.answers.normalise import normalise
from thresher.demo.house_style import FORMS
from thresher.demo.mixes import Mix, Source
from thresher.demo.pool import make_pool

SEED = 1
RARE = "count"
NOISY_SKILL = "position"
ORIGINALS, COPIES = 0.1, 0.6  # of the rows of near_copies

Answers = Callable[[Path], Mapping[str, str]]
"""The base's own answers to the rows of a pool file: id -> text."""


def _sources(
    wrong: float, share: float = 1.0, other: Mapping[str, float] | None = None
) -> tuple[Source, ...]:
    """A source for each kind that the questions ask for, of equal size.

    wrong: share of wrong answers; `other`: of some kinds.
    share: of the pool, of all of them.
    """
    styles = {"word": 3.0, "choice": 1.0}
    rates = other or {}
    return tuple(
        Source(k, share / len(ASKED), {k: 1.0}, styles, rates.get(k, wrong), distinct=True)
        for k in ASKED
    )


@dataclass(frozen=True)
class Pool:
    """`special`: which rows the pool is about, by their hidden label. `kinds`: of its questions."""

    mix: Mix
    special: Callable[[Mapping[str, Any]], bool]
    kinds: tuple[str, ...] = ASKED

    @property
    def asked(self) -> str | None:
        """The kind of question whose accuracy is reported apart."""
        return {"one_skill": NOISY_SKILL, "rare_hard": RARE}.get(self.mix.name)


def _pool(
    name: str,
    about: str,
    sources: tuple[Source, ...],
    special: Callable[[Mapping[str, Any]], bool],
    kinds: tuple[str, ...] = ASKED,
) -> Pool:
    return Pool(Mix(name, about, sources), special, kinds)


POOLS: dict[str, Pool] = {
    pool.mix.name: pool
    for pool in (
        _pool(
            "one_skill",
            "Six in ten rows of one skill are wrong, and one in twenty of the others.",
            _sources(0.05, other={NOISY_SKILL: 0.6}),
            lambda label: label["kind"] == NOISY_SKILL,
        ),
        _pool(
            "own_answers",
            "Wherever the base answers wrongly, its answer is the given one.",
            _sources(0.0),
            lambda label: bool(label["noisy"]),
        ),
        _pool(
            "rare_hard",
            "3% of the rows, all right, are of a skill that the base can hardly do.",
            (
                *_sources(0.2, 0.97),
                Source(RARE, 0.03, {RARE: 1.0}, {"word": 1.0}, 0.0, distinct=True),
            ),
            lambda label: label["kind"] == RARE,
            (*ASKED, RARE),
        ),
        _pool(
            "near_copies",
            "A tenth of the rows stands seven times in the pool, in other words.",
            _sources(0.2),
            lambda label: bool(label.get("copied")),
        ),
        _pool(
            "half_text",
            "Half of the rows have no image.",
            (
                Source("texts", 0.5, {"text_only": 1.0}, {"word": 1.0}, 0.2, instruct=0.5),
                *_sources(0.2, 0.5),
            ),
            lambda label: label["kind"] == "text_only",
        ),
    )
}


def make_breaking(folder: Path, name: str, sizes: setup.Sizes, answers: Answers) -> None:
    """Write the pool and its questions into `folder` where they are not there yet.

    answers: only asked for own_answers.
    """
    done = folder / "questions" / "evaluation_labels.jsonl"
    if done.exists():
        return
    path = make_pool(folder, sizes.rows, SEED, POOLS[name].mix, house_style=True)
    if name == "own_answers":
        _give_own_answers(path, answers(path))
    if name == "near_copies":
        _copy_rows(path)
    questions = make_questions(
        folder / "questions.new", sizes.per_kind, SEED, "evaluation", POOLS[name].kinds
    )
    setup.remove_repeats(path, "hidden_labels.jsonl", [questions])
    (folder / "questions.new").rename(folder / "questions")


def read_labels(folder: Path) -> list[dict[str, Any]]:
    """The hidden labels, in the order of the pool's file."""
    lines = (folder / "hidden_labels.jsonl").read_text("utf-8").splitlines()
    return [json.loads(line) for line in lines]


def _write(path: Path, records: Sequence[Any], labels: Sequence[Any]) -> None:
    path.write_text(json.dumps(records, indent=1, ensure_ascii=False) + "\n", "utf-8")
    lines = "".join(json.dumps(label) + "\n" for label in labels)
    path.with_name("hidden_labels.jsonl").write_text(lines, "utf-8")


def _give_own_answers(path: Path, said: Mapping[str, str]) -> None:
    """Replace the given answer by the base's own where that is another candidate, in the format of
    the given ones."""
    records, labels = json.loads(path.read_text("utf-8")), read_labels(path.parent)
    for record, label in zip(records, labels, strict=True):
        turn = record["conversations"][1]
        own = {normalise(said[record["id"]])}
        if label["style"] == "word" and (form := FORMS.get(label["kind"])):
            own.add(normalise(form.format(said[record["id"]])))
        given = normalise(turn["value"])
        other = [c for c in label["candidates"] if normalise(c) in own and normalise(c) != given]
        if other:
            turn["value"], label["noisy"] = other[0], True
    _write(path, records, labels)


REWORDED: tuple[Callable[[str], str], ...] = (
    lambda q: f"Look at the image. {q}",
    lambda q: f"Please tell me: {q[:1].lower()}{q[1:]}",
    lambda q: f"{q}\nThank you.",
    str.upper,
    str.lower,
    lambda q: f"Question: {q}",
)


def _copy_rows(path: Path) -> None:
    """Put reworded copies of the first rows in place of the last ones."""
    records, labels = json.loads(path.read_text("utf-8")), read_labels(path.parent)
    originals, copies = round(ORIGINALS * len(records)), round(COPIES * len(records))
    for k in range(copies):
        at, of = len(records) - copies + k, k % originals
        reword = REWORDED[k // originals % len(REWORDED)]
        question = records[of]["conversations"][0]["value"].removeprefix("<image>\n")
        turn = {"from": "human", "value": f"<image>\n{reword(question)}"}
        talk = [turn, *records[of]["conversations"][1:]]
        records[at] = {**records[of], "id": records[at]["id"], "conversations": talk}
        labels[at] = {**labels[of], "id": labels[at]["id"], "copied": True}
    for label in labels[:originals]:
        label["copied"] = True
    _write(path, records, labels)
