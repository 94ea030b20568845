"""Conformance checks for methods, built-in and of plug-ins. Raise AssertionError; run no model."""

from __future__ import annotations

import dataclasses
import inspect
import json
import os
import pickle
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

import numpy as np

from thresher.errors import ConfigError
from thresher.fingerprint import fingerprint
from thresher.methods.explanation import Evidence
from thresher.methods.needs import models_of, needs_target, uses_main_model
from thresher.methods.settings import as_text, parse, settings_of
from thresher.testing.columns import planted_columns
from thresher.types import Columns, MethodContext, ModelIdentity, Note, OfTarget, Selection, Signal

_MODEL = ModelIdentity("sha256:0", "llava", "float32", "pil")
_CHILD = """
import json, pickle, sys
method, columns, budget, target = pickle.load(sys.stdin.buffer)
print(json.dumps(method.select(columns, budget, target).rows.tolist()))
"""


def check_method(
    cls: type[Any],
    settings: Mapping[str, str] | None = None,
    *,
    columns: Columns | None = None,
    target: Columns | None = None,
    fills_budget: bool = True,
    nested: bool = False,
    other_process: bool = True,
) -> None:
    """Check that a method follows the rules of all thresher methods.

    Invalid settings raise ConfigError; signals have an identity; `select` reads no other columns,
    changes none, and returns unique rows within the budget and reasons for every row; it selects
    the same rows for another order of the rows, and in another process with another hash seed;
    `explain`, if there is one, explains every row.

    Arguments:
        cls: the class, a frozen dataclass that can be pickled.
        settings: as the user types them (`--set key=value`); None: the defaults.
        columns: of at least 20 rows, with the fields of the method's signals; None: synthetic
            values (`planted_columns`).
        target: the same for the target set, for a method that uses one.
        fills_budget: whether the method has to return exactly as many rows as requested; False: it
            may return fewer.
        nested: whether a larger budget has to contain a smaller one.
        other_process: also run in another process; takes about half a second.

    Raises AssertionError, which says what is wrong.
    """
    _check_class(cls)
    _check_settings(cls)
    method = cls(**parse(cls, settings or {}, cls.name))
    again = cls(
        **parse(cls, {s.name: as_text(getattr(method, s.name)) for s in settings_of(cls)}, cls.name)
    )
    assert again == method, "settings formatted as text must parse to the same method"
    of_pool, of_target = _check_signals(method)
    if columns is None:
        columns = planted_columns(of_pool, 200)
    if target is None and of_target:
        target = planted_columns(of_target, 20, seed=1)
        target = dataclasses.replace(
            target, values={**target.values, "row": {"row": np.arange(20)}}
        )
    columns = _only(columns, of_pool)
    n = len(columns)
    for k in (0, 1, n // 3, n, n + 9):
        _check_selection(_select_read_only(method, columns, k, target), n, k, fills_budget)
    few = columns.take(np.arange(2))
    _check_selection(method.select(few, 1, target), 2, 1, fills_budget)
    k = n // 3
    selection = method.select(columns, k, target)
    rows = selection.rows
    if hasattr(cls, "explain"):
        _check_explanation(method, selection, n)
    order = np.random.default_rng(0).permutation(n)
    shuffled = method.select(columns.take(order), k, target).rows
    assert order[shuffled].tolist() == rows.tolist(), (
        "another order of the rows gives another selection"
    )
    if nested:
        for smaller in (1, k // 2):
            less = method.select(columns, smaller, target).rows
            assert set(less.tolist()) <= set(rows.tolist()), (
                f"a budget of {k} must contain that of {smaller}"
            )
    if other_process:
        assert _in_another_process(method, columns, k, target) == rows.tolist(), (
            "another process with another hash seed gives another selection: is a set iterated, "
            "or a global seed used?"
        )


def _check_class(cls: Any) -> None:
    frozen = dataclasses.is_dataclass(cls) and getattr(cls, "__dataclass_params__").frozen  # noqa: B009
    assert frozen, "a method is a frozen dataclass"
    for name in ("name", "paper", "summary"):
        assert isinstance(getattr(cls, name, None), str), f"{name} must be a text"
    assert cls.name and cls.summary.endswith("."), (
        "a name, and a summary that is a sentence, are needed"
    )
    missing = [f.name for f in dataclasses.fields(cls) if f.default is dataclasses.MISSING]
    assert not missing, f"settings without a default: {', '.join(missing)}"
    parameters = list(inspect.signature(cls.select).parameters)
    assert parameters[:4] == ["self", "columns", "budget", "target"], (
        f"select takes columns, budget, target; not {parameters}"
    )


def _check_settings(cls: type[Any]) -> None:
    _check_refused(cls, {"no_such_setting": "x"})
    assert cls(**parse(cls, {s.name: s.default for s in settings_of(cls)}, cls.name)) == cls(), (
        "the defaults formatted as text must parse to the defaults"
    )
    for s in settings_of(cls):
        assert s.help, f"setting {s.name!r} has no help: use thresher.methods.settings.setting"
        if not s.type.startswith("text"):
            _check_refused(cls, {s.name: "no such value"})


def _check_refused(cls: type[Any], settings: Mapping[str, str]) -> None:
    try:
        parse(cls, settings, cls.name)
    except ConfigError:
        return
    raise AssertionError(f"settings {dict(settings)} must raise ConfigError")


def _check_signals(method: Any) -> tuple[dict[str, Signal], dict[str, Signal]]:
    """The signals of the pool and of the target set."""
    roles = dict.fromkeys(models_of(method), _MODEL)
    named = method.signals(MethodContext(_MODEL, roles, seed=0, budget=60))
    assert named == method.signals(MethodContext(_MODEL, roles, seed=0, budget=60)), (
        "signals must be the same each time"
    )
    pool = {name: s for name, s in named.items() if not isinstance(s, OfTarget)}
    target = {name: s.signal for name, s in named.items() if isinstance(s, OfTarget)}
    for name, signal in {**pool, **target}.items():
        assert isinstance(signal, Signal), f"signal {name!r} has no kind, version, fields or inputs"
        fingerprint(signal)
    assert bool(target) == needs_target(method)
    if uses_main_model(method):
        try:
            method.signals(MethodContext(None, roles))
        except ConfigError:
            pass
        else:
            raise AssertionError(
                "signals(context) without a model must raise ConfigError: use require_model"
            )
    return pool, target


def _only(columns: Columns, signals: Mapping[str, Signal]) -> Columns:
    """The columns of the signals only, which have to be enough for `select`."""
    values = {
        name: {f.name: columns[name][f.name] for f in signal.fields if f.name in columns[name]}
        for name, signal in signals.items()
    }
    return dataclasses.replace(columns, values=values)


def _select_read_only(method: Any, columns: Columns, k: int, target: Columns | None) -> Selection:
    """A selection from read-only arrays."""
    frozen = columns.take(np.arange(len(columns)))
    for array in (
        frozen.digest,
        frozen.ties,
        frozen.source,
        *(a for v in frozen.values.values() for a in v.values()),
    ):
        array.flags.writeable = False
    try:
        selection: Selection = method.select(frozen, k, target)
    except KeyError as error:
        raise AssertionError(f"select reads a column that no signal names: {error}") from error
    except ValueError as error:
        if "read-only" in str(error):
            raise AssertionError("select must not change its columns") from error
        raise
    return selection


def _check_selection(selection: Selection, n: int, k: int, fills_budget: bool) -> None:
    rows = selection.rows
    assert rows.ndim == 1 and rows.dtype == np.int64, (
        f"rows must be int64 [k], not {rows.dtype} {rows.shape}"
    )
    assert len(np.unique(rows)) == len(rows), "a row was selected twice"
    assert not len(rows) or (rows.min() >= 0 and rows.max() < n), (
        "a selected row is not among the columns"
    )
    expected = min(k, n)
    assert len(rows) == expected if fills_budget else len(rows) <= expected, (
        f"{len(rows)} of {n} rows for a budget of {k}"
    )
    for name, array in selection.reason.items():
        assert np.shape(array) == (n,), (
            f"reason {name!r} has shape {np.shape(array)}; one value per row is needed, ({n},)"
        )
        plain = array.dtype.kind in "biufU" or all(isinstance(v, str) for v in array.tolist())
        assert plain, f"reason {name!r} is {array.dtype}: numbers, truth values or text are needed"
    assert all(isinstance(n, (str, Note)) and str(n) for n in selection.notes), (
        "notes are sentences"
    )


def _check_explanation(method: Any, selection: Selection, n: int) -> None:
    kept = np.zeros(n, bool)
    kept[selection.rows] = True
    settings = {s.name: as_text(getattr(method, s.name)) for s in settings_of(type(method))}
    found = method.explain(Evidence(selection.reason, kept, settings))
    for i in range(n):
        why = None if found.why is None else found.why(i)
        assert why is None or (why.kind and why.text), f"row {i} has no explanation"
    missing = (found.drawn | found.hidden) - selection.reason.keys()
    assert not missing, (
        f"explain names reasons that select does not return: {', '.join(sorted(missing))}"
    )
    try:
        method.explain(Evidence({}, kept, {}))
    except KeyError as error:
        raise AssertionError(
            f"explain must work without reason {error}: an older selection may lack it"
        ) from error


def _in_another_process(method: Any, columns: Columns, k: int, target: Columns | None) -> Any:
    environment = {
        **os.environ,
        "PYTHONHASHSEED": "4711",
        "PYTHONPATH": os.pathsep.join(p for p in sys.path if p),
    }
    done = subprocess.run(
        [sys.executable, "-c", _CHILD],
        input=pickle.dumps((method, columns, k, target)),
        env=environment,
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, (
        f"select fails in another process: {done.stderr.decode(errors='replace')[-2000:]}"
    )
    return json.loads(done.stdout)
