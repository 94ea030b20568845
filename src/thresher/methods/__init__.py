"""The methods by name, in one explicit table; importing a module registers nothing.

A method is one file: a frozen dataclass whose fields are its settings, `signals` that names the
columns it needs, and `select` that does arithmetic on them. Other packages add methods through the
entry-point group `thresher.methods` (name -> "module:Class").
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import entry_points
from typing import Any

from thresher.errors import ConfigError, did_you_mean
from thresher.methods.needs import needs
from thresher.methods.settings import Setting, parse, settings_of
from thresher.types import Capability, Method

METHODS: dict[str, str] = {
    "random": "thresher.methods.random:Random",
    "stratified": "thresher.methods.stratified:Stratified",
    "length": "thresher.methods.length:LongestAnswers",
    "perplexity": "thresher.methods.perplexity:Perplexity",
    "clipper": "thresher.methods.clipper:Clipper",
    "mllm_selector": "thresher.methods.mllm_selector:MllmSelector",
    "mmssr": "thresher.methods.mmssr:Mmssr",
    "error_driven": "thresher.methods.error_driven:ErrorDriven",
    "winnow": "thresher.methods.winnow:Winnow",
    "visnec": "thresher.methods.visnec:VisNec",
    "dics": "thresher.methods.dics:Dics",
}

PLUG_INS = "thresher.methods"


@dataclass(frozen=True)
class MethodInfo:
    """One row of `thresher methods`.

    needs: what its signals need of a backend; empty: no model.
    settings: what `--set` may change.
    paper: "" for a baseline.
    """

    name: str
    summary: str
    needs: tuple[Capability, ...]
    settings: tuple[Setting, ...]
    paper: str


def available() -> dict[str, str]:
    """name -> "module:Class": the built-in methods, then plug-ins by name. A plug-in cannot replace
    a built-in method."""
    found = dict(METHODS)
    for point in sorted(entry_points(group=PLUG_INS), key=lambda p: p.name):
        found.setdefault(point.name, point.value)
    return found


def method_class(name: str) -> type[Any]:
    """The class of a method. Raises ConfigError for an unknown name, with the closest known one."""
    place = METHODS.get(name) or available().get(name)  # built-in: plug-ins need not be looked for
    if place is None:
        table = available()
        raise ConfigError(
            f": there is no such method.{did_you_mean(name, list(table))} "
            f"Available: {', '.join(table)}. `thresher methods` lists what each needs.",
            option="method",
            value=name,
        )
    module, _, attribute = place.partition(":")
    found: type[Any] = getattr(importlib.import_module(module), attribute)
    return found


def load(name: str, settings: Mapping[str, str] | None = None) -> Method:
    """Create a method.

    Arguments:
        name: of the method.
        settings: name -> value as the user types it after `--set`.

    Raises ConfigError.
    """
    cls = method_class(name)
    method: Method = cls(**parse(cls, settings or {}, name))
    return method


def without_a_model() -> tuple[str, ...]:
    """The methods that ask no model with their default settings."""
    return tuple(info.name for info in describe() if not info.needs)


def describe() -> list[MethodInfo]:
    """Every method, in the order of the table."""
    rows = []
    for name in available():
        cls = method_class(name)
        rows.append(MethodInfo(name, cls.summary, needs(cls()), settings_of(cls), cls.paper))
    return rows
