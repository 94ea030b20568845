"""A trie represents prompts exactly: every target attends to its own prompt only."""

from __future__ import annotations

import random

import numpy as np
import pytest

from thresher.backends.hf.trie import Leaf, attention_mask, build_trie, paths, position_ids

TRUNK = 5


def random_leaves(seed: int) -> list[Leaf]:
    rng = random.Random(seed)
    out = []
    for _ in range(rng.randint(1, 8)):
        ids = tuple(rng.randint(0, 2) for _ in range(rng.randint(1, 6)))
        out.append(Leaf(ids, rng.randint(0, len(ids) - 1)))
    return out


@pytest.mark.parametrize("seed", range(20))
def test_each_target_attends_to_exactly_its_own_prompt(seed: int) -> None:
    leaves = random_leaves(seed)
    trie = build_trie(leaves)
    width = TRUNK + len(trie.ids) + 3
    mask, positions = attention_mask(TRUNK, trie, width), position_ids(TRUNK, trie, width)
    packed = np.concatenate([np.arange(100, 100 + TRUNK), trie.ids])
    found_by_answer: dict[int, list[tuple[tuple[int, ...], int]]] = {
        i: [] for i in range(len(leaves))
    }
    for source, target, answer in zip(trie.source, trie.target, trie.answer, strict=True):
        visible = np.flatnonzero(mask[TRUNK + source])
        assert positions[visible].tolist() == list(range(len(visible))), (
            "positions increase by one along a prompt"
        )
        found_by_answer[int(answer)].append((tuple(packed[visible][TRUNK:].tolist()), int(target)))
    for i, leaf in enumerate(leaves):
        assert found_by_answer[i] == [
            (leaf.ids[:k], leaf.ids[k]) for k in range(leaf.first, len(leaf.ids))
        ]
    assert len(set(zip(trie.parent.tolist(), trie.ids.tolist(), strict=True))) == len(trie.ids), (
        "no node twice"
    )


@pytest.mark.parametrize("seed", range(20))
def test_paths_compute_every_target_once_after_the_same_prompt(seed: int) -> None:
    leaves = random_leaves(seed)
    trie = build_trie(leaves)
    found: list[tuple[int, tuple[int, ...], int]] = []
    for ids, outputs, which in paths(trie):
        assert len(outputs.ids) == 0 and (outputs.target == trie.target[which]).all()
        for source, target, k in zip(
            outputs.source.tolist(), outputs.target.tolist(), which.tolist(), strict=True
        ):
            found.append((k, tuple(ids[: len(ids) + source + 1].tolist()), target))
    assert sorted(k for k, _, _ in found) == list(range(len(trie.source)))
    for k, prompt, target in found:
        leaf = leaves[int(trie.answer[k])]
        assert leaf.ids[: len(prompt)] == prompt and leaf.ids[len(prompt)] == target


def test_bidirectional_groups_attend_to_each_other_and_padding_attends_to_something() -> None:
    trie = build_trie([Leaf((1, 2), 1)])
    mask = attention_mask(4, trie, 8, np.array([0, 1, 1, 2]))
    assert mask[1, 2] and not mask[2, 3] and not mask[0, 1]
    assert mask.any(axis=1).all()
    assert trie.height == 1 and build_trie([Leaf((7,), 0)]).height == 0
