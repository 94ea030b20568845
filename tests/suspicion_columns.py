"""Synthetic columns for suspicions: losses with planted wrong rows."""

import numpy as np

from tests.methods.planted_columns import digests
from thresher.signals.answer_loss import AnswerLoss
from thresher.signals.embedding import Embedding
from thresher.signals.skills import Skills
from thresher.signals.suspicion import Suspicion
from thresher.signals.visual_gain import VisualGain
from thresher.types import Columns, ModelIdentity

MODEL = ModelIdentity("sha256:0", "llava", "float32", "pil")
LOSS = AnswerLoss(MODEL)
SKILLS = Skills(Embedding(MODEL, part="question"), Embedding(MODEL, part="answer"))
CHECKED = Suspicion(LOSS, SKILLS, VisualGain(LOSS))


def columns(loss, leaf, gain=None):
    n = len(loss)
    leaf = np.array(leaf, np.int32)
    values = {
        "loss": {"nll": np.array(loss, np.float32)},
        "skills": {"leaf": leaf, "parent": np.zeros(n, np.int32)},
    }
    if gain is not None:
        values["gain"] = {"gain": np.array(gain, np.float32)}
    ties = np.arange(n, dtype=np.uint64)
    return Columns(np.sort(digests(n)), ties, np.zeros(n, np.int32), ("a",), values)


def planted(n, wrong, seed=0):
    """Losses of a skill of which the last rows are wrong."""
    rng = np.random.default_rng(seed)
    return np.concatenate([rng.uniform(0, 1, n - wrong), rng.uniform(6, 8, wrong)])
