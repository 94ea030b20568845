"""What is compared with what, and what makes a cell this cell: pool, test, method, settings, rows,
seed, model and recipe.

A cell's fingerprint covers all that its numbers depend on, never where things lie. Touches no file;
`job` refuses what cannot be compared.
"""

from __future__ import annotations

import dataclasses
import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from thresher.errors import ConfigError
from thresher.fingerprint import fingerprint
from thresher.methods.needs import aims
from thresher.methods.random import Random
from thresher.methods.settings import as_text
from thresher.request import RunRequest
from thresher.training.recipe import Recipe
from thresher.types import Budget, Method, digests_to_bytes

if TYPE_CHECKING:
    from thresher.backends import ModelHandle
    from thresher.engine import RunContext
    from thresher.pools import Pool

VERSION = 2  # of what a cell means
FULL, RANDOM = "full", "random"
Equal = Literal["epochs", "steps"]


@dataclass(frozen=True)
class Cell:
    """One training. `rows`: asked for, of the whole pool for `full`."""

    method: str
    budget: str
    rows: int
    seed: int
    fingerprint: str
    recipe: Recipe


@dataclass(frozen=True)
class Job:
    """What is compared with what. `methods`: name -> method, `random` first; see `job`."""

    pool: Pool
    test: Pool
    methods: Mapping[str, Method]
    budgets: tuple[Budget, ...]
    seeds: int
    model: ModelHandle
    recipe: Recipe
    full: bool
    equal: Equal
    score: str  # part of a cell's identity; `evaluate` does it
    usable: np.ndarray  # int64, the rows of the pool that can be trained on
    # method -> role -> its further model
    roles: Mapping[str, Mapping[str, ModelHandle]] = field(default_factory=dict)
    target: Pool | None = None  # the validation set that methods may aim at
    request: RunRequest = field(default_factory=RunRequest)  # how rows that fail are treated

    def context_of(self, name: str, context: RunContext) -> RunContext:
        """The context of a method: with the models that it asks."""
        return dataclasses.replace(context, model=self.model, roles=self.roles.get(name, {}))

    def cells(self) -> list[Cell]:
        """Seed by seed, so that an unfinished comparison has whole seeds."""
        pool, test = (
            _pool_identity(self.pool, ordered=False),
            _pool_identity(self.test, ordered=True),
        )
        out = []
        for seed in range(self.seeds):
            kinds = [
                (name, b.text, b.rows(len(self.pool)))
                for b in self.budgets
                for name in self.methods
            ]
            if self.full:
                kinds.append((FULL, "100%", len(self.usable)))
            for name, budget, rows in kinds:
                recipe = dataclasses.replace(self.recipe, seed=seed, steps=self._steps())
                settings = {} if name == FULL else settings_of(self.methods[name])
                what = (
                    VERSION,
                    name,
                    settings,
                    rows,
                    seed,
                    pool,
                    test,
                    self.model.identity,
                    recipe,
                    self.score,
                )
                out.append(
                    Cell(name, budget, rows, seed, fingerprint(what + self._further(name)), recipe)
                )
        return out

    def _further(self, name: str) -> tuple[Any, ...]:
        """What else a method's cells depend on: its further models, and the set that it aims at."""
        roles = {role: handle.identity for role, handle in self.roles.get(name, {}).items()}
        aimed = self.target_of(name)
        target = "" if aimed is None else _pool_identity(aimed, ordered=False)
        return (roles, target) if roles or target else ()

    def target_of(self, name: str) -> Pool | None:
        """The validation set, for a method that aims at one."""
        return self.target if name in self.methods and aims(self.methods[name]) else None

    def _steps(self) -> int | None:
        """`equal=steps`: all cells train for as many steps as the full pool needs."""
        if self.equal == "epochs" or self.recipe.steps is not None:
            return self.recipe.steps
        return math.ceil(
            len(self.usable) * self.recipe.epochs / (self.recipe.batch * self.recipe.accumulation)
        )


def job(
    pool: Pool,
    test: Pool,
    *,
    methods: Mapping[str, Method],
    budgets: Sequence[Budget],
    seeds: int,
    model: ModelHandle,
    recipe: Recipe | None = None,
    full: bool = True,
    equal: Equal = "epochs",
    score: str = "auto",
    roles: Mapping[str, Mapping[str, ModelHandle]] | None = None,
    target: Pool | None = None,
    request: RunRequest | None = None,
) -> Job:
    """A comparison, checked. Raises ConfigError for what cannot be compared."""
    if seeds < 1:
        raise ConfigError(f"--seeds {seeds}: at least 1; 3 or more are needed to know the spread.")
    if equal not in ("epochs", "steps"):
        raise ConfigError(
            f"--equal {equal}: expected epochs (the same passes over each subset) or steps."
        )
    if not budgets:
        raise ConfigError("--budgets: at least one is needed, such as 10%.")
    sizes = [_rows(b, len(pool)) for b in budgets]
    if len(set(sizes)) < len(sizes):
        raise ConfigError(
            f"--budgets {','.join(b.text for b in budgets)}: two of them are the same number of "
            "rows."
        )
    if FULL in methods:
        raise ConfigError(
            "--methods: `full` is not a method; the full pool is compared with unless --no-full "
            "says otherwise."
        )
    aimless = [name for name, m in methods.items() if target is None and aims(m)]
    if aimless:
        raise ConfigError(
            f"--methods: {aimless[0]} looks for what the model gets wrong on a validation set: "
            "give one with --validation."
        )
    usable = np.ones(len(pool), bool)
    usable[list(pool.problems)] = False
    usable &= ~pool.facts["missing_images"]
    every: dict[str, Method] = {RANDOM: methods.get(RANDOM, Random()), **methods}
    ordered = tuple(
        b for _, b in sorted(zip(sizes, budgets, strict=True), key=lambda pair: pair[0])
    )
    return Job(
        pool,
        test,
        every,
        ordered,
        seeds,
        model,
        recipe or Recipe(),
        full,
        equal,
        score,
        np.flatnonzero(usable),
        roles or {},
        target,
        request or RunRequest(),
    )


def settings_of(method: Method) -> dict[str, str]:
    """All settings as text, defaults included."""
    return {f.name: as_text(getattr(method, f.name)) for f in dataclasses.fields(method)}  # type: ignore[arg-type]


def _pool_identity(pool: Pool, *, ordered: bool) -> str:
    """What of a pool matters: the records and their sources; for the rows of `scores` also their
    order in the file."""
    rows = np.arange(len(pool)) if ordered else pool.order
    h = hashlib.sha256()
    names = [name.encode("utf-8", "surrogatepass") for name in pool.source_names]
    for digest, source in zip(
        digests_to_bytes(pool.digest[rows]), pool.source[rows].tolist(), strict=True
    ):
        h.update(digest + names[source] + b"\n")
    return "sha256:" + h.hexdigest()


def _rows(budget: Budget, n: int) -> int:
    """Rows of a pool of n. Raises ConfigError, with the option as it is called here."""
    if budget.text.strip().lower().endswith("tok"):
        raise ConfigError(
            f"--budgets {budget.text}: budgets in tokens cannot be compared yet. Give shares such "
            "as 10%, or numbers of rows."
        )
    try:
        return budget.rows(n)
    except ConfigError as e:
        told = str(e).replace("--budget ", "--budgets ", 1)
        raise ConfigError(
            told.replace(
                ", a number of rows such as 20000, or tokens such as 20Mtok",
                " or a number of rows such as 20000",
            )
        ) from None
