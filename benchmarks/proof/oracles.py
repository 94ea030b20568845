"""Oracle selectors: use the hidden labels to show what a perfect method could reach.

They read `hidden_labels.jsonl`, which no method of thresher may use.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import InitVar, dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
from benchmarks.proof.mixes import ASKED

from thresher.pools import Pool
from thresher.samplers import largest_remainder
from thresher.types import Columns, MethodContext, Selection, Signal, digests_to_bytes


@dataclass(frozen=True)
class Labels:
    """Hidden labels of a pool, in pool order. `kind`, `style`: of the first turn, str [n]; `noisy`:
    whether an answer is wrong, bool [n]."""

    kind: np.ndarray
    style: np.ndarray
    noisy: np.ndarray

    @classmethod
    def read(cls, pool: Pool) -> Labels:
        lines = Path(pool.path).with_name("hidden_labels.jsonl").read_text("utf-8").splitlines()
        labels = {x["id"]: x for x in map(json.loads, lines)}
        rows = [labels[i] for i in pool.ids(np.arange(len(pool)))]
        kind, style = (np.array([r[name] for r in rows]) for name in ("kind", "style"))
        return cls(kind, style, np.array([r["noisy"] for r in rows], bool))

    def by_digest(self, pool: Pool) -> dict[bytes, tuple[str, bool]]:
        return {
            d: (str(k), bool(n))
            for d, k, n in zip(digests_to_bytes(pool.digest), self.kind, self.noisy, strict=True)
        }


@dataclass(frozen=True)
class Oracle:
    """`balanced`: equal numbers of rows of the evaluated kinds, as far as possible; `clean`:
    correct answers only, as far as possible. Otherwise a random sample, as in `random`."""

    balanced: bool
    clean: bool
    labels: InitVar[Mapping[bytes, tuple[str, bool]]]

    name: ClassVar[str] = "oracle"
    paper: ClassVar[str] = ""
    summary: ClassVar[str] = "Sees the hidden labels."

    def __post_init__(self, labels: Mapping[bytes, tuple[str, bool]]) -> None:
        object.__setattr__(self, "_labels", labels)

    def signals(self, context: MethodContext) -> Mapping[str, Signal]:
        return {}

    def select(self, columns: Columns, budget: int, target: Columns | None = None) -> Selection:
        known = [self._labels[d] for d in digests_to_bytes(columns.digest)]  # type: ignore[attr-defined]
        kind, noisy = np.array([k for k, _ in known]), np.array([n for _, n in known], bool)
        rows = self._among(
            kind, np.flatnonzero(~noisy) if self.clean else np.arange(len(columns)), columns, budget
        )
        if len(rows) < budget:  # no clean or evaluated rows are left
            rest = np.setdiff1d(np.arange(len(columns)), rows)
            rows = np.r_[
                rows, rest[np.lexsort((columns.ties[rest], noisy[rest]))][: budget - len(rows)]
            ]
        return Selection(rows.astype(np.int64), {"kind": kind, "noisy": noisy})

    def _among(
        self, kind: np.ndarray, allowed: np.ndarray, columns: Columns, budget: int
    ) -> np.ndarray:
        order = allowed[np.argsort(columns.ties[allowed], kind="stable")]
        if not self.balanced:
            return order[:budget]
        groups = [order[kind[order] == k] for k in ASKED]
        quota = largest_remainder(budget, np.ones(len(groups)), np.array([len(g) for g in groups]))
        return np.concatenate([g[:q] for g, q in zip(groups, quota, strict=True)])


def oracles(pool: Pool) -> dict[str, Oracle]:
    labels = Labels.read(pool).by_digest(pool)
    return {
        "oracle: balanced": Oracle(True, False, labels),
        "oracle: clean": Oracle(False, True, labels),
        "oracle: balanced, clean": Oracle(True, True, labels),
    }
