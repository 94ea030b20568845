"""How well a model answers: exact match, likelihood of candidates, ANLS and relaxed accuracy, each
with a confidence interval.

The names below are imported on first use, because they need pyarrow and the engine.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from thresher.evaluation.evaluator import SCORES, check_rows, evaluate
    from thresher.evaluation.report import Evaluation, Group

__all__ = ["SCORES", "Evaluation", "Group", "check_rows", "evaluate"]

_HOME = dict.fromkeys(("SCORES", "check_rows", "evaluate"), "evaluator") | dict.fromkeys(
    ("Evaluation", "Group"), "report"
)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
