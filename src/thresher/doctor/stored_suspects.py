"""Suspects from stored columns, for reports and the viewer; no model is opened.

Needs a model's losses of the rows and their skills, which may be those of another model's
embeddings (`--embedder`); image gain and the model's own answers are used if they are stored. Reads
the store and, for the listed rows, the pool.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NoReturn

import numpy as np

from thresher.backends import ModelHandle
from thresher.doctor.suspects import THRESHOLD, Suspect, suspects_of, suspicion_order
from thresher.doctor.suspicion_notes import suspicion_notes
from thresher.engine import (
    ColumnEngine,
    RunContext,
    ScoredKeys,
    ScoringRequest,
    create_engine,
)
from thresher.engine.pool_columns import PoolColumn
from thresher.errors import TooManyFailures
from thresher.fingerprint import fingerprint
from thresher.pools import Pool
from thresher.request import RunRequest
from thresher.signals.answer import Answer
from thresher.signals.answer_loss import AnswerLoss
from thresher.signals.pooled_embedding import embedding_of
from thresher.signals.skills import Skills, skills_of
from thresher.signals.suspicion import SUSPECTED, Suspicion
from thresher.signals.visual_gain import VisualGain
from thresher.storage.columns import Store
from thresher.storage.described import described
from thresher.types import Columns, ModelIdentity, Note, Signal


@dataclass(frozen=True, eq=False)
class StoredSuspects:
    """Suspicions about the rows of a pool, from one model.

    pool, store: their source.
    model: the model whose losses were used.
    embedder: the model whose embeddings made the skills.
    rows: int64 [e], pool rows with a suspicion.
    columns: e rows, named as in `suspicion_signals`; without `gain` there was no check by images.
    """

    pool: Pool
    store: Store
    model: ModelIdentity
    embedder: ModelIdentity
    rows: np.ndarray
    columns: Columns

    @property
    def checked(self) -> bool:
        """Whether the suspicions were checked by images."""
        return "gain" in self.columns.values

    @cached_property
    def suspected(self) -> np.ndarray:
        """bool [e]: suspicion of at least `THRESHOLD`; without a check by images, a probability of
        at least one half of the higher component of the skill."""
        found = self.columns["suspicion"]
        if self.checked:
            return np.asarray(found["suspicion"] >= np.float32(THRESHOLD))
        return np.asarray(found["hump"] >= np.float32(SUSPECTED))

    @cached_property
    def order(self) -> np.ndarray:
        """int64 [e], indices into `rows`, most suspicious first."""
        return suspicion_order(self.columns)

    @cached_property
    def place(self) -> np.ndarray:
        """int64 [pool rows]: index into `rows`; -1 where a row is not judged."""
        out = np.full(len(self.pool), -1, np.int64)
        out[self.rows] = np.arange(len(self.rows))
        return out

    @cached_property
    def answers(self) -> np.ndarray:
        """object [e]: the model's own answer (str); None if it is not stored."""
        return _answers(self.store, self.model, self.pool.digest[self.rows])

    @property
    def notes(self) -> list[Note]:
        """Notes about the reliability of these suspicions."""
        return suspicion_notes(self.columns)

    def suspects(self, at: np.ndarray) -> list[Suspect]:
        """`at`: int64 [k], indices into `rows`; in this order."""
        known = {int(self.rows[i]): self.answers[i] for i in at.tolist()}
        answers = {row: text for row, text in known.items() if text is not None}
        return list(suspects_of(self.pool, self.rows, at, self.columns, answers))


def stored_suspects(
    pool: Pool,
    store: Store,
    model: ModelIdentity | None,
    seen: np.ndarray,
    embedder: ModelIdentity | None = None,
) -> StoredSuspects | None:
    """The stored suspicions; None if no model's losses, or no skills, are stored.

    Prefers suspicions checked by images, then those of `model`, then those about all rows, then
    those with skills of `embedder` or, without one, of the model itself.

    Arguments:
        pool: the pool.
        store: the store; a folder that does not exist has no columns.
        model: the selection's model; other models in the store are tried after it.
        seen: int64, pool rows that the selection's method considered and clustered into skills.
        embedder: the selection's embedder; None: it had no other than its model.

    Raises StoreError if the store cannot be read.
    """
    within = np.zeros(len(pool), bool)  # [n]
    within[seen] = True
    embedders = _embedders(store)
    first: StoredSuspects | None = None
    for identity in _models(store, embedders, model):
        preferred = (embedder, identity) if identity == model else (identity, embedder)
        ordered = sorted(embedders, key=lambda e: preferred.index(e) if e in preferred else 2)
        for part in (None, within) if len(seen) < len(pool) else (None,):
            found = _of_model(pool, store, identity, ordered, part)
            if found is not None and found.checked:
                return found
            first = first or found
    return first


def _embedders(store: Store) -> list[ModelIdentity]:
    """Models with skills in the store. Reads no column."""
    known: list[ModelIdentity] = []
    for _, fields in described(store, PoolColumn.kind):
        try:
            found = _identity(fields["signal"]["fields"]["question"]["fields"]["model"])
        except (KeyError, TypeError):  # another pool signal
            continue
        if found is not None and found not in known:
            known.append(found)
    return known


def _models(
    store: Store, embedders: Sequence[ModelIdentity], first: ModelIdentity | None
) -> list[ModelIdentity]:
    """Models that may have losses in the store, `first` before the others, then those that have
    skills of their own; none without any skills. Reads no column."""
    if not embedders:
        return []
    losses = (_identity(f.get("model")) for _, f in described(store, AnswerLoss.kind))
    known = list(dict.fromkeys([*embedders, *filter(None, losses)]))
    return sorted(
        (m for m in known if not m.pooled), key=lambda m: (m != first, m not in embedders)
    )


def _identity(described_model: Any) -> ModelIdentity | None:
    """The model in a column's description; None for a model that thresher trained."""
    if not isinstance(described_model, Mapping) or described_model.get("kind") != "model":
        return None
    try:
        return ModelIdentity(**described_model["fields"])
    except (KeyError, TypeError):
        return None


def _of_model(
    pool: Pool,
    store: Store,
    model: ModelIdentity,
    embedders: Sequence[ModelIdentity],
    within: np.ndarray | None,
) -> StoredSuspects | None:
    """The suspicions by the losses of a model, with the skills of the first embedder that has them;
    None if something is not stored."""
    loss = AnswerLoss(model)
    context = RunContext(store, ModelHandle("", model, open=_refuse))
    scoring = RunRequest(on_missing="exclude")
    try:
        engine = create_engine(
            pool, {"loss": loss}, scoring, context, within=within, scorer=_NoScorer()
        )
        engine.column(loss, "loss")
        for embedder in embedders:
            if (skills := _stored_skills(engine, store, embedder)) is not None:
                break
        else:
            return None
        signals: dict[str, Signal] = {"loss": loss, "skills": skills}
        gain = VisualGain(loss)
        try:
            engine.column(gain, "gain")
        except _NotStored:
            signals["suspicion"] = Suspicion(loss, skills)
        else:
            signals |= {"gain": gain, "suspicion": Suspicion(loss, skills, gain)}
        columns = engine.columns(signals)
    except (_NotStored, TooManyFailures):  # of the rows none has a loss, or all have failed
        return None
    return StoredSuspects(pool, store, model, embedder, engine.eligible.pool_rows, columns)


def _stored_skills(engine: ColumnEngine, store: Store, embedder: ModelIdentity) -> Skills | None:
    """The stored skills of the eligible rows, those with default settings first."""
    usual = skills_of(embedder)
    digest = engine.numbering.digest[np.flatnonzero(engine.eligible.mask)]
    rows = PoolColumn.of(usual, digest).rows
    every = [usual]
    for name, fields in described(store, "pool_column"):
        if fields.get("rows") == rows:
            skills = _skills(fields.get("signal"), embedder)
            # any other setting than those that were read back gives another fingerprint
            if skills is not None and fingerprint(PoolColumn(skills, rows)) == name:
                every.append(skills)
    for skills in every:
        if (values := engine.stored(skills)) is not None:
            engine.table[skills] = values
            return skills
    return None


def _skills(description: Any, embedder: ModelIdentity) -> Skills | None:
    """The skills signal of this embedder from a column's description; None for any other."""
    try:
        if description["kind"] != Skills.kind:
            return None
        own, asked = description["fields"], description["fields"]["question"]["fields"]
        layer = 0.0 if embedder.pooled else float.fromhex(asked["layer"]["float"])
        return Skills(
            embedding_of(embedder, layer, "question"),
            embedding_of(embedder, layer, "answer"),
            own["leaves"],
            own["dims"],
            own["iterations"],
        )
    except (KeyError, TypeError, ValueError):
        return None


def _answers(store: Store, model: ModelIdentity, digest: np.ndarray) -> np.ndarray:
    """object [m]: stored answers of rows (DIGEST [m]), those with the longest limit first; None if
    not stored."""
    out = np.full(len(digest), None, object)
    limits = {
        fields.get("max_new_tokens")
        for _, fields in described(store, Answer.kind)
        if _identity(fields.get("model")) == model
    }
    for limit in sorted((n for n in limits if isinstance(n, int)), reverse=True):
        signal = Answer(model, limit)
        values, errors, found = store.load(fingerprint(signal), signal.fields, digest)
        unknown = np.fromiter((text is None for text in out), bool, len(out))
        new = found & (errors == "") & unknown
        out[new] = values["text"][new]
    return out


class _NotStored(Exception):
    """A required column is not stored."""


@dataclass(frozen=True)
class _NoScorer:
    """A scorer that computes nothing."""

    def score(self, requests: Sequence[ScoringRequest]) -> list[ScoredKeys]:
        raise _NotStored


def _refuse() -> NoReturn:
    raise _NotStored
