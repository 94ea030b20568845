"""Fake training and evaluation: folders that record their training rows, and a log of every
call."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import NormalDist
from typing import Any

import numpy as np
import pyarrow as pa

from thresher.backends import ModelHandle
from thresher.backends.fake import FakeBackend
from thresher.storage.atomic import write_bytes
from thresher.training.registry import Trainer
from thresher.types import ModelIdentity


@dataclass(frozen=True)
class FakeTrained:
    folder: Path
    seconds: float
    steps: int


@dataclass
class FakeTraining:
    """`fit` and `open`. Every finished training is a line of `log`; each takes `seconds`."""

    log: Path
    seconds: float = 0.0
    asked: int = 0  # calls of `fit`, also those that found their folder finished

    @property
    def trainer(self) -> Trainer:
        return Trainer(self.fit, self.open, "cpu")

    def fit(
        self,
        base: str,
        pool: Any,
        rows: np.ndarray | None,
        recipe: Any,
        out: Path,
        *,
        device: str = "auto",
        progress: Any = None,
        resume: bool = True,
        image_pixels: Any = None,
    ) -> FakeTrained:
        assert device == "cpu"
        self.asked += 1
        if (out / "model.json").exists():  # as the real one: a finished folder is reused
            return FakeTrained(out, json.loads((out / "model.json").read_text())["rows"] * 0.01, 0)
        time.sleep(self.seconds)
        rows = np.arange(len(pool)) if rows is None else rows
        out.mkdir(parents=True, exist_ok=True)
        values = {
            "base": base,
            "rows": len(rows),
            "sum": int(np.sum(rows)),
            "seed": recipe.seed,
            "steps": recipe.steps,
            "out": out.name,
        }
        write_bytes(out / "model.json", json.dumps(values).encode())
        append(self.log, json.dumps(values))
        return FakeTrained(out, len(rows) * 0.01, 1)

    def open(self, folder: Path) -> ModelHandle:
        content = hashlib.sha256((folder / "model.json").read_bytes()).hexdigest()
        identity = ModelIdentity(f"sha256:{content}", "fake", "float32", "pil")
        return ModelHandle(str(folder), identity, FakeBackend)

    def calls(self) -> list[dict[str, Any]]:
        return (
            [json.loads(line) for line in self.log.read_text().splitlines()]
            if self.log.exists()
            else []
        )


@dataclass(frozen=True)
class FakeEvaluated:
    accuracy: float
    macro: float
    rows: pa.Table


@dataclass
class FakeEvaluation:
    """`evaluate`: the rows that are right depend on the rows that the model was trained on. Every
    call is a line of `log`.

    `accuracy`: what the fake training recorded -> the model's true accuracy.
    """

    log: Path
    accuracy: Callable[[dict[str, Any]], float]
    seconds: float = 0.0
    failed: tuple[int, ...] = ()

    def __call__(
        self, model: ModelHandle, pool: Any, *, store: Any, progress: Any = None
    ) -> FakeEvaluated:
        data = json.loads((Path(model.name) / "model.json").read_text())
        time.sleep(self.seconds)
        rng = np.random.default_rng(0)
        difficulty = rng.standard_normal(len(pool))  # the same for every model
        flips = np.random.default_rng([data["seed"], data["sum"] % 2**31]).standard_normal(
            len(pool)
        )
        luck = 0.9 * difficulty + np.sqrt(1 - 0.81) * flips
        correct = [bool(c) for c in luck < NormalDist().inv_cdf(self.accuracy(data))]
        error = ["no" if i in self.failed else "" for i in range(len(pool))]
        rows = pa.table(
            {
                "correct": pa.array(
                    [None if e else c for c, e in zip(correct, error, strict=True)], pa.bool_()
                ),
                "image": pa.array(list(range(len(pool)))),
                "error": error,
            }
        )
        append(self.log, json.dumps({**data, "model": Path(model.name).parent.name}))
        share = float(np.mean([c for c, e in zip(correct, error, strict=True) if not e]))
        return FakeEvaluated(share, share, rows)

    def calls(self) -> list[dict[str, Any]]:
        return (
            [json.loads(line) for line in self.log.read_text().splitlines()]
            if self.log.exists()
            else []
        )


def append(log: Path, line: str) -> None:
    """At once, so that it is there when the process is killed right after."""
    with open(log, "ab", buffering=0) as f:
        os.write(f.fileno(), (line + "\n").encode())
