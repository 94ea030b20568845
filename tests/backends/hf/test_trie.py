"""A tree of prompts is the prompts: every wanted token follows its own prompt, sees it and nothing
else."""

from __future__ import annotations

import random

import numpy as np
import pytest

from thresher.backends.hf.trie import Leaf, chains, grow, places, sight

TRUNK = 5


def random_leaves(seed: int) -> list[Leaf]:
    rng = random.Random(seed)
    out = []
    for _ in range(rng.randint(1, 8)):
        ids = tuple(rng.randint(0, 2) for _ in range(rng.randint(1, 6)))
        out.append(Leaf(ids, rng.randint(0, len(ids) - 1)))
    return out


@pytest.mark.parametrize("seed", range(20))
def test_each_wanted_token_sees_exactly_its_own_prompt(seed: int) -> None:
    leaves = random_leaves(seed)
    tree = grow(leaves)
    width = TRUNK + len(tree.ids) + 3
    sees, stands = sight(TRUNK, tree, width), places(TRUNK, tree, width)
    packed = np.concatenate([np.arange(100, 100 + TRUNK), tree.ids])
    given: dict[int, list[tuple[tuple[int, ...], int]]] = {i: [] for i in range(len(leaves))}
    for where, token, answer in zip(tree.where, tree.token, tree.answer, strict=True):
        seen = np.flatnonzero(sees[TRUNK + where])
        assert stands[seen].tolist() == list(range(len(seen))), (
            "positions go up by one along a prompt"
        )
        given[int(answer)].append((tuple(packed[seen][TRUNK:].tolist()), int(token)))
    for i, leaf in enumerate(leaves):
        assert given[i] == [(leaf.ids[:k], leaf.ids[k]) for k in range(leaf.first, len(leaf.ids))]
    assert len(set(zip(tree.parent.tolist(), tree.ids.tolist(), strict=True))) == len(tree.ids), (
        "no token twice"
    )


@pytest.mark.parametrize("seed", range(20))
def test_chains_give_every_wanted_token_once_after_the_same_prompt(seed: int) -> None:
    leaves = random_leaves(seed)
    tree = grow(leaves)
    found: list[tuple[int, tuple[int, ...], int]] = []
    for ids, bare, which in chains(tree):
        assert len(bare.ids) == 0 and (bare.token == tree.token[which]).all()
        for where, token, k in zip(
            bare.where.tolist(), bare.token.tolist(), which.tolist(), strict=True
        ):
            found.append((k, tuple(ids[: len(ids) + where + 1].tolist()), token))
    assert sorted(k for k, _, _ in found) == list(range(len(tree.where)))
    for k, prompt, token in found:
        leaf = leaves[int(tree.answer[k])]
        assert leaf.ids[: len(prompt)] == prompt and leaf.ids[len(prompt)] == token


def test_runs_of_one_number_see_each_other_and_padding_sees_something() -> None:
    tree = grow([Leaf((1, 2), 1)])
    sees = sight(4, tree, 8, np.array([0, 1, 1, 2]))
    assert sees[1, 2] and not sees[2, 3] and not sees[0, 1]
    assert sees.any(axis=1).all()
    assert tree.height == 1 and grow([Leaf((7,), 0)]).height == 0
