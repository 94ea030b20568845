"""Samplers: pure functions that choose rows given scores, groups and a budget.

Every sampler takes arrays [n] and returns row indices into them. Ties are broken by `ties`
(`Columns.ties`, a seeded hash of the row's digest, smallest first), never by row position, so the
same rows in another order give the same subset. No sampler draws random numbers: the seed is in
`ties`. Where a rule is a plain ordering (`top_k`, `stratified`), a larger budget contains the
smaller one, and rows added to a pool do not reshuffle the others.
"""

from thresher.samplers.apportionment import cumulative_apportionment, largest_remainder, water_fill
from thresher.samplers.farthest_point import farthest_points
from thresher.samplers.ks_distance import ks_distance, median_random_ks
from thresher.samplers.match_distribution import MatchedSample, match_distribution
from thresher.samplers.quantile_bins import quantile_bins
from thresher.samplers.round_robin import RoundRobin, round_robin
from thresher.samplers.stratified import stratified
from thresher.samplers.top_k import argsort_descending, top_k
from thresher.samplers.weighted_strata import WeightedStrata, weighted_strata

__all__ = [
    "MatchedSample",
    "RoundRobin",
    "WeightedStrata",
    "argsort_descending",
    "cumulative_apportionment",
    "farthest_points",
    "ks_distance",
    "largest_remainder",
    "match_distribution",
    "median_random_ks",
    "quantile_bins",
    "round_robin",
    "stratified",
    "top_k",
    "water_fill",
    "weighted_strata",
]
