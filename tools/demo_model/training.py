"""Encoding, batching and optimisation for the demo model's training; curriculum.py generates the
conversations."""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from random import Random

import numpy as np
import torch
import torch.nn.functional as F
from tools.demo_model.chat import BOS, IMAGE, assistant_text, expand_images, user_text
from tools.demo_model.curriculum import Conversation
from torch.nn.attention import SDPBackend, sdpa_kernel
from transformers import LlavaForConditionalGeneration, PreTrainedTokenizerFast

IGNORED = -100


@dataclass(frozen=True)
class Encoded:
    """One conversation as tokens; `labels` is IGNORED except for answers with a loss.

    `weights` has one entry per token with a loss: 1 / sqrt(length of its answer), so that captions
    do not dominate, times `first` for the first token of an answer, which determines the style.
    """

    ids: list[int]
    labels: list[int]
    weights: list[float]
    images: list[np.ndarray]


@dataclass(frozen=True)
class Schedule:
    """Steps and learning rate of a stage: linear warm-up, then cosine from `rate` to `rate *
    floor`."""

    steps: int
    rate: float
    batch: int = 32
    warmup: float = 0.03
    floor: float = 0.0
    first: float = 1.0  # weight of the first token of an answer

    def at(self, step: int) -> float:
        warm = min(1.0, (step + 1) / max(1.0, self.warmup * self.steps))
        cosine = 0.5 * (1 + math.cos(math.pi * step / self.steps))
        return self.rate * warm * (self.floor + (1 - self.floor) * cosine)


def encode(
    tokenizer: PreTrainedTokenizerFast,
    conversation: Conversation,
    only_last: bool = False,
    first: float = 1.0,
) -> Encoded:
    """Encode a conversation to the same tokens as the chat template and the processor."""
    texts = [BOS]
    for r in conversation:
        texts += [
            user_text(r.question, images=int(r.image is not None)),
            assistant_text(r.answer),
        ]
    pieces = tokenizer(texts, add_special_tokens=False)["input_ids"]
    image = tokenizer.convert_tokens_to_ids(IMAGE)
    ids, labels = list(pieces[0]), [IGNORED] * len(pieces[0])
    weights: list[float] = []
    for k, r in enumerate(conversation):
        user, answer = expand_images(pieces[1 + 2 * k], image), pieces[2 + 2 * k]
        learn = r.learn and not (only_last and k < len(conversation) - 1)
        ids += user + answer
        labels += [IGNORED] * len(user) + (answer if learn else [IGNORED] * len(answer))
        weights += (
            [len(answer) ** -0.5 * (first if n == 0 else 1.0) for n in range(len(answer))]
            if learn
            else []
        )
    return Encoded(ids, labels, weights, [r.image for r in conversation if r.image is not None])


def pixels(images: Sequence[np.ndarray]) -> torch.Tensor:
    """Pixel values of images of the model's own size; equal to the image processor's output."""
    stacked = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2)
    return stacked.float() / 127.5 - 1


def answer_losses(
    model: LlavaForConditionalGeneration, batch: Sequence[Encoded]
) -> tuple[torch.Tensor, ...]:
    """NLL of each token with a loss, whether it is the greedy choice, and its row in the batch.

    Rows are padded on the right; attention is causal, so no attention mask is needed.
    """
    length = max(len(e.ids) for e in batch)
    ids = torch.zeros(len(batch), length, dtype=torch.long)
    labels = torch.full((len(batch), length), IGNORED)
    for k, e in enumerate(batch):
        ids[k, : len(e.ids)] = torch.tensor(e.ids)
        labels[k, : len(e.labels)] = torch.tensor(e.labels)
    images = [p for e in batch for p in e.images]
    hidden = model.model(
        input_ids=ids, pixel_values=pixels(images) if images else None, use_cache=False
    ).last_hidden_state
    mask = labels[:, 1:] != IGNORED
    logits, targets = model.lm_head(hidden[:, :-1][mask]).float(), labels[:, 1:][mask]
    losses = F.cross_entropy(logits, targets, reduction="none")
    return losses, logits.argmax(-1) == targets, mask.nonzero()[:, 0]


def batches(
    tokenizer: PreTrainedTokenizerFast,
    rng: Random,
    make: Callable[[Random], Conversation],
    schedule: Schedule,
) -> Iterator[list[Encoded]]:
    """New conversations for every step, grouped by length within windows of sixteen batches."""
    window, done = 16, 0
    while done < schedule.steps:
        drawn = sorted(
            (
                encode(tokenizer, make(rng), first=schedule.first)
                for _ in range(window * schedule.batch)
            ),
            key=lambda e: len(e.ids),
        )
        groups = [drawn[k : k + schedule.batch] for k in range(0, len(drawn), schedule.batch)]
        rng.shuffle(groups)
        yield from groups[: schedule.steps - done]
        done += window


def train_stage(
    name: str,
    model: LlavaForConditionalGeneration,
    tokenizer: PreTrainedTokenizerFast,
    make: Callable[[Random], Conversation],
    schedule: Schedule,
    seed: int,
    log: Callable[[str], None],
) -> None:
    """Train everything except the vision tower on newly generated conversations."""
    model.train()
    model.model.vision_tower.requires_grad_(False)
    weights = [p for p in model.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW(
        weights, lr=schedule.rate, betas=(0.9, 0.98), weight_decay=0.01, fused=True
    )
    start, smooth, seen = time.monotonic(), None, 0
    for step, batch in enumerate(batches(tokenizer, Random(seed), make, schedule)):
        for group in optimiser.param_groups:
            group["lr"] = schedule.at(step)
        weight = torch.tensor([w for e in batch for w in e.weights])
        # on a CPU, and at these lengths, the plain attention kernel is about 1.7 times as fast as
        # the fused one
        with sdpa_kernel(SDPBackend.MATH):
            with torch.autocast("cpu", torch.bfloat16):
                loss = (answer_losses(model, batch)[0] * weight).sum() / weight.sum()
            loss.backward()
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        seen += len(batch)
        smooth = loss.item() if smooth is None else 0.98 * smooth + 0.02 * loss.item()
        if (step + 1) % 100 == 0 or step + 1 == schedule.steps:
            rate = seen / (time.monotonic() - start)
            log(
                f"{name} step {step + 1}/{schedule.steps} loss {smooth:.4f} {rate:.0f} "
                "conversations/s"
            )
    model.eval()
