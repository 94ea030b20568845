"""Names of skills, written by a model from their typical rows and characteristic words.

One question per skill, about text only. The answer is kept if it has three to five words; otherwise
the skill keeps its words.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from thresher.answers.parsing import strip_reasoning
from thresher.clusters import LEAF_ROWS
from thresher.signals.answer import GenerateBackend, text_prompt
from thresher.signals.prompts import read
from thresher.signals.skills import typical_rows
from thresher.signals.template import render_template
from thresher.types import (
    IMAGE_PLACEHOLDER,
    Capability,
    Columns,
    Field,
    ModelIdentity,
    Sample,
    SampleSource,
    Scored,
    Signal,
)

PROMPT = read("skill_name")
EXAMPLES = 5  # typical rows in a prompt
MAX_CHARACTERS = 200  # of a question or answer in a prompt
MAX_TOKENS = 24
LEAST_WORDS, MOST_WORDS = 3, 5
_LABEL = re.compile(r"^(?:the )?(?:skill(?: name)?|name)\s*(?::|is\b)\s*", re.IGNORECASE)


@dataclass(frozen=True)
class SkillExamples:
    """What the model reads about each skill, with the skill's most typical row."""

    skills: Signal
    """Fields `leaf`, `typicality`, `words`."""
    leaves: int | None = None
    """Number of skills, for the cost estimate; None: one per `clusters.LEAF_ROWS` rows."""

    kind: ClassVar[str] = "skill_examples"
    version: ClassVar[int] = 1
    not_identity: ClassVar[tuple[str, ...]] = ("leaves",)
    fields: ClassVar[tuple[Field, ...]] = (
        Field("chosen", "bool", "the most typical row of its skill"),
        Field("words", "str", 'of these rows: characteristic words of the skill; else ""'),
        Field("examples", "str", 'of these rows: typical questions and answers; else ""'),
    )

    def inputs(self) -> Mapping[str, Signal]:
        return {"skills": self.skills}

    def most_rows(self, distinct: int) -> int:
        """Number of rows that are chosen, of so many; one more if there are rows without image."""
        return self.leaves or max(distinct // LEAF_ROWS, 1)

    def pool_rows(
        self, inputs: Columns, samples: Callable[[np.ndarray], Sequence[Sample]]
    ) -> dict[str, np.ndarray]:
        skills, n = inputs["skills"], len(inputs)
        leaf = np.asarray(skills["leaf"], np.int64)
        rows = typical_rows(leaf, np.asarray(skills["typicality"]), EXAMPLES)  # leaf by leaf
        texts = [_example(sample) for sample in samples(rows)]
        first = np.flatnonzero(np.r_[True, leaf[rows][1:] != leaf[rows][:-1]]) if n else rows
        chosen = np.zeros(n, bool)
        words, examples = np.full(n, "", object), np.full(n, "", object)
        ends = [*first.tolist(), len(rows)][1:]
        for start, end in zip(first.tolist(), ends, strict=True):
            row = rows[start]
            chosen[row] = True
            words[row] = str(skills["words"][row])
            examples[row] = "\n\n".join(dict.fromkeys(texts[start:end]))
        return {"chosen": chosen, "words": words, "examples": examples}


@dataclass(frozen=True)
class SkillNames:
    """The name of each skill, at its most typical row."""

    model: ModelIdentity
    """Writes the names."""
    among: Signal
    """`SkillExamples`."""
    prompt: str = PROMPT
    """With the placeholders `words` and `examples`."""

    kind: ClassVar[str] = "skill_names"
    version: ClassVar[int] = 1
    needs: ClassVar[Capability] = Capability.GENERATE
    not_identity: ClassVar[tuple[str, ...]] = ("among",)
    key_fields: ClassVar[tuple[tuple[str, str], ...]] = (
        ("among", "words"),
        ("among", "examples"),
    )
    fields: ClassVar[tuple[Field, ...]] = (
        Field("name", "str", 'three to five words; "": the answer is no such name'),
        Field("said", "str", "the model's answer"),
    )

    def inputs(self) -> Mapping[str, Signal]:
        return {"among": self.among}

    def rows(
        self,
        samples: Sequence[Sample],
        inputs: Columns | None,
        backend: GenerateBackend,
        pool: SampleSource,
    ) -> Iterator[Scored]:
        assert inputs is not None
        among = inputs["among"]
        texts = (
            render_template(self.prompt, {"words": words, "examples": examples})
            for words, examples in zip(among["words"], among["examples"], strict=True)
        )
        prompts = [text_prompt(sample, text) for sample, text in zip(samples, texts, strict=True)]
        for piece in backend.generate(prompts, pool, MAX_TOKENS):
            said = piece.values["text"]
            names = np.array([read_name(str(text)) for text in said], object)
            # a skill without a name keeps its words: its row must not be left out
            yield Scored(piece.index, {"name": names, "said": said}, [""] * len(names))


def read_name(text: str) -> str:
    r"""The name in a model's answer; "" if there is none of three to five words.

    >>> read_name('Skill: "Counting Red Objects."')
    'counting red objects'
    >>> read_name("<think>hm</think>\nreading two-digit numbers\nbecause ...")
    'reading two-digit numbers'
    >>> read_name("counting"), read_name("one two three four five six"), read_name("1 2 3")
    ('', '', '')
    """
    lines = [line.strip() for line in strip_reasoning(text).replace("*", "").splitlines()]
    line = next((line for line in lines if line), "")
    name = " ".join(_LABEL.sub("", line).strip(" .:;,\"'`-").casefold().split())
    words = name.split()
    good = LEAST_WORDS <= len(words) <= MOST_WORDS and all(
        any(c.isalpha() for c in word) for word in words
    )
    return name if good else ""


def named_skills(
    leaf: np.ndarray, words: np.ndarray, chosen: np.ndarray, names: np.ndarray
) -> tuple[np.ndarray, int, int]:
    """The name of each row's skill or, without one, its words. Of several skills with one name the
    largest gets it, the first among equals.

    Arguments:
        leaf: int [n], the skill.
        words: object [n], its characteristic words.
        chosen: bool [n], the row that has the name of its skill.
        names: object [n].

    Returns the labels, object [n], the number of skills with a name, and that of all skills.
    """
    size = np.bincount(leaf) if len(leaf) else np.zeros(0, np.int64)
    rows = np.flatnonzero(chosen)
    rows = rows[np.lexsort((leaf[rows], -size[leaf[rows]]))]
    owner: dict[str, int] = {}
    for row in rows.tolist():
        if names[row]:
            owner.setdefault(str(names[row]), int(leaf[row]))
    of_skill = np.full(len(size), "", object)
    of_skill[list(owner.values())] = list(owner)
    of_row = of_skill[leaf]
    return np.where(of_row != "", of_row, words), len(owner), int((size > 0).sum())


def _example(sample: Sample) -> str:
    """The first question of a row and its answer, one line each."""
    out = []
    for role, title in (("user", "Question"), ("assistant", "Answer")):
        text = next((turn.text for turn in sample.turns if turn.role == role), "")
        line = " ".join(text.replace(IMAGE_PLACEHOLDER, " ").split())
        out.append(f"{title}: {line[:MAX_CHARACTERS]}")
    return "\n".join(out)
