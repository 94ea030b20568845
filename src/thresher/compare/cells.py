"""The cells of a comparison, and what a cell's fingerprint covers: pool, evaluation set, method,
settings, rows, seed, model and recipe.

The fingerprint covers everything that a cell's numbers depend on, but no paths. Touches no files;
`make_job` rejects impossible comparisons.
"""

from __future__ import annotations

import dataclasses
import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from thresher.errors import ConfigError, opt
from thresher.fingerprint import fingerprint
from thresher.methods.needs import needs_target
from thresher.methods.random import Random
from thresher.methods.settings import as_text
from thresher.request import RunRequest
from thresher.training.recipe import Recipe
from thresher.types import Budget, Method, Rows, Share, Tokens, digests_to_bytes

if TYPE_CHECKING:
    from thresher.backends import ModelHandle
    from thresher.engine import RunContext
    from thresher.pools import Pool

VERSION = 2  # raised when the meaning of a cell changes
FULL, RANDOM = "full", "random"
Equal = Literal["epochs", "steps"]


@dataclass(frozen=True)
class Cell:
    """One training. `rows`: the requested number; of the whole pool for `full`."""

    method: str
    budget: str
    rows: int
    seed: int
    fingerprint: str
    recipe: Recipe


@dataclass(frozen=True)
class Job:
    """The inputs of a comparison. `methods`: name -> method, `random` first; see `make_job`."""

    pool: Pool
    test: Pool
    methods: Mapping[str, Method]
    budgets: tuple[Budget, ...]
    seeds: int
    model: ModelHandle
    recipe: Recipe
    full: bool
    equal: Equal
    score: str  # of `evaluate`; part of a cell's identity
    usable: np.ndarray  # int64 [u], rows of the pool that can be trained on
    # method -> role -> its further model
    roles: Mapping[str, Mapping[str, ModelHandle]] = field(default_factory=dict)
    target: Pool | None = None  # the validation set, for methods that use one
    request: RunRequest = field(default_factory=RunRequest)  # what to do about rows that fail

    def context_of(self, name: str, context: RunContext) -> RunContext:
        """The context of a method: with its own models.

        Arguments:
            name: of the method.
            context: of the comparison.
        """
        return dataclasses.replace(context, model=self.model, roles=self.roles.get(name, {}))

    def cells(self) -> list[Cell]:
        """All cells, seed by seed, so that an unfinished comparison has complete seeds."""
        pool, test = identities_of(self).values()
        out = []
        for seed in range(self.seeds):
            combinations = [
                (name, b.text, _budget_rows(b, len(self.pool)))
                for b in self.budgets
                for name in self.methods
            ]
            if self.full:
                combinations.append((FULL, "100%", len(self.usable)))
            for name, budget, rows in combinations:
                recipe = dataclasses.replace(self.recipe, seed=seed, steps=self._steps())
                settings = {} if name == FULL else _identity_of(self.methods[name])
                identity = (
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
                    Cell(
                        name,
                        budget,
                        rows,
                        seed,
                        fingerprint(identity + self._other_dependencies(name)),
                        recipe,
                    )
                )
        return out

    def _other_dependencies(self, name: str) -> tuple[Any, ...]:
        """The method's further models and its validation set, if any."""
        roles = {role: handle.identity for role, handle in self.roles.get(name, {}).items()}
        validation = self.target_of(name)
        target = "" if validation is None else _pool_identity(validation, ordered=False)
        return (roles, target) if roles or target else ()

    def target_of(self, name: str) -> Pool | None:
        """The validation set, for a method that uses one."""
        return self.target if name in self.methods and needs_target(self.methods[name]) else None

    def _steps(self) -> int | None:
        """With `equal="steps"`, the steps that the full pool needs."""
        if self.equal == "epochs" or self.recipe.steps is not None:
            return self.recipe.steps
        return math.ceil(
            len(self.usable) * self.recipe.epochs / (self.recipe.batch * self.recipe.accumulation)
        )


def make_job(
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
    """A validated comparison.

    Arguments:
        pool: the rows to select from.
        test: the evaluation set.
        methods: name -> method.
        budgets: in rows or percent of the pool.
        seeds: number of seeds.
        model: the base model.
        recipe: how to train; None: the default.
        full: also train on the full pool.
        equal: "epochs": every subset is trained for the same epochs; "steps": for the same steps.
        score: how the evaluation scores answers.
        roles: method -> role -> further model.
        target: the validation set, for methods that use one.
        request: options of the selections; their seed is set by the cells.

    Raises ConfigError.
    """
    if seeds < 1:
        raise ConfigError(
            ": expected at least 1; the spread needs 3 or more.", option="seeds", value=seeds
        )
    if equal not in ("epochs", "steps"):
        raise ConfigError(
            ": expected epochs (the same passes over each subset) or steps.",
            option="equal",
            value=equal,
        )
    if not budgets:
        raise ConfigError(": at least one is needed, such as 10%.", option="budgets")
    sizes = [_budget_rows(b, len(pool)) for b in budgets]
    if len(set(sizes)) < len(sizes):
        raise ConfigError(
            ": two of them are the same number of rows.",
            option="budgets",
            value=",".join(b.text for b in budgets),
        )
    if FULL in methods:
        raise ConfigError(
            f": `full` is not a method; the full pool is included unless {opt('no_full', True)} is "
            "given.",
            option="methods",
        )
    without_target = [name for name, m in methods.items() if target is None and needs_target(m)]
    if without_target:
        raise ConfigError(
            f": {without_target[0]} looks for what the model gets wrong on a validation "
            f"set: "
            f"give one with {opt('validation')}.",
            option="methods",
        )
    usable = np.ones(len(pool), bool)
    usable[list(pool.problems)] = False
    usable &= ~pool.facts["missing_images"]
    all_methods: dict[str, Method] = {RANDOM: methods.get(RANDOM, Random()), **methods}
    ordered = tuple(
        b for _, b in sorted(zip(sizes, budgets, strict=True), key=lambda pair: pair[0])
    )
    return Job(
        pool,
        test,
        all_methods,
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


def identities_of(job: Job) -> dict[str, str]:
    """Hashes of the records of `pool` and `eval`, by these names: all cells of a folder share them.

    Arguments:
        job: the comparison.
    """
    return {
        "pool": _pool_identity(job.pool, ordered=False),
        "eval": _pool_identity(job.test, ordered=True),  # per-row scores are in this order
    }


def settings_of(method: Method) -> dict[str, str]:
    """All settings as text, including defaults."""
    return {f.name: as_text(getattr(method, f.name)) for f in dataclasses.fields(method)}  # type: ignore[arg-type]


def _identity_of(method: Method) -> dict[str, str]:
    """The settings without those that a later version added (`added`, as of a signal) and that
    leave the selection as it was: finished cells stay valid."""
    added = getattr(type(method), "added", {})
    return {
        name: text
        for name, text in settings_of(method).items()
        if name not in added or getattr(method, name) != added[name]
    }


def _pool_identity(pool: Pool, *, ordered: bool) -> str:
    """A hash of the pool's records and sources; with `ordered`, also of their order in the file."""
    rows = np.arange(len(pool)) if ordered else pool.order
    h = hashlib.sha256()
    names = [name.encode("utf-8", "surrogatepass") for name in pool.source_names]
    for digest, source in zip(
        digests_to_bytes(pool.digest[rows]), pool.source[rows].tolist(), strict=True
    ):
        h.update(digest + names[source] + b"\n")
    return "sha256:" + h.hexdigest()


def _budget_rows(budget: Budget, n: int) -> int:
    """The number of rows for a pool of n. Raises ConfigError."""
    if isinstance(budget, Tokens):
        raise ConfigError(
            ": budgets in tokens cannot be compared yet. Give shares such as 10%, or numbers of "
            "rows.",
            option="budget",
            value=budget.text,
        )
    assert isinstance(budget, (Rows, Share))
    if isinstance(budget, Rows) and budget.count > n:
        raise ConfigError(
            f" asks for more rows than the pool has ({n:,}). Give at most {n}, or a share such as "
            "30%.",
            option="budget",
            value=budget.text,
        )
    return budget.rows(n)
