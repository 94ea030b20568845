"""Suspicion: how likely a row's answer is wrong, from its loss within its skill and from its image.

Over a whole pool a high loss means "hard" as often as "wrong". Among rows of one skill it means
"wrong", if the model can judge the skill. So the losses of each skill are fitted with two
components; rows of the higher component are suspected. An independent check uses the images: an
image makes a right answer more likely and a wrong one less likely. If images help the suspected
rows as often as the others, their loss is high for another reason. Where images help few rows at
all, the model cannot read them, and no suspicion is high. No labels are needed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from thresher.errors import CapabilityError
from thresher.samplers.ordering import inverse_permutation, order_by, stable_order
from thresher.samplers.stratified import rank_within
from thresher.signals.answer_loss import AnswerLoss
from thresher.signals.judgement import HELPED, LEAST_IMAGES
from thresher.signals.pooled_embedding import NAME_EMBEDDER
from thresher.signals.skills import skills_of
from thresher.signals.visual_gain import VisualGain
from thresher.stats.two_normals import upper_component
from thresher.types import Columns, Field, ModelIdentity, Signal

SUSPECTED = 0.5
"""Minimum probability of the higher component for a row to count as suspected in the check."""
UNCHECKED = 0.4
"""Value of `agreement` for rows without a check (text-only rows, or no gain), and its maximum if
the model cannot read the images. Below one half, because skewed losses, such as those of hard
questions, are often mistaken for two components."""
PRIOR_ROWS = 20
"""Pseudo-count of suspected rows with which the whole pool enters the estimate of each group of
skills."""
PRIOR_IN_SKILL = 4
"""Pseudo-count of rows that are not suspected, for the estimate of each skill."""


@dataclass(frozen=True)
class Suspicion:
    """`suspicion` = `hump` · `agreement`, or `hump` · `UNCHECKED` for rows without a check."""

    loss: Signal
    """Field `nll`."""
    skills: Signal
    """Fields `leaf`, `parent`."""
    gain: Signal | None = None
    """Field `gain` (`VisualGain`); None: no check by images."""

    kind: ClassVar[str] = "suspicion"
    version: ClassVar[int] = 2  # 2: at most `UNCHECKED` if the model cannot read the images
    fields: ClassVar[tuple[Field, ...]] = (
        Field("suspicion", "float32", "0 to 1, higher = the answer is more likely wrong"),
        Field(
            "hump",
            "float32",
            "probability that the loss belongs to the higher of two components of its skill, 0 to "
            "1; 0 if the skill has fewer than 8 rows or only one component",
        ),
        Field(
            "agreement",
            "float32",
            "share of wrong rows among the suspected ones of the row's group of skills, estimated "
            "from their images, 0 to 1, but at most 0.4 if images help few rows; NaN: not checked, "
            "because the row has no image or the gain is unknown",
        ),
        Field("rank", "int32", "rank of the loss in the skill, 1 = lowest"),
        Field("rows", "int32", "number of rows of the skill"),
    )

    def inputs(self) -> Mapping[str, Signal]:
        out = {"loss": self.loss, "skills": self.skills}
        return out if self.gain is None else out | {"gain": self.gain}

    def pool(self, inputs: Columns) -> dict[str, np.ndarray]:
        loss = np.asarray(inputs["loss"]["nll"], np.float64)
        leaf = np.asarray(inputs["skills"]["leaf"], np.int64)
        by_value = stable_order(np.asarray(inputs["loss"]["nll"]))
        by_loss = order_by(leaf, inverse_permutation(by_value))  # by skill and loss
        hump = upper_component(loss, leaf, order=by_loss)
        agreement = np.full(len(loss), np.nan)
        if self.gain is not None:
            gain = np.asarray(inputs["gain"]["gain"], np.float64)
            parent = np.asarray(inputs["skills"]["parent"], np.int64)
            agreement = image_agreement(hump, gain, leaf, parent)
            if not reads_images(hump, gain)[0]:
                agreement = np.minimum(agreement, UNCHECKED)
        checked = np.where(np.isnan(agreement), UNCHECKED, agreement)
        return {
            "suspicion": (hump * checked).astype(np.float32),
            "hump": hump.astype(np.float32),
            "agreement": agreement.astype(np.float32),
            "rank": (rank_within(leaf, by_loss) + 1).astype(np.int32),
            "rows": np.bincount(leaf, minlength=1)[leaf].astype(np.int32),
        }


def reads_images(hump: np.ndarray, gain: np.ndarray) -> tuple[bool, float]:
    """Whether the model reads the pool's images well enough to check suspicions by them, and the
    share of the rows that are not suspected whose answer the image makes likelier (NaN: none).

    By the threshold of `signals.judgement`; true if fewer than its `LEAST_IMAGES` rows are known.

    Arguments:
        hump: [n], 0 … 1.
        gain: [n], higher = the image supports the answer; NaN: no image.
    """
    known = ~np.isnan(gain) & (hump < SUSPECTED)
    rows = int(known.sum())
    helped = float((gain[known] > 0).mean()) if rows else float("nan")
    return rows < LEAST_IMAGES or helped >= HELPED, helped


def image_agreement(
    hump: np.ndarray, gain: np.ndarray, leaf: np.ndarray, parent: np.ndarray
) -> np.ndarray:
    """Share of wrong rows among the suspected ones, estimated from images: float64 [n], 0 … 1; NaN
    for rows without an image.

    Assumption: an image never helps a wrong answer, and helps a right one as often as in the rows
    of the same skill that are not suspected. Then, with a share `w` of wrong rows among the
    suspected, `1 - w` times the expected number of them are helped. The result is the geometric
    mean of the estimates for the row's group of skills and for the whole pool, so that a single
    group counts little if the model cannot judge the others.

    Arguments:
        hump: [n], 0 … 1; a row is suspected from `SUSPECTED` on.
        gain: [n], higher = the image supports the answer; NaN: no image.
        leaf, parent: int [n], >= 0, the skill and the group of skills.

    >>> helped, not_helped, no = 1.0, -1.0, np.nan
    >>> gain = np.array([helped, helped, helped, helped, not_helped, not_helped, no])
    >>> one = np.zeros(7, int)
    >>> image_agreement(np.array([0, 0, 0, 0, 1, 1, 1]), gain, one, one).tolist()
    [1.0, 1.0, 1.0, 1.0, 1.0, 1.0, nan]
    """
    seen = ~np.isnan(gain)
    suspected, helped = seen & (hump >= SUSPECTED), seen & (gain > 0)
    usual = helped_usually(helped, seen & ~suspected, leaf)
    whole = np.array([helped[suspected].sum()], np.float64)
    wholly = np.array([usual[suspected].sum()])
    groups = int(parent.max(initial=-1)) + 1
    borrowed = PRIOR_ROWS / max(int(suspected.sum()), 1)
    count = np.bincount(parent[suspected & helped], minlength=groups) + borrowed * whole
    expected = np.bincount(parent[suspected], usual[suspected], groups) + borrowed * wholly
    estimate = np.sqrt(_share_wrong(count, expected) * _share_wrong(whole, wholly))
    return np.where(seen, estimate[parent], np.nan)


def helped_usually(helped: np.ndarray, others: np.ndarray, leaf: np.ndarray) -> np.ndarray:
    """Share of rows helped by their image among the unsuspected rows of the same skill, float64
    [n], 0 … 1.

    Arguments:
        helped: bool [n], the image makes the answer more likely.
        others: bool [n], the unsuspected rows.
        leaf: int [n], >= 0, the skill.
    """
    skills = int(leaf.max(initial=-1)) + 1
    rate = float(helped[others].mean()) if others.any() else 0.0
    rows = np.bincount(leaf[others], minlength=skills)
    count = np.bincount(leaf[others & helped], minlength=skills)
    share: np.ndarray = ((count + PRIOR_IN_SKILL * rate) / (rows + PRIOR_IN_SKILL))[leaf]
    return share


def _share_wrong(helped: np.ndarray, expected: np.ndarray) -> np.ndarray:
    """Share of wrong rows, 0 … 1, from the observed and expected numbers of suspected rows helped
    by their image, [groups] each; 0 if none was expected."""
    part = np.divide(helped, expected, out=np.ones_like(expected), where=expected > 0)
    return np.clip(1 - part, 0, 1)


def suspicion_signals(
    model: ModelIdentity,
    leaves: int | None = None,
    *,
    image_gain: bool = True,
    embedder: ModelIdentity | None = None,
) -> dict[str, Signal]:
    """The signals loss, skills, gain (with `image_gain`) and suspicion. Loss and skills are the
    same signals as winnow's, so stored columns are shared.

    Arguments:
        model: gives the losses.
        leaves: number of skills; None: one per 30 rows.
        image_gain: whether to check by images, with a second pass.
        embedder: gives the embeddings of rows that make the skills; None: `model`.

    Raises CapabilityError if the embedder gives none.
    """
    embedder = embedder or model
    if not embedder.embeds:
        raise CapabilityError(
            f"Suspects need embeddings of the rows, and this model {embedder.limit}. "
            f"{NAME_EMBEDDER}"
        )
    loss, skills = AnswerLoss(model), skills_of(embedder, leaves)
    out: dict[str, Signal] = {"loss": loss, "skills": skills}
    gain = VisualGain(loss) if image_gain else None
    if gain is not None:
        out["gain"] = gain
    return out | {"suspicion": Suspicion(loss, skills, gain)}
