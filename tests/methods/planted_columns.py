"""Columns with synthetic values to test methods without a pool and a model."""

from __future__ import annotations

import hashlib

import numpy as np

from thresher.signals.capabilities import CAPABILITIES, STYLES
from thresher.signals.skill_vector import encoded
from thresher.signals.style import style_names
from thresher.signals.vectors import WIDTH, as_bytes
from thresher.types import Columns, digests_to_array, seeded_ties


def digests(n: int, start: int = 0) -> np.ndarray:
    """n different digests, unsorted."""
    return digests_to_array([hashlib.sha256(b"%d" % i).digest() for i in range(start, start + n)])


def columns_of(
    nll: np.ndarray,
    one_shot: np.ndarray,
    known: np.ndarray,
    *,
    seed: int = 0,
    source: np.ndarray | None = None,
    digest: np.ndarray | None = None,
    length: np.ndarray | None = None,
) -> Columns:
    """Every column that any method asks for, sorted by digest (row i of the input is wherever its
    digest puts it)."""
    n = len(nll)
    digest = digests(n) if digest is None else digest
    order = np.argsort(digest, kind="stable")
    digest = digest[order]
    source = np.arange(n) % 3 if source is None else source
    length = np.arange(n) % 7 if length is None else length
    half = np.array([d[0] & 1 if d else 0 for d in digest.tolist()], np.int32)
    ties = seeded_ties(digest, seed)
    seed_row = np.zeros(n, bool)
    seed_row[np.argsort(ties, kind="stable")[: max(n // 20, 1)]] = True
    values = {
        "loss": {
            "nll": nll[order].astype(np.float32),
            "tokens": np.ones(n, np.int32),
            "greedy_match": known[order].astype(bool),
        },
        "knowledge": {"parametric": known[order].astype(bool)},
        "demonstration_p": {"digest": digest.copy(), "half": half},
        "demonstration_w": {"digest": digest.copy(), "half": half},
        # the two passes differ and their mean is `one_shot`
        "one_shot_p": {"nll": (one_shot[order] * 1.5).astype(np.float32)},
        "one_shot_w": {"nll": (one_shot[order] * 0.5).astype(np.float32)},
        "seed_rows": {"chosen": seed_row},
        "necessity": {"nll": nll[order].astype(np.float32)},
        "length": {"length": length[order].astype(np.int32)},
    }
    values.update(grouped(length[order], nll[order]))
    values.update(judged(nll[order], length[order]))
    values.update(skilled(length[order]))
    values.update(turned(nll[order], length[order]))
    names = ("chart", "photo", "text")
    return Columns(digest, ties, source[order].astype(np.int32), names, values)


def grouped(length: np.ndarray, nll: np.ndarray) -> dict[str, dict[str, np.ndarray]]:
    """winnow's columns: a skill for each length, two groups of skills, every fifth row without an
    image."""
    leaf = np.unique(length, return_inverse=True)[1]
    return {
        "skills": {
            "leaf": leaf.astype(np.int32),
            "parent": (leaf % 2).astype(np.int32),
            "typicality": np.full(len(leaf), 0.9, np.float32),
            "words": np.array([f"word{k}" for k in leaf.tolist()], object),
            "parent_words": np.array([f"group{k % 2}" for k in leaf.tolist()], object),
        },
        "skill": {
            "label": np.array([f"word{k}" for k in leaf.tolist()], object),
            "id": np.array([f"{k:08x}" for k in leaf.tolist()], object),
            "group": np.array([f"group{k % 2}" for k in leaf.tolist()], object),
            "group_id": np.array([f"{k % 2:08x}" for k in leaf.tolist()], object),
        },
        "gain": {
            "gain": np.where(length % 5 > 0, nll * (length % 3 - 0.5), np.nan).astype(np.float32)
        },
        "trust": {"nll": (nll * (1 + length % 2)).astype(np.float32)},
        "judgement": {
            "images": np.full(len(leaf), 500, np.int32),
            "helped": np.full(len(leaf), 0.4, np.float32),
            "humped": np.full(len(leaf), 0.6, np.float32),
            "readable": np.zeros(len(leaf), bool),
        },
        "guard": {
            "rows": np.full(len(leaf), 40, np.int32),
            "better": np.full(len(leaf), 7, np.int32),
            "worse": np.full(len(leaf), 5, np.int32),
            "chance": np.full(len(leaf), 0.8, np.float32),
            "passed": np.ones(len(leaf), bool),
        },
    }


def turned(nll: np.ndarray, length: np.ndarray) -> dict[str, dict[str, np.ndarray]]:
    """dics's columns: losses that the image changes by the row's length, every fifth row without an
    image, and vectors that tell lengths apart."""
    bare = length % 5 == 0
    lone = np.where(bare, np.nan, nll)
    directions = np.eye(WIDTH)[length % WIDTH] + np.eye(WIDTH)[(nll * 7).astype(int) % WIDTH]

    def words(mean: np.ndarray) -> dict[str, np.ndarray]:
        tokens = np.where(np.isnan(mean), 0, 2).astype(np.int32)
        return {
            "content": (2 * mean).astype(np.float32),
            "content_tokens": tokens,
            "light": np.where(np.isnan(mean), np.nan, 1).astype(np.float32),
            "light_tokens": tokens,
        }

    return {
        "answer": words(nll),
        "answer_without_image": words(lone * (1 + length % 3)),
        "question": words(lone + length % 4),
        "question_of_answer": words(lone),
        "asked": {"vector": as_bytes(directions)},
        "answered": {"vector": as_bytes(np.roll(directions, 3, axis=1))},
        "visual": {"given": ~bare},
    }


SKILLS = (
    "counting objects",
    "naming colours",
    "reading digits",
    "comparing bars in a chart",
    "finding places",
)


def skilled(length: np.ndarray) -> dict[str, dict[str, np.ndarray]]:
    """error_driven's columns of a pool: one skill a row or none, by its length, and vectors that
    tell them apart."""
    skills = [(*SKILLS, "", SKILLS[0])[k % 7] for k in length.tolist()]
    vectors = [encoded(np.eye(len(SKILLS))[SKILLS.index(s)]) if s else "" for s in skills]
    return {
        "row_skills": {
            "skills": np.array(skills, object),
            "count": np.array([bool(s) for s in skills], np.int32),
        },
        "skill_vector": {"vector": np.array(vectors, object)},
    }


def target_columns(n: int = 12, seed: int = 0) -> Columns:
    """error_driven's columns of a validation set: every third row is right, the others lack one
    skill after the other."""
    digest = np.sort(digests(n, 5000))
    right = np.arange(n) % 3 == 0
    skill = np.array(["" if r else SKILLS[i % len(SKILLS)] for i, r in enumerate(right)], object)
    step = np.array(["" if r else f"step {i}" for i, r in enumerate(right)], object)
    vectors = [encoded(np.eye(len(SKILLS))[SKILLS.index(s)]) if s else "" for s in skill.tolist()]
    written = np.array([f"1. before\n2. step {i}\nAnswer: a" for i in range(n)], object)
    values = {
        "rationale": {
            "text": written,
            "answer": np.array(["a"] * n, object),
            "expected": np.array(["b"] * n, object),
            "steps": np.full(n, 2, np.int32),
            "right": right,
        },
        "mistake": {
            "chosen": ~right,
            "step": np.where(right, -1, 1).astype(np.int32),
            "switched": ~right & (np.arange(n) % 2 == 0),
            "text": step,
            "before": np.array(["before"] * n, object),
        },
        "gap": {"skills": skill, "fallback": np.zeros(n, bool)},
        "gap_vector": {"vector": np.array(vectors, object)},
        "row": {"row": np.arange(n)[::-1].astype(np.int64)},
    }
    source = (np.arange(n) % 2).astype(np.int32)
    return Columns(digest, seeded_ties(digest, seed), source, ("charts", "photos"), values)


def judged(nll: np.ndarray, length: np.ndarray) -> dict[str, dict[str, np.ndarray]]:
    """mmSSR's columns: scores 0 … 5 that fall with the NLL, another order for each capability; one
    style or two a row."""
    n = len(nll)
    values = {}
    for i, capability in enumerate(CAPABILITIES):
        score = 1 + 2 * (1 + np.sin(nll * (1 + i))).astype(np.float32)
        values[f"score_{capability.name}"] = {
            "score": score,
            "best": np.round(score).astype(np.int32),
            "mass": np.full(n, 0.9, np.float32),
            "parsed": np.ones(n, bool),
            "text": np.full(n, "4", object),
        }
    bits = (1 << length % len(STYLES)) | (1 << length // 2)
    for k in range(len(STYLES)):
        values[f"style_{k}"] = {
            "chosen": (bits >> k & 1).astype(bool),
            "logprob": np.full(n, -2.3, np.float32),
        }
    lists = [", ".join(style_names(b)) for b in bits.tolist()]
    values["styles"] = {"styles": bits.astype(np.int32), "text": np.array(lists, object)}
    values["order"] = {"row": np.arange(n)}
    return values


def like_real(n: int, seed: int, ties: bool = False) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(NLL0, one-shot NLL, known) of a pool of short answers: a few clusters by answer, shifted by
    32 demonstrations."""
    rng = np.random.default_rng(seed)
    typical = np.array([0.002, 0.4, 1.2, 1.5, 3.0, 6.0])
    answer = rng.choice(6, n, p=[0.1, 0.35, 0.35, 0.1, 0.05, 0.05])
    nll = typical[answer] * np.exp(0.25 * rng.standard_normal(n))
    shift = rng.normal(-0.3, 0.4, (32, 6))[rng.integers(0, 32, n), answer]
    one_shot = nll**0.8 * np.exp(shift + 0.2 * rng.standard_normal(n))
    if ties:
        nll, one_shot = np.round(nll, 1), np.round(one_shot, 1)
    return nll.astype(np.float32), one_shot.astype(np.float32), nll < 0.69


def sample_columns(n: int, seed: int = 0, pool_seed: int = 0) -> Columns:
    nll, one_shot, known = like_real(n, pool_seed)
    return columns_of(nll, one_shot, known, seed=seed)
