"""Fake models with planned answers, so that every number of an evaluation is known."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from thresher.backends import ModelHandle
from thresher.types import ModelIdentity, Sample, SampleSource, Scored

IDENTITY = ModelIdentity(weights="planted:1", architecture="planted", dtype="float32", pixels="pil")


class Planted:
    """Generates `says(sample)`; picks the first candidate that equals it (else the last).

    `stop_after`: number of rows until Ctrl-C.
    """

    def __init__(
        self,
        says: Callable[[Sample], str],
        fails: Callable[[Sample], str] = lambda sample: "",
        stop_after: int | None = None,
        finished: bool = True,
    ) -> None:
        self.says, self.fails, self.stop_after, self.finished = says, fails, stop_after, finished
        self.opened = 0
        self.asked: list[bytes] = []

    def handle(self) -> ModelHandle:
        def opened() -> Planted:
            self.opened += 1
            return self

        return ModelHandle("planted", IDENTITY, opened)

    def generate(
        self, samples: Sequence[Sample], pool: SampleSource, max_new_tokens: int
    ) -> Iterator[Scored]:
        for index in self._pieces(samples):
            texts = [self.says(samples[i]) for i in index]
            values: dict[str, Any] = {
                "text": np.array(texts, dtype=object),
                "tokens": np.array([len(t.split()) for t in texts], np.int32),
                "finished": np.full(len(index), self.finished),
            }
            yield Scored(index, values, [self.fails(samples[i]) for i in index])

    def choice(
        self, samples: Sequence[Sample], candidates: Sequence[Sequence[str]], pool: SampleSource
    ) -> Iterator[Scored]:
        for index in self._pieces(samples):
            picked = []
            for i in index:
                given = list(candidates[i])
                text = self.says(samples[i])
                picked.append(given.index(text) if text in given else len(given) - 1)
            values = {
                "picked": np.array(picked, np.int32),
                "margin": np.ones(len(index), np.float32),
            }
            yield Scored(index, values, [self.fails(samples[i]) for i in index])

    def _pieces(self, samples: Sequence[Sample]) -> Iterator[np.ndarray]:
        for start in range(0, len(samples), 4):
            index = np.arange(start, min(start + 4, len(samples)))
            if self.stop_after is not None and len(self.asked) >= self.stop_after:
                raise KeyboardInterrupt
            self.asked += [samples[i].digest for i in index]
            yield index
