"""`thresher.select`: the command's main job as one Python call. What it returns can be looked at, and written like the command does."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from thresher.config import RunConfig, default_store
from thresher.errors import ConfigError
from thresher.types import Budget, RolesMethod

if TYPE_CHECKING:
    from thresher.compute import OnMissing
    from thresher.pools import Pool
    from thresher.run import Outcome


@dataclass(frozen=True)
class Chosen:
    """A selection together with the pool it came from."""

    outcome: Outcome
    pool: Pool
    config: RunConfig

    @property
    def rows(self) -> Any:
        """int64 [k]: rows of the pool, best first."""
        return self.outcome.rows

    def __len__(self) -> int:
        return len(self.outcome.rows)

    def write(self, folder: str | Path) -> Path:
        """subset.json, selection.parquet and run.yaml, as `thresher select --out` writes them."""
        from thresher import output

        output.check_writable(folder)
        output.write(self.outcome, self.pool, self.config, Path(folder))
        return Path(folder)


def select(
    pool: Pool | str | Path,
    method: str = "clipper",
    budget: str = "30%",
    *,
    images: str | Path | None = None,
    model: str = "demo",
    settings: Mapping[str, str] | None = None,
    seed: int = 0,
    store: str | Path | None = None,
    on_missing: OnMissing = "auto",
) -> Chosen:
    """Choose the rows of a pool worth training on.

    `pool`: a file, or what `open_pool` gave. `model` is asked only if the method needs one. Scores are stored and reused as
    by the command. Raises the errors of `thresher.errors`.

    >>> import thresher
    >>> chosen = thresher.select("train.json", "clipper", "30%", images="images")  # doctest: +SKIP
    >>> chosen.write("out/clipper30")  # doctest: +SKIP
    """
    from thresher import run
    from thresher.backends import resolve
    from thresher.methods import load
    from thresher.methods.needs import asks_the_model, needs
    from thresher.pools import open_pool
    from thresher.store import Store

    columns = Store(str(store or default_store()))
    chosen = load(method, dict(settings or {}))
    columns.check(writes=bool(needs(chosen)))
    if isinstance(pool, (str, Path)):
        pool = open_pool(pool, images, cache=columns.root / "pools")
    elif images is not None:
        raise ConfigError("images= belongs to open_pool: this pool is open already.")
    known = columns.root / "models"
    handle = resolve(model, cache=known) if asks_the_model(chosen) else None
    further = chosen.models() if isinstance(chosen, RolesMethod) else {}
    outcome = run.select(
        pool,
        chosen,
        Budget(budget),
        seed=seed,
        model=handle,
        store=columns,
        on_missing=on_missing,
        roles={role: resolve(spec, cache=known) for role, spec in further.items()},
    )
    config = RunConfig(
        pool=str(pool.path),
        images=str(pool.images_folder),
        method=method,
        budget=budget,
        settings=dict(settings or {}),
        model=model if handle else None,
        seed=seed,
        store=str(columns.root),
        on_missing=on_missing,
    )
    return Chosen(outcome, pool, config)
