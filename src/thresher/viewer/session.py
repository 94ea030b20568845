"""One opened selection: the current parameters and the rows they select. Selects again in memory;
no model ever runs.

What is loaded stays in memory: columns by signal (`recall`), what a mixture reads
(`mixture.cache`), and the latest `ScoredPool`. Without them CLIPPER on 100,000 rows takes, of
processor time, 0.65 s instead of 0.3 s after a ban (recall) and 0.15 s instead of 0.05 s at another
budget (`ScoredPool`). The cache of sorted arrays is for larger pools: on a million rows, another
budget takes CLIPPER 0.5 s with it and 1.1 s without, `perplexity` 0.07 s and 0.6 s.

A change that cannot be made (a wrong setting, a column that is not stored) raises and leaves
everything as it was. Writes pins. Safe to use from several threads: changes wait for each other,
what is displayed is a snapshot.

Longer than 400 lines because every change takes the same lock and replaces the same state.
"""

from __future__ import annotations

import hashlib
import os
import threading
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from thresher import methods
from thresher.backends import ModelHandle
from thresher.engine import RunContext
from thresher.engine.graph import memo_key, signals_of, target_signals_of
from thresher.errors import ConfigError, PoolError, StoreError, ThresherError, opt
from thresher.methods.needs import models_of, needs_target, uses_main_model
from thresher.methods.settings import settings_of
from thresher.mixture import may_name_signals, resolve_mixture
from thresher.mixture.cache import MixtureCache
from thresher.report import folder as folders
from thresher.report.select_report import command
from thresher.report.suspects_section import suspects_of_run
from thresher.request import SERVER, RunRequest
from thresher.request.spelling import as_flag
from thresher.samplers.ordering import SortCache, use_cache
from thresher.selection import config as configs
from thresher.selection import folder as output
from thresher.selection.opening import matching_decisions
from thresher.selection.prepare import ScoredPool, prepare
from thresher.selection.target import check, leaks
from thresher.selection.task import SelectionTask
from thresher.storage.opening import open_store
from thresher.types import EMBEDDER, Budget, Method, ModelIdentity
from thresher.viewer.displayed import DisplayedSelection, SelectionParams
from thresher.viewer.pins import DROP, KEEP, Pins
from thresher.viewer.recall import NeedsModel, Recall
from thresher.viewer.suspects import SuspectSource

if TYPE_CHECKING:
    from thresher.mixture import ResolvedMixture
    from thresher.pools import Pool

UNDO = 20  # changes of pins that can be taken back
SERVER_ONLY = tuple(name for name in SERVER if name != "url")


class Session:
    """A selection folder that `thresher select` wrote, opened. Raises ConfigError, PoolError,
    StoreError."""

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder).absolute()
        self.run = output.read(self.folder)
        self.pool: Pool = folders.open_pool_of(self.run)
        if len(self.pool) != self.run["pool"]["rows"]:
            raise PoolError(
                f"{self.pool.path} has {len(self.pool):,} rows now and had "
                f"{self.run['pool']['rows']:,} when {self.folder} was selected from it. Put the "
                "old file back, or select again."
            )
        self.store = open_store(self.run["store"])
        self.request = self._request()
        self.pins = Pins(self.folder, self.pool, self.request.keep, self.request.drop)
        self.handles = self._handles()
        self.mixture_cache, self.recall = MixtureCache(), Recall(self.pool)
        self.sort_cache = SortCache()
        self.prepared: tuple[Any, ScoredPool] | None = None  # the latest, and what it is for
        self.undoable: deque[tuple[np.ndarray, np.ndarray]] = deque(maxlen=UNDO)
        self.lock = threading.RLock()
        self._target: Pool | None = None
        self._leaked: tuple[np.ndarray, str] | None = None
        saved = folders.load(self.folder, self.pool)
        self.suspects = SuspectSource(lambda: suspects_of_run(saved))
        self.saved = saved.in_pool  # bool [n]: kept by the selection in the folder
        self.first = first = SelectionParams.of(self.run)
        self.fixed = ""  # why nothing can be chosen again here; "" if it can
        self.displayed = DisplayedSelection(
            1,
            first,
            self.pins.keep,
            self.pins.drop,
            self.run,
            self.folder,
            made=saved,
            pool=self.pool,
        )
        try:
            if self.request.rounds is not None and self.request.rounds > 1:
                raise ConfigError(
                    f"This selection was made in {self.request.rounds} rounds with a training "
                    "after each."
                )
            self.displayed = self._choose(first, self.pins.keep, self.pins.drop)
        except ThresherError as error:
            why = error.spelled(as_flag).rstrip(".")
            self.fixed = (
                f"The rows can be viewed, but nothing can be changed: {why}. "
                "Select again to change them:"
            )

    # -------------------------------------------------------------------------- what was asked then

    def _request(self) -> RunRequest:
        """The run's request, with absolute paths."""
        made = RunRequest(**configs.read(self.folder / "run.yaml"))
        noted = self.run["pool"]
        return replace(
            made,
            pool=noted["path"],
            images=noted["images"],
            format=noted.get("read_as"),
            trust_paths=noted.get("trust_paths", False),
            video_frames=noted.get("video_frames"),
            store=self.store.address,
            retry_errors=False,
            keep=_absolute(made.keep),
            drop=_absolute(made.drop),
            validation=_absolute(made.validation),
            validation_images=_absolute(made.validation_images),
        )

    def _handles(self) -> dict[str, ModelHandle]:
        """The models that the run asked, by name and as they were typed: their identity is known,
        and they cannot be opened."""

        def handle(noted: Mapping[str, Any]) -> ModelHandle:
            return ModelHandle(
                noted["name"], ModelIdentity(**noted["identity"]), open=self.refuse_model
            )

        main, roles = self.run.get("model"), self.run.get("roles") or {}
        out = {
            noted["name"]: handle(noted)
            for noted in ([main] if main else []) + list(roles.values())
        }
        if main and self.request.model:
            out.setdefault(self.request.model, handle(main))
        settings = self.run["method"].get("settings") or {}
        for role, noted in roles.items():
            out.setdefault(str(settings.get(role, noted["name"])), handle(noted))
        return out

    def refuse_model(self, *_: Any, **__: Any) -> Any:
        """Called in place of opening or training a model. Raises StoreError."""
        raise StoreError("Scores that this needs are not in the store, and no model runs here.")

    def context(self, method: Method, request: RunRequest | None = None) -> RunContext:
        """Stored columns, and the models that the run asked of them. Raises NeedsModel.

        Arguments:
            method: with its settings.
            request: what the run decided is repeated if it was for this request; None: it is not.
        """
        context = RunContext(self.store, self.model_of(method), self.roles_of(method))
        if request is None or not request.decided:
            return context
        decided = matching_decisions(request, method, self.pool, context)
        return replace(context, decided=decided)

    def model_of(self, method: Method) -> ModelHandle | None:
        """The main model of this selection; None if the method uses none."""
        if not uses_main_model(method, self.request.embedder is not None):
            return None
        if not self.run.get("model"):
            raise NeedsModel(
                f"{method.name} asks a model about the rows, and this selection "
                f"({self.run['method']['name']}) used none."
            )
        return self.handles[self.run["model"]["name"]]

    def roles_of(self, method: Method) -> dict[str, ModelHandle]:
        """The further models of the method, by role. Raises NeedsModel for one that this selection
        did not ask."""
        asked = models_of(method)
        for role, spec in asked.items():
            if spec not in self.handles:
                known = ", ".join(self.handles) or "none"
                raise NeedsModel(
                    f"{role}: nothing is stored of the model {spec!r}. Models of this selection: "
                    f"{known}."
                )
        named = {role: self.handles[spec] for role, spec in asked.items()}
        return named | self._embedder()

    def _embedder(self) -> dict[str, ModelHandle]:
        """The model that gives embeddings of rows, by its role; none if it is the main model."""
        noted = (self.run.get("roles") or {}).get(EMBEDDER)
        return {} if noted is None else {EMBEDDER: self.handles[noted["name"]]}

    def target_of(self, method: Method) -> Pool | None:
        """The validation set, opened when it is first needed."""
        if not needs_target(method):
            return None
        if self.request.validation is None:
            raise NeedsModel(
                f"{method.name} needs a validation set, and this selection had none: add "
                f"{opt('validation')} to the command."
            )
        if self._target is None:
            from thresher.pools import open_pool

            cache = self.store.root / "pools"
            self._target = open_pool(
                self.request.validation,
                self.request.validation_images,
                cache=cache if cache.is_dir() else None,
                trust_paths=self.request.trust_paths,
            )
            if self.request.video_frames is not None:
                self._target.score_videos(self.request.video_frames)
        return self._target

    # ------------------------------------------------------------------------------------- choosing

    def select(self, params: SelectionParams) -> DisplayedSelection:
        """Select again and display the result. On a ThresherError, the display is unchanged."""
        with self.lock:
            self.may_choose()
            self.displayed = self._choose(params, self.pins.keep, self.pins.drop)
            return self.displayed

    def pin(self, rows: np.ndarray, state: str) -> DisplayedSelection:
        """Make rows pinned, banned or free, on disk and in the selection.

        Raises ThresherError; then nothing changed.

        Arguments:
            rows: int64 [m], pool rows.
            state: what they become: "pinned", "banned" or "free".
        """
        with self.lock:
            self.may_choose()
            before = self.pins.keep, self.pins.drop
            keep, drop = self.pins.changed(rows, state)
            return self._with_pins(keep, drop, before)

    def undo(self) -> DisplayedSelection:
        """Take back the last change of pins. Raises ConfigError if there is none."""
        with self.lock:
            if not self.undoable:
                raise ConfigError(
                    "Nothing to undo: no row was pinned or banned since the viewer was opened."
                )
            keep, drop = self.undoable[-1]
            displayed = self._with_pins(keep, drop, None)
            self.undoable.pop()
            return displayed

    def _with_pins(
        self, keep: np.ndarray, drop: np.ndarray, before: tuple[np.ndarray, np.ndarray] | None
    ) -> DisplayedSelection:
        displayed = self._choose(self.displayed.params, keep, drop)
        self.pins.save(keep, drop)
        if before is not None:
            self.undoable.append(before)
        self.displayed = displayed
        return displayed

    def may_choose(self) -> None:
        """Raises ConfigError if nothing can be chosen again here."""
        if self.fixed:
            raise ConfigError(self.fixed)

    def _choose(
        self, params: SelectionParams, keep: np.ndarray, drop: np.ndarray
    ) -> DisplayedSelection:
        began = time.monotonic()
        request = self.request_for(params, keep, drop)
        for path, mask in ((request.keep, keep), (request.drop, drop)):
            if path is not None:
                self.mixture_cache.rows[path] = mask
        method, budget = methods.load(params.method, params.settings), Budget.parse(params.budget)
        stored = RunContext(self.store, self._asked_before(request), self._embedder())
        resolved = resolve_mixture(self.pool, budget, request, stored, self.mixture_cache)
        prepared = self._prepared(SelectionTask(self.pool, method, budget, request), resolved)
        with use_cache(self.sort_cache):
            outcome = prepared.choose(method, budget, resolved)
        seconds = time.monotonic() - began
        return DisplayedSelection(
            self.displayed.number + 1,
            params,
            keep,
            drop,
            self.run,
            self.folder,
            outcome=outcome,
            pool=self.pool,
            seconds=seconds,
        )

    def _asked_before(self, request: RunRequest) -> ModelHandle | None:
        """The model whose stored columns the mixture reads; None if it reads none."""
        main = self.run.get("model")
        return self.handles[main["name"]] if main and self._options_use_model(request) else None

    @staticmethod
    def _options_use_model(request: RunRequest) -> bool:
        """Whether options of the mixture may use the model, whatever the method does."""
        needs_model = request.dedup == "semantic" or request.drop_suspects is not None
        return needs_model or may_name_signals(request)

    def _prepared(self, task: SelectionTask, resolved: ResolvedMixture) -> ScoredPool:
        """Columns for this method, seed and rows; those of the last call if they are the same."""
        method, seed = task.method, task.request.seed
        context, target = self.context(method, task.request), self.target_of(method)
        signals = signals_of(method, context, seed, resolved.budget)
        target_signals = target_signals_of(method, context, seed)
        names = tuple(
            (name, memo_key(s)) for both in (signals, target_signals) for name, s in both.items()
        )
        within = hashlib.sha256(resolved.within.tobytes()).digest()
        key = (names, seed, within, context.model is None)
        if self.prepared is None or self.prepared[0] != key:
            repeated, leaked = self._leaks(method, context, target)
            made = prepare(
                replace(task, target=target, leaks_checked=True, excluded=repeated),
                resolved,
                replace(context, new_engine=self.recall.new_engine),
            )
            self.prepared = key, replace(made, leaked=leaked)
        return self.prepared[1]

    def _leaks(
        self, method: Method, context: RunContext, target: Pool | None
    ) -> tuple[np.ndarray, str]:
        """Rows that repeat questions of the validation set: looked for once."""
        if target is None or not check(method, target, context):
            return np.zeros(0, np.int64), ""
        if self._leaked is None:
            self._leaked = leaks(self.pool, target, self.request.on_leak or "refuse")
        return self._leaked

    # -------------------------------------------------------------------------- the same by command

    def _file(
        self, mask: np.ndarray, name: str, first: str | None, folder: Path | None
    ) -> str | None:
        """The file that names the rows: of `folder`, else the viewer's, which replaces the run's
        own `first` once there is one."""
        if not mask.any():
            return None
        if folder is not None:
            return str(folder / name)
        return (
            first
            if first is not None and not self.pins.path(name).exists()
            else str(self.pins.path(name))
        )

    def request_for(
        self, params: SelectionParams, keep: np.ndarray, drop: np.ndarray, out: Path | None = None
    ) -> RunRequest:
        """The request of `thresher select` for a selection.

        Arguments:
            params: what was requested.
            keep, drop: bool [n], pinned and banned rows.
            out: the folder of the selection and of the files that name these rows; None: no
                selection is written, and the files are the viewer's.
        """
        method = methods.load(params.method, params.settings)
        settings = {
            f.name: params.settings.get(f.name, f.default) for f in settings_of(type(method))
        }
        changes: dict[str, Any] = {
            "method": params.method,
            "settings": settings,
            "budget": params.budget,
            "seed": params.seed,
            "keep": self._file(keep, KEEP, self.request.keep, out),
            "drop": self._file(drop, DROP, self.request.drop, out),
            "out": None if out is None else str(out),
        }
        if not needs_target(method):
            changes |= {
                "validation": None,
                "validation_images": None,
                "on_leak": None,
                "rounds": None,
            }
        other = self.request.embedder is not None
        if not uses_main_model(method, other) and not self._options_use_model(self.request):
            roles_only = bool(models_of(method)) or other
            changes |= {"model": None, "backend": "hf", "url": None}
            changes |= {} if roles_only else dict.fromkeys(SERVER_ONLY)
        return replace(self.request, **changes)

    def command(self, params: SelectionParams) -> str:
        """The `thresher select` that gives this with the pins as they are, or computes what it
        lacks. Raises ConfigError."""
        request = self.request_for(params, self.pins.keep, self.pins.drop)
        return command(replace(request, out=str(self.new_name(params))).to_mapping())

    def command_or_nothing(self, params: SelectionParams) -> str:
        """As `command`; "" if the parameters are not a valid command, such as an unknown method."""
        try:
            return self.command(params)
        except ConfigError:
            return ""

    def new_name(self, params: SelectionParams) -> Path:
        """A folder beside this one that is not there yet: clipper-10, clipper-10-2 …"""
        size = "".join(c for c in params.budget.replace(".", "_") if c.isalnum() or c in "_-")
        stem = f"{params.method}-{size or 'budget'}"
        names = (stem if i == 1 else f"{stem}-{i}" for i in range(1, 10_000))
        return next(p for p in map(self.folder.parent.joinpath, names) if not p.exists())


def _absolute(path: str | None) -> str | None:
    return path if path is None or "://" in path else os.path.abspath(path)
