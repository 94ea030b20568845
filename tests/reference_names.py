"""Former names of this package, for the scripts of ../shared/reference/families, which check it
from outside and are not edited here. `install` adds them to the modules and classes that have the
thing under its present name; `tests.tiny_models`, which the scripts import first, calls it."""

from __future__ import annotations

import sys
from typing import Any

from thresher.backends.hf import training_loss
from thresher.backends.hf.backend import HFBackend
from thresher.backends.hf.forward import Forward
from thresher.signals import query


def install() -> None:
    """Add the names."""
    sys.modules["thresher.backends.hf.teach"] = training_loss
    former: dict[Any, dict[str, Any]] = {
        sys.modules["thresher.backends.hf"]: {"teach": training_loss},
        query: {"derived": query.judge_prompt},
        HFBackend: {"asks": HFBackend.query_mode},
        Forward: {"asks": property(_query_mode, _set_query_mode)},
    }
    for owner, names in former.items():
        for name, thing in names.items():
            setattr(owner, name, thing)


def _query_mode(forward: Any) -> Any:
    return forward.query_mode


def _set_query_mode(forward: Any, mode: Any) -> None:
    forward.query_mode = mode
