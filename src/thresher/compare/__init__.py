"""Is a method's subset better than a random one? Select, train, evaluate, for every method, budget
and seed.

A *cell* is one method at one budget with one seed. `random` is always among the methods; `full` is
the whole pool, trained once per seed. A finished cell is kept, and not computed again while its
inputs are the same.

    request     what was typed                                      no files
    opening     from that to a checked comparison                   opens pools, resolves models
    cells       the cells of a comparison and their fingerprints    no files
    folder      which comparison a folder contains                  reads `out/compare.json`
    cell_files  the files of a finished cell                        reads and writes `out/cells`
    queue       which cell this process computes next               claims in `out/cells/claims`
    cell_runner select, train and evaluate                          writes into `out` and the store
    worker      a worker process or actor: computes cells           the same
    workers     the workers of `--devices` and `--engine ray`        starts and ends processes
    run         checks, the missing cells, the summary              the same
    summary     from cells to a table and verdicts                  no files
                (statistics: `thresher.stats.verdict`)
    table       the table of methods and budgets                    no files
    output      compare.json and compare.svg                        writes into `out`
    plot        the chart as SVG                                    no files
    plan        the cost of a comparison                            no files
    printing    the table and the plan on stdout                    no files
"""

from thresher.compare.cell_files import Result, chosen_rows, is_finished, read_answers, read_cell
from thresher.compare.cell_runner import Evaluate, EvaluationResult
from thresher.compare.cells import FULL, RANDOM, Cell, Equal, Job, make_job
from thresher.compare.run import check_leaks, compare
from thresher.compare.table import Comparison, Line

__all__ = [
    "FULL",
    "RANDOM",
    "Cell",
    "Comparison",
    "Equal",
    "Evaluate",
    "EvaluationResult",
    "Job",
    "Line",
    "Result",
    "check_leaks",
    "chosen_rows",
    "compare",
    "is_finished",
    "make_job",
    "read_answers",
    "read_cell",
]
