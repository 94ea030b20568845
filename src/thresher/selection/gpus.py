"""What a run would need on common GPUs: an estimate from the size of the model and the figures that
NVIDIA publishes. Nothing is measured.

Time is the floating point operations of the passes, divided by the published peak and by an assumed
utilisation. Memory is the weights in bf16, and what a pass keeps of its largest batch; of a
training, also the adapters with their optimiser and the activations that the backward pass needs
(Korthikanti et al., arXiv:2205.05198, equations 2 and 4, with fused attention). Not included:
opening the model, text that a model generates, the cache of demonstrations.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from thresher.mixture.tokens import media_tokens
from thresher.pools.token_estimate import estimate_tokens
from thresher.selection.saving import TRAINING_PASSES

if TYPE_CHECKING:
    from thresher.backends import ModelHandle
    from thresher.backends.model_size import ModelSize
    from thresher.engine import RunContext
    from thresher.pools import Pool
    from thresher.selection.plan import Plan
    from thresher.selection.task import SelectionTask

UTILISATION = 0.35  # assumed share of the published peak, for scoring and for training
USABLE = 0.9  # share of the memory that tensors can take: the rest is CUDA's, and fragments
BF16 = 2  # bytes
TRAINED_BYTES = 16  # of a trained parameter in fp32: weight, gradient, two moments of Adam
LAYER_BYTES = 34  # a token and hidden unit of a layer, kept for the backward pass
LOGIT_BYTES = 10  # a logit in bf16, and twice in fp32
MOST_LOGITS = 2**27  # in one batch (`hf.forward`)
BATCH_TOKENS = 16_384  # of a batch on a GPU (`hf.load`)
TRAINING_ROWS = 16  # of a training batch (`training.recipe`)
LORA_RANK = 16
CHECKPOINTING_PARAMETERS = 1_000_000_000  # larger models keep only the inputs of their layers


NOTE = (
    "GPUs: estimated, not measured, from the model's size and NVIDIA's figures for dense bf16, of "
    f"which {UTILISATION:.0%} is assumed to be used (docs/plan.md)."
)


@dataclass(frozen=True)
class Gpu:
    """Published figures. memory: GB. tflops: peak bf16 tensor operations per second, in 10^12,
    dense (NVIDIA's headline figures with sparsity are twice as large)."""

    name: str
    memory: int
    tflops: float


GPUS = (  # sources: docs/plan.md
    Gpu("L4", 24, 121.0),
    Gpu("A10", 24, 125.0),
    Gpu("RTX 4090", 24, 165.2),
    Gpu("A100 40 GB", 40, 312.0),
    Gpu("A100 80 GB", 80, 312.0),
    Gpu("H100 SXM", 80, 989.4),
    Gpu("H200 SXM", 141, 989.4),
)


@dataclass(frozen=True)
class Work:
    """What the passes of a run take, whatever the GPU.

    scoring_flops, training_flops: floating point operations; 0 if nothing is scored or trained.
    row_flops: of one pass over a row by the main model; None: it is not known.
    peak_bytes: most memory, with the weights.
    """

    scoring_flops: float
    training_flops: float
    row_flops: float | None
    peak_bytes: int


@dataclass(frozen=True)
class GpuEstimate:
    """A run on one kind of GPU, estimated. Times are None if it does not fit.

    gpu: name.
    memory_bytes: of the GPU.
    needed_bytes: most memory that the run would take.
    hours: of scoring (on all devices) and training.
    saved_hours_per_epoch: of training on the rows that are left out, on as many devices.
    """

    gpu: str
    memory_bytes: int
    needed_bytes: int
    fits: bool
    hours: float | None
    saved_hours_per_epoch: float | None


def estimate(work: Work, rows_saved: int, devices: int = 1) -> list[GpuEstimate]:
    """The run on each of `GPUS`.

    Arguments:
        work: of the run.
        rows_saved: rows of the pool that are left out.
        devices: GPUs that score at the same time.
    """
    out = []
    for gpu in GPUS:
        memory = gpu.memory * 10**9
        fits = work.peak_bytes <= USABLE * memory
        speed = gpu.tflops * 1e12 * UTILISATION * 3600  # operations per hour
        hours = (work.scoring_flops / devices + work.training_flops) / speed
        saved = None
        if work.row_flops is not None:
            saved = TRAINING_PASSES * work.row_flops * rows_saved / devices / speed
        times = (hours, saved) if fits else (None, None)
        out.append(GpuEstimate(gpu.name, memory, work.peak_bytes, fits, *times))
    return out


@dataclass(frozen=True)
class RowShape:
    """A row as a model sees it, mean of a pool.

    tokens: of the whole row.
    image_tokens: of its images and videos.
    answer_tokens: of its answers.
    """

    tokens: float
    image_tokens: float
    answer_tokens: float


def work_of(
    plan: Plan,
    sizes: Mapping[str, ModelSize],
    rows: Mapping[str, RowShape],
    batch_tokens: int = BATCH_TOKENS,
) -> Work:
    """The work of a plan whose models run on a GPU of this machine.

    Arguments:
        plan: with the tokens of each signal.
        sizes: of the models, by name; signals of other models are left out.
        rows: as each of these models sees them.
        batch_tokens: of a batch when rows are scored.
    """
    scoring, training, peaks = 0.0, 0.0, [0]
    for s in plan.signals:
        if s.passes and s.tokens and s.model in sizes:
            size, row = sizes[s.model], rows[s.model]
            scoring += size.flops(s.tokens, row.image_tokens * s.passes * s.images)
            peaks.append(scoring_bytes(size, row, batch_tokens))
    for t in plan.trainings:
        if t.rows is not None and t.model in sizes:
            size, row = sizes[t.model], rows[t.model]
            each = size.flops(row.tokens, row.image_tokens)
            training += TRAINING_PASSES * t.passes * t.rows * each
            peaks.append(training_bytes(size, row))
    one_pass = None
    if plan.model is not None and plan.model in sizes:
        row = rows[plan.model]
        one_pass = sizes[plan.model].flops(row.tokens, row.image_tokens)
    return Work(scoring, training, one_pass, max(peaks))


def scoring_bytes(size: ModelSize, row: RowShape, batch_tokens: int = BATCH_TOKENS) -> int:
    """Most memory of scoring: the weights, and the larger of the vision tower's and the language
    model's activations of a batch. Of one layer at a time: its input, its normalised input, and
    the four projections of attention or the three arrays of the MLP.

    Arguments:
        size: of the model.
        row: a row of the pool.
        batch_tokens: of a batch.
    """
    rows = batch_tokens / max(row.tokens, 1.0)
    patches = rows * row.image_tokens * size.patches_per_token
    vision = patches * _layer_width(size.vision_hidden, size.vision_intermediate) * BF16
    language = batch_tokens * _layer_width(size.hidden, size.intermediate) * BF16
    logits = _logits(size, rows * row.answer_tokens)
    return round(BF16 * size.parameters + max(vision, language + logits))


def training_bytes(size: ModelSize, row: RowShape) -> int:
    """Most memory of a LoRA training: weights, adapters with their optimiser, and activations.

    Arguments:
        size: of the model.
        row: a row of the pool.
    """
    tokens = TRAINING_ROWS * row.tokens
    adapters = LORA_RANK * size.adapter_parameters * TRAINED_BYTES
    layer = LAYER_BYTES * size.hidden * tokens
    kept = size.layers * layer
    if size.parameters >= CHECKPOINTING_PARAMETERS:
        kept = size.layers * BF16 * size.hidden * tokens + layer
    logits = _logits(size, TRAINING_ROWS * row.answer_tokens)
    return round(BF16 * size.parameters + adapters + kept + logits)


def _layer_width(hidden: int, intermediate: int) -> int:
    """Numbers that a layer has in memory at once for each token."""
    return 2 * hidden + max(4 * hidden, 3 * intermediate)


def _logits(size: ModelSize, answer_tokens: float) -> float:
    return LOGIT_BYTES * min(answer_tokens * size.vocabulary, MOST_LOGITS)


def on_gpus(
    plan: Plan, task: SelectionTask, context: RunContext
) -> tuple[list[GpuEstimate], list[str]]:
    """The run of a plan on each of `GPUS`, and what the estimate leaves out.

    Arguments:
        plan: of the task.
        task: what is selected.
        context: the models.

    Raises ModelError if a model's modules cannot be created.
    """
    asked = {s.model for s in plan.signals if s.passes} | {t.model for t in plan.trainings}
    named = {h.name: h for h in (context.model, *context.roles.values()) if h is not None}
    known = {n: h for n, h in named.items() if n in asked and h.size is not None}
    sizes = {name: handle.size() for name, handle in known.items() if handle.size is not None}
    rows = {name: row_shape(plan, task.pool, handle) for name, handle in known.items()}
    work = work_of(plan, sizes, rows, task.request.batch_tokens or BATCH_TOKENS)
    notes = [NOTE] if sizes else []
    if others := sorted(asked - sizes.keys() - {""}):
        notes.append(
            f"GPUs: nothing is estimated for {', '.join(others)}, whose size is not known."
        )
    written = [s.label for s in plan.signals if s.passes and s.writes and s.model in sizes]
    if written:
        notes.append(f"GPUs: text that the model writes is not included ({', '.join(written)}).")
    if any(t.rows is None for t in plan.trainings):
        notes.append("GPUs: trainings on a number of rows that is not known yet are not included.")
    saved = plan.pool_rows - plan.budget
    return (estimate(work, saved, plan.devices) if sizes else []), notes


def row_shape(plan: Plan, pool: Pool, model: ModelHandle) -> RowShape:
    """The mean row of a pool as a model sees it: images are counted by its processor.

    Arguments:
        plan: with the tokens of a row.
        pool: the rows.
        model: that sees them.
    """
    media = media_tokens(pool, model)
    facts = pool.facts
    images = media.image * float(facts["images"].mean())
    if pool.video_frames is not None:
        images += media.video * float(facts["video"].mean())
    answers = float(estimate_tokens(facts["answer_words"], facts["answer_chars"]).mean())
    return RowShape(max(plan.row_tokens or 0.0, images + answers), images, answers)


def to_json(estimates: list[GpuEstimate]) -> list[dict[str, Any]]:
    """Plain values, with the assumption they rest on."""
    return [{**vars(e), "estimated": True, "utilisation": UTILISATION} for e in estimates]
