"""The current version of every kind of signal that comes with thresher."""

from __future__ import annotations

import dataclasses
import importlib
import pkgutil

import thresher.signals


def versions() -> dict[str, int]:
    """kind -> version, of all frozen dataclasses in `thresher.signals`."""
    found: dict[str, int] = {}
    for module in pkgutil.iter_modules(thresher.signals.__path__, "thresher.signals."):
        for value in vars(importlib.import_module(module.name)).values():
            if isinstance(value, type) and dataclasses.is_dataclass(value):
                kind = vars(value).get("kind")
                if isinstance(kind, str):
                    found[kind] = int(getattr(value, "version", 0))
    return found
