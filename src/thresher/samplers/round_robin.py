"""Capabilities take turns, groups of rows take turns: mmSSR's sampler (Lyu et al., arXiv:2503.13383), numpy only.

    until k rows are taken, in rounds:
      each capability left, in a fixed order, may take  max(rows still to take at the start of the round · its share, 1)
        its rows with score > threshold fall into groups, one a style (and source); a row of several styles is in several
        each group in turn, the smallest first, gives  max(turn // groups, 1)  of its best rows, and what a group cannot
        give is carried to the next one
      a capability that finds no row is dropped

A row is taken once. What is left of a turn (its remainder over the groups, what the last group could not give) comes back
in the next round. The groups' sizes are counted once a capability and then corrected by the rows taken, and a group's best
rows are found by partition: nothing is ever sorted whole.

Differs from the official code: a capability without rows is dropped instead of raising, and the order of the capabilities
is the caller's instead of a set's. Its sorts are not stable; `official=True` reads them as stable ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

NEVER = np.float32(-np.inf)  # the score of a row that cannot be taken
SPARE = 16  # rows kept in order beyond those taken, for the next rounds, in which a group is asked for one or two
SAMPLE = 256  # scores of a group that are looked at to guess where its best ones begin


@dataclass(frozen=True)
class RoundRobin:
    """`rows`: int64 [k'], k' <= k, in the order in which they were taken (rounds, turns, groups; best first in each).

    Of all n rows, -1 where not taken: `capability` int32 (whose turn), `style` int32 (of the group that gave it), `round`
    int32 (0 = the first). `dropped`: (capability, rows that it had taken), in the order in which they ran out.
    """

    rows: np.ndarray
    capability: np.ndarray
    style: np.ndarray
    round: np.ndarray
    dropped: tuple[tuple[int, int], ...]


def round_robin(
    scores: Sequence[np.ndarray],
    styles: np.ndarray,
    k: int,
    ties: np.ndarray,
    *,
    source: np.ndarray | None = None,
    names: Sequence[Sequence[str]] | None = None,
    threshold: float = 0.0,
    weights: Sequence[float] | None = None,
    official: bool = False,
) -> RoundRobin:
    """At most `k` rows; fewer when no capability has a row left that is above the threshold and in a group.

    `scores`: one array [n] a capability, in the order of their turns; larger is better, NaN is never taken. `styles`: bool
    [n, s]; a row without a style is never taken. `ties`: uint64 [n], smallest first among equal scores. `source`: int [n],
    0 …; None: groups are styles alone. `names`: (names of the styles, names of the sources): groups of equal size come in
    the order of the text "style+source"; None: by their numbers. `weights`: > 0, one a capability; None: equal.

    `official`: as the authors' code with stable sorts. In a group, rows for which it is the first style listed come before
    those for which it is the second, and so on (a row's styles are listed in the order of the columns); among equal scores
    the smaller row number comes first, and `ties` is not used.

    >>> two = [np.array([5.0, 4.0, 3.0]), np.array([0.0, 5.0, 1.0])]
    >>> one_style = np.ones((3, 1), bool)
    >>> round_robin(two, one_style, 2, np.arange(3, dtype=np.uint64)).rows.tolist()
    [0, 1]
    """
    n = len(ties)
    share = np.ones(len(scores)) if weights is None else np.asarray(weights, np.float64)
    assert len(share) == len(scores) and (share > 0).all() and all(len(s) == n for s in scores)
    pool = _Pool(scores, styles, source, names, ties, threshold, official)
    taken_by = np.zeros(len(scores), np.int64)
    dropped: list[tuple[int, int]] = []
    parts: list[np.ndarray] = []
    left, turn = min(k, n), 0
    there = list(range(len(scores)))
    while left > 0 and there:
        at_start, whole = left, float(share[there].sum())
        for c in list(there):
            quota = min(max(int(at_start * share[c] / whole), 1), left)
            rows = pool.take(c, quota, turn)
            if not len(rows):
                there.remove(c)
                dropped.append((c, int(taken_by[c])))
                continue
            parts.append(rows)
            taken_by[c] += len(rows)
            left -= len(rows)
            if left <= 0:
                break
        turn += 1
    rows = np.concatenate(parts) if parts else np.zeros(0, np.int64)
    return RoundRobin(rows.astype(np.int64), pool.capability, pool.style, pool.round, tuple(dropped))


class _Pool:
    """The groups and what was taken of them. An *entry* is a row in one group; entries are sorted by group.

    Past the plain rule only for speed: at 2.6 million rows one capability's turn must cost a few hundredths of a second.
    """

    def __init__(
        self,
        scores: Sequence[np.ndarray],
        styles: np.ndarray,
        source: np.ndarray | None,
        names: Sequence[Sequence[str]] | None,
        ties: np.ndarray,
        threshold: float,
        official: bool,
    ) -> None:
        n, kinds = styles.shape
        self.scores, self.styles, self.ties, self.threshold = scores, styles, ties, threshold
        self.official = official
        self.source = np.zeros(n, np.int64) if source is None else source
        sources = int(self.source.max(initial=0)) + 1
        self.place = _places(kinds, sources, names)  # [style, source] -> number of the group
        groups = kinds * sources
        ranks = kinds if official else 1

        # the rows of each style, one style after the other; then one stable sort by (group, rank) puts the entries in order
        members = [np.flatnonzero(styles[:, s]).astype(np.int32) for s in range(kinds)]
        label = np.empty(sum(map(len, members)), np.min_scalar_type(max(groups * ranks - 1, 1)))
        listed = np.zeros(n, np.uint16)  # styles of the row so far
        at = 0
        for s, rows in enumerate(members):
            key = self.place[s][self.source[rows]]
            if official:
                key = key * ranks + listed[rows]
                listed[rows] += 1
            label[at : at + len(rows)] = key
            at += len(rows)
        flat = np.concatenate(members) if members else np.zeros(0, np.int32)
        order = np.argsort(label, kind="stable")  # a radix sort up to 65,536 labels
        self.entry = flat[order].astype(np.int64)  # [e] row of each entry; int64 spares numpy a copy at every look-up
        count = np.bincount(label, minlength=groups * ranks)
        self.block = np.r_[0, np.cumsum(count)].tolist()  # entries of (group, rank): block[i] … block[i + 1]
        self.ranks = ranks
        size = count.reshape(groups, ranks).sum(1)
        self.used = np.flatnonzero(size)  # groups with an entry
        self.first = np.r_[0, np.cumsum(size)][self.used]
        self.sizes: dict[int, np.ndarray] = {}  # capability -> [groups] rows above the threshold not taken yet

        self.free = np.ones(n, bool)
        self.capability = np.full(n, -1, np.int32)
        self.style = np.full(n, -1, np.int32)
        self.round = np.full(n, -1, np.int32)
        self._style_of = np.empty(groups, np.int32)
        self._style_of[self.place] = np.arange(kinds, dtype=np.int32)[:, None]
        self._above_all: dict[int, bool] = {}  # capability -> every row is above the threshold
        self._next: dict[tuple[int, int], np.ndarray] = {}  # (capability, block) -> the rows that come next, best first
        self._loaded = -1
        self._score = np.empty(
            len(self.entry), np.float32
        )  # of the capability whose first turn it is, beside the entries
        self._row_score, self._row_can = np.empty(n, np.float32), np.empty(n, bool)

    def take(self, c: int, quota: int, turn: int) -> np.ndarray:
        """Up to `quota` rows for capability c, int64, now marked as taken; none when it has no row left."""
        size = self._sizes(c)
        order = np.argsort(size, kind="stable")
        order = order[size[order] > 0]
        if not len(order):
            return np.zeros(0, np.int64)
        share = max(quota // len(order), 1)
        parts: list[np.ndarray] = []
        got = debt = 0
        for g in order.tolist():
            if got >= quota:
                break
            wanted = share + debt
            rows = self._best(c, g, wanted)
            debt = wanted - len(rows)
            got += len(rows)
            self.free[rows] = False
            self.style[rows] = self._style_of[g]
            parts.append(rows)
        self._loaded = -1
        rows = np.concatenate(parts)
        self.capability[rows] = c
        self.round[rows] = turn
        self._correct(rows)
        return rows

    def _sizes(self, c: int) -> np.ndarray:
        """[groups]. The first time all of c's scores are put beside the entries, where `_best` finds them in its turn."""
        if c not in self.sizes:
            score, can, buffer = self.scores[c], self._row_can, self._row_score
            np.greater(score, self.threshold, out=can)
            self._above_all[c] = bool(can.all())
            can &= self.free
            buffer.fill(NEVER)
            np.copyto(buffer, score, where=can, casting="same_kind")
            buffer.take(self.entry, out=self._score, mode="clip")  # the other modes copy `out`
            self.sizes[c] = np.zeros(self.place.size, np.int64)
            if len(self.used):
                self.sizes[c][self.used] = np.add.reduceat(self._score > NEVER, self.first, dtype=np.int64)
            self._loaded = c
        return self.sizes[c]

    def _best(self, c: int, group: int, wanted: int) -> np.ndarray:
        """The best `wanted` rows of a group that are free, best first; all of them when it has fewer."""
        parts = []
        for block in range(group * self.ranks, (group + 1) * self.ranks):
            if self.block[block] == self.block[block + 1]:
                continue
            parts.append(self._best_of_block(c, block, wanted))
            wanted -= len(parts[-1])
            if wanted == 0:
                break
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def _best_of_block(self, c: int, block: int, wanted: int) -> np.ndarray:
        coming = self._next.get((c, block))
        if coming is not None:
            coming = coming[self.free[coming]]
            if len(coming) >= wanted:
                self._next[c, block] = coming[wanted:]
                return coming[:wanted]
        start, stop = self.block[block], self.block[block + 1]
        rows = self.entry[start:stop]
        if self._loaded == c:
            score = self._score[start:stop]
        else:
            score = self.scores[c][rows]
            score = np.where((score > self.threshold) & self.free[rows], score, NEVER).astype(np.float32, copy=False)
        best = self._top(rows, score, wanted, wanted + SPARE)
        self._next[c, block] = best[wanted:]
        return best[:wanted]

    def _top(self, rows: np.ndarray, score: np.ndarray, least: int, most: int) -> np.ndarray:
        """`rows` ascend. The free ones with the largest scores, best first, equal ones by `ties` (official: by row): `least`
        to `most` of them, or all when there are fewer than `least`."""
        floor = _floor(score, least)
        at = (score > NEVER if floor == NEVER else score >= floor).nonzero()[0]
        at = at[self.free[rows[at]]]  # in this turn another group may have given it
        if len(at) < least and floor != NEVER:
            at = (score > NEVER).nonzero()[0]
            at = at[self.free[rows[at]]]
        rows, score = rows[at], score[at]
        if most < len(rows):
            edge = score.copy()
            edge.partition(len(edge) - most)
            cut = edge[len(edge) - most]
            above, equal = (score > cut).nonzero()[0], (score == cut).nonzero()[0]
            short = most - len(above)
            if not self.official and short < len(equal):
                equal = equal[np.argpartition(self.ties[rows[equal]], short - 1)]
            keep = np.concatenate((above, equal[:short]))
            rows, score = rows[keep], score[keep]
        tie = rows if self.official else self.ties[rows]
        return rows[np.lexsort((tie, -score))]

    def _correct(self, rows: np.ndarray) -> None:
        """Take `rows` out of the sizes that are known already."""
        which, style = np.nonzero(self.styles[rows])
        group = self.place[style, self.source[rows[which]]]
        everywhere = np.bincount(group, minlength=self.place.size)
        for c, size in self.sizes.items():
            if self._above_all[c]:
                size -= everywhere
            else:
                above = (self.scores[c][rows] > self.threshold)[which]
                size -= np.bincount(group[above], minlength=len(size))


def _floor(score: np.ndarray, wanted: int) -> np.float32:
    """A score that about twice the `wanted` best reach, read off a sample: most of a large group need not be looked at."""
    step = len(score) // SAMPLE
    if step < 2:
        return NEVER
    sample = score[::step].copy()
    reach = (2 * wanted + 32) // step + 1
    if reach >= len(sample):
        return NEVER
    sample.partition(len(sample) - reach)
    found: np.float32 = sample[len(sample) - reach]
    return found


def _places(kinds: int, sources: int, names: Sequence[Sequence[str]] | None) -> np.ndarray:
    """int64 [style, source]: the group's number, which is its place among groups of equal size."""
    if names is None:
        return np.arange(kinds * sources).reshape(kinds, sources)
    style_names, source_names = names
    texts = [f"{style}+{name}" for style in style_names for name in (list(source_names)[:sources] or [""])]
    place = np.empty(len(texts), np.int64)
    place[sorted(range(len(texts)), key=lambda i: (texts[i], i))] = np.arange(len(texts))
    return place.reshape(kinds, sources)
