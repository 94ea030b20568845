"""How to train: one frozen `Recipe`, validated when it is created, and values derived from it. No
side effects.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from thresher.errors import ConfigError

# parameters: the usual rates were found for billions; smaller models need higher ones
SMALL_MODEL_PARAMETERS = 100_000_000
RATES = {
    ("lora", "large"): 2e-4,
    ("full", "large"): 2e-5,
    ("lora", "small"): 2e-3,
    ("full", "small"): 1e-3,
}


@dataclass(frozen=True)
class Recipe:
    """Hyperparameters of a training. Raises ConfigError for impossible values; messages name the
    options of `thresher train`.
    """

    kind: ClassVar[str] = "training_recipe"

    # 2: targets begin at the end of the generation prompt; 3: the last answer follows that prompt
    # also where a template writes finished turns otherwise
    version: ClassVar[int] = 3
    """Part of a recipe's identity; raised when the meaning of a default or the targets change."""

    epochs: float = 1.0
    """Passes over the rows; may be fractional. Ignored if `steps` is given."""
    steps: int | None = None
    """Optimiser steps of `batch` x `accumulation` rows each, over as many epochs as needed."""
    learning_rate: float | None = None
    """None: 2e-4 for LoRA, 2e-5 for `lora=False`; models under 100 M parameters 2e-3 and 1e-3."""
    batch: int = 16
    """Rows per forward pass."""
    accumulation: int = 1
    """Batches per optimiser step."""
    lora: bool = True
    """Train low-rank adapters of the language model's linear layers; False: all weights."""
    lora_rank: int = 16
    lora_alpha: int = 32
    warmup: float = 0.03
    """Share of the steps during which the learning rate rises linearly."""
    schedule: Literal["cosine", "linear", "constant"] = "cosine"
    """Learning rate schedule after the warm-up."""
    weight_decay: float = 0.0
    seed: int = 0
    """Random seed: order of the rows and initial values of the adapters."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """auto: bf16 on a GPU that supports it, else fp32."""
    freeze_vision: bool = True
    """Do not train the vision tower; the connector to the language model is trained if `lora` is
    False."""

    def __post_init__(self) -> None:
        for name in ("epochs", "warmup", "weight_decay", "learning_rate"):
            if getattr(self, name) is not None:
                # 1 and 1.0 are the same recipe
                object.__setattr__(self, name, float(getattr(self, name)))
        _check_above("epochs", self.epochs, 0)
        _check_integer("steps", self.steps if self.steps is not None else 1, 1)
        if self.learning_rate is not None:
            _check_above("learning_rate", self.learning_rate, 0)
            if self.learning_rate > 1:
                raise ConfigError(
                    ": expected a learning rate of at most 1, such as 2e-4.",
                    option="learning_rate",
                    value=self.learning_rate,
                )
        _check_integer("batch", self.batch, 1)
        _check_integer("accumulation", self.accumulation, 1)
        _check_integer("lora_rank", self.lora_rank, 1)
        _check_integer("lora_alpha", self.lora_alpha, 1)
        _check_integer("seed", self.seed, 0)
        if not 0 <= self.warmup < 1:
            raise ConfigError(
                ": expected a share of the steps, from 0 to below 1.",
                option="warmup",
                value=self.warmup,
            )
        if not (math.isfinite(self.weight_decay) and self.weight_decay >= 0):
            raise ConfigError(
                ": expected 0 or more.", option="weight_decay", value=self.weight_decay
            )
        _check_choice("schedule", self.schedule, ("cosine", "linear", "constant"))
        _check_choice("precision", self.precision, ("auto", "fp32", "bf16"))

    def learning_rate_for(self, parameters: int) -> float:
        """The learning rate for a model with this number of parameters."""
        if self.learning_rate is not None:
            return self.learning_rate
        return RATES[
            "lora" if self.lora else "full",
            "small" if parameters < SMALL_MODEL_PARAMETERS else "large",
        ]

    def batches(self, n: int) -> list[np.ndarray]:
        """The batches of the whole training: indices 0 … n-1 of the rows, int64, in order.

        Each epoch takes every row once, shuffled with the seed; batches continue across the border
        of two epochs, so that all but the last are full.
        """
        total = (
            self.steps * self.batch * self.accumulation
            if self.steps is not None
            else max(round(self.epochs * n), 1)
        )
        passes = [
            np.random.default_rng([self.seed, k]).permutation(n) for k in range(-(-total // n))
        ]
        stream = np.concatenate(passes)[:total]
        return [stream[start : start + self.batch] for start in range(0, total, self.batch)]


def _check_above(name: str, value: float, minimum: float) -> None:
    if not (math.isfinite(value) and value > minimum):
        raise ConfigError(f": expected a number above {minimum:g}.", option=name, value=value)


def _check_integer(name: str, value: int, minimum: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < minimum:
        raise ConfigError(
            f": expected a whole number, at least {minimum}.", option=name, value=value
        )


def _check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ConfigError(f": expected one of {', '.join(choices)}.", option=name, value=value)
