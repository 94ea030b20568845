"""`thresher.select`: the command's main job as one Python call. What it returns can be looked at,
and written like the command does."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from thresher.errors import ConfigError
from thresher.pools.paths import printable
from thresher.request import RunRequest
from thresher.selection.config import default_store
from thresher.types import Budget

if TYPE_CHECKING:
    from thresher.pools import Pool
    from thresher.request import Dedup, OnLeak, OnMissing, Unscorable
    from thresher.selection.result import Outcome


@dataclass(frozen=True)
class Chosen:
    """A selection together with the pool it came from."""

    outcome: Outcome
    pool: Pool
    request: RunRequest

    @property
    def rows(self) -> Any:
        """int64 [k]: rows of the pool, best first."""
        return self.outcome.rows

    def __len__(self) -> int:
        return len(self.outcome.rows)

    def __repr__(self) -> str:
        recipe, k, n = self.outcome.recipe, len(self), len(self.pool)
        model = f", model {printable(recipe.model)}" if recipe.model else ""
        first = (
            f"{k:,} of {n:,} rows kept by {recipe.method}, budget {recipe.budget}, seed "
            f"{recipe.request.seed}{model}"
        )
        aside = [f"{self.outcome.excluded:,} left out"] if self.outcome.excluded else []
        aside += [f"{len(self.outcome.notes)} in outcome.notes"] if self.outcome.notes else []
        return f"<Chosen: {first}{''.join('; ' + text for text in aside)}>"

    def _repr_html_(self) -> str:
        from thresher.report.notebook import chosen_html

        return chosen_html(self.outcome, self.pool, self.request.settings, self)

    def write(self, folder: str | Path, *, overwrite: bool = False) -> Path:
        """Everything that `thresher select --out` writes; a report that cannot be made is a
        warning.

        `overwrite`: replace the selection of another request, which is an error otherwise
        (ConfigError).
        """
        from thresher.report import try_to_write
        from thresher.selection import folder as output

        output.write(self.outcome, self.pool, self.request, Path(folder), overwrite=overwrite)
        if problem := try_to_write(folder, self.pool):
            warnings.warn(problem, stacklevel=2)
        return Path(folder)


def select(
    pool: Pool | str | Path,
    method: str = "clipper",
    budget: str = "30%",
    *,
    images: str | Path | None = None,
    model: str | None = None,
    settings: Mapping[str, str] | None = None,
    seed: int = 0,
    store: str | Path | None = None,
    on_missing: OnMissing = "auto",
    quota: tuple[str, ...] = (),
    keep: str | None = None,
    drop: str | None = None,
    filter: tuple[str, ...] = (),
    dedup: Dedup | None = None,
    dedup_threshold: float | None = None,
    unscorable: Unscorable | None = None,
    validation: str | Path | None = None,
    validation_images: str | Path | None = None,
    on_leak: OnLeak = "refuse",
    rounds: int = 1,
    force: bool = False,
) -> Chosen:
    """Choose the rows of a pool worth training on.

    `pool`: a file, or what `open_pool` gave. `model`: a folder, a hub id or `demo`; needed only
    by methods that ask one. Scores are stored and reused as
    by the command. `quota` to `unscorable`: docs/mixture.md.
    `validation`, `on_leak` and `rounds` are for methods that aim at what the model gets wrong.
    `force`: go on with scores that mean nothing (a judge that gives no probability to its answers).
    Raises the errors of `thresher.errors`.

    >>> import thresher
    >>> chosen = thresher.select("train.json", "clipper", "30%", images="images",
    ...     model="demo")  # doctest: +SKIP
    >>> chosen.write("out/clipper30")  # doctest: +SKIP
    """
    from thresher.backends import resolve
    from thresher.engine import RunContext
    from thresher.methods import load
    from thresher.methods.needs import asks_the_model, models_of, needs
    from thresher.pools import open_pool
    from thresher.selection import iterate as in_rounds
    from thresher.selection.requirements import check_extras
    from thresher.selection.result import require_rows
    from thresher.selection.task import SelectionTask
    from thresher.storage.columns import Store

    columns = Store(str(store or default_store()))
    chosen = load(method, dict(settings or {}))
    asks = asks_the_model(chosen) or dedup == "semantic"
    if asks and model is None:
        raise ConfigError(
            f"The method {chosen.name} works with a model, and none was named. Give model= a "
            "folder or a hub id such as Qwen/Qwen2.5-VL-3B-Instruct; model='demo' is the built-in "
            "model: tiny, for trying things out."
        )
    check_extras(chosen, model=model, asks=asks, dedup=dedup, rounds=rounds)
    columns.check(writes=bool(needs(chosen)))
    folder = None if images is None else str(images)
    if isinstance(pool, (str, Path)):
        pool = open_pool(pool, images, cache=columns.root / "pools")
    elif images is not None:
        raise ConfigError("images= belongs to open_pool: this pool is open already.")
    else:
        folder = pool.images
    known = columns.root / "models"
    handle = resolve(model, cache=known) if asks and model is not None else None
    further = models_of(chosen)
    target = None
    if validation is not None:
        cache = columns.root / "pools"
        target = open_pool(validation, validation_images, cache=cache, trust_paths=pool.trust_paths)
    request = RunRequest(
        pool.spec,
        method,
        budget,
        images=folder,
        trust_paths=pool.trust_paths,
        settings=dict(settings or {}),
        model=model if handle else None,
        seed=seed,
        store=str(columns.root),
        on_missing=on_missing,
        force=force,
        validation=None if target is None else str(validation),
        validation_images=None if target is None else str(target.images_folder),
        on_leak=None if target is None else on_leak,
        rounds=None if target is None else rounds,
        quota=quota,
        keep=keep,
        drop=drop,
        filter=filter,
        dedup=dedup,
        dedup_threshold=dedup_threshold,
        unscorable=unscorable,
    )
    roles = {
        role: resolve(spec, cache=known, typed=f"{role}={spec}") for role, spec in further.items()
    }
    task = SelectionTask(pool, chosen, Budget(budget), request, target)
    outcome = in_rounds.select(task, RunContext(columns, handle, roles))
    require_rows(outcome)
    return Chosen(outcome, pool, request)
