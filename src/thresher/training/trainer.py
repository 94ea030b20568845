"""TRL's SFTTrainer with thresher's batches and loss, and checkpoints to resume from.

Optimiser, schedule, mixed precision and accumulation are the trainer's. Order, encoding and loss
are thresher's: an item of the data set is the number of a batch, so that resuming means skipping
numbers. A checkpoint (`checkpoints`) holds the trained weights only.
"""

from __future__ import annotations

import contextlib
import math
import os
import random
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from transformers import PrinterCallback
from trl import SFTConfig, SFTTrainer

from thresher.backends.hf.backend import HFBackend
from thresher.backends.hf.training_loss import AnswerLossFn
from thresher.console.progress import Progress
from thresher.errors import ModelError, StoreError, opt
from thresher.training.batches import Batch, Batches
from thresher.training.checkpoints import CheckpointCallback
from thresher.training.length_groups import group_by_length
from thresher.training.recipe import Recipe

WEIGHTS_FILE = "trained.safetensors"
SCHEDULES = {"cosine": "cosine", "linear": "linear", "constant": "constant_with_warmup"}
# parameters: larger models use activation checkpointing on a GPU
CHECKPOINTING_PARAMETERS = 1_000_000_000


class AnswerTrainer(SFTTrainer):  # type: ignore[misc]
    """TRL's trainer with the loss of answer tokens only. `losses`: mean loss per target token
    (nats) of each step so far.

    Arguments:
        teacher: computes the loss.
        batches: the encoded rows.
        model: the transformers model to train.
        config: an `SFTConfig`.
        lora: a `peft.LoraConfig`; None: full training.
        processor: of the model.
    """

    loss_is_scaled_for_ga = True  # compute_loss divides by the tokens of the whole step

    def __init__(
        self,
        teacher: AnswerLossFn,
        batches: Batches,
        model: Any,
        config: Any,
        lora: Any,
        processor: Any,
    ) -> None:
        numbers = Dataset.from_dict({"batch": list(range(len(batches)))})
        super().__init__(
            model=model,
            args=config,
            train_dataset=numbers,
            data_collator=batches.collate,
            processing_class=processor,
            peft_config=lora,
        )
        self.teacher = teacher
        self.losses: list[float] = []
        # otherwise it is saved in every checkpoint, and its token ids in the config
        self.processing_class = None
        self.remove_callback(PrinterCallback)
        self._loss_sum: torch.Tensor | None = None

    def compute_loss(
        self,
        model: Any,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Any = None,
    ) -> torch.Tensor:
        batch: Batch = inputs["batch"]
        if batch.rows:
            with self.accelerator.autocast():
                losses = [
                    self.teacher.loss(model, b.rows, b.targets, b.images)
                    for b in self._split_by_length(batch)
                ]
                loss = torch.stack(losses).sum() / num_items_in_batch
        else:  # all rows failed: a zero gradient
            loss = torch.stack([p.sum() * 0 for p in model.parameters() if p.requires_grad]).sum()
        self._loss_sum = loss.detach() if self._loss_sum is None else self._loss_sum + loss.detach()
        return loss

    def _split_by_length(self, batch: Batch) -> list[Batch]:
        """The batch, on a CPU split by length: the same sum of losses with less padding."""
        if self.args.device.type != "cpu":
            return [batch]
        pieces = []
        for group in group_by_length(np.array([len(row.ids) for row in batch.rows])):
            rows = [batch.rows[i] for i in group]
            images = {key: batch.images[key] for row in rows for key in row.images}
            pieces.append(Batch(rows, [batch.targets[i] for i in group], images, len(rows)))
        return pieces

    def end_step(self) -> float:
        """The loss of the step that has just ended. Raises ModelError if it is not finite."""
        assert self._loss_sum is not None
        loss, self._loss_sum = float(self._loss_sum), None
        if not math.isfinite(loss):
            raise ModelError(
                f"The loss is {loss} after {len(self.losses):,} steps: the training diverged. "
                f"Give a lower {opt('learning_rate')} (it was {self.args.learning_rate:g}), or "
                f"{opt('precision', 'fp32')}."
            )
        self.losses.append(loss)
        return loss

    def _get_num_items_in_batch(self, batch_samples: list[Any], device: torch.device) -> int:
        return max(sum(inputs["batch"].tokens for inputs in batch_samples), 1)

    def floating_point_ops(self, inputs: Any) -> int:
        return 0  # counting them iterates over all weights at every step

    def create_model_card(self, *args: Any, **kwargs: Any) -> None:
        return  # it would write a README into every checkpoint

    def _send_telemetry(self) -> None:
        return  # no telemetry

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        assert output_dir is not None
        os.makedirs(output_dir, exist_ok=True)
        trained = {
            n: p.detach().contiguous() for n, p in self.model.named_parameters() if p.requires_grad
        }
        save_file(trained, os.path.join(output_dir, WEIGHTS_FILE))

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        saved = load_file(os.path.join(resume_from_checkpoint, WEIGHTS_FILE))
        parameters = {n: p for n, p in self.model.named_parameters() if p.requires_grad}
        assert saved.keys() == parameters.keys()
        with torch.no_grad():
            for name, parameter in parameters.items():
                parameter.copy_(saved[name])


EXPERT_SETTINGS = ("output_router_logits", "router_aux_loss_coef")
"""What TRL's trainer changes in the configuration of a model with experts, for a loss that is not
used here; a model that is saved with it cannot generate."""


def train(
    backend: HFBackend,
    batches: Batches,
    teacher: AnswerLossFn,
    recipe: Recipe,
    rate: float,
    lora: Any,
    folder: Path,
    *,
    bf16: bool,
    progress: Progress | None,
    checkpoint_every: float,
) -> tuple[Any, AnswerTrainer, int, float]:
    """Train `backend`'s model in place.

    Arguments:
        backend: its model is trained.
        batches: the encoded rows.
        teacher: computes the loss.
        recipe: how to train.
        rate: learning rate after warm-up.
        lora: a `peft.LoraConfig`; None: full training.
        folder: of the checkpoints; training resumes from the last one.
        bf16: compute in bf16.
        progress: displays the rows trained on; None: no display.
        checkpoint_every: seconds between checkpoints.

    Returns the model (in a PEFT wrapper with `lora`), the trainer, the steps of this call, and the
    seconds of all calls. Raises ModelError (a loss that is not finite, out of memory), StoreError
    (a checkpoint cannot be written).
    """
    from thresher.backends.hf.forward import is_out_of_memory

    model = backend.forward.model
    parameters = sum(p.numel() for p in model.parameters())
    steps = -(-len(batches) // recipe.accumulation)
    with _preserve_random_state(), _accelerate_device(model.device), warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # of TRL's own calls
        checkpoints = CheckpointCallback(folder, checkpoint_every, batches, progress)
        config = _config(recipe, rate, steps, folder, model.device, bf16, parameters)
        text = model.config.get_text_config(decoder=True)
        experts = {name: vars(text)[name] for name in EXPERT_SETTINGS if name in vars(text)}
        trainer = AnswerTrainer(teacher, batches, model, config, lora, backend.encoder.processor)
        for name, value in experts.items():
            setattr(text, name, value)
        trainer.add_callback(checkpoints)
        start = checkpoints.resume(trainer)
        steps_before = len(trainer.losses)
        if progress is not None:
            progress.start(
                "training",
                batches.requested(0, len(batches)),
                batches.requested(0, steps_before * recipe.accumulation),
            )
        try:
            trainer.train(resume_from_checkpoint=str(start) if start else None)
        except (torch.OutOfMemoryError, RuntimeError) as e:
            if not is_out_of_memory(e):
                raise
            raise ModelError(
                f"Training runs out of memory on {model.device}. Give a smaller {opt('batch')} "
                f"with a larger {opt('accumulation')} ({opt('batch', max(recipe.batch // 4, 1))} "
                f"{opt('accumulation', recipe.accumulation * 4)}): the result is the same."
            ) from e
        # safetensors raises SafetensorError for a full disk
        except (OSError, SafetensorError) as e:
            reason = getattr(e, "strerror", None) or e
            raise StoreError(
                f"A checkpoint could not be written to {folder}: {reason}. Make room and run again."
            ) from e
        finally:
            if progress is not None:
                progress.finish()
    return trainer.model.eval(), trainer, len(trainer.losses) - steps_before, checkpoints.seconds


def _config(
    recipe: Recipe,
    rate: float,
    steps: int,
    folder: Path,
    device: torch.device,
    bf16: bool,
    parameters: int,
) -> Any:
    config = SFTConfig(
        output_dir=str(folder),
        max_steps=steps,
        per_device_train_batch_size=1,  # an item of the data set is one of our batches
        gradient_accumulation_steps=recipe.accumulation,
        train_sampling_strategy="sequential",
        dataset_kwargs={"skip_prepare_dataset": True},
        remove_unused_columns=False,
        dataloader_pin_memory=False,
        max_length=None,
        learning_rate=rate,
        lr_scheduler_type=SCHEDULES[recipe.schedule],
        warmup_steps=math.ceil(recipe.warmup * steps),
        weight_decay=recipe.weight_decay,
        # numpy's limit; the order of the rows uses the whole seed
        seed=recipe.seed % 2**32,
        use_cpu=device.type == "cpu",
        bf16=bf16,
        fp16=False,
        tf32=None,
        activation_checkpointing=device.type == "cuda" and parameters >= CHECKPOINTING_PARAMETERS,
        save_strategy="no",  # `CheckpointCallback` requests them
        logging_strategy="no",
        eval_strategy="no",
        report_to="none",
        disable_tqdm=True,
    )
    config._n_gpu = 1  # use one GPU even if several are visible
    return config


@contextlib.contextmanager
def _preserve_random_state() -> Iterator[None]:
    """The trainer seeds all generators of the process; restore their state afterwards."""
    python, numpy = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng():
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)


@contextlib.contextmanager
def _accelerate_device(device: torch.device) -> Iterator[None]:
    """Make accelerate use this device (cuda:1) instead of the first GPU."""
    name = "ACCELERATE_TORCH_DEVICE"
    before = os.environ.get(name)
    if device.type == "cuda":
        os.environ[name] = str(device)
    try:
        yield
    finally:
        if before is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = before
