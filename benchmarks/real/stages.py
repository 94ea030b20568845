"""The three stages of the base model's training. The vision tower is always frozen.

0. Words: the projector's outputs are pulled towards the word vectors of what is said of a picture.
   The language model does not run. Loss: cross-entropy of the words said, under the largest cosine
   of any image token with each word vector; and the outputs' norm, towards that of word vectors.
1. Projector: through the frozen language model, on the answers.
2. Model: projector and low-rank adapters of the language model (merged at the end), on the answers.

Stage 0 makes stage 1 short: a new projector's outputs mean nothing to a language model.
"""

from __future__ import annotations

import contextlib
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from benchmarks.real.loop import HALVES, Training, run
from benchmarks.real.packed import Encoded, PackedBatch, pack
from benchmarks.real.plan import Plan
from benchmarks.real.rows import Picture
from benchmarks.real.workers import Team

from thresher.training.length_groups import group_by_length

SHARPNESS = 20.0  # factor of the cosines of stage 0
NORM_WEIGHT = 0.1
RARE = 3  # words said of fewer pictures are left out
PASS_TOKENS = 16  # cost of one more pass of the language model, in tokens
FUNCTION_WORDS = frozenset(
    """a an the of in on with and is are at to his her their its by from for near while as it there
    that this two some not no does text picture someone called place garment describes shows
    describe""".split()  # noqa: SIM905
)
LAYERS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


@dataclass(frozen=True)
class Material:
    """What all stages train on.

    pictures, encoded: n pictures and their tokens.
    features: float16 [m, 16, 1536] of all pictures.
    numbers: int64 [n], rows of `features`.
    """

    pictures: Sequence[Picture]
    encoded: Sequence[Encoded]
    features: np.ndarray
    numbers: np.ndarray

    def seen(self, rows: np.ndarray) -> np.ndarray:
        """float16 [k, 16, 1536]. `rows`: int64 [k], of `pictures`."""
        return np.asarray(self.features[self.numbers[rows]])


def train(
    model: Any,
    tokenizer: Any,
    plan: Plan,
    data: Material,
    out: Path,
    team: Team,
    checkpoint_every: float,
) -> float:
    """Train `model` in place; returns the CPU seconds of this process, with those of earlier runs.

    Checkpoints go to `out` every so many seconds; finished stages are loaded from them.
    """
    model.requires_grad_(False)
    projector = model.model.multi_modal_projector.requires_grad_(True)
    language = model.model.language_model
    named = {f"projector.{n}": p for n, p in projector.named_parameters()}
    per_pass = len(data.pictures) / plan.batch

    def stage(name: str, steps: float, rate: float, half: Callable[[int, int], float]) -> float:
        training = Training(name, max(round(steps), 1), rate, named, half)
        return run(training, out / f"{name}.pt", team, checkpoint_every).cpu_seconds

    words = words_half(model, tokenizer, plan, data)
    seconds = stage("words", plan.word_steps, plan.word_rate, words)
    if plan.precision == "bf16":
        language.to(dtype=_bf16())
    answers = answers_half(model, plan, data, seed=1)
    steps = plan.projector_passes * per_pass
    seconds += stage("projector", steps, plan.projector_rate, answers)
    named |= add_adapters(language, plan)
    answers = answers_half(model, plan, data, seed=2)
    seconds += stage("model", plan.passes * per_pass, plan.rate, answers)
    merge_adapters(language)
    return seconds


def add_adapters(language: Any, plan: Plan) -> dict[str, Any]:
    """Put low-rank adapters on the language model; returns their parameters by name."""
    import peft
    import torch

    torch.manual_seed(plan.seed)
    config = peft.LoraConfig(
        r=plan.lora_rank, lora_alpha=2 * plan.lora_rank, target_modules=list(LAYERS)
    )
    peft.inject_adapter_in_model(config, language)
    adapters = {n: p for n, p in language.named_parameters() if "lora_" in n}
    for parameter in adapters.values():
        parameter.data = parameter.data.float()
        parameter.requires_grad_(True)
    return adapters


def merge_adapters(language: Any) -> None:
    """Add the adapters to the weights, in fp32, and remove them."""
    from peft.tuners.lora import LoraLayer

    language.float()
    found = [(n, m) for n, m in language.named_modules() if isinstance(m, LoraLayer)]
    for name, layer in found:
        layer.merge()
        parent, _, child = name.rpartition(".")
        setattr(language.get_submodule(parent), child, layer.get_base_layer())


# ------------------------------------------------------------------------------------ stage 0


def words_half(
    model: Any, tokenizer: Any, plan: Plan, data: Material
) -> Callable[[int, int], float]:
    """The gradient of half a step of stage 0."""
    import torch
    from torch.nn import functional

    embeddings = model.get_input_embeddings().weight.detach()
    said = [content_words(p) for p in data.pictures]
    ids = vocabulary(tokenizer, said)
    if not ids:
        raise SystemExit(f"No word is said of {RARE} pictures or more: give more pictures.")
    column = {word: k for k, word in enumerate(ids)}
    center = embeddings.mean(0)
    vectors = embeddings[list(ids.values())]
    norm = vectors.norm(dim=1).mean()
    directions = functional.normalize(vectors - center, dim=1)  # [words, d]
    projector = model.model.multi_modal_projector
    batches = Batches(len(data.pictures), plan.word_batch, plan.seed)

    def half(step: int, which: int) -> float:
        rows = batches.half(step, which)
        outputs = projector(torch.from_numpy(data.seen(rows)).to(embeddings))  # [b, 16, d]
        cosines = functional.normalize(outputs - center, dim=2) @ directions.T
        logits = (SHARPNESS * cosines).logsumexp(1)  # [b, words]
        counts = torch.zeros_like(logits)
        for k, row in enumerate(rows.tolist()):
            for word in said[row]:
                if word in column:
                    counts[k, column[word]] += 1
        of_words = -(logits.log_softmax(1) * counts).sum() / counts.sum().clamp(min=1)
        of_norm = ((outputs.norm(dim=2) / norm - 1) ** 2).mean()
        loss = (of_words + NORM_WEIGHT * of_norm) / HALVES
        loss.backward()
        return float(loss.detach())

    return half


def content_words(picture: Picture) -> list[str]:
    """What is said of the picture, with repetitions; texts that may not describe it are left out.

    A "no" says nothing of what is there.
    """
    texts = [
        row.answer
        for row in picture.rows
        if row.kind != "match" and "no" not in row.answer.lower().split()
    ]
    found = [w for text in texts for w in re.findall("[a-z]+", text.lower())]
    return [w for w in found if w not in FUNCTION_WORDS]


def vocabulary(tokenizer: Any, said: Sequence[Sequence[str]]) -> dict[str, int]:
    """word -> token id, of words that are said of at least RARE pictures and are one token."""
    pictures = Counter(w for words in said for w in dict.fromkeys(words))
    ids = {w: tokenizer.encode(f" {w}", add_special_tokens=False) for w in sorted(pictures)}
    return {w: i[0] for w, i in ids.items() if len(i) == 1 and pictures[w] >= RARE}


# ----------------------------------------------------------------------------- stages 1 and 2


def answers_half(model: Any, plan: Plan, data: Material, seed: int) -> Callable[[int, int], float]:
    """The gradient of half a step: the answers' mean loss per token of the whole step."""
    batches = Batches(len(data.pictures), plan.batch, plan.seed + seed)

    def half(step: int, which: int) -> float:
        tokens = sum(int(data.encoded[i].is_target.sum()) for i in batches.step(step))
        rows = batches.half(step, which)
        lengths = np.array([len(data.encoded[i]) for i in rows])
        total = 0.0
        for group in group_by_length(lengths, PASS_TOKENS):
            chosen = rows[group]
            batch = pack([data.encoded[i] for i in chosen])
            losses, _ = answer_losses(model, batch, data.seen(chosen), plan.precision)
            loss = losses.sum() / tokens
            loss.backward()
            total += float(loss.detach())
        return total

    return half


def answer_losses(
    model: Any, batch: PackedBatch, features: np.ndarray, precision: str
) -> tuple[Any, Any]:
    """(losses, right) of the targets: float32 [T], nats; bool [T], whether the token is the most
    likely one."""
    import torch

    language = model.model.language_model
    embeddings = language.embed_tokens.weight
    device = embeddings.device
    ids = torch.from_numpy(batch.ids).to(device)
    inputs = embeddings[ids].float()
    seen = torch.from_numpy(features).to(device).float()
    images = model.model.multi_modal_projector(seen)  # [B, 16, d]
    at_image = (ids == model.config.image_token_id)[:, :, None]
    inputs = inputs.masked_scatter(at_image, images.to(inputs.dtype))
    if precision == "bf16":
        inputs, context = inputs.to(_bf16()), torch.autocast(device.type, _bf16())
    else:
        context = contextlib.nullcontext()
    with context:
        hidden = language(
            inputs_embeds=inputs,
            attention_mask=torch.from_numpy(batch.visible).to(device),
            position_ids=torch.from_numpy(batch.positions).to(device),
            use_cache=False,
        ).last_hidden_state
        logits = hidden[torch.from_numpy(batch.predicts).to(device)] @ embeddings.T
    targets = torch.from_numpy(batch.targets).to(device)
    losses = torch.nn.functional.cross_entropy(logits.float(), targets, reduction="none")
    return losses, logits.argmax(1) == targets


class Batches:
    """The rows of each step and of its halves: a permutation for each pass, seeded."""

    def __init__(self, rows: int, size: int, seed: int) -> None:
        self._rows, self._size, self._seed = rows, min(size, rows), seed

    def step(self, step: int) -> np.ndarray:
        """int64 [size]."""
        start = step * self._size
        passes = range(start // self._rows, (start + self._size - 1) // self._rows + 1)
        stream = np.concatenate([self._order(k) for k in passes])
        first = start - passes[0] * self._rows
        return stream[first : first + self._size]

    def half(self, step: int, which: int) -> np.ndarray:
        return self.step(step)[which::HALVES]

    def _order(self, k: int) -> np.ndarray:
        return np.random.default_rng([self._seed, k]).permutation(self._rows)


def _bf16() -> Any:
    import torch

    return torch.bfloat16
