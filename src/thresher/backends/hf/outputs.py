"""What one forward pass computes for its rows: losses, the spread of the next token's distribution,
hidden states."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

CHUNK_LOGITS = 2**24  # logits whose probabilities are in memory at once: 64 MB in fp32


@dataclass(frozen=True, slots=True)
class Outputs:
    """What to compute.

    loss: nll, tokens and greedy_match.
    spread: entropy and own_gap, which need the same logits.
    states: (depth, part) of each mean hidden state; see `states.py`.
    words: the losses of marked and of other answer tokens apart.
    """

    loss: bool = True
    spread: bool = False
    states: tuple[tuple[int, str], ...] = ()
    words: bool = False

    @property
    def logits(self) -> bool:
        return self.loss or self.spread or self.words


LOSS = Outputs()


@dataclass(slots=True)
class Loss:
    """One row's outputs; NaN or None if they are not computed.

    nll: mean negative log-likelihood of the answer tokens, in nats.
    tokens: number of answer tokens.
    greedy_match: whether greedy decoding gives exactly these answers.
    entropy: mean entropy of the next token's distribution at the answer tokens, in nats.
    own_gap: mean log-probability of the most likely token minus that of the answer's, in nats.
    states: float32 [len(Outputs.states), hidden size], of length 1.
    words: see `word_losses`.
    """

    nll: float
    tokens: int
    greedy_match: bool
    entropy: float = float("nan")
    own_gap: float = float("nan")
    states: np.ndarray | None = None
    words: tuple[float, int, float, int] | None = None


def word_losses(nll: np.ndarray, light: np.ndarray) -> tuple[float, int, float, int]:
    """The summed loss in nats and the number of the tokens that are not marked, then of those that
    are.

    Arguments:
        nll: float64 [m], of the answer tokens.
        light: bool [m], the marked ones.
    """
    return float(nll[~light].sum()), int((~light).sum()), float(nll[light].sum()), int(light.sum())


def entropy_and_gap(logits: torch.Tensor, target: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Entropy of each position's distribution, and the log-probability of its most likely token
    minus that of `target`: float64 [n] each, in nats.

    Arguments:
        logits: float32 [n, vocabulary].
        target: int64 [n], token ids.
    """
    step = max(CHUNK_LOGITS // logits.shape[-1], 1)
    chunks = zip(logits.split(step), target.split(step), strict=True)
    parts = [_entropy_and_gap(*chunk) for chunk in chunks]
    entropy, gap = (np.concatenate(column) for column in zip(*parts, strict=True))
    return entropy, gap


def _entropy_and_gap(logits: torch.Tensor, target: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
    top = logits.max(-1).values
    gap = top - logits.gather(-1, target[:, None]).squeeze(-1)
    # -sum p log p with log p = x - log(sum exp x), x = logit - top <= 0; a masked token has p = 0
    x = logits - top[:, None]
    weight = x.exp()
    total = weight.sum(-1)
    entropy = total.log() - (weight * x.clamp(min=-1e4)).sum(-1) / total
    return entropy.double().cpu().numpy(), gap.double().cpu().numpy()
