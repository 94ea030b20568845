"""Does a method beat random selection? Means, intervals and a verdict from per-row scores.

An *arm* is one method at one budget: `scores` float [S, N], row n of the evaluation set under the
model of seed s, 0 (wrong) to 1 (right). Two arms are compared on the same N rows and S seeds. What
varies by chance:

- **Seeds.** Another seed gives another subset, another training and so another accuracy. With three
  seeds that variance cannot be estimated: a t interval with 2 degrees of freedom is so wide that it
  misses a true gain of 5 points half of the time. So the measured variance (of both arms, 2(S - 1)
  degrees of freedom) is shrunk towards a typical one, which counts as `PRIOR_WEIGHT` degrees of
  freedom: the variance of single rows flipping between seeds, which S x N scores measure well, plus
  a shift common to all rows with an SD of `PRIOR_SD`. A measured variance that contradicts the
  typical one (`SURPRISE`) is used as it is.
- **Evaluation rows.** Other rows would favour the method more or less: the variance of the row-wise
  difference (mean over seeds), less the part that is flipping. Rows with the same image form one
  cluster: they tend to be right and wrong together.

Intervals are 95%, Student's t with Satterthwaite's degrees of freedom. Assumes that seeds are
independent, that both arms vary about equally over seeds, and that the evaluation rows represent
those the user cares about. The seeds of two arms may be positively correlated (common rows, common
training order), which makes the interval too wide, not too narrow.

`tests/stats/test_verdict.py` checks this on simulated tables: 3 seeds, an SD over seeds (shift and
flips together) of 0.5 to 1.5 points, 1,000 or more rows. Of 1,000 tables of each kind, a method
equal to random got "no gain" in 96 to 100%, and one with a true gain of 5 points was found in 95 to
100%. Outside that range (docs/compare.md), with an SD of 3 points, the first is 93% and the second
40%: such a benchmark needs more seeds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from thresher.stats.intervals import t_quantile

PRIOR_SD = 0.013
"""SD of an arm's common shift from seed to seed, beyond flips.

Trials: 0.3 to 2.1 points in total.
"""
PRIOR_WEIGHT = 6.0
"""Degrees of freedom of the typical variance.

Three seeds of two arms have 4 of their own, five 8.
"""
SURPRISE = 2.5
"""A measured variance above this multiple of the typical one is used as it is (by chance 1 in 25).
"""

Kind = Literal["beats", "no gain", "worse"]


@dataclass(frozen=True)
class Interval:
    """A mean and the half-width of its 95% interval, in points (0..100; differences -100..100)."""

    mean: float
    half: float

    @property
    def low(self) -> float:
        return self.mean - self.half

    @property
    def high(self) -> float:
        return self.mean + self.half

    def __str__(self) -> str:
        return f"{self.mean:.1f} ± {self.half:.1f}"


@dataclass(frozen=True)
class Verdict:
    """A method compared with random selection at one budget."""

    kind: Kind
    words: str
    difference: Interval  # method - random: positive = the method is better
    mean: Interval  # of the method, over seeds
    random: Interval  # of random, over seeds
    percent_of_full: float | None  # 100 x mean / mean of the full pool; None without it


def compare_to_random(
    method: np.ndarray,
    random: np.ndarray,
    cluster: np.ndarray | None = None,
    full: np.ndarray | None = None,
) -> Verdict:
    """Compare an arm with random selection.

    Arguments:
        method: [S, N], scores of the method.
        random: [S, N], scores of random selection.
        cluster: int [N], cluster labels of rows; None: independent rows.
        full: [S', N], scores after training on the full pool; None: not measured.
    """
    gap = difference(method, random, cluster)
    mean, base = mean_over_seeds(method, cluster), mean_over_seeds(random, cluster)
    share = None if full is None or not full.mean() else 100 * float(method.mean() / full.mean())
    kind: Kind = "beats" if gap.low > 0 else "worse" if gap.high < 0 else "no gain"
    return Verdict(kind, describe(kind, gap), gap, mean, base, share)


def describe(kind: Kind, gap: Interval) -> str:
    """The verdict as a phrase.

    Arguments:
        kind: of the verdict: "beats", "worse" or "no gain".
        gap: difference from random in points.

    >>> describe("beats", Interval(4.1, 1.6)), describe("worse", Interval(-2.0, 1.0))
    ('beats random by 4.1 ± 1.6 points', 'worse than random by 2.0 ± 1.0 points')
    >>> describe("no gain", Interval(-0.3, 1.9))
    'no gain over random (-0.3 ± 1.9 points)'
    """
    if kind == "beats":
        return f"beats random by {gap} points"
    if kind == "worse":
        return f"worse than random by {Interval(-gap.mean, gap.half)} points"
    return f"no gain over random ({gap.mean:+.1f} ± {gap.half:.1f} points)"


def describe_random_rows(seeds: Sequence[int], of: int) -> str:
    """A phrase on the seeds for which a method selected the rows of random; "" for none.

    Arguments:
        seeds: the seeds, from 0.
        of: number of all seeds.

    >>> describe_random_rows([0, 2], 3), describe_random_rows([0, 1, 2], 3)
    ('; it selected the rows of random in seeds 0 and 2', '; it selected the rows of random in \
    every seed')
    """
    if not seeds:
        return ""
    return "; it selected the rows of random in " + (
        "every seed" if len(seeds) == of else name_seeds(seeds)
    )


def name_seeds(seeds: Sequence[int]) -> str:
    """Seeds, ascending, as text.

    >>> [name_seeds(s) for s in ([1], [0, 2], [0, 1, 2], [0, 1, 2, 4], [3, 4, 7])]
    ['seed 1', 'seeds 0 and 2', 'seeds 0 to 2', 'seeds 0, 1, 2 and 4', 'seeds 3, 4 and 7']
    """
    if len(seeds) == 1:
        return f"seed {seeds[0]}"
    if len(seeds) > 2 and list(seeds) == list(range(seeds[0], seeds[-1] + 1)):
        return f"seeds {seeds[0]} to {seeds[-1]}"
    return f"seeds {', '.join(map(str, seeds[:-1]))} and {seeds[-1]}"


def mean_over_seeds(scores: np.ndarray, cluster: np.ndarray | None = None) -> Interval:
    """Mean accuracy of an arm with an interval over seeds, for these evaluation rows.

    Arguments:
        scores: [S, N].
        cluster: int [N], cluster labels of rows; None: independent rows.
    """
    scores = _as_scores(scores)
    seeds = len(scores)
    variance, freedom = _seed_variance([scores], _cluster_labels(cluster, scores.shape[1]))
    return Interval(
        100 * float(scores.mean()), 100 * t_quantile(freedom) * float(np.sqrt(variance / seeds))
    )


def difference(
    method: np.ndarray, random: np.ndarray, cluster: np.ndarray | None = None
) -> Interval:
    """method - random, paired by row, with an interval over seeds and evaluation rows.

    Arguments:
        method: [S, N].
        random: [S, N].
        cluster: int [N], cluster labels of rows; None: independent rows.
    """
    method, random = _as_scores(method), _as_scores(random)
    assert method.shape == random.shape, (
        f"arms differ in seeds or rows: {method.shape} and {random.shape}"
    )
    seeds, n = method.shape
    group = _cluster_labels(cluster, n)
    gap = method - random
    by_seed, freedom = _seed_variance([method, random], group)
    rows = _row_variance(gap.mean(0), group)
    if seeds > 1:  # flipping is in the variance over seeds already
        rows = max(rows - _flip_variance(gap, group) / seeds, 0.0)
    variance = by_seed / seeds + rows
    if variance > 0:  # Satterthwaite: the rows' part is known well, the seeds' part is not
        freedom *= (variance * seeds / by_seed) ** 2 if by_seed > 0 else np.inf
    return Interval(100 * float(gap.mean()), 100 * t_quantile(freedom) * float(np.sqrt(variance)))


# ------------------------------------------------------ variances (fractions², not points²)


def _seed_variance(arms: list[np.ndarray], group: np.ndarray) -> tuple[float, float]:
    """Variance of the sum of the arms' accuracies under one seed, and its degrees of freedom."""
    seeds = len(arms[0])
    typical = sum(_flip_variance(a, group) + PRIOR_SD**2 for a in arms)
    if seeds == 1:
        return typical, PRIOR_WEIGHT
    measured = sum(float(a.mean(1).var(ddof=1)) for a in arms)
    own = len(arms) * (seeds - 1)
    if own >= 4 and measured > SURPRISE * typical:
        return measured, float(own)
    return (PRIOR_WEIGHT * typical + own * measured) / (PRIOR_WEIGHT + own), PRIOR_WEIGHT + own


def _flip_variance(scores: np.ndarray, group: np.ndarray) -> float:
    """Variance of one seed's mean from rows that flip independently between seeds; 0 for one
    seed."""
    seeds, n = scores.shape
    if seeds == 1:
        return 0.0
    rest = scores - scores.mean(0) - scores.mean(1, keepdims=True) + scores.mean()
    return sum(float((_cluster_sums(r, group) ** 2).sum()) for r in rest) / (seeds - 1) / n**2


def _row_variance(values: np.ndarray, group: np.ndarray) -> float:
    """Variance of the mean of `values` [N] over the sampling of clusters of rows."""
    sums = _cluster_sums(values - values.mean(), group)
    groups = len(sums)
    return float((sums**2).sum()) / len(values) ** 2 * groups / max(groups - 1, 1)


def _cluster_sums(values: np.ndarray, group: np.ndarray) -> np.ndarray:
    return np.bincount(group, weights=values)


def _cluster_labels(cluster: np.ndarray | None, n: int) -> np.ndarray:
    """Cluster labels renumbered 0 … g-1, int64 [n]."""
    if cluster is None:
        return np.arange(n)
    assert len(cluster) == n, f"{len(cluster)} cluster labels for {n} rows"
    return np.unique(cluster, return_inverse=True)[1]


def _as_scores(scores: np.ndarray) -> np.ndarray:
    scores = np.asarray(scores, np.float64)
    assert scores.ndim == 2 and scores.size and np.isfinite(scores).all(), (
        "scores must be finite, [seeds, rows]"
    )
    return scores
