"""DICS: diverse rows whose answers depend on the visual input (images, or videos that are scored)
and whose questions depend on the answer.

arXiv:2608.30209. docs/methods/dics.md separates what is public from our choices. Pure arithmetic on
stored columns; the run trains the warmed-up model (`TrainedModel`).

    VIC     exp(L(answer | question) - L(answer | question, image))
    RIC     exp(L(question | image) - L(question | image, answer))
    score   the smaller of both; 1 for a row without an image or video
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from thresher.clusters import unit_vectors
from thresher.console.formatting import pluralize
from thresher.errors import ConfigError
from thresher.methods.explanation import Evidence, Explanation, Histogram, Why
from thresher.methods.needs import LAYER, require_embedder, require_model
from thresher.methods.settings import setting
from thresher.samplers import argsort_descending, farthest_points
from thresher.samplers.ordering import inverse_permutation
from thresher.signals.pooled_embedding import embedding_of
from thresher.signals.question_loss import BLIND, GIVEN, QuestionLoss
from thresher.signals.seed_rows import SeedRows
from thresher.signals.vectors import from_bytes
from thresher.signals.visual_input import VisualInput
from thresher.signals.word_loss import WordLoss, weighted_mean
from thresher.training.recipe import Recipe
from thresher.types import (
    EMBEDDER,
    AnyModel,
    Budget,
    Columns,
    MethodContext,
    Selection,
    Share,
    Signal,
    TrainedModel,
)

SPREAD_BELOW = 0.5  # budget, as a share of the rows, below which rows are diversified
UNREAD = 0.5  # minimum share of rows whose visual input helps; below it a note warns


@dataclass(frozen=True)
class Dics:
    """Below half of the rows: of twice as many of the highest score, those that are farthest from
    each other. From half on: those of the highest score.

    Best first: in the order in which they are taken.
    """

    warmup: str = setting(
        "5%",
        "share of the rows, drawn at random, that the model is trained on before it is asked; or "
        "off",
    )
    function_words: float = setting(
        0.1, "weight of a token of a function word (the, of, is, ...); others have 1"
    )
    layer: float = setting(
        LAYER, "depth of the hidden states that tell rows apart, 0 (first layer) to 1 (last)"
    )

    name: ClassVar[str] = "dics"
    paper: ClassVar[str] = "DICS, arXiv:2608.30209"
    summary: ClassVar[str] = (
        "Answers that need the image or video, of questions that need the answer; unlike each "
        "other."
    )

    def __post_init__(self) -> None:
        self._warmup_share()
        if not 0 < self.function_words <= 1:
            raise ConfigError(
                ": expected a weight above 0 and at most 1, such as 0.1.",
                option="settings.function_words",
                value=self.function_words,
            )
        if not 0 <= self.layer <= 1:
            raise ConfigError(
                ": expected 0 to 1, such as 0.5.", option="settings.layer", value=self.layer
            )

    def _warmup_share(self) -> float:
        """0 for off."""
        if self.warmup == "off":
            return 0.0
        try:
            share = Budget.parse(self.warmup)
        except ConfigError:
            share = None
        if not isinstance(share, Share):
            raise ConfigError(
                ": expected a share of the rows such as 5%, or off.",
                option="settings.warmup",
                value=self.warmup,
            )
        return float(share.fraction)

    def signals(self, context: MethodContext) -> Mapping[str, Signal]:
        given = require_model(context, self.name)
        model: AnyModel = given
        if share := self._warmup_share():
            rows = SeedRows(share, context.seed)
            model = TrainedModel(given, Recipe(seed=context.seed), rows)
        named = EMBEDDER in context.roles  # else the trained model
        embedder = require_embedder(context, self.name, self.layer) if named else model
        return {
            "answer": WordLoss(model),
            "answer_without_image": WordLoss(model, image=False),
            "question": QuestionLoss(model, BLIND),
            "question_of_answer": QuestionLoss(model, GIVEN),
            "asked": embedding_of(embedder, self.layer, "question"),
            "answered": embedding_of(embedder, self.layer, "answer"),
            "visual": VisualInput(),
        }

    def select(self, columns: Columns, budget: int, target: Columns | None = None) -> Selection:
        n, k = len(columns), min(budget, len(columns))
        with_image = np.asarray(columns["visual"]["given"], bool)
        image_gain = self._gain(columns, "answer_without_image", "answer")
        answer_gain = self._gain(columns, "question", "question_of_answer")
        least = np.fmin(image_gain, answer_gain)  # of what is known
        score = np.where(with_image & np.isfinite(least), least, 0.0)
        order = argsort_descending(score, columns.ties)
        rank = inverse_permutation(order)
        rows = order[:k]
        spread = 0 < k < SPREAD_BELOW * n
        if spread:
            candidates = np.sort(order[: 2 * k])
            vectors = unit_vectors(
                [from_bytes(columns[part]["vector"][candidates]) for part in ("asked", "answered")]
            )
            first = int(np.searchsorted(candidates, order[0]))
            ties = columns.ties[candidates]
            rows = candidates[farthest_points(vectors, k, ties, first)]
        place = np.zeros(n, np.int32)
        place[rows] = np.arange(1, k + 1)
        reason = {
            "image_gain": np.where(with_image, image_gain, np.nan).astype(np.float32),
            "answer_gain": np.where(with_image, answer_gain, np.nan).astype(np.float32),
            "score": np.exp(np.minimum(score, 700.0)),  # a larger one would be infinite
            "score_rank": (rank + 1).astype(np.int32),
            "candidate": rank < (2 * k if spread else k),
            "place": place,
        }
        return Selection(rows.astype(np.int64), reason, tuple(_notes(reason, with_image, rows)))

    def _gain(self, columns: Columns, without: str, given: str) -> np.ndarray:
        """How much more likely the tokens become, nats per token, float64 [n]; NaN where either
        loss is not known."""
        before, after = (
            weighted_mean(columns[name], self.function_words) for name in (without, given)
        )
        return before - after

    @classmethod
    def explain(cls, evidence: Evidence) -> Explanation:
        names = ("image_gain", "answer_gain", "score", "score_rank", "candidate", "place")
        if not evidence.has(*names):
            return Explanation()
        lead = (
            "A row's score is the smaller of two factors: how much likelier the visual input makes "
            "its answer, and how much likelier the answer makes its question."
        )
        candidates, kept = int(evidence.reasons["candidate"].sum()), int(evidence.kept.sum())
        if candidates > kept:
            lead += (
                f" Of the {pluralize(candidates)} of the highest score, {kept:,} are kept: each "
                "is the one least like those kept before it."
            )
        return Explanation(
            _explain_rows(evidence),
            lead,
            (Histogram("image_gain"), Histogram("answer_gain")),
            drawn=frozenset({"image_gain", "answer_gain"}),
            hidden=frozenset({"score", "score_rank", "candidate", "place"}),
        )


def _explain_rows(evidence: Evidence) -> Callable[[int], Why]:
    r, kept, n = evidence.reasons, evidence.kept, len(evidence.kept)
    candidates, rows = int(r["candidate"].sum()), int(kept.sum())

    def why(i: int) -> Why:
        rank = f"{int(r['score_rank'][i]):,} of {n:,} by score"
        says = f"score {float(r['score'][i]):.3g}, {rank}: {_factors(r, i)}"
        if kept[i]:
            if candidates == rows:
                return Why("high score", f"kept: {says}")
            place = f"taken {int(r['place'][i]):,} of {rows:,}, as the row least like those before"
            if r["place"][i] == 1:
                place = "taken first, for its score"
            return Why("high score, unlike the others", f"kept: {says}; {place}")
        if r["candidate"][i]:
            return Why("high score, but like a kept row", f"not kept: {says}; others are less like")
        if float(r["image_gain"][i]) < 0:
            return Why("the visual input speaks against the answer", f"not kept: {says}")
        return Why("score too low", f"not kept: {says}")

    return why


def _factors(reasons: Mapping[str, np.ndarray], i: int) -> str:
    """
    >>> _factors({"image_gain": np.log([2.0]), "answer_gain": np.array([np.nan])}, 0)
    'the visual input makes the answer 2 times as likely per token'
    """
    image, answer = (float(reasons[name][i]) for name in ("image_gain", "answer_gain"))
    if np.isnan(image) and np.isnan(answer):
        return "a row without an image or video counts as 1"
    parts = []
    if not np.isnan(image):
        parts.append(f"the visual input makes the answer {_times(image)} times as likely per token")
    if not np.isnan(answer):
        parts.append(f"the answer makes the question {_times(answer)} times as likely")
    return " and ".join(parts)


def _times(nats: float) -> str:
    return f"{np.exp(min(nats, 700.0)):.3g}"


def _notes(reason: Mapping[str, np.ndarray], with_image: np.ndarray, rows: np.ndarray) -> list[str]:
    notes = []
    gain = reason["image_gain"][with_image]
    if not with_image.any():
        notes.append("No row has an image or a scored video, so all have the same score.")
    elif len(rows):
        helped = float((gain > 0).mean())
        note = (
            f"The visual input makes the answer more likely in {helped:.0%} of the rows with an "
            "image or video."
        )
        if helped < UNREAD:
            note += " The model seems unable to read it, so the score means little."
        notes.append(note)
        if low := int((reason["score"][rows] < 1).sum()):
            notes.append(
                "Selected with a score below 1, where visual input or answer speak against "
                f"the row: {pluralize(low)}."
            )
    bare = int((~with_image).sum())
    if bare and with_image.any():
        notes.append(
            f"{pluralize(bare)} without an image or video count as 1, above rows with a lower "
            f"score: {int((~with_image[rows]).sum()):,} of them are kept."
        )
    return notes
