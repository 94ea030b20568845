"""An oracle teacher for mmSSR: answers a judge's and a styler's questions from the hidden labels of
the built-in world.

For benchmarks and tests only: `label_teacher(hidden_labels.jsonl)` is a model handle for the role
"teacher" (or "judge") of mmSSR. A row with a wrong answer scores 0; the others score 5 for the
capability that their kind of question trains, 2 for those that it also needs, and 0 otherwise.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from thresher.backends import ModelHandle
from thresher.signals.capabilities import CAPABILITIES, STYLES
from thresher.signals.query import Query
from thresher.types import ModelIdentity, Sample, SampleSource, Scored

SURE = 0.98  # probability on the right answer; the rest is shared

# kind of question -> (capability that it trains most, capabilities that it also needs)
TRAINS: dict[str, tuple[str, tuple[str, ...]]] = {
    "colour": ("attribute_identification", ("scene_understanding",)),
    "shape": ("attribute_identification", ("fine_grained_recognition",)),
    "existence": ("scene_understanding", ("attribute_identification",)),
    "position": ("object_spatial_understanding", ("attribute_identification",)),
    "spatial": ("object_spatial_understanding", ("comparative_analysis",)),
    "count": ("data_understanding", ("attribute_identification",)),
    "comparison": ("comparative_analysis", ("data_understanding",)),
    "two_images": ("comparative_analysis", ("in_context_learning",)),
    "logic": ("logical_deduction", ("causal_reasoning",)),
    "odd_one_out": ("fine_grained_recognition", ("comparative_analysis", "logical_deduction")),
    "arithmetic": ("stem_knowledge", ("logical_deduction", "optical_character_recognition")),
    "chart": ("data_understanding", ("comparative_analysis", "optical_character_recognition")),
    "digits": ("optical_character_recognition", ("fine_grained_recognition",)),
    "letters": (
        "optical_character_recognition",
        ("fine_grained_recognition", "language_generation"),
    ),
    "description": ("language_generation", ("scene_understanding",)),
    "text_only": ("humanities", ("language_generation",)),
}
NAMED = {
    "yesno": "yes/no",
    "word": "word/short-phrase",
    "sentence": "short description",
    "steps": "chain-of-thought (step-by-step)",
    "choice": "multi-choice",
    "description": "detailed description",
}


def label_teacher(labels: Path) -> ModelHandle:
    """A model handle. `labels`: the hidden_labels.jsonl of a built-in pool; its content is the
    model's identity."""
    content = hashlib.sha256(labels.read_bytes()).hexdigest()
    identity = ModelIdentity(f"sha256:{content}", "hidden_labels", "none", "none")
    return ModelHandle(str(labels), identity, lambda: LabelTeacher(labels))


class LabelTeacher:
    """A backend that answers from labels. `asked`: number of rows so far."""

    def __init__(self, labels: Path) -> None:
        rows = map(json.loads, labels.read_text(encoding="utf-8").splitlines())
        self.label: dict[str, dict[str, Any]] = {json.dumps(row["id"]): row for row in rows}
        self.asked = 0

    def score(self, sample: Sample, capability: str) -> int:
        """0 … 5."""
        label = self.label[sample.id]
        if label["noisy"]:
            return 0
        return max(_worth(kind, capability) for kind in label["kinds"])

    def styles(self, sample: Sample) -> tuple[str, ...]:
        """In the order of `STYLES`."""
        label = self.label[sample.id]
        found = [NAMED[label["style"]]]
        found += ["comparison"] if label["kind"] in ("comparison", "two_images", "spatial") else []
        found += ["coordinate"] if label["kind"] == "position" else []
        return tuple(style for style in STYLES if style in found)

    def ask(
        self, samples: Sequence[Sample], queries: Sequence[Query], pool: SampleSource
    ) -> Iterator[Scored]:
        """See `signals.query.AskBackend`."""
        self.asked += len(samples)
        table = [
            [x for query in queries for x in self._answers(sample, query)] for sample in samples
        ]
        yield Scored(
            np.arange(len(samples)), {"logprob": np.array(table, np.float32)}, [""] * len(samples)
        )

    def generate(
        self, samples: Sequence[Sample], pool: SampleSource, max_new_tokens: int
    ) -> Iterator[Scored]:
        """A score for a capability's question, else the list of styles."""
        self.asked += len(samples)
        texts = []
        for sample in samples:
            capability = _capability(sample.turns[-2].text)
            texts.append(
                str(self.score(sample, capability))
                if capability
                else ", ".join(self.styles(sample))
            )
        m = len(texts)
        values = {
            "text": np.array(texts, dtype=object),
            "tokens": np.ones(m, np.int32),
            "finished": np.ones(m, bool),
        }
        yield Scored(np.arange(m), values, [""] * m)

    def _answers(self, sample: Sample, query: Query) -> list[float]:
        if query.whole:
            right = self.styles(sample)
        else:
            capability = _capability(query.text)
            assert capability, f"not a question that the labels can answer: {query.text}"
            right = (str(self.score(sample, capability)),)
        wrong = (1 - SURE) / max(len(query.answers) - len(right), 1)
        return [
            float(np.log(SURE / len(right) if answer in right else wrong))
            for answer in query.answers
        ]


def _worth(kind: str, capability: str) -> int:
    above_all, also = TRAINS[kind]
    return 5 if capability == above_all else 2 if capability in also else 0


def _capability(text: str) -> str:
    """The capability that the end of a prompt asks about; "" for none."""
    question = text.rsplit("\n", 1)[-1]
    return next((c.name for c in CAPABILITIES if question.endswith(f"for {c.wording}?")), "")
