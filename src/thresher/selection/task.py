"""A request with resolved names: the input of one selection."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from thresher.request import RunRequest
from thresher.types import Method, Rows, Share, Tokens

if TYPE_CHECKING:
    import numpy as np

    from thresher.pools import Pool


@dataclass(frozen=True, eq=False)
class SelectionTask:
    """Select `budget` rows of `pool` with `method`, as `request` says."""

    pool: Pool
    method: Method
    budget: Rows | Share | Tokens
    request: RunRequest = field(default_factory=RunRequest)
    target: Pool | None = None
    """The validation set, opened, for a method that uses one."""
    leaks_checked: bool = False
    """The caller has removed rows of the pool that repeat questions of `target`."""
    excluded: np.ndarray | None = None
    """int64 [m], pool rows that may not be selected."""
    usable_only: bool = False
    """Leave out rows that no model can take even if the method asks none."""
