"""The embedding of a row's skills, for retrieval by meaning instead of by words.

A vector is stored as text (base64 of little-endian float16), because a column has one value per
row. Equal texts are embedded once per call.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol

import numpy as np

from thresher.errors import CapabilityError, opt
from thresher.signals.pooled_embedding import sizes_differ
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

CHUNK_TEXTS = 256


class EmbedBackend(Protocol):
    def embed(self, texts: Sequence[str]) -> list[np.ndarray | str]:
        """float32 [d] of length 1 for each text, or why there is none."""


@dataclass(frozen=True)
class SkillVector:
    model: ModelIdentity
    """The embedder; by default the teacher."""
    text: Signal
    """Field `skills`."""

    kind: ClassVar[str] = "skill_vector"
    version: ClassVar[int] = 1
    needs: ClassVar[Capability] = Capability.EMBED
    alternative: ClassVar[str] = (
        f"Search by words ({opt('settings.retrieval', 'bm25')}), or give a model for embeddings "
        f"with {opt('embedder')}: a folder, a hub id, or URL#NAME of a server that gives them."
    )
    not_identity: ClassVar[tuple[str, ...]] = ("text",)
    key_fields: ClassVar[tuple[tuple[str, str], ...]] = (("text", "skills"),)
    sent_text: ClassVar[tuple[str, str]] = ("text", "skills")  # all that the model gets of a row
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
                f"{opt('settings.retrieval', 'embedding')} needs embeddings of texts, which this "
                f"model does not give. {self.alternative}"
            )
        texts = [str(t) for t in inputs["text"]["skills"]]
        rows: dict[str, list[int]] = {}
        for i, text in enumerate(texts):
            rows.setdefault(text, []).append(i)
        distinct = list(rows)
        for start in range(0, len(distinct), CHUNK_TEXTS):
            chunk = distinct[start : start + CHUNK_TEXTS]
            nonempty = [t for t in chunk if t]
            found = dict(
                zip(nonempty, backend.embed([t.replace("\n", "; ") for t in nonempty]), strict=True)
            )
            index = [i for t in chunk for i in rows[t]]
            vectors, errors = [], []
            for t in chunk:
                result = found.get(t, "")
                error = result if isinstance(result, str) else ""
                vectors += [""] if isinstance(result, str) else [encoded(result)]
                vectors += vectors[-1:] * (len(rows[t]) - 1)
                errors += [error] * len(rows[t])
            yield Scored(np.array(index, np.int64), {"vector": np.array(vectors, object)}, errors)

    def fault(self, values: Mapping[str, np.ndarray], errors: Sequence[str]) -> str:
        """An error if vectors of the column differ in size, as those of two models do."""
        return sizes_differ(np.array([size_of(t) for t in values["vector"].tolist()]), self.model)


def encoded(vector: np.ndarray) -> str:
    """float [d] -> base64 text."""
    return base64.b64encode(vector.astype("<f2").tobytes()).decode()


def size_of(text: str) -> int:
    """The number of elements of an encoded vector; 0 of no text."""
    # by its length, since all rows of a column are looked at whenever it is loaded
    return (len(text) * 3 // 4 - text[-2:].count("=")) // 2


def decoded(texts: np.ndarray) -> np.ndarray:
    """base64 texts [n] -> float32 [n, d]; zeros for an empty text."""
    found = [np.frombuffer(base64.b64decode(t), "<f2") for t in texts.tolist()]
    width = max((len(v) for v in found), default=0)
    out = np.zeros((len(found), width), np.float32)
    for i, v in enumerate(found):
        out[i, : len(v)] = v
    return out
