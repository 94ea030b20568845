"""Notes about the reliability of a list of suspects: whether losses are bimodal, and whether images
confirm the suspicion. Arithmetic on columns named as in `signals.suspicion.suspicion_signals`.
"""

from __future__ import annotations

import numpy as np

from thresher.console.formatting import pluralize
from thresher.errors import opt
from thresher.signals.judgement import HELPED
from thresher.signals.suspicion import SUSPECTED, UNCHECKED, reads_images
from thresher.stats.two_normals import LEAST_ROWS
from thresher.types import Columns, Note

FEW = 0.1  # share of rows in small skills above which they are worth a note
COARSE = 20  # skills below which they are said to be mixtures
TUNED = "A model tuned on a part of the pool (thresher train) may do better."
WEAK = 0.3  # estimated share of wrong rows below which the loss is said to show nothing


def suspicion_notes(columns: Columns) -> list[Note]:
    """Notes about the rows of `columns`."""
    return [Note("suspects", text) for text in _texts(columns)]


def _texts(columns: Columns) -> list[str]:
    found, n = columns["suspicion"], len(columns)
    hump, size, leaf = found["hump"], found["rows"], columns["skills"]["leaf"]
    notes = []
    skills = len(np.unique(leaf))
    if skills < COARSE:
        notes.append(
            f"The pool has only {pluralize(skills, 'skill')}, each a mixture of questions: "
            "suspicions of a small pool are unreliable."
        )
    small = int((size < LEAST_ROWS).sum())
    if small > FEW * n:
        notes.append(
            f"{pluralize(small)} are in skills with fewer than {LEAST_ROWS} rows, which is too few "
            f"to judge: they are not suspected. Use fewer skills ({opt('leaves')})."
        )
    judged = np.bincount(leaf, hump)[leaf] > 0
    notes.append(
        f"In skills with {judged.mean():.0%} of the rows the losses are bimodal; in the others no "
        "row is suspected."
        if n
        else "No row is left."
    )
    if "gain" in columns.values:
        notes += _image_notes(np.asarray(columns["gain"]["gain"]), hump)
    return notes


def _image_notes(gain: np.ndarray, hump: np.ndarray) -> list[str]:
    """Notes about whether the visual input confirms the suspicion."""
    seen, suspected = ~np.isnan(gain), hump >= SUSPECTED
    notes = []
    high, others = gain[seen & suspected], gain[seen & ~suspected]
    reads, usual = reads_images(hump, gain)
    if not reads:
        notes.append(
            f"The visual input makes the answer more likely in only {usual:.0%} of the rows whose "
            f"loss is not high for their skill (at least {HELPED:.0%} are needed). The model seems "
            "unable to read it, so a high loss may mean hard and not wrong, and no suspicion is "
            f"above {UNCHECKED}. {TUNED}"
        )
    elif len(high) and len(others):
        helped = float((high > 0).mean())
        share = max(1 - helped / usual, 0.0) if usual else 0.0
        note = (
            f"The visual input makes the answer more likely in {helped:.0%} of the suspected rows "
            f"and in {usual:.0%} of the others, as if {share:.0%} of the suspected rows were wrong."
        )
        if share < WEAK:
            note += (
                " The model's loss does not show which rows are wrong; perhaps hardly any are. So "
                f"no suspicion is high. {TUNED}"
            )
        notes.append(note)
    if unchecked := int((suspected & ~seen).sum()):
        notes.append(
            f"{pluralize(unchecked)} with a high loss have no image or video for the check: their "
            f"suspicion is at most {UNCHECKED}. A lower {opt('threshold')} lists them."
        )
    return notes
