"""The training loop: AdamW, a warm-up and a cosine, checkpoints to resume from.

A step is the sum of two halves, each computed on its own and then added, whatever the number of
processes: the weights are the same for one and for two, and after an interruption. A checkpoint
(weights, optimiser, losses) is one file that replaces the previous one.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.real.workers import Team

from thresher.storage.atomic import atomic_write

HALVES = 2
WARM_UP = 0.03  # share of the steps
LEAST = 0.1  # of the rate, at the end
CLIP = 1.0  # maximum norm of the gradient


@dataclass(frozen=True)
class Training:
    """One stage.

    name: for messages.
    steps: number of steps.
    rate: of AdamW after the warm-up, without weight decay.
    parameters: what is trained, by name; float32.
    half: (step, half) -> adds the gradient of that half's loss to the parameters and returns the
        loss; the step's loss is the sum of both. Deterministic.
    """

    name: str
    steps: int
    rate: float
    parameters: Mapping[str, Any]
    half: Callable[[int, int], float]


@dataclass(frozen=True)
class Trained:
    """`losses`: of every step; `cpu_seconds`: of this process and its earlier runs."""

    losses: list[float]
    cpu_seconds: float


def run(training: Training, file: Path, team: Team, every: float = 180.0) -> Trained:
    """Train, or resume from the checkpoint `file`.

    `every`: seconds between checkpoints. A finished stage returns at once, with its weights.
    """
    import torch

    weights = list(training.parameters.values())
    optimiser = torch.optim.AdamW(weights, lr=training.rate, weight_decay=0.0)
    losses: list[float] = []
    spent = 0.0
    if file.exists():
        saved = torch.load(file, map_location=weights[0].device, weights_only=True)
        with torch.no_grad():
            for name, parameter in training.parameters.items():
                parameter.copy_(saved["weights"][name])
        optimiser.load_state_dict(saved["optimiser"])
        losses, spent = saved["losses"], saved["cpu_seconds"]
    team.wait()  # nobody writes before everybody has read
    mine = [h for h in range(HALVES) if h % team.world == team.rank]
    spent -= time.process_time()
    started = written = time.monotonic()
    first = len(losses)
    for step in range(first, training.steps):
        for group in optimiser.param_groups:
            group["lr"] = training.rate * schedule(step, training.steps)
        total = None
        for half in mine:
            for parameter in weights:
                parameter.grad = None
            loss = training.half(step, half)
            last_entry = weights[0].new_tensor([loss])
            part = torch.cat([*map(_gradient, weights), last_entry])
            total = part if total is None else total + part
        assert total is not None
        team.add(total)
        loss = float(total[-1])
        if not math.isfinite(loss):
            raise SystemExit(f"{training.name}: the loss is {loss} after {step} steps.")
        losses.append(loss)
        offset = 0
        for parameter in weights:
            parameter.grad = total[offset : offset + parameter.numel()].view_as(parameter)
            offset += parameter.numel()
        torch.nn.utils.clip_grad_norm_(weights, CLIP)
        optimiser.step()
        now, last = time.monotonic(), step + 1 == training.steps
        if team.leads and (last or now - written > every):
            _write(file, training, optimiser, losses, spent + time.process_time())
            written = now
        if team.leads and (last or step % 20 == 19):
            seconds = (now - started) / (step + 1 - first)
            print(
                f"{training.name}: step {step + 1:,} of {training.steps:,}, loss "
                f"{sum(losses[-20:]) / len(losses[-20:]):.3f}, {seconds:.2f} s a step, "
                f"{seconds * (training.steps - step - 1) / 60:.0f} min left",
                flush=True,
            )
    team.wait()
    return Trained(losses, spent + time.process_time())


def schedule(step: int, steps: int) -> float:
    """The rate of a step as a share of the highest: a linear warm-up, then a cosine to LEAST.

    >>> [round(schedule(s, 100), 2) for s in (0, 2, 3, 51, 99)]
    [0.33, 1.0, 1.0, 0.56, 0.1]
    """
    warm_up = max(math.ceil(WARM_UP * steps), 1)
    if step < warm_up:
        return (step + 1) / warm_up
    done = (step - warm_up) / max(steps - warm_up, 1)
    return LEAST + (1 - LEAST) * (1 + math.cos(math.pi * done)) / 2


def _gradient(parameter: Any) -> Any:
    """As a vector; zeros if the loss does not depend on the parameter."""
    import torch

    if parameter.grad is None:
        return torch.zeros(parameter.numel(), dtype=parameter.dtype, device=parameter.device)
    return parameter.grad.detach().flatten()


def _write(
    file: Path, training: Training, optimiser: Any, losses: list[float], seconds: float
) -> None:
    import torch

    content = {
        "weights": {name: p.detach() for name, p in training.parameters.items()},
        "optimiser": optimiser.state_dict(),
        "losses": losses,
        "cpu_seconds": seconds,
    }
    with atomic_write(file) as temporary, temporary.open("wb") as stream:
        torch.save(content, stream)
