"""Many prompts with a common beginning as one sequence: the trunk (the tokens that all prompts
share), followed by a trie of the remaining tokens, in which every shared token occurs once.

A node attends to the trunk, its ancestors and itself, and has the position that it would have in
its own prompt, so one pass gives the same outputs as one pass per prompt. Masks and positions only;
no model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np


@dataclass(frozen=True, slots=True)
class Leaf:
    """One answer to one prompt, as the tokens after the trunk.

    ids: token ids of the rest of the prompt and of the answer.
    first: index in `ids` of the first token whose log-probability counts.
    """

    ids: tuple[int, ...]
    first: int


@dataclass(frozen=True, slots=True, eq=False)
class Trie:
    """The tokens after a trunk, parents before children, and the log-probabilities to compute.

    ids: int64 [nodes], token ids.
    parent: int64 [nodes], the parent node; -1 for a child of the trunk's last token.
    depth: int64 [nodes], 1 for a child of the trunk's last token.
    source: int64 [targets], the node whose output predicts `target`; -1 is the trunk's last token,
        -2 the one before it, and so on.
    target: int64 [targets], the token ids whose log-probabilities are computed.
    answer: int64 [targets], the answer to whose sum each log-probability is added.
    n_answers: number of answers.
    attends: bool [nodes, nodes], whether node i attends to node j (itself or an ancestor).
    """

    ids: np.ndarray
    parent: np.ndarray
    depth: np.ndarray
    source: np.ndarray
    target: np.ndarray
    answer: np.ndarray
    n_answers: int
    attends: np.ndarray = field(repr=False)

    @property
    def height(self) -> int:
        """Tokens of the longest path."""
        return int(self.depth.max(initial=0))

    @property
    def output_nodes(self) -> np.ndarray:
        """int64, ascending: the distinct values of `source`, whose logits are needed."""
        return np.unique(self.source)


def build_trie(leaves: Sequence[Leaf]) -> Trie:
    """The trie of `leaves`; `leaves[i]` is answer i.

    The last token of an answer is predicted, but never an input.
    """
    nodes: dict[tuple[int, int], int] = {}  # (parent, token id) -> node
    ids: list[int] = []
    parents: list[int] = []
    targets: list[tuple[int, int, int]] = []  # (source, target, answer)
    for i, leaf in enumerate(leaves):
        node = -1
        for k, token in enumerate(leaf.ids):
            if k >= leaf.first:
                targets.append((node, token, i))
            if k == len(leaf.ids) - 1:
                break
            if (node, token) not in nodes:
                nodes[node, token] = len(ids)
                ids.append(token)
                parents.append(node)
            node = nodes[node, token]
    depth = np.ones(len(ids), np.int64)
    attends = np.eye(len(ids), dtype=bool)
    for node, parent in enumerate(parents):  # a parent comes before its children
        if parent >= 0:
            depth[node] = depth[parent] + 1
            attends[node] |= attends[parent]
    source, target, answer = np.array(targets, np.int64).reshape(-1, 3).T
    return Trie(
        np.array(ids, np.int64),
        np.array(parents, np.int64),
        depth,
        source.copy(),
        target.copy(),
        answer.copy(),
        len(leaves),
        attends,
    )


def paths(trie: Trie) -> list[tuple[np.ndarray, Trie, np.ndarray]]:
    """Every path from the trunk to a leaf, for models that run one prompt at a time.

    Returns (ids, outputs, targets) for each path. ids: int64 [path], its tokens after the trunk.
    outputs: a trie without nodes, whose `source` counts backwards from the end of trunk + path.
    targets: int64, which targets of `trie` the path computes; each is computed by one path only.
    """
    is_leaf = np.ones(len(trie.ids), bool)
    is_leaf[trie.parent[trie.parent >= 0]] = False
    assigned = np.zeros(len(trie.source), bool)
    out = []
    empty = np.zeros(0, np.int64)
    for leaf in np.flatnonzero(is_leaf).tolist() or [-1]:
        path = np.flatnonzero(trie.attends[leaf]) if leaf >= 0 else empty
        members = np.flatnonzero(~assigned & ((trie.source < 0) | np.isin(trie.source, path)))
        if not len(members):
            continue
        assigned[members] = True
        source = trie.source[members]
        depth = np.where(
            source < 0, source + 1, trie.depth[np.maximum(source, 0)] if len(trie.ids) else 0
        )
        outputs = Trie(
            empty,
            empty,
            empty,
            depth - 1 - len(path),
            trie.target[members],
            np.arange(len(members)),
            len(members),
            np.zeros((0, 0), bool),
        )
        out.append((trie.ids[path], outputs, members))
    return out


def position_ids(trunk: int, trie: Trie, width: int) -> np.ndarray:
    """int64 [width]: the position of each token of the packed sequence in its own prompt.

    Arguments:
        trunk: tokens of the trunk.
        trie: the tokens after the trunk.
        width: tokens of the packed sequence with padding; padding has position 0.
    """
    out = np.zeros(width, np.int64)
    out[:trunk] = np.arange(trunk)
    out[trunk : trunk + len(trie.ids)] = trunk - 1 + trie.depth
    return out


def attention_mask(
    trunk: int, trie: Trie, width: int, bidirectional: np.ndarray | None = None
) -> np.ndarray:
    """bool [width, width]: whether token i of the packed sequence attends to token j.

    Padding attends to the trunk, so that no softmax is over nothing.

    Arguments:
        trunk: tokens of the trunk.
        trie: the tokens after the trunk.
        width: tokens of the packed sequence with padding.
        bidirectional: int64 [trunk] or None; tokens of the trunk with the same number > 0 attend to
            each other in both directions (the image tokens of some models).
    """
    out = np.zeros((width, width), bool)
    out[:trunk, :trunk] = np.tri(trunk, dtype=bool)
    if bidirectional is not None:
        out[:trunk, :trunk] |= (bidirectional[:, None] == bidirectional) & (
            bidirectional[:, None] > 0
        )
    out[trunk:, :trunk] = True
    end = trunk + len(trie.ids)
    out[trunk:end, trunk:end] = trie.attends
    return out
