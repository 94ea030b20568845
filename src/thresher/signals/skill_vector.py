"""What a row's skills mean to a model, as a vector: for retrieval by meaning instead of by words.

A text's vector is kept as text (base64 of little-endian float16), because a column holds one value
a row. Equal texts are embedded once a call.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol

import numpy as np

from thresher.errors import CapabilityError
from thresher.types import (
    Capability,
    Columns,
    Field,
    ModelIdentity,
    Sample,
    SampleSource,
    Scored,
    Signal,
)

TEXTS_AT_ONCE = 256


class EmbedBackend(Protocol):
    def embed(self, texts: Sequence[str]) -> list[np.ndarray | str]:
        """float32 [d] of length 1 for each text, or why there is none."""


@dataclass(frozen=True)
class SkillVector:
    model: ModelIdentity
    text: Signal
    """Field `skills`."""

    kind: ClassVar[str] = "skill_vector"
    version: ClassVar[int] = 1
    needs: ClassVar[Capability] = Capability.EMBED
    not_identity: ClassVar[tuple[str, ...]] = ("text",)
    key_fields: ClassVar[tuple[tuple[str, str], ...]] = (("text", "skills"),)
    fields: ClassVar[tuple[Field, ...]] = (
        Field("vector", "str", 'base64 of float16 [d], unit length; "": there is no text'),
    )

    def inputs(self) -> Mapping[str, Signal]:
        return {"text": self.text}

    def rows(
        self,
        samples: Sequence[Sample],
        inputs: Columns | None,
        backend: EmbedBackend,
        pool: SampleSource,
    ) -> Iterator[Scored]:
        assert inputs is not None
        if not hasattr(backend, "embed"):
            raise CapabilityError(
                "retrieval=embedding reads the teacher's hidden states, which a server does not "
                "give. Search by words: --set retrieval=bm25, or give a teacher's weights."
            )
        texts = [str(t) for t in inputs["text"]["skills"]]
        rows: dict[str, list[int]] = {}
        for i, text in enumerate(texts):
            rows.setdefault(text, []).append(i)
        distinct = list(rows)
        for start in range(0, len(distinct), TEXTS_AT_ONCE):
            some = distinct[start : start + TEXTS_AT_ONCE]
            asked = [t for t in some if t]
            found = dict(
                zip(asked, backend.embed([t.replace("\n", "; ") for t in asked]), strict=True)
            )
            index = [i for t in some for i in rows[t]]
            vectors, errors = [], []
            for t in some:
                got = found.get(t, "")
                bad = got if isinstance(got, str) else ""
                vectors += [""] if isinstance(got, str) else [encoded(got)]
                vectors += vectors[-1:] * (len(rows[t]) - 1)
                errors += [bad] * len(rows[t])
            yield Scored(np.array(index, np.int64), {"vector": np.array(vectors, object)}, errors)


def encoded(vector: np.ndarray) -> str:
    return base64.b64encode(vector.astype("<f2").tobytes()).decode()


def decoded(texts: np.ndarray) -> np.ndarray:
    """Texts [n] -> float32 [n, d]; rows of zeros where there is no text."""
    found = [np.frombuffer(base64.b64decode(t), "<f2") for t in texts.tolist()]
    width = max((len(v) for v in found), default=0)
    out = np.zeros((len(found), width), np.float32)
    for i, v in enumerate(found):
        out[i, : len(v)] = v
    return out
