"""Pure arithmetic on columns: which rows to take, given scores, groups and a budget. Imports types and numpy only.

Every sampler takes positions 0..n-1 of the arrays it is given and returns positions. Order among equals is always
`ties` (`Columns.ties`, a seeded hash of the row's digest, smallest first), never the row's place, so that the same
rows in another order give the same subset. No sampler draws random numbers: the seed is in `ties`. Hence, where a
rule is a plain order (`top_k`, `stratified`), a larger budget contains a smaller one, and rows added to a pool do not
reshuffle the rest.
"""

from thresher.samplers.allocate import allocate, spread, water_fill
from thresher.samplers.grouped import Grouped, grouped
from thresher.samplers.ks_distance import ks_distance, ks_of_random
from thresher.samplers.match_distribution import Matched, match_distribution
from thresher.samplers.quantile_bins import quantile_bins
from thresher.samplers.round_robin import RoundRobin, round_robin
from thresher.samplers.stratified import stratified
from thresher.samplers.top_k import best_first, top_k

__all__ = [
    "Grouped",
    "Matched",
    "RoundRobin",
    "allocate",
    "best_first",
    "grouped",
    "ks_distance",
    "ks_of_random",
    "match_distribution",
    "quantile_bins",
    "round_robin",
    "spread",
    "stratified",
    "top_k",
    "water_fill",
]
