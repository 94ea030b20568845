"""`fit`: trains a base model on rows of a pool, and writes a folder that `--model` accepts.
Deterministic for a seed on one machine.

The result does not depend on the order of the file or of `rows`: rows are first put in the pool's
canonical order.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from thresher._version import __version__
from thresher.backends.identity import Found, find, handle
from thresher.console.progress import Progress
from thresher.errors import ModelError, ThresherError, opt
from thresher.extras import require
from thresher.fingerprint import fingerprint
from thresher.request.image_pixels import ImagePixels
from thresher.storage.lock import folder_lock
from thresher.storage.writable import check_folder
from thresher.training import model_folder as folders
from thresher.training.batches import (
    Batches,
    UnusableRow,
    all_failed_error,
    describe_unusable,
    split_usable,
)
from thresher.training.recipe import Recipe
from thresher.types import TrainingRows, digests_to_bytes

if TYPE_CHECKING:
    from thresher.backends.hf.backend import HFBackend

CHECKPOINT_SECONDS = 60.0
PACKAGES = ("torch", "transformers", "trl", "peft", "accelerate")


@dataclass(frozen=True)
class TrainingResult:
    """A trained model and how it was trained.

    Arguments:
        folder: the model; `--model` accepts it.
        seconds: spent in the training loop, by all runs together.
        steps: optimiser steps of this call (0: the folder was complete already).
        losses: mean loss per target token (nats) of every step since the beginning.
        rows: how many were given, each counted once.
        unusable: those that could not be trained on: the ones known to be unusable since the file
            was read, and the ones that failed in a batch.
        untried: how many of the others were in no batch, since there were too few steps. Some may
            be unusable.
        learning_rate: the rate after warm-up.
    """

    folder: Path
    seconds: float
    steps: int
    losses: list[float]
    rows: int
    unusable: tuple[UnusableRow, ...]
    untried: int
    learning_rate: float

    @property
    def trained_rows(self) -> int:
        """How many rows the model was trained on."""
        return self.rows - len(self.unusable) - self.untried


def fit(
    base: str,
    pool: TrainingRows,
    rows: np.ndarray | None,
    recipe: Recipe,
    out: Path,
    *,
    device: str = "auto",
    progress: Progress | None = None,
    resume: bool = True,
    merge: bool = False,
    trust_remote_code: bool = False,
    cache: Path | None = None,
    image_pixels: ImagePixels | None = None,
    checkpoint_every: float = CHECKPOINT_SECONDS,
) -> TrainingResult:
    """Train `base` on rows of a pool and write the model to `out`.

    A folder that holds this very training is reused, and an interrupted one resumes from its last
    checkpoint (both only with `resume`).

    Arguments:
        base: what `--model` accepts.
        pool: the pool, or other rows to train on.
        rows: int64 [r], pool rows; None: all.
        recipe: how to train.
        out: the folder to write.
        device: "auto", "cpu", "cuda", …
        progress: displays the rows trained on.
        resume: reuse the folder's content.
        merge: write a whole model instead of adapters.
        trust_remote_code: as in transformers.
        cache: a folder that caches hashes of model folders.
        image_pixels: bounds on the pixels of an image; None: as in the base's files.
        checkpoint_every: seconds between checkpoints.

    Raises ConfigError (`out`, `image_pixels`), ModelError (base, or a loss that is not finite),
    PoolError (no rows), TooManyFailures (no row can be encoded), MissingExtra (no TRL), StoreError
    (disk).
    """
    require("train", "Training")
    from thresher.backends.hf.image_budget import set_budget
    from thresher.backends.hf.load import resolve_device
    from thresher.backends.hf.processor import load_processor

    device = resolve_device(device)
    found = find(base, trust_remote_code, cache)
    usable_rows, unusable = split_usable(pool, rows)
    requested = np.arange(len(pool)) if rows is None else np.asarray(rows, np.int64)
    merge = merge and recipe.lora
    bf16 = _bf16(recipe, device)
    rows_digest = rows_fingerprint(pool, requested)
    bounds = image_pixels or found.image_pixels
    training = (recipe, found.weights, str(found.config["model_type"]), rows_digest, bf16, merge)
    frames = getattr(pool, "video_frames", None)
    further = [str(bounds)] * bool(bounds) + [frames] * (frames is not None)
    identity = fingerprint((*training, *further))
    # bf16: LoRA keeps fp32 adapters on a bf16 base; full training keeps fp32 weights and computes
    # in bf16
    dtype = "bfloat16" if bf16 and recipe.lora else "float32"
    folders.find_finished(
        out, identity, resume
    )  # fail before waiting for another process that trains here
    check_folder(out)
    with folder_lock(out, "trains a model here", progress):
        record = folders.find_finished(out, identity, resume)
        if record is not None:
            return _result_from_record(out, record, requested, _untried(usable_rows, recipe))
        backend: HFBackend = handle(
            base, found, device, dtype, None, trust_remote_code, image_pixels=image_pixels
        ).open()
        folders.prepare_folder(out, identity, resume)
        try:
            model, trained = train_backend(
                backend,
                pool,
                usable_rows,
                unusable,
                recipe,
                out,
                bf16=bf16,
                progress=progress,
                checkpoint_every=checkpoint_every,
            )
        except ThresherError:
            folders.discard_unstarted(out)
            raise
        _write(model, found, base, recipe, out, merge=merge, bf16=bf16)
        if bounds is not None:
            processor, _ = load_processor(
                found.where, revision=found.revision, trust_remote_code=trust_remote_code
            )
            changes = set_budget(processor, bounds, base)
            folders.write_image_budget(out / folders.WORK_FOLDER / "saved", changes)
        record = {
            "identity": identity,
            "thresher": __version__,
            "recipe": asdict(recipe),
            "learning_rate": trained.learning_rate,
            "precision": "bf16" if bf16 else "fp32",
            "merged": merge,
            **({"image_pixels": str(bounds)} if bounds else {}),
            "base": {
                "name": base,
                "weights": found.weights,
                "architecture": str(found.config["model_type"]),
            },
            "rows": {
                "given": len(requested),
                "fingerprint": rows_digest,
                "unusable": len(trained.unusable),
                "untried": trained.untried,
                "file": str(pool.path),
            },
            "steps": len(trained.losses),
            "seconds": round(trained.seconds, 3),
            "device": device,
            "versions": {name: version(name) for name in PACKAGES},
            "losses": trained.losses,
            "failures": [asdict(u) for u in trained.unusable],
        }
        folders.move_into_place(out, out / folders.WORK_FOLDER / "saved", record, trained.unusable)
    return trained


def train_backend(
    backend: HFBackend,
    pool: TrainingRows,
    usable_rows: np.ndarray,
    unusable: Sequence[UnusableRow],
    recipe: Recipe,
    out: Path,
    *,
    bf16: bool,
    progress: Progress | None,
    checkpoint_every: float,
) -> tuple[Any, TrainingResult]:
    """Run the training loop; writes checkpoints only.

    Arguments:
        backend: its model is changed in place and returned, with LoRA in a PEFT wrapper.
        pool: the rows to train on.
        usable_rows: from `batches.split_usable`.
        unusable: from `batches.split_usable`.
        recipe: how to train.
        out: folder of the model; checkpoints are written below it.
        bf16: compute in bf16.
        progress: displays the rows trained on; None: no display.
        checkpoint_every: seconds between checkpoints.
    """
    from thresher.backends.hf.training_loss import AnswerLossFn
    from thresher.training.trainable_weights import lora_config, train_all
    from thresher.training.trainer import train

    if getattr(pool, "video_frames", None) is not None:
        backend.check_videos()  # before the weights change
    model = backend.forward.model
    parameters = sum(p.numel() for p in model.parameters())
    rate = recipe.learning_rate_for(parameters)
    lora = lora_config(model, recipe) if recipe.lora else None
    if not recipe.lora:
        train_all(model, recipe)
    teacher = AnswerLossFn(backend)
    batches = Batches(backend, teacher.ends, pool, usable_rows, recipe.batches(len(usable_rows)))
    try:
        trained_model, trainer, steps, seconds = train(
            backend,
            batches,
            teacher,
            recipe,
            rate,
            lora,
            out / folders.WORK_FOLDER,
            bf16=bf16,
            progress=progress,
            checkpoint_every=checkpoint_every,
        )
    finally:
        batches.close()
    failed = sorted([*unusable, *describe_unusable(pool, batches.errors)], key=lambda u: u.row)
    if not batches.encoded:
        raise all_failed_error(failed)
    rows = len(np.unique(usable_rows)) + len(unusable)
    untried = _untried(usable_rows, recipe)
    return trained_model, TrainingResult(
        out, seconds, steps, trainer.losses, rows, tuple(failed), untried, rate
    )


def _untried(usable_rows: np.ndarray, recipe: Recipe) -> int:
    """How many rows are in no batch. `usable_rows`: int64 [r], rows may occur repeatedly."""
    in_batches = usable_rows[np.concatenate(recipe.batches(len(usable_rows)))]
    return len(np.unique(usable_rows)) - len(np.unique(in_batches))


def rows_fingerprint(pool: TrainingRows, rows: np.ndarray) -> str:
    """SHA-256 over the sorted digests of the rows, in hexadecimal: independent of order and
    file.

    Arguments:
        pool: the rows to train on.
        rows: int64 [r], pool rows.
    """
    state = hashlib.sha256()
    for digest in sorted(digests_to_bytes(pool.digest[rows])):
        state.update(digest)
    return state.hexdigest()


def _bf16(recipe: Recipe, device: str) -> bool:
    import torch

    if recipe.precision == "fp32":
        return False
    supported = device.startswith("cuda") and torch.cuda.is_bf16_supported()
    if recipe.precision == "bf16" and not supported and device.startswith("cuda"):
        raise ModelError(
            f": {device} has no bf16. Give {opt('precision', 'fp32')}, or leave it out.",
            option="precision",
            value="bf16",
        )
    return supported or recipe.precision == "bf16"


def _write(
    model: Any, found: Found, base: str, recipe: Recipe, out: Path, *, merge: bool, bf16: bool
) -> None:
    """Save the trained model to the temporary folder."""
    import torch

    target = out / folders.WORK_FOLDER / "saved"
    files = folders.processing_files(found.where, found.revision)
    if recipe.lora and not merge:
        name, revision = base, None
        if Path(base).expanduser().is_dir() and base != "demo":
            name = str(Path(base).expanduser().resolve())
        elif base != "demo":
            name, revision = found.where, found.revision
        folders.save_adapter(model, target, files, name, revision)
        return
    merged = model.merge_and_unload() if recipe.lora else model
    folders.save_model(merged.to(torch.bfloat16) if bf16 else merged, target, files)


def _result_from_record(
    out: Path, record: dict[str, Any], requested: np.ndarray, untried: int
) -> TrainingResult:
    return TrainingResult(
        out,
        float(record["seconds"]),
        0,
        list(record["losses"]),
        len(np.unique(requested)),
        tuple(UnusableRow(**u) for u in record["failures"]),
        untried,
        float(record["learning_rate"]),
    )
