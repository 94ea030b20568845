"""`thresher.select`: a selection as one Python call. The result can be displayed in a notebook, and
written to a folder as the command does."""

from __future__ import annotations

import functools
import inspect
import os
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, get_type_hints

from thresher.errors import ConfigError, did_you_mean, in_python, spelled
from thresher.pools.paths import printable
from thresher.request import REQUIRED, RunRequest, parameters_section
from thresher.request.run_request import DEFAULT_METHOD

if TYPE_CHECKING:
    from thresher.pools import Pool
    from thresher.selection.result import Outcome


@dataclass(frozen=True)
class Chosen:
    """A selection and its pool."""

    outcome: Outcome
    pool: Pool
    request: RunRequest
    cost: Mapping[str, Any] | None = None
    """What the run was predicted to take and took, as in run.yaml; None: it scored nothing."""

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
        more = [f"{self.outcome.excluded:,} left out"] if self.outcome.excluded else []
        more += [f"{len(self.outcome.notes)} in outcome.notes"] if self.outcome.notes else []
        return f"<Chosen: {first}{''.join('; ' + text for text in more)}>"

    def _repr_html_(self) -> str:
        from thresher.report.notebook import chosen_html

        return chosen_html(self.outcome, self.pool, self.request.settings, self)

    def write(self, folder: str | Path, *, overwrite: bool = False) -> Path:
        """Write the files of `thresher select --out`; a report that cannot be written is a warning.

        Arguments:
            folder: where the files are written; created if it does not exist.
            overwrite: replace the selection of another request, which is an error otherwise
                (ConfigError).
        """
        from thresher.report import try_to_write
        from thresher.selection import folder as output

        output.write(
            self.outcome,
            self.pool,
            self.request,
            Path(folder),
            overwrite=overwrite,
            cost=self.cost,
        )
        if problem := try_to_write(folder, self.pool):
            warnings.warn(problem, stacklevel=2)
        return Path(folder)


P = ParamSpec("P")
PARAMETERS = "{parameters}"  # in a docstring: where those of the request are documented
NO_KEYWORDS = ("out", "decided")  # fields of a request that only a command has
DEFAULTS = {"method": DEFAULT_METHOD, "budget": "30%"}


def takes_request(
    make: Callable[Concatenate[str, P], RunRequest],
) -> Callable[
    [Callable[[Pool | str | Path, RunRequest], Chosen]],
    Callable[Concatenate[Pool | str | Path, P], Chosen],
]:
    """Give a function of a pool and a request the arguments of the request itself, with their
    documentation: one for each of its fields."""

    def decorate(
        function: Callable[[Pool | str | Path, RunRequest], Chosen],
    ) -> Callable[Concatenate[Pool | str | Path, P], Chosen]:
        def call(pool: Pool | str | Path, *args: P.args, **kwargs: P.kwargs) -> Chosen:
            from thresher.selection.config import checked

            if not isinstance(pool, (str, Path)) and not hasattr(pool, "spec"):
                raise TypeError(
                    f"{function.__name__}(): the pool must be a path or what open_pool gave, not "
                    f"{type(pool).__name__}."
                )
            try:
                given = call.__signature__.bind(pool, *args, **kwargs).arguments  # type: ignore[attr-defined]
            except TypeError as e:
                hint = _hint(kwargs, list(hints))
                raise TypeError(f"{function.__name__}() {e}.{hint}") from None
            given["pool"] = os.fspath(pool) if isinstance(pool, (str, Path)) else pool.spec
            values = {
                name: checked(name, value, make) if isinstance(make, type) else value
                for name, value in given.items()
                if value is not None
            }
            request = make(**values)  # type: ignore[call-arg]
            unset = {name: text for name, text in DEFAULTS.items() if not getattr(request, name)}
            return function(pool, replace(request, **unset))  # type: ignore[arg-type]

        functools.update_wrapper(call, function)
        hints = get_type_hints(make)
        parameters = [
            p.replace(default=DEFAULTS.get(name, p.default), annotation=hints[name])
            for name, p in inspect.signature(make).parameters.items()
            if name not in NO_KEYWORDS
        ]
        parameters = [  # a factory is not a value that a user could pass
            p.replace(default=None) if isinstance(make, type) and p.name == "settings" else p
            for p in parameters
        ]
        parameters[0] = parameters[0].replace(default=REQUIRED, annotation="Pool | str | Path")
        about = inspect.getdoc(function) or ""
        if isinstance(make, type):
            defaults = {**DEFAULTS, "pool": REQUIRED}
            types = {"pool": "str, Path or Pool"}
            section = parameters_section(make, defaults, types, leave_out=NO_KEYWORDS)
            about = about.replace(PARAMETERS, section) if PARAMETERS in about else section
        call.__doc__ = about
        call.__signature__ = inspect.Signature(parameters, return_annotation=Chosen)  # type: ignore[attr-defined]
        return call  # type: ignore[return-value]  # the pool may be named, too

    return decorate


def _hint(given: Mapping[str, Any], known: list[str]) -> str:
    """A hint for the first unknown argument."""
    wrong = next((name for name in given if name not in known or name == "out"), None)
    if wrong is None:
        return ""
    if wrong == "out":
        return " Nothing is written yet: call .write(folder) on what is returned."
    meant = did_you_mean("settings" if wrong == "set" else wrong, known)
    return f"{meant} A method's own settings go into settings={{…}}."


@takes_request(RunRequest)
def select(pool: Pool | str | Path, request: RunRequest) -> Chosen:
    """Choose the rows of a pool worth training on.

    Scores are stored, and reused by later calls and by the command line.

    {parameters}

    Returns
    -------
    Chosen
        The selection and its pool; `write` writes them to a folder.

    Raises
    ------
    ConfigError
        A parameter is wrong: an unknown method or setting, an impossible budget.
    ThresherError
        The pool or the model cannot be used, or too many rows cannot be scored; the subclasses in
        `thresher.errors` tell which.

    Examples
    --------
    >>> import thresher
    >>> chosen = thresher.select(
    ...     "train.json", budget="30%", images="images", model="demo"
    ... )  # doctest: +SKIP
    >>> chosen.write("out/winnow30")  # doctest: +SKIP
    """
    from thresher.selection import iterate as in_rounds
    from thresher.selection.config import check_request
    from thresher.selection.cost_record import cost_section
    from thresher.selection.engines import workers
    from thresher.selection.opening import prepare
    from thresher.selection.result import require_rows
    from thresher.selection.tracked import track_selection
    from thresher.tracking import require_tracker, tracked

    opened = None
    if not isinstance(pool, (str, Path)):
        if request.images is not None:
            raise ConfigError(
                " belongs to open_pool: this pool is open already.",
                option="images",
                value=request.images,
            )
        opened = pool
        if request.video_frames is not None and pool.video_frames != request.video_frames:
            raise ConfigError(
                ": this pool is open already. Call its `score_videos` instead.",
                option="video_frames",
                value=request.video_frames,
            )
        request = replace(
            request,
            images=pool.images,
            trust_paths=pool.trust_paths,
            video_frames=pool.video_frames,
        )
    check_request(request)
    require_tracker(request.track)
    job = prepare(request, _warn, out=False, pool=opened, progress=False)
    task = job.task
    settings = task.request.to_mapping()
    began = time.monotonic()
    with tracked(request.track, task.request.method, settings, _warn) as tracking:
        with workers(job, _warn) as job:
            shown = tracking.progress(job.context.progress)
            outcome = in_rounds.select(task, replace(job.context, progress=shown))
        require_rows(outcome)
        seconds = time.monotonic() - began
        cost = cost_section(task, job.context, seconds, job.server.account.requests)
        track_selection(outcome, task.pool, task.request, tracking)
    return Chosen(outcome, task.pool, task.request, cost)


def _warn(text: str) -> None:
    warnings.warn(spelled(text, in_python), stacklevel=5)
