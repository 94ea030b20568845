"""Many prompts that begin alike as one sequence: a trunk of tokens, then a tree of what follows it,
each shared token once.

A token of the tree sees the trunk and its own ancestors and stands where it would stand in its own
prompt, so that one pass gives what a pass for each prompt gives. Masks and positions only; no
model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np


@dataclass(frozen=True, slots=True)
class Leaf:
    """One answer of one prompt as tokens behind the trunk: `ids[first:]` are the answer's counted
    tokens."""

    ids: tuple[int, ...]
    first: int


@dataclass(frozen=True, slots=True, eq=False)
class Tree:
    """`ids`, `parent` and `depth`: int64 [t]; a child of the trunk's last token has parent -1 and
    depth 1.

    `where`, `token`, `answer`: int64 [w], the wanted log-probabilities: of `token` after node
    `where` (-1: after the trunk's last token, -2: after the one before it, …), summed over each of
    the `answers`.
    """

    ids: np.ndarray
    parent: np.ndarray
    depth: np.ndarray
    where: np.ndarray
    token: np.ndarray
    answer: np.ndarray
    answers: int
    sees: np.ndarray = field(repr=False)
    """bool [t, t]: node i sees node j (itself or an ancestor)."""

    @property
    def height(self) -> int:
        """Tokens of the longest path."""
        return int(self.depth.max(initial=0))

    @property
    def outputs(self) -> np.ndarray:
        """Distinct nodes whose output is wanted, rising."""
        return np.unique(self.where)


def grow(leaves: Sequence[Leaf]) -> Tree:
    """The tree of these leaves, `answer` i for `leaves[i]`. An answer's last token is only
    predicted, never run."""
    nodes: dict[tuple[int, int], int] = {}
    ids: list[int] = []
    parents: list[int] = []
    wanted: list[tuple[int, int, int]] = []
    for i, leaf in enumerate(leaves):
        at = -1
        for k, token in enumerate(leaf.ids):
            if k >= leaf.first:
                wanted.append((at, token, i))
            if k == len(leaf.ids) - 1:
                break
            if (at, token) not in nodes:
                nodes[at, token] = len(ids)
                ids.append(token)
                parents.append(at)
            at = nodes[at, token]
    return _tree(
        np.array(ids, np.int64),
        np.array(parents, np.int64),
        np.array(wanted, np.int64),
        len(leaves),
    )


def _tree(ids: np.ndarray, parent: np.ndarray, wanted: np.ndarray, answers: int) -> Tree:
    t = len(ids)
    depth = np.ones(t, np.int64)
    sees = np.eye(t, dtype=bool)
    for i, up in enumerate(parent.tolist()):  # a parent stands before its children
        if up >= 0:
            depth[i] = depth[up] + 1
            sees[i] |= sees[up]
    where, token, answer = wanted.reshape(-1, 3).T
    return Tree(ids, parent, depth, where.copy(), token.copy(), answer.copy(), answers, sees)


def chains(tree: Tree) -> list[tuple[np.ndarray, Tree, np.ndarray]]:
    """Each path to a leaf by itself: its ids; a tree without nodes behind trunk + path; which of
    the wanted it gives.

    Every wanted log-probability is given by exactly one path.
    """
    is_leaf = np.ones(len(tree.ids), bool)
    is_leaf[tree.parent[tree.parent >= 0]] = False
    given = np.zeros(len(tree.where), bool)
    out = []
    empty = np.zeros(0, np.int64)
    for leaf in np.flatnonzero(is_leaf).tolist() or [-1]:
        path = np.flatnonzero(tree.sees[leaf]) if leaf >= 0 else empty
        mine = np.flatnonzero(~given & ((tree.where < 0) | np.isin(tree.where, path)))
        if not len(mine):
            continue
        given[mine] = True
        where = tree.where[mine]
        deep = np.where(
            where < 0, where + 1, tree.depth[np.maximum(where, 0)] if len(tree.ids) else 0
        )
        bare = Tree(
            empty,
            empty,
            empty,
            deep - 1 - len(path),
            tree.token[mine],
            np.arange(len(mine)),
            len(mine),
            np.zeros((0, 0), bool),
        )
        out.append((tree.ids[path], bare, mine))
    return out


def places(trunk: int, tree: Tree, width: int) -> np.ndarray:
    """int64 [width]: where each token of the packed sequence stands in its own prompt; 0 for
    padding."""
    out = np.zeros(width, np.int64)
    out[:trunk] = np.arange(trunk)
    out[trunk : trunk + len(tree.ids)] = trunk - 1 + tree.depth
    return out


def sight(trunk: int, tree: Tree, width: int, together: np.ndarray | None = None) -> np.ndarray:
    """bool [width, width]: which token (row) sees which (column). Padding sees the trunk, so that
    it stays finite.

    `together`: int64 [trunk], tokens of one number > 0 see each other in both directions (images of
    some models).
    """
    out = np.zeros((width, width), bool)
    out[:trunk, :trunk] = np.tri(trunk, dtype=bool)
    if together is not None:
        out[:trunk, :trunk] |= (together[:, None] == together) & (together[:, None] > 0)
    out[trunk:, :trunk] = True
    end = trunk + len(tree.ids)
    out[trunk:end, trunk:end] = tree.sees
    return out
