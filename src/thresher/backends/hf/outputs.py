"""What one pass over rows is asked to give: losses, how the probability spreads over the
vocabulary, hidden states."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

CHUNK = 2**24  # logits whose probabilities are held at once: 64 MB in fp32


@dataclass(frozen=True, slots=True)
class Outputs:
    """`loss`: nll, tokens and greedy_match. `spread`: also entropy and own_gap, which need the
    same logits. `states`: (depth, part) of each mean hidden state; see `states.py`."""

    loss: bool = True
    spread: bool = False
    states: tuple[tuple[int, str], ...] = ()

    @property
    def logits(self) -> bool:
        return self.loss or self.spread


LOSS = Outputs()


@dataclass(slots=True)
class Loss:
    """Of one row, means over its answer tokens; NaN or None where it was not asked for."""

    nll: float
    tokens: int
    greedy_match: bool
    entropy: float = float("nan")
    own_gap: float = float("nan")
    states: np.ndarray | None = None  # float32 [len(Outputs.states), hidden size]


def spread(logits: torch.Tensor, target: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Entropy of each position's distribution, and the log-probability of its likeliest token
    minus that of `target`: float64 [n] each, in nats.

    logits: float32 [n, vocabulary]. target: int64 [n].
    """
    step = max(CHUNK // logits.shape[-1], 1)
    parts = [_spread(*some) for some in _pieces(logits, target, step)]
    entropy, gap = (np.concatenate(column) for column in zip(*parts, strict=True))
    return entropy, gap


def _pieces(
    logits: torch.Tensor, target: torch.Tensor, step: int
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    yield from zip(logits.split(step), target.split(step), strict=True)


def _spread(logits: torch.Tensor, target: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
    top = logits.max(-1).values
    gap = top - logits.gather(-1, target[:, None]).squeeze(-1)
    # -sum p log p with log p = x - log(sum exp x), x = logit - top <= 0; a masked token has p = 0
    x = logits - top[:, None]
    weight = x.exp()
    total = weight.sum(-1)
    entropy = total.log() - (weight * x.clamp(min=-1e4)).sum(-1) / total
    return entropy.double().cpu().numpy(), gap.double().cpu().numpy()
