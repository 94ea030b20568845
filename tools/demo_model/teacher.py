"""A rule-based oracle teacher for the synthetic world. It knows the hidden scenes, so it judges
every step correctly. For benchmarks only.

It takes the place of a strong model; results with it show what error-driven tuning can do with a
perfect teacher. A benchmark passes it as a model handle; it cannot be named on the command line.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tools.demo_model.judge_step import judge

from thresher.backends import ModelHandle
from thresher.demo.scenes import (
    COLOURS,
    DIGITS,
    LARGE_COLOURS,
    LARGE_SHAPES,
    LETTERS,
    SHAPES,
    Bar,
    Large,
    Scene,
    Thing,
)
from thresher.types import ModelIdentity, Sample, SampleSource, Scored

SKILLS = {
    "colour": "naming the colour of an object",
    "shape": "naming the shape of an object",
    "position": "finding the place of an object",
    "existence": "checking whether something is present",
    "count": "counting how many there are",
    "spatial": "judging the relative position of two objects",
    "comparison": "comparing two numbers of objects",
    "digits": "reading digits",
    "letters": "reading letters",
    "chart": "reading bars in a chart",
    "odd_one_out": "spotting what differs from the rest",
    "logic": "combining two conditions",
    "arithmetic": "calculating with digits",
    "description": "describing a picture",
    "two_images": "comparing two pictures",
    "text_only": "answering from general knowledge",
}
"""The skill that each kind of question needs, in the teacher's words."""
PRIOR = 0.6  # probability of the right option while all steps are true
DOUBT = 1e-3  # probability of the right option after a false step


@dataclass(frozen=True)
class Known:
    """Hidden labels of a row: kinds of its questions, and scenes of its images."""

    kinds: tuple[str, ...]
    scenes: tuple[Scene, ...]


def read_labels(path: Path) -> dict[str, Known]:
    """The hidden labels written by `make_pool` and `make_evaluation`, by row id."""
    out = {}
    for line in path.read_text(encoding="utf-8").split("\n"):
        if not line:
            continue
        label = json.loads(line)
        out[label["id"]] = Known(
            tuple(label["kinds"]), tuple(read_scene(key) for key in label["scenes"])
        )
    return out


_COLOUR = "|".join(dict.fromkeys((*COLOURS, *LARGE_COLOURS)))
_NAME = "|".join((*SHAPES, *LETTERS, *DIGITS))
_THING = re.compile(rf"(\d)(\d)({_NAME})({_COLOUR})")
_BAR = re.compile(rf"b(\d)({_COLOUR})(\d+)")
_LARGE = re.compile(rf"l({'|'.join(LARGE_SHAPES)})({_COLOUR})\((\d+), (\d+), (\d+), (\d+)\)")


def read_scene(key: str) -> Scene:
    """Parse a scene from its `key`."""
    things: list[Thing] = []
    bars: list[Bar] = []
    large = None
    for part in key.split("|"):
        if m := _THING.fullmatch(part):
            things.append(Thing(int(m[1]), int(m[2]), m[3], m[4]))
        elif m := _BAR.fullmatch(part):
            bars.append(Bar(int(m[1]), m[2], int(m[3])))
        elif m := _LARGE.fullmatch(part):
            large = Large(m[1], m[2], (int(m[3]), int(m[4]), int(m[5]), int(m[6])))
        elif part:
            raise ValueError(f"{part!r} is no part of a scene's key")
    scene = Scene(tuple(things), tuple(bars), large)
    assert scene.key == key
    return scene


def handle(known: Mapping[str, Known]) -> ModelHandle:
    """The teacher as a model handle. The labels are part of its identity."""
    facts = sorted((i, k.kinds, tuple(s.key for s in k.scenes)) for i, k in known.items())
    weights = "rules:" + hashlib.sha256(json.dumps(facts).encode()).hexdigest()
    identity = ModelIdentity(weights, "rules", "float32", "none")
    return ModelHandle("the toy world's rules (an oracle)", identity, lambda: SceneTeacher(known))


class SceneTeacher:
    """The teacher's backend. `read`: number of steps read, to count costs."""

    can_ask_incrementally = True

    def __init__(self, known: Mapping[str, Known]) -> None:
        self.known = known
        self.read = 0

    def ask_incrementally(
        self,
        samples: Sequence[Sample],
        pieces: Sequence[Sequence[str]],
        query: object,
        pool: SampleSource,
    ) -> Iterator[Scored]:
        """Log-probabilities of the options: after a false step the right option is unlikely."""
        answers = query.answers  # type: ignore[attr-defined]
        for i, sample in enumerate(samples):
            prompt = sample.turns[-1].text
            letters = re.findall(r"^\(([A-Z])\) ", prompt, re.MULTILINE)
            found = re.search(r"option \(([A-Z])\) is correct", prompt)
            assert found is not None and letters, "not a prompt of the answer switch"
            right = letters.index(found[1])
            table = np.full((1, len(pieces[i]) + 1, len(answers)), -np.inf, np.float32)
            fooled = False
            for t in range(len(pieces[i]) + 1):
                if t:
                    self.read += 1
                    fooled = fooled or self._false(sample, pieces[i][t - 1])
                p = np.full(
                    len(letters), (1 - (DOUBT if fooled else PRIOR)) / max(len(letters) - 1, 1)
                )
                p[right] = DOUBT if fooled else PRIOR
                table[0, t, : len(letters)] = np.log(p)
            yield Scored(np.array([i]), {"logprob": table}, [""])

    def generate(
        self, samples: Sequence[Sample], pool: SampleSource, max_new_tokens: int
    ) -> Iterator[Scored]:
        """The missing skill of a mistake, or the skills of a row, depending on the prompt."""
        texts = [
            self._skill(s) if "\nMistaken step:" in s.turns[0].text else self._skills(s)
            for s in samples
        ]
        values = {
            "text": np.array(texts, object),
            "tokens": np.array([len(t.split()) for t in texts], np.int32),
            "finished": np.ones(len(texts), bool),
        }
        yield Scored(np.arange(len(samples)), values, [""] * len(samples))

    def _of(self, sample: Sample) -> Known:
        return self.known[str(json.loads(sample.id))]

    def _false(self, sample: Sample, step: str) -> bool:
        said = [
            judge(re.sub(r"^\s*\d+\.\s*", "", step), scene) for scene in self._of(sample).scenes
        ]
        return any(s is not None and not s.true for s in said)

    def _skill(self, sample: Sample) -> str:
        """The skill of the mistaken step if it is false, else of the question."""
        step = sample.turns[0].text.rpartition("\nMistaken step:")[2].partition("\n")[0]
        known = self._of(sample)
        for scene in known.scenes:
            said = judge(step.strip(), scene)
            if said is not None and not said.true:
                return SKILLS[said.skill]
        return SKILLS[known.kinds[0]]

    def _skills(self, sample: Sample) -> str:
        return "\n".join(dict.fromkeys(SKILLS[kind] for kind in self._of(sample).kinds))
