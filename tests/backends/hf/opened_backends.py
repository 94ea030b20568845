"""Backends of the tiny models, opened once per process, because the check on opening takes longer
than most tests."""

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
    """The backend as opened; attributes set inside the block are restored."""
    backend = opened(name)
    kept = [(part, dict(vars(part))) for part in (backend, backend.forward)]
    yield backend
    for part, attributes in kept:
        vars(part).clear()
        vars(part).update(attributes)
