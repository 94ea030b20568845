"""Whether a model's loss can be trusted to detect wrong answers in a pool.

If a model can read the images, they make most correct answers more likely. If it cannot, a high
loss means "not learned yet", and models trained on a few of the rows are used instead
(`cross_fit`). Images do not make wrong answers more likely, so suspected rows (higher component of
the losses of their skill) are not counted. Arithmetic on columns.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from thresher.signals.visual_input import VisualInput
from thresher.stats.bimodality import BIMODAL_SEPARATION, separation
from thresher.stats.two_normals import upper_component
from thresher.types import Columns, Field, Signal, seeded_ties

HELPED = 0.65
"""Minimum share of unsuspected rows whose answer the image must make more likely. The built-in
model: 0.84 to 0.91 on five pools that it reads, with up to 31% of wrong answers; 0.47 on easy_vqa,
which it does not, and 0.43 with 30% of wrong answers planted there. Of all rows: 0.60 to 0.90,
0.50 and 0.48."""
SUSPECTED = 0.5
"""Minimum probability of the higher component for a suspected row."""
LEAST_IMAGES = 30
"""Rows with visual input below which their share says too little."""
SAMPLE = 500


@dataclass(frozen=True)
class ImageSample:
    """A random sample of at most `most` distinct rows with visual input (an image, or a video that
    is scored), the same for every seed; empty if there are fewer than `LEAST_IMAGES`."""

    most: int = SAMPLE

    kind: ClassVar[str] = "image_sample"
    version: ClassVar[int] = 1
    fields: ClassVar[tuple[Field, ...]] = (
        Field("chosen", "bool", "the loss without the visual input is measured on this row"),
    )

    def inputs(self) -> Mapping[str, Signal]:
        return {"visual": VisualInput()}

    def pool(self, inputs: Columns) -> dict[str, np.ndarray]:
        chosen = np.zeros(len(inputs), bool)
        rows = np.flatnonzero(np.asarray(inputs["visual"]["given"], bool))
        digest, first = np.unique(inputs.digest[rows], return_index=True)
        order = np.argsort(seeded_ties(digest, 0), kind="stable")
        if len(digest) >= LEAST_IMAGES:
            chosen[rows[first[order[: self.most]]]] = True
        return {"chosen": chosen}


@dataclass(frozen=True)
class IfMeasured:
    """The rows of `rows` with visual input, if `sample` has rows; else none. Known before a model
    is asked."""

    sample: Signal
    """With a bool field `chosen`."""
    rows: Signal | None = None
    """With a bool field `chosen`; None: all rows."""

    kind: ClassVar[str] = "if_measured"
    version: ClassVar[int] = 1
    fields: ClassVar[tuple[Field, ...]] = (
        Field("chosen", "bool", "a seed model may be asked about this row"),
    )

    def inputs(self) -> Mapping[str, Signal]:
        given = {"sample": self.sample, "rows": self.rows, "visual": VisualInput()}
        return {name: signal for name, signal in given.items() if signal is not None}

    def pool(self, inputs: Columns) -> dict[str, np.ndarray]:
        chosen = np.array(inputs["visual"]["given"], bool)
        chosen &= bool(np.asarray(inputs["sample"]["chosen"], bool).any())
        if self.rows is not None:
            chosen &= np.asarray(inputs["rows"]["chosen"], bool)
        return {"chosen": chosen}


@dataclass(frozen=True)
class Judgement:
    """Every row has the same values."""

    loss: Signal
    """With a field `nll`."""
    without_image: Signal
    """With a field `nll`: without visual input, of all rows or some; NaN for others."""
    skills: Signal

    kind: ClassVar[str] = "judgement"
    decides: ClassVar[bool] = True  # recorded in run.yaml, and repeated
    version: ClassVar[int] = 1
    fields: ClassVar[tuple[Field, ...]] = (
        Field(
            "images",
            "int32",
            "rows that are not suspected and whose loss without the visual input is known",
        ),
        Field(
            "helped",
            "float32",
            "share of these rows whose answer the visual input makes likelier; NaN: none",
        ),
        Field(
            "humped",
            "float32",
            "share of rows in skills with bimodal losses, among rows in skills of at least "
            "10; NaN: there are none",
        ),
        Field("readable", "bool", "the model's loss can be trusted"),
    )

    def inputs(self) -> Mapping[str, Signal]:
        return {"loss": self.loss, "without_image": self.without_image, "skills": self.skills}

    def pool(self, inputs: Columns) -> dict[str, np.ndarray]:
        loss = np.asarray(inputs["loss"]["nll"], np.float64)
        gain = np.asarray(inputs["without_image"]["nll"], np.float64) - loss
        leaf = np.asarray(inputs["skills"]["leaf"], np.int64)
        known = np.isfinite(gain) & (upper_component(loss, leaf) < SUSPECTED)
        images = int(known.sum())
        helped = float((gain[known] > 0).mean()) if images else np.nan
        n = len(inputs)
        return {
            "images": np.full(n, images, np.int32),
            "helped": np.full(n, helped, np.float32),
            "humped": np.full(n, bimodal_share(loss, leaf), np.float32),
            "readable": np.full(n, images < LEAST_IMAGES or helped >= HELPED),
        }


@dataclass(frozen=True)
class RowsToJudge:
    """Rows that seed models score: those of `within`, or none if `judgement` finds that the base
    model can judge the pool."""

    judgement: Signal | None = None
    """None: the seed models are asked in any case."""
    within: Signal | None = None
    """With a bool field `chosen`; None: all rows."""

    kind: ClassVar[str] = "rows_to_judge"
    version: ClassVar[int] = 1
    fields: ClassVar[tuple[Field, ...]] = (
        Field("chosen", "bool", "a seed model is asked about this row"),
    )

    @property
    def certain(self) -> bool:
        """Whether rows are chosen whatever the scores are."""
        return self.judgement is None

    def inputs(self) -> Mapping[str, Signal]:
        given = {"judgement": self.judgement, "within": self.within}
        return {name: signal for name, signal in given.items() if signal is not None}

    def pool(self, inputs: Columns) -> dict[str, np.ndarray]:
        chosen = np.ones(len(inputs), bool)
        if self.within is not None:
            chosen &= np.asarray(inputs["within"]["chosen"], bool)
        if self.judgement is not None:
            chosen &= ~np.asarray(inputs["judgement"]["readable"], bool)
        return {"chosen": chosen}


@dataclass(frozen=True)
class TrustedLoss:
    """The base model's loss if it can judge the pool, and of rows without visual input; else that
    of the seed models."""

    judgement: Signal
    base: Signal
    """With a field `nll`."""
    seed: Signal
    """With a field `nll`; read only where the base cannot judge."""

    kind: ClassVar[str] = "trusted_loss"
    version: ClassVar[int] = 1
    fields: ClassVar[tuple[Field, ...]] = (
        Field("nll", "float32", "nats per answer token, by which rows are trusted"),
    )

    def inputs(self) -> Mapping[str, Signal]:
        return {
            "judgement": self.judgement,
            "base": self.base,
            "seed": self.seed,
            "visual": VisualInput(),
        }

    def pool(self, inputs: Columns) -> dict[str, np.ndarray]:
        readable = np.asarray(inputs["judgement"]["readable"], bool)
        readable = readable | ~np.asarray(inputs["visual"]["given"], bool)
        nll = np.where(readable, inputs["base"]["nll"], inputs["seed"]["nll"])
        return {"nll": nll.astype(np.float32)}


def bimodal_share(loss: np.ndarray, leaf: np.ndarray, order: np.ndarray | None = None) -> float:
    """Share of rows in skills with bimodal losses, among rows in skills that are large enough; NaN
    if there are none.

    Arguments:
        loss: finite [n].
        leaf: int [n], >= 0, the skill.
        order: int64 [n], the rows sorted by skill and loss, if already known.
    """
    found = separation(loss, leaf, order=order)
    judged = np.bincount(leaf, minlength=len(found)) * np.isfinite(found)
    if not judged.sum():
        return float("nan")
    return float(judged[np.nan_to_num(found) > BIMODAL_SEPARATION].sum() / judged.sum())
