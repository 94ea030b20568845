"""From a RunConfig to the things a run needs, in the order "cheapest check first": nothing is spent on a wrong command.

Opens pools and resolves models; scores nothing and writes nothing but the output folder itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from thresher.cli.guard import note
from thresher.config import RunConfig, default_store, require
from thresher.errors import ConfigError
from thresher.types import Budget, Method, RolesMethod

if TYPE_CHECKING:
    from thresher.backends import ModelHandle
    from thresher.pools import Pool
    from thresher.store import Store
    from thresher.trained import Trainer

BUILT_IN = "demo"


@dataclass(frozen=True)
class Job:
    """All checked, nothing spent."""

    config: RunConfig
    pool: Pool
    method: Method
    budget: Budget
    model: ModelHandle | None
    store: Store
    roles: Mapping[str, ModelHandle]  # the further models of the method

    @property
    def trainer(self) -> Trainer:
        """How a model is trained where the method needs one of its own."""
        from thresher.trained import trainer

        c = self.config
        return trainer(
            device=c.device,
            dtype=c.dtype,
            batch_tokens=c.batch_tokens,
            trust_remote_code=c.trust_remote_code,
            cache=self.store.root / "models",
        )


def prepare(config: RunConfig, *, out: bool) -> Job:
    """Raises ConfigError, PoolError, ModelError. `out`: the command writes a selection."""
    require(config, "pool", "method", "budget", *(["out"] if out else []))
    budget = Budget(config.budget)
    check_budget(budget)
    from thresher.methods import load
    from thresher.methods.needs import asks_the_model, needs

    method = load(config.method, config.settings)
    from thresher.store import Store

    store = Store(config.store or default_store())
    store.check(writes=bool(needs(method)))  # a method that asks no model keeps nothing but a cache
    pool = open_the_pool(config.pool, config.images, store)
    budget.rows(len(pool))
    if out and config.out:
        check_out(config.out, pool)
    if asks_the_model(method):
        if config.model is None:
            note("no --model given: the built-in demo model is used, a tiny one that works offline.")
            config = replace(config, model=BUILT_IN)
    elif config.model is not None:
        note(f"{method.name} asks no model; --model {config.model} is not used.")
        config = replace(config, model=None)
    return Job(config, pool, method, budget, the_model(config, store), store, the_roles(method, config, store))


def check_budget(budget: Budget) -> None:
    """Raises ConfigError for what cannot be a budget of any pool."""
    budget.rows(10**18)


def check_out(out: str, pool: Pool) -> None:
    """Make the output folder, or say why that cannot work. Raises ConfigError."""
    from thresher.output import SUBSETS, check_writable

    folder = check_writable(out)
    subset = folder / SUBSETS[pool.format]
    if subset.exists() and subset.samefile(pool.path):
        raise ConfigError(f"--out {out} would overwrite the pool {pool.path}. Give another folder.")


def open_the_pool(path: str, images: str | None, store: Store) -> Pool:
    """The pool, from the cache beside the store when it was opened before. Raises PoolError."""
    from thresher.pools import open_pool
    from thresher.progress import Reading

    pool = open_pool(path, images, cache=store.root / "pools", progress=Reading(path))
    for text in pool.notes:
        note(text)
    return pool


def the_model(config: RunConfig, store: Store) -> ModelHandle | None:
    """The model that the config names, not opened yet. Raises ModelError."""
    return None if config.model is None else named_model(config.model, config, store)


def the_roles(method: Method, config: RunConfig, store: Store) -> dict[str, ModelHandle]:
    """The further models that the method's settings name, by role. Raises ModelError."""
    asked = method.models() if isinstance(method, RolesMethod) else {}
    return {role: named_model(spec, config, store) for role, spec in asked.items()}


def named_model(spec: str, config: RunConfig, store: Store) -> ModelHandle:
    """What `spec` names, under the config's options of models."""
    from thresher.backends import resolve

    return resolve(
        spec,
        device=config.device,
        dtype=config.dtype,
        batch_tokens=config.batch_tokens,
        trust_remote_code=config.trust_remote_code,
        cache=store.root / "models",
    )
