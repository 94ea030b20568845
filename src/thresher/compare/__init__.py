"""The proof: is a method's subset worth more than a random one? Select, train, evaluate, for every
method, budget and seed.

A *cell* is one method at one budget under one seed. `random` is always among the methods; `full` is
the whole pool, trained once a seed. A finished cell is kept, and never computed again while what it
depends on is the same.

    cells      what is compared with what, and what a cell's fingerprint covers     touches nothing
    kept       the files of a finished cell
        reads and writes `out/cells`
    running    select, train and evaluate the cells that are missing
        writes into `out` and the store
    judging    from cells to a table and verdicts (statistics: `thresher.stats.verdict`)
        touches nothing
    table      the table of methods and budgets                                     touches nothing
    files      compare.json and compare.svg
        writes into `out`
    plot       the chart as SVG                                                     touches nothing
    plan       what a comparison would cost                                         touches nothing
"""

from thresher.compare.cell_files import Result, answers_of, chosen_rows, is_made, read_cell
from thresher.compare.cells import FULL, RANDOM, Cell, Equal, Job, job
from thresher.compare.run import Evaluate, Evaluated, check_leaks, compare
from thresher.compare.table import Comparison, Line

__all__ = [
    "FULL",
    "RANDOM",
    "Cell",
    "Comparison",
    "Equal",
    "Evaluate",
    "Evaluated",
    "Job",
    "Line",
    "Result",
    "answers_of",
    "check_leaks",
    "chosen_rows",
    "compare",
    "is_made",
    "job",
    "read_cell",
]
