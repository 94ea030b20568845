"""How likely a row's answer is wrong: its loss belongs to the higher of two humps of its skill, and
images speak against such rows. Arithmetic on columns of a model that saw no label.

Over a whole pool a high loss says "hard" as often as "wrong". Among rows of one skill it says
"wrong", if the model can judge the skill. Whether it can is checked by what the humps were not made
from: an image makes a right answer likelier and a wrong one less likely. Where the suspected rows
are helped by their images as often as the others, their loss is high for another reason.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from thresher.errors import CapabilityError
from thresher.samplers.stratified import rank_within
from thresher.signals.answer_loss import AnswerLoss
from thresher.signals.embedding import Embedding
from thresher.signals.skills import Skills
from thresher.signals.visual_gain import VisualGain
from thresher.stats.two_normals import upper_hump
from thresher.types import Columns, Field, ModelIdentity, Signal

SUSPECTED = 0.5
"""Probability of the higher hump from which a row counts as suspected in the check."""
UNCHECKED = 0.4
"""In place of the check where there is none: text-only rows, or no gain. Below one half, because
losses that are skewed, as those of hard questions are, often pass for two humps."""
PRIOR_ROWS = 20
"""Suspected rows that a group of skills borrows from the whole pool for its own check."""
PRIOR_IN_SKILL = 4
"""The same of a skill, of rows that are not suspected."""


@dataclass(frozen=True)
class Suspicion:
    """`suspicion` = `hump` · `agreement`, or `hump` · `UNCHECKED`."""

    loss: Signal
    """Field `nll`."""
    skills: Signal
    """Fields `leaf`, `parent`."""
    gain: Signal | None = None
    """Field `gain`, of what the image adds (`VisualGain`); None: nothing is checked."""

    kind: ClassVar[str] = "suspicion"
    version: ClassVar[int] = 1
    fields: ClassVar[tuple[Field, ...]] = (
        Field("suspicion", "float32", "0 to 1, higher = the answer is more likely wrong"),
        Field(
            "hump",
            "float32",
            "probability that the loss belongs to the higher of two humps of its skill, 0 to 1; 0 "
            "where the skill has less than 8 rows or one hump",
        ),
        Field(
            "agreement",
            "float32",
            "estimated share of wrong rows among the suspected ones of the row's group of skills, "
            "by their images, 0 to 1; NaN: not checked, the row has no image or the gain is not "
            "known",
        ),
        Field("rank", "int32", "place of the loss in the skill, 1 = lowest"),
        Field("rows", "int32", "rows of the skill"),
    )

    def inputs(self) -> Mapping[str, Signal]:
        out = {"loss": self.loss, "skills": self.skills}
        return out if self.gain is None else out | {"gain": self.gain}

    def pool(self, inputs: Columns) -> dict[str, np.ndarray]:
        loss = np.asarray(inputs["loss"]["nll"], np.float64)
        leaf = np.asarray(inputs["skills"]["leaf"], np.int64)
        hump = upper_hump(loss, leaf)
        agreement = np.full(len(loss), np.nan)
        if self.gain is not None:
            gain = np.asarray(inputs["gain"]["gain"], np.float64)
            parent = np.asarray(inputs["skills"]["parent"], np.int64)
            agreement = image_agreement(hump, gain, leaf, parent)
        checked = np.where(np.isnan(agreement), UNCHECKED, agreement)
        return {
            "suspicion": (hump * checked).astype(np.float32),
            "hump": hump.astype(np.float32),
            "agreement": agreement.astype(np.float32),
            "rank": (rank_within(leaf, np.lexsort((loss, leaf))) + 1).astype(np.int32),
            "rows": np.bincount(leaf, minlength=1)[leaf].astype(np.int32),
        }


def image_agreement(
    hump: np.ndarray, gain: np.ndarray, leaf: np.ndarray, parent: np.ndarray
) -> np.ndarray:
    """Share of wrong rows among the suspected ones by what their images say: float64 [n], 0 … 1;
    NaN for rows without an image.

    If the image never helps a wrong answer and helps a right one as often as the rows of the same
    skill that are not suspected, a share `w` of wrong rows among the suspected leaves `1 - w` times
    as many that are helped as these let expect. The result is the geometric mean of the estimates
    for the row's group of skills and for all rows: a model that can judge hardly any group is not
    believed where it seems to.

    Arguments:
        hump: [n], 0 … 1; suspected from `SUSPECTED` on.
        gain: [n], higher = the image speaks for the answer; NaN: no image.
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
    """Share of rows that their image helps among those of the same skill that are not suspected,
    float64 [n], 0 … 1.

    Arguments:
        helped: bool [n].
        others: bool [n], the rows to count.
        leaf: int [n], >= 0.
    """
    skills = int(leaf.max(initial=-1)) + 1
    rate = float(helped[others].mean()) if others.any() else 0.0
    rows = np.bincount(leaf[others], minlength=skills)
    count = np.bincount(leaf[others & helped], minlength=skills)
    share: np.ndarray = ((count + PRIOR_IN_SKILL * rate) / (rows + PRIOR_IN_SKILL))[leaf]
    return share


def _share_wrong(helped: np.ndarray, expected: np.ndarray) -> np.ndarray:
    """From numbers of suspected rows that are helped and were expected to be, [groups] each; 0
    where none was."""
    part = np.divide(helped, expected, out=np.ones_like(expected), where=expected > 0)
    return np.clip(1 - part, 0, 1)


def suspicion_signals(
    model: ModelIdentity, leaves: int | None = None, *, image_gain: bool = True
) -> dict[str, Signal]:
    """loss, skills, gain (with `image_gain`) and suspicion, to be computed together. Loss and
    skills are those of winnow, and so found in its store.

    Raises CapabilityError for a model behind a server.
    """
    if model.served:
        raise CapabilityError(
            f"Suspects are found in the hidden states of a model, and {model.weights!r} is behind "
            "a server. Give its weights: --model with a folder or a hub id."
        )
    loss = AnswerLoss(model)
    skills = Skills(Embedding(model, part="question"), Embedding(model, part="answer"), leaves)
    out: dict[str, Signal] = {"loss": loss, "skills": skills}
    gain = VisualGain(loss) if image_gain else None
    if gain is not None:
        out["gain"] = gain
    return out | {"suspicion": Suspicion(loss, skills, gain)}
