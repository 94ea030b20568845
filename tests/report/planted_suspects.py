"""A store that knows which rows are likely wrong: losses, skills, visual gain and answers as
`thresher suspects` leaves them, without a model."""

from __future__ import annotations

import numpy as np

from thresher.engine.pool_columns import PoolColumn
from thresher.fingerprint import fingerprint
from thresher.pools import Pool
from thresher.signals.answer import Answer
from thresher.signals.answer_loss import AnswerLoss
from thresher.signals.skills import skills_of
from thresher.storage.columns import Store
from thresher.types import ModelIdentity, RowSignal

SKILLS = 4
MODEL = ModelIdentity("sha256:" + "5" * 64, "llava", "float32", "pil")
RIGHT, WRONG = 0.5, 8.0  # nats: about the losses of right and of wrong answers
GAIN = 1.5  # nats by which an image makes a right answer likelier, and a wrong one less likely


def wrong_rows(pool: Pool) -> np.ndarray:
    """Every fifth row with an image, int64."""
    rows = np.flatnonzero(pool.facts["images"] > 0)
    return rows[rows % 5 == 0]


def plant(
    pool: Pool,
    store: Store,
    model: ModelIdentity = MODEL,
    *,
    wrong: np.ndarray | None = None,
    skilled: np.ndarray | None = None,
    gain: bool = True,
    answers: np.ndarray | None = None,
    leaves: int | None = None,
    words: str = "words of skill",
    said: str = "Blue.",
    limit: int = 32,
    embedder: ModelIdentity | None = None,
) -> np.ndarray:
    """Store what a pass over the pool would give, and return the wrong rows (int64).

    Arguments:
        wrong: rows of a high loss; None: `wrong_rows`.
        skilled: rows that the skills are made of; None: all.
        gain: whether losses without images are stored too.
        answers: rows that the model was asked for its own answer; None: none.
        leaves: setting of the skills that are stored.
        words: before the number of a skill.
        said: every answer of the model.
        limit: `max_new_tokens` of the answers.
        embedder: whose embeddings the skills are of; None: `model`.
    """
    bad = np.zeros(len(pool), bool)
    bad[list(pool.problems)] = True
    rows = np.flatnonzero(~bad & (pool.facts["missing_images"] == 0))
    wrong = wrong_rows(pool) if wrong is None else wrong
    is_wrong = np.isin(rows, wrong)
    nll = np.where(is_wrong, WRONG, RIGHT) + rows % 11 / 100
    seen = pool.facts["images"][rows] > 0
    without = np.where(seen, nll + np.where(is_wrong, -GAIN, GAIN), np.nan)
    ones, no = np.ones(len(rows), np.int32), np.zeros(len(rows), bool)
    losses = [(AnswerLoss(model), nll)] + [(AnswerLoss(model, image=False), without)] * gain
    for signal, values in losses:
        column = {"nll": values.astype(np.float32), "tokens": ones, "greedy_match": no}
        _save(pool, store, signal, rows, column)
    order = pool.order[np.isin(pool.order, rows if skilled is None else skilled)]
    leaf = (order % SKILLS).astype(np.int32)
    skills = skills_of(embedder or model, leaves)
    PoolColumn.of(skills, pool.digest[order]).save(
        pool.digest[order],
        {
            "leaf": leaf,
            "parent": np.zeros(len(order), np.int32),
            "typicality": np.ones(len(order), np.float32),
            "words": np.array([f"{words} {i}" for i in leaf.tolist()], object),
            "parent_words": np.full(len(order), "a group", object),
        },
        store,
    )
    if answers is not None:
        texts = np.full(len(answers), said, object)
        ones = np.ones(len(answers), np.int32)
        column = {"text": texts, "tokens": ones, "finished": ones > 0}
        _save(pool, store, Answer(model, limit), answers, column)
    return wrong


def _save(
    pool: Pool, store: Store, signal: RowSignal, rows: np.ndarray, values: dict[str, np.ndarray]
) -> None:
    keys, first = np.unique(pool.digest[rows], return_index=True)
    assert store.register(signal) == fingerprint(signal)
    of_key = {name: array[first] for name, array in values.items()}
    store.append(fingerprint(signal), signal.fields, keys, of_key, [""] * len(keys))
