"""First training stage of the demo model: the vision tower learns to classify the content of every
patch.

It takes the place of the usual pretraining of a vision tower; the classification heads are
discarded.
"""

import time
from collections.abc import Callable
from random import Random

import numpy as np
import torch
import torch.nn.functional as F
from tools.demo_model.curriculum import any_scene
from tools.demo_model.training import Schedule, pixels
from transformers import LlavaForConditionalGeneration

from thresher.demo.render import render
from thresher.demo.scenes import DIGITS, LARGE_COLOURS, LETTERS, MAX_BAR, SHAPES, Large, Scene

COLOUR_LABELS = ("none", *LARGE_COLOURS)
THING_LABELS = ("none", "bar", *SHAPES, "rectangle", *LETTERS, *DIGITS)
HEIGHT_LABELS = MAX_BAR + 1


def patch_labels(scene: Scene) -> np.ndarray:
    """Labels of the patches, int [9, 3]: colour, object and bar height; 0 is none. A large shape
    labels the patches it covers."""
    labels = np.zeros((9, 3), dtype=np.int64)
    for thing in scene.things:
        labels[thing.row * 3 + thing.column, :2] = (
            COLOUR_LABELS.index(thing.colour),
            THING_LABELS.index(thing.name),
        )
    for bar in scene.bars:
        labels[6 + bar.column] = (
            COLOUR_LABELS.index(bar.colour),
            THING_LABELS.index("bar"),
            bar.height,
        )
    if scene.large:
        for patch in _covered(scene.large):
            labels[patch, :2] = (
                COLOUR_LABELS.index(scene.large.colour),
                THING_LABELS.index(scene.large.name),
            )
    return labels


def _covered(large: Large) -> list[int]:
    """Patches of which the shape's box covers at least a third, or else the most covered one."""
    left, top, right, bottom = (v * 3 / 64 for v in large.box)
    shares = []
    for patch in range(9):
        row, column = divmod(patch, 3)
        wide = max(0.0, min(right, column + 1) - max(left, column))
        high = max(0.0, min(bottom, row + 1) - max(top, row))
        shares.append(wide * high)
    covered = [p for p, share in enumerate(shares) if share > 1 / 3]
    return covered or [int(np.argmax(shares))]


def train_encoder(
    model: LlavaForConditionalGeneration, schedule: Schedule, seed: int, log: Callable[[str], None]
) -> float:
    """Train the vision tower; returns the accuracy on objects over the last hundred batches."""
    tower = model.model.vision_tower
    tower.requires_grad_(True)
    tower.train()
    sizes = (len(COLOUR_LABELS), len(THING_LABELS), HEIGHT_LABELS)
    torch.manual_seed(seed)
    heads = torch.nn.Linear(tower.config.hidden_size, sum(sizes))
    weights = [*tower.parameters(), *heads.parameters()]
    optimiser = torch.optim.AdamW(weights, lr=schedule.rate, weight_decay=0.0, fused=True)
    rng, start, right, counted = Random(seed), time.monotonic(), 0, 0
    accuracy = 0.0
    for step in range(schedule.steps):
        drawn = [any_scene(rng, "pretraining") for _ in range(schedule.batch)]
        labels = torch.from_numpy(np.stack([patch_labels(s) for s in drawn])).flatten(0, 1)
        images = [render(s, rng) for s in drawn]
        for group in optimiser.param_groups:
            group["lr"] = schedule.at(step)
        with torch.autocast("cpu", torch.bfloat16):
            hidden = tower(pixels(images)).last_hidden_state
        colour, thing, height = heads(hidden.float()).flatten(0, 1).split(sizes, dim=-1)
        loss = F.cross_entropy(colour, labels[:, 0]) + 2 * F.cross_entropy(thing, labels[:, 1])
        loss = loss + F.cross_entropy(height, labels[:, 2])
        loss.backward()
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        there = labels[:, 1] > 0
        right += int((thing.argmax(-1) == labels[:, 1])[there].sum())
        counted += int(there.sum())
        if (step + 1) % 100 == 0 or step + 1 == schedule.steps:
            accuracy, right, counted = right / counted, 0, 0
            rate = (step + 1) * schedule.batch / (time.monotonic() - start)
            log(
                f"encoder step {step + 1}/{schedule.steps} loss {loss.item():.3f} things "
                f"{accuracy:.3f} {rate:.0f} images/s"
            )
    tower.eval()
    return accuracy
