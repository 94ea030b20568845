"""Backends of the tiny models, opened once a process: opening checks the model, which takes longer
than most tests here."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator

from tests.tiny_models import build
from thresher.backends import resolve
from thresher.backends.hf.backend import HFBackend


@functools.cache
def opened(name: str) -> HFBackend:
    """The backend of the tiny model `name`. Shared: do not change it."""
    backend: HFBackend = resolve(str(build(name))).open()
    return backend


@contextlib.contextmanager
def borrowed(name: str) -> Iterator[HFBackend]:
    """The same, as it was opened; attributes that the block sets are put back."""
    backend = opened(name)
    kept = [(part, dict(vars(part))) for part in (backend, backend.forward)]
    yield backend
    for part, attributes in kept:
        vars(part).clear()
        vars(part).update(attributes)
