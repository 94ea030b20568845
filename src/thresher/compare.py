"""The proof: is a method's subset worth more than a random one? Select, train, evaluate, for every method, budget and seed.

A *cell* is one method at one budget under one seed. `random` is always among the methods; `full` is the whole pool, trained
once a seed. A finished cell is three files, and is never computed again while what it depends on is the same:

    cells/<fingerprint>.npz      scores float32 [N] of the evaluation rows (NaN: failed), image int64 [N]; chosen int64 [k], the
                                 subset as places in the pool's canonical order
    cells/<fingerprint>.parquet  what the model said of each evaluation row
    cells/<fingerprint>.json     its row of compare.json; written last
    cells/<fingerprint>/model    while it is being made (kept with `keep_models`)

What a killed cell had scored, trained or answered is taken up by the store and by `fit`. Training and evaluation are
injected; statistics are in `verdict`. Writes into `out` and the store only.

Past 400 lines because a cell's identity, its steps and its files must agree line by line.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import os
import shutil
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np

from thresher import run
from thresher.errors import ConfigError, StoreError
from thresher.fingerprint import fingerprint
from thresher.methods.random import Random
from thresher.methods.settings import as_text
from thresher.output import check_writable
from thresher.targeted import leaks, needs_target
from thresher.training.recipe import Recipe
from thresher.types import Budget, Method, TargetMethod, digests_to_bytes
from thresher.verdict import Interval, Verdict, judge, over_seeds

if TYPE_CHECKING:
    import pyarrow as pa

    from thresher.backends import ModelHandle
    from thresher.compute import OnMissing
    from thresher.pools import Pool
    from thresher.progress import Progress
    from thresher.store import Store
    from thresher.trained import Trainer

VERSION = 2  # of what a cell means
REPEATED = ("id", "digest", "expected")  # columns of an evaluation that say the same in every cell
FULL, RANDOM = "full", "random"
Equal = Literal["epochs", "steps"]


class Evaluated(Protocol):
    """What is read of the answer of `evaluation.evaluate`."""

    @property
    def accuracy(self) -> float: ...  # 0 to 1
    @property
    def macro(self) -> float: ...
    @property
    def rows(
        self,
    ) -> pa.Table: ...  # `correct`, null where `error` is not ""; `image`: rows of one image share a number


class Evaluate(Protocol):
    """`evaluation.evaluate`, with what of its settings is fixed for a comparison."""

    def __call__(
        self, model: ModelHandle, pool: Pool, *, store: Store, progress: Progress | None = None
    ) -> Evaluated: ...


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
class Result:
    """A finished cell: a row of compare.json."""

    method: str
    budget: str
    rows: int  # given by the method
    seed: int
    accuracy: float  # 0 to 1
    macro: float
    seconds_selection: float  # from nothing: scores and models that were reused count in full
    seconds_training: float


@dataclass(frozen=True)
class Line:
    """One method at one budget over all seeds: a row of the table."""

    method: str
    budget: str
    rows: int
    mean: Interval  # accuracy in points, interval over seeds
    percent_of_full: float | None
    verdict: Verdict | None  # None for random and full
    seconds_selection: float  # mean over seeds
    seconds_training: float
    seconds_saved: float | None  # of training, against the full pool; None without it


@dataclass(frozen=True)
class Comparison:
    """All cells, and what they say."""

    cells: list[Result]
    lines: list[Line]
    notes: list[str]
    about: dict[str, Any]

    def to_json(self) -> dict[str, Any]:
        return {
            "cells": [asdict(c) for c in self.cells],
            "verdicts": [
                {
                    "method": x.method,
                    "budget": x.budget,
                    "rows": x.rows,
                    "kind": x.verdict.kind,
                    "verdict": x.verdict.words,
                    "difference": x.verdict.difference.mean,
                    "interval": [x.verdict.difference.low, x.verdict.difference.high],
                    "mean": x.mean.mean,
                    "mean_interval": [x.mean.low, x.mean.high],
                    "random": x.verdict.random.mean,
                    "percent_of_full": x.percent_of_full,
                    "seconds_selection": x.seconds_selection,
                    "seconds_training": x.seconds_training,
                    "seconds_saved": x.seconds_saved,
                }
                for x in self.lines
                if x.verdict is not None
            ],
            "units": "cells: accuracy and macro from 0 to 1; verdicts: points (0 to 100) and 95% intervals",
            "notes": self.notes,
            **self.about,
        }


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
    roles: Mapping[str, Mapping[str, ModelHandle]] = field(default_factory=dict)  # method -> role -> its further model
    target: Pool | None = None  # the validation set that a `TargetMethod` aims at

    def cells(self) -> list[Cell]:
        """Seed by seed, so that an unfinished comparison has whole seeds."""
        pool, test = _pool_identity(self.pool, ordered=False), _pool_identity(self.test, ordered=True)
        out = []
        for seed in range(self.seeds):
            kinds = [(name, b.text, b.rows(len(self.pool))) for b in self.budgets for name in self.methods]
            if self.full:
                kinds.append((FULL, "100%", len(self.usable)))
            for name, budget, rows in kinds:
                recipe = dataclasses.replace(self.recipe, seed=seed, steps=self._steps())
                settings = {} if name == FULL else settings_of(self.methods[name])
                what = (VERSION, name, settings, rows, seed, pool, test, self.model.identity, recipe, self.score)
                out.append(Cell(name, budget, rows, seed, fingerprint(what + self._further(name)), recipe))
        return out

    def _further(self, name: str) -> tuple[Any, ...]:
        """What else a method's cells depend on: its further models, and the set that it aims at."""
        roles = {role: handle.identity for role, handle in self.roles.get(name, {}).items()}
        aimed = self.target_of(name)
        target = "" if aimed is None else _pool_identity(aimed, ordered=False)
        return (roles, target) if roles or target else ()

    def target_of(self, name: str) -> Pool | None:
        """The validation set, for a method that aims at one."""
        return self.target if isinstance(self.methods.get(name), TargetMethod) else None

    def _steps(self) -> int | None:
        """`equal=steps`: all cells train for as many steps as the full pool needs."""
        if self.equal == "epochs" or self.recipe.steps is not None:
            return self.recipe.steps
        return math.ceil(len(self.usable) * self.recipe.epochs / (self.recipe.batch * self.recipe.accumulation))


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
) -> Job:
    """A comparison, checked. Raises ConfigError for what cannot be compared."""
    if seeds < 1:
        raise ConfigError(f"--seeds {seeds}: at least 1; 3 or more are needed to know the spread.")
    if equal not in ("epochs", "steps"):
        raise ConfigError(f"--equal {equal}: expected epochs (the same passes over each subset) or steps.")
    if not budgets:
        raise ConfigError("--budgets: at least one is needed, such as 10%.")
    sizes = [b.rows(len(pool)) for b in budgets]
    if len(set(sizes)) < len(sizes):
        raise ConfigError(f"--budgets {','.join(b.text for b in budgets)}: two of them are the same number of rows.")
    if FULL in methods:
        raise ConfigError(
            "--methods: `full` is not a method; the full pool is compared with unless --no-full says otherwise."
        )
    aimless = [name for name, m in methods.items() if isinstance(m, TargetMethod) and target is None]
    if aimless:
        raise ConfigError(
            f"--methods: {aimless[0]} looks for what the model gets wrong on a validation set: give one with --validation."
        )
    _check_apart(pool, test)
    if target is not None:
        _check_apart(target, test, "--validation")
    usable = np.ones(len(pool), bool)
    usable[list(pool.problems)] = False
    usable &= ~pool.facts["missing_images"]
    every: dict[str, Method] = {RANDOM: methods.get(RANDOM, Random()), **methods}
    ordered = tuple(b for _, b in sorted(zip(sizes, budgets, strict=True), key=lambda pair: pair[0]))
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
    )


def compare(
    job: Job,
    *,
    store: Store,
    out: str | Path,
    trainer: Trainer,
    evaluate: Evaluate,
    on_missing: OnMissing = "auto",
    keep_models: bool = False,
    progress: Progress | None = None,
    say: Callable[[str], None] | None = None,
) -> Comparison:
    """Make the cells that are not there, and judge. Writes compare.json and compare.svg into `out`.

    `say`: is told of each cell as it begins. Raises what selecting, training and evaluating raise.
    """
    out = check_writable(out)
    cells = job.cells()
    kitchen = _Kitchen(job, store, out / "cells", trainer, evaluate, on_missing, keep_models, progress)
    missing = [c for c in cells if read_cell(out, c) is None]
    if any(
        needs_target(job.methods[c.method], job.model, job.roles.get(c.method, {})) for c in missing if c.method != FULL
    ):
        _check_leaks(job, progress)
    if not keep_models:
        for cell in cells:  # of a run that was killed after its cell was finished
            if cell not in missing:
                shutil.rmtree(out / "cells" / cell.fingerprint, ignore_errors=True)
    for i, cell in enumerate(missing):
        if say is not None:
            say(f"{i + 1} of {len(missing)}: {cell.method} {cell.budget}, seed {cell.seed}")
        kitchen.make(cell)
    done = [(c, found) for c in cells if (found := read_cell(out, c)) is not None]
    assert len(done) == len(cells), "a finished cell vanished"
    comparison = _judge(job, done)
    from thresher.report.compare_plot import plot

    _publish(out / "compare.svg", plot(comparison.lines).encode())
    _publish(out / "compare.json", (json.dumps(comparison.to_json(), indent=2, ensure_ascii=False) + "\n").encode())
    return comparison


# ---------------------------------------------------------------------------------------------- one cell


@dataclass(frozen=True)
class _Kitchen:
    job: Job
    store: Store
    folder: Path
    trainer: Trainer
    evaluate: Evaluate
    on_missing: OnMissing
    keep_models: bool
    progress: Progress | None

    def make(self, cell: Cell) -> None:
        import pyarrow.parquet as pq

        work = self.folder / cell.fingerprint
        rows, seconds = self._select(cell)
        work.mkdir(parents=True, exist_ok=True)
        job, model = self.job, self.job.model
        fitted = self.trainer.fit(
            model.name, job.pool, rows, cell.recipe, work / "model", device=self.trainer.device, progress=self.progress
        )
        answered = self.evaluate(self.trainer.open(work / "model"), job.test, store=self.store, progress=self.progress)
        table = answered.rows
        scores = np.array([np.nan if c is None else float(c) for c in table["correct"].to_pylist()], np.float32)
        np.savez_compressed(
            work / "rows.npz",
            scores=scores,
            image=np.asarray(table["image"], np.int64),
            chosen=_places(job.pool)[rows],
        )
        pq.write_table(table.drop_columns([c for c in REPEATED if c in table.column_names]), work / "rows.parquet")
        result = Result(
            cell.method,
            cell.budget,
            len(rows),
            cell.seed,
            float(answered.accuracy),
            float(answered.macro),
            round(seconds, 3),
            round(float(fitted.seconds), 3),
        )
        os.replace(work / "rows.npz", self.folder / f"{cell.fingerprint}.npz")
        os.replace(work / "rows.parquet", self.folder / f"{cell.fingerprint}.parquet")
        _publish(self.folder / f"{cell.fingerprint}.json", json.dumps(asdict(result)).encode())
        if not self.keep_models:
            shutil.rmtree(work, ignore_errors=True)

    def _select(self, cell: Cell) -> tuple[np.ndarray, float]:
        """Pool rows, and the seconds that choosing them takes from nothing."""
        job = self.job
        if cell.method == FULL:
            return job.usable, 0.0
        outcome = run.select(
            job.pool,
            job.methods[cell.method],
            Budget(str(cell.rows)),
            seed=cell.seed,
            model=job.model,
            store=self.store,
            on_missing=self.on_missing,
            progress=self.progress,
            trainer=self.trainer,
            usable_only=True,
            roles=job.roles.get(cell.method),
            target=job.target_of(cell.method),
            on_leak=None,  # looked at once, before the first cell
        )
        return outcome.rows, outcome.cost


def read_cell(out: Path, cell: Cell) -> tuple[Result, np.ndarray, np.ndarray] | None:
    """(result, scores [N], image [N]) of a finished cell, or None."""
    path = out / "cells" / f"{cell.fingerprint}.json"
    try:
        told = json.loads(path.read_bytes())
        with np.load(path.with_suffix(".npz")) as arrays:
            # the budget is shown as it is written now: 10% and 300 may be the same rows
            return Result(**{**told, "budget": cell.budget}), arrays["scores"], arrays["image"]
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, KeyError) as e:
        raise StoreError(f"{path} is damaged ({e}). Delete it, and the cell is made again.") from e


def chosen_rows(out: Path, cell: Cell, pool: Pool) -> np.ndarray:
    """The subset of a finished cell: rows of `pool`, int64 [k], best first."""
    with np.load(out / "cells" / f"{cell.fingerprint}.npz") as arrays:
        return pool.order[arrays["chosen"]]


def answers_of(out: Path, cell: Cell) -> pa.Table:
    """What the model of a finished cell said: the evaluation's rows, without the columns that repeat in every cell."""
    import pyarrow.parquet as pq

    return pq.read_table(out / "cells" / f"{cell.fingerprint}.parquet")


def settings_of(method: Method) -> dict[str, str]:
    """All settings as text, defaults included."""
    return {f.name: as_text(getattr(method, f.name)) for f in dataclasses.fields(method)}  # type: ignore[arg-type]


def _pool_identity(pool: Pool, *, ordered: bool) -> str:
    """What of a pool matters: the records and their sources; for the rows of `scores` also their order in the file."""
    rows = np.arange(len(pool)) if ordered else pool.order
    h = hashlib.sha256()
    names = [name.encode("utf-8", "surrogatepass") for name in pool.source_names]
    for digest, source in zip(digests_to_bytes(pool.digest[rows]), pool.source[rows].tolist(), strict=True):
        h.update(digest + names[source] + b"\n")
    return "sha256:" + h.hexdigest()


def _places(pool: Pool) -> np.ndarray:
    """Where each row of the pool stands in its canonical order, int64 [n]: the same for every order of the file."""
    place = np.empty(len(pool), np.int64)
    place[pool.order] = np.arange(len(pool))
    return place


def _check_apart(pool: Pool, test: Pool, name: str = "the pool") -> None:
    both = len(np.intersect1d(pool.digest, test.digest))
    if both:
        raise ConfigError(
            f"{both:,} records of --eval are in {name} word for word: a method that takes them would win by knowing the "
            "answers. Take them out of one of the two."
        )


def _check_leaks(job: Job, progress: Progress | None) -> None:
    """Pool, validation set and evaluation set ask different questions, near copies included. Raises PoolError."""
    assert job.target is not None  # checked by `job`
    leaks(job.pool, job.target, "refuse", progress, instead="")
    leaks(job.target, job.test, "refuse", progress, names=("validation set", "evaluation"), instead="")


def _publish(path: Path, data: bytes) -> None:
    """Aside, then renamed: where it stands, it is complete."""
    aside = path.with_name(f".tmp-{uuid.uuid4().hex}")
    try:
        aside.write_bytes(data)
        os.replace(aside, path)
    except OSError as e:
        raise StoreError(
            f"{path} cannot be written: {e.strerror or e}. Make room and run the same command again."
        ) from e
    finally:
        aside.unlink(missing_ok=True)


# ---------------------------------------------------------------------------------------------- judging


def _judge(job: Job, done: list[tuple[Cell, tuple[Result, np.ndarray, np.ndarray]]]) -> Comparison:
    arms: dict[tuple[str, str], list[tuple[Result, np.ndarray]]] = {}
    answered = np.logical_and.reduce([np.isfinite(rows) for _, (_, rows, _) in done])
    notes = []
    if not answered.all():
        notes.append(f"{int((~answered).sum()):,} rows of --eval failed under some model; verdicts are on the others.")
    if not answered.any():
        raise StoreError("No row of --eval was answered under every model, so nothing can be compared.")
    image = done[0][1][2][answered]
    for cell, (result, rows, _) in done:
        arms.setdefault((cell.method, cell.budget), []).append((result, rows[answered]))
    scores = {key: np.stack([s for _, s in arm]) for key, arm in arms.items()}
    whole = scores.get((FULL, "100%"))
    whole_seconds = _mean([r.seconds_training for r, _ in arms[FULL, "100%"]]) if whole is not None else None
    lines = []
    for (method, budget), arm in arms.items():
        results = [r for r, _ in arm]
        verdict = None
        if method not in (RANDOM, FULL):
            verdict = judge(scores[method, budget], scores[RANDOM, budget], image, whole)
        share = None if whole is None or not whole.mean() else 100 * float(scores[method, budget].mean() / whole.mean())
        training = _mean([r.seconds_training for r in results])
        size = round(_mean([r.rows for r in results]))
        if verdict is not None and size != round(_mean([r.rows for r, _ in arms[RANDOM, budget]])):
            notes.append(f"{method} gave {size:,} rows at {budget}, not as many as random had.")
        lines.append(
            Line(
                method,
                budget,
                size,
                over_seeds(scores[method, budget], image),
                share,
                verdict,
                _mean([r.seconds_selection for r in results]),
                training,
                None if whole_seconds is None or method == FULL else whole_seconds - training,
            )
        )
    judged = [x for x in lines if x.verdict is not None]
    if job.seeds == 1:
        notes.append("One seed: the spread over seeds is assumed, not measured. Give --seeds 3 or more.")
    if len(judged) > 4:
        notes.append(f"{len(judged)} verdicts at 95%: about 1 in 20 would call a mere random draw better or worse.")
    about = {
        "pool": str(job.pool.path),
        "eval": str(job.test.path),
        "model": {"name": job.model.name, "identity": asdict(job.model.identity)},
        "recipe": {**asdict(job.recipe), "seed": "as the cell"},
        "equal": job.equal,
        "seeds": job.seeds,
        "eval_rows": int(answered.sum()),
        "settings": {name: settings_of(m) for name, m in job.methods.items()},
    }
    return Comparison([r for _, (r, _, _) in done], lines, notes, about)


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values))
