"""Stores with one column, written by `Store`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from thresher.storage.columns import Store
from thresher.types import DIGEST, Capability, Field, ModelIdentity

MODEL = ModelIdentity("sha256:0123456789abcdef", "llava", "float32", "pil")


@dataclass(frozen=True)
class Score:
    """A signal of version 1 that has a model."""

    kind: ClassVar[str] = "test_score"
    needs: ClassVar[Capability] = Capability.NONE
    fields: ClassVar[tuple[Field, ...]] = (Field("x", "float32", "a number"),)
    model: ModelIdentity = MODEL
    version: ClassVar[int] = 1


def keys(n: int) -> np.ndarray:
    return np.arange(1, n + 1, dtype=">u8").repeat(4).view(DIGEST)


def filled(root: Path, rows: int = 5) -> tuple[Store, str]:
    store = Store(root)
    fp = store.register(Score())  # type: ignore[arg-type]
    values = {"x": np.arange(rows, dtype=np.float32)}
    store.append(fp, Score.fields, keys(rows), values, [""] * rows)
    return store, fp
