"""mmSSR's sampler (Lyu et al., arXiv:2503.13383): capabilities and groups of rows take turns.

    until k rows are taken, in rounds:
      each remaining capability, in a fixed order, may take  max(left · its share, 1)  rows,
        where left is the number of rows to take at the start of the round
        its rows with score > threshold form groups, one per style (and source); a row with several
        styles is in several groups
        each group in turn, the smallest first, gives  max(turn // groups, 1)  of its best rows;
        what a group cannot give is carried over to the next one
      a capability without rows is dropped

A row is taken once. What is left of a turn (the remainder over the groups, what the last group
could not give) returns in the next round. Group sizes are counted once per capability and then
corrected by the rows taken, and a group's best rows are found by partitioning: nothing is fully
sorted.

Differs from the official code: a capability without rows is dropped instead of raising, and the
order of the capabilities is the caller's instead of a set's. The official sorts are not stable;
`official=True` replaces them by stable ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

NEVER = np.float32(-np.inf)  # the score of a row that cannot be taken
EXTRA_SORTED = 16  # rows sorted beyond those taken: later rounds take one or two of a group
SAMPLE = 256  # scores of a group sampled to estimate where its best ones begin


@dataclass(frozen=True)
class RoundRobin:
    """Result of `round_robin`.

    `rows`: int64 [k'], k' <= k, in the order in which they were taken (rounds, turns, groups; best
    first in each). Arrays [n], -1 for rows not taken: `capability` int32 (whose turn), `style`
    int32 (of the group that gave it), `round` int32 (0 = first). `dropped`: (capability, rows that
    it had taken), in the order in which they ran out.
    """

    rows: np.ndarray
    capability: np.ndarray
    style: np.ndarray
    round: np.ndarray
    dropped: tuple[tuple[int, int], ...]

    def reordered(self, order: np.ndarray) -> RoundRobin:
        """The result for rows in another order.

        Arguments:
            order: int64 [n], the number of each row in the new order.
        """

        def moved(values: np.ndarray) -> np.ndarray:
            out = np.empty_like(values)
            out[order] = values
            return out

        return RoundRobin(
            order[self.rows],
            moved(self.capability),
            moved(self.style),
            moved(self.round),
            self.dropped,
        )


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
    listed: np.ndarray | None = None,
) -> RoundRobin:
    """Take at most `k` rows; fewer if no capability has an eligible row left.

    A row is eligible for a capability if its score is above the threshold and it has a style.

    Arguments:
        scores: one array [n] per capability, in the order of turns; larger is better, NaN is never
            taken.
        styles: bool [n, s].
        k: number of rows to take.
        ties: uint64 [n], smallest first among equal scores.
        source: int [n], >= 0; None: groups are styles alone.
        names: (style names, source names): groups of equal size are ordered by the text
            "style+source"; None: by number.
        threshold: scores must be above it.
        weights: > 0, one per capability; None: equal.
        official: follow the authors' code with stable sorts: within a group, rows for which it is
            the first style listed come before those for which it is the second, and so on; among
            equal scores the smaller row number comes first and `ties` is not used.
        listed: int [n, s], the place of each style in the row's list, 0 for the first; only where
            `styles` is True, and only for `official`. None: styles are listed in column order.

    >>> two = [np.array([5.0, 4.0, 3.0]), np.array([0.0, 5.0, 1.0])]
    >>> one_style = np.ones((3, 1), bool)
    >>> round_robin(two, one_style, 2, np.arange(3, dtype=np.uint64)).rows.tolist()
    [0, 1]
    """
    n = len(ties)
    share = np.ones(len(scores)) if weights is None else np.asarray(weights, np.float64)
    assert len(share) == len(scores) and (share > 0).all() and all(len(s) == n for s in scores)
    pool = _Pool(scores, styles, source, names, ties, threshold, official, listed)
    taken_by = np.zeros(len(scores), np.int64)
    dropped: list[tuple[int, int]] = []
    parts: list[np.ndarray] = []
    left, turn = min(k, n), 0
    active = list(range(len(scores)))
    while left > 0 and active:
        left_at_start, total_weight = left, float(share[active].sum())
        for c in list(active):
            quota = min(max(int(left_at_start * share[c] / total_weight), 1), left)
            rows = pool.take(c, quota, turn)
            if not len(rows):
                active.remove(c)
                dropped.append((c, int(taken_by[c])))
                continue
            parts.append(rows)
            taken_by[c] += len(rows)
            left -= len(rows)
            if left <= 0:
                break
        turn += 1
    rows = np.concatenate(parts) if parts else np.zeros(0, np.int64)
    return RoundRobin(
        rows.astype(np.int64), pool.capability, pool.style, pool.round, tuple(dropped)
    )


class _Pool:
    """The groups, and the rows taken from them. An *entry* is a row in one group, sorted by group.

    More complex than the rule itself for speed only: with 2.6 million rows a turn must take a few
    hundredths of a second.
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
        listed: np.ndarray | None,
    ) -> None:
        n, kinds = styles.shape
        self.scores, self.styles, self.ties = scores, styles, ties
        self.threshold = threshold
        self.official = official
        self.source = np.zeros(n, np.int64) if source is None else source
        sources = int(self.source.max(initial=0)) + 1
        # [style, source] -> number of the group
        self.group_number = _group_numbers(kinds, sources, names)
        groups = kinds * sources
        ranks = kinds if official else 1

        # The rows of each style, concatenated; then one stable sort by (group, rank) orders the
        # entries.
        members = [np.flatnonzero(styles[:, s]).astype(np.int32) for s in range(kinds)]
        label = np.empty(sum(map(len, members)), np.min_scalar_type(max(groups * ranks - 1, 1)))
        so_far = np.zeros(n, np.uint16)  # styles of the row
        offset = 0
        for s, rows in enumerate(members):
            key = self.group_number[s][self.source[rows]]
            if official:
                place = so_far[rows] if listed is None else listed[rows, s]
                key = key * ranks + place
                so_far[rows] += 1
            label[offset : offset + len(rows)] = key
            offset += len(rows)
        flat = np.concatenate(members) if members else np.zeros(0, np.int32)
        order = np.argsort(label, kind="stable")  # a radix sort up to 65,536 labels
        # [e] row of each entry; int64 avoids index copies
        self.entry = flat[order].astype(np.int64)
        count = np.bincount(label, minlength=groups * ranks)
        # entries of (group, rank): block[i] … block[i + 1]
        self.block = np.r_[0, np.cumsum(count)].tolist()
        self.ranks = ranks
        size = count.reshape(groups, ranks).sum(1)
        self.used = np.flatnonzero(size)  # groups with an entry
        self.first = np.r_[0, np.cumsum(size)][self.used]
        self.sizes: dict[int, np.ndarray] = {}  # capability -> [groups] eligible rows left

        self.free = np.ones(n, bool)
        self.capability = np.full(n, -1, np.int32)
        self.style = np.full(n, -1, np.int32)
        self.round = np.full(n, -1, np.int32)
        self._style_of = np.empty(groups, np.int32)
        self._style_of[self.group_number] = np.arange(kinds, dtype=np.int32)[:, None]
        self._above_all: dict[int, bool] = {}  # capability -> every row is above the threshold
        # (capability, block) -> the next rows, best first
        self._next: dict[tuple[int, int], np.ndarray] = {}
        self._loaded = -1  # capability whose scores are in _score
        self._score = np.empty(len(self.entry), np.float32)  # [e]
        self._row_score, self._row_eligible = np.empty(n, np.float32), np.empty(n, bool)

    def take(self, c: int, quota: int, turn: int) -> np.ndarray:
        """Up to `quota` rows for capability c, int64, marked as taken; empty if it has no row
        left."""
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
            count = share + debt
            rows = self._best(c, g, count)
            debt = count - len(rows)
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
        """Eligible rows per group, [groups]. The first call per capability caches its scores for
        `_best`.
        """
        if c not in self.sizes:
            score, eligible, buffer = self.scores[c], self._row_eligible, self._row_score
            np.greater(score, self.threshold, out=eligible)
            self._above_all[c] = bool(eligible.all())
            eligible &= self.free
            buffer.fill(NEVER)
            np.copyto(buffer, score, where=eligible, casting="same_kind")
            buffer.take(self.entry, out=self._score, mode="clip")  # the other modes copy `out`
            self.sizes[c] = np.zeros(self.group_number.size, np.int64)
            if len(self.used):
                self.sizes[c][self.used] = np.add.reduceat(
                    self._score > NEVER, self.first, dtype=np.int64
                )
            self._loaded = c
        return self.sizes[c]

    def _best(self, c: int, group: int, count: int) -> np.ndarray:
        """The best `count` free rows of a group, best first; all of them if it has fewer."""
        parts = []
        for block in range(group * self.ranks, (group + 1) * self.ranks):
            if self.block[block] == self.block[block + 1]:
                continue
            parts.append(self._best_of_block(c, block, count))
            count -= len(parts[-1])
            if count == 0:
                break
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def _best_of_block(self, c: int, block: int, count: int) -> np.ndarray:
        coming = self._next.get((c, block))
        if coming is not None:
            coming = coming[self.free[coming]]
            if len(coming) >= count:
                self._next[c, block] = coming[count:]
                return coming[:count]
        start, stop = self.block[block], self.block[block + 1]
        rows = self.entry[start:stop]
        if self._loaded == c:
            score = self._score[start:stop]
        else:
            score = self.scores[c][rows]
            score = np.where((score > self.threshold) & self.free[rows], score, NEVER).astype(
                np.float32, copy=False
            )
        best = self._top(rows, score, count, count + EXTRA_SORTED)
        self._next[c, block] = best[count:]
        return best[:count]

    def _top(self, rows: np.ndarray, score: np.ndarray, min_rows: int, max_rows: int) -> np.ndarray:
        """The free rows with the highest scores, best first, ties by `ties` (official: by row
        number).

        Returns `min_rows` to `max_rows` rows, or all if there are fewer than `min_rows`. `rows`
        must be ascending."""
        floor = _floor(score, min_rows)
        index = (score > NEVER if floor == NEVER else score >= floor).nonzero()[0]
        index = index[self.free[rows[index]]]  # another group may have given it in this turn
        if len(index) < min_rows and floor != NEVER:
            index = (score > NEVER).nonzero()[0]
            index = index[self.free[rows[index]]]
        rows, score = rows[index], score[index]
        if max_rows < len(rows):
            edge = score.copy()
            edge.partition(len(edge) - max_rows)
            cut = edge[len(edge) - max_rows]
            above, equal = (score > cut).nonzero()[0], (score == cut).nonzero()[0]
            short = max_rows - len(above)
            if not self.official and short < len(equal):
                equal = equal[np.argpartition(self.ties[rows[equal]], short - 1)]
            keep = np.concatenate((above, equal[:short]))
            rows, score = rows[keep], score[keep]
        tie = rows if self.official else self.ties[rows]
        return rows[np.lexsort((tie, -score))]

    def _correct(self, rows: np.ndarray) -> None:
        """Subtract `rows` from the sizes counted so far."""
        which, style = np.nonzero(self.styles[rows])
        group = self.group_number[style, self.source[rows[which]]]
        everywhere = np.bincount(group, minlength=self.group_number.size)
        for c, size in self.sizes.items():
            if self._above_all[c]:
                size -= everywhere
            else:
                above = (self.scores[c][rows] > self.threshold)[which]
                size -= np.bincount(group[above], minlength=len(size))


def _floor(score: np.ndarray, count: int) -> np.float32:
    """A score that about twice the `count` best rows exceed, estimated from a sample.

    Avoids reading most of a large group.
    """
    step = len(score) // SAMPLE
    if step < 2:
        return NEVER
    sample = score[::step].copy()
    reach = (2 * count + 32) // step + 1
    if reach >= len(sample):
        return NEVER
    sample.partition(len(sample) - reach)
    found: np.float32 = sample[len(sample) - reach]
    return found


def _group_numbers(kinds: int, sources: int, names: Sequence[Sequence[str]] | None) -> np.ndarray:
    """Number of each group, int64 [style, source]: its order among groups of equal size."""
    if names is None:
        return np.arange(kinds * sources).reshape(kinds, sources)
    style_names, source_names = names
    texts = [
        f"{style}+{name}"
        for style in style_names
        for name in (list(source_names)[:sources] or [""])
    ]
    number = np.empty(len(texts), np.int64)
    number[sorted(range(len(texts)), key=lambda i: (texts[i], i))] = np.arange(len(texts))
    return number.reshape(kinds, sources)
