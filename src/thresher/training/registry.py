"""Models that thresher trains for a signal: kept in the store, found by identity, trained at most
once.

    root/models/<fingerprint>/        the model, as `training.fit` writes it
    root/models/<fingerprint>.json    written when it is finished: its identity, its rows, the
                                      seconds it took
    root/models/<fingerprint>.lock    held while it is trained: a second process that needs the
                                      model waits for it

The fingerprint covers the base model, the recipe and the training rows' digests, not the resulting
weights: whether a model must be trained is known without training it, and a column computed with it
stays valid when the model is deleted. Training itself is injected (`Trainer`); heavy packages are
imported only when they are needed.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from thresher.errors import StoreError
from thresher.fingerprint import canonical, fingerprint
from thresher.request.image_pixels import ImagePixels
from thresher.storage.atomic import write_bytes
from thresher.text import parse_json
from thresher.types import (
    ModelIdentity,
    TrainedIdentity,
    TrainedModel,
    TrainingRows,
    digests_to_bytes,
)

if TYPE_CHECKING:
    from thresher.backends import ModelHandle
    from thresher.console.progress import Progress
    from thresher.storage.columns import Store


class FitResult(Protocol):
    """The part of `training.TrainingResult` that is used here."""

    @property
    def folder(self) -> Path: ...
    @property
    # of all calls together, including interrupted ones
    def seconds(self) -> float: ...
    @property
    def steps(self) -> int: ...


class Fit(Protocol):
    """`training.fit`. Resumes a killed call with the same arguments."""

    def __call__(
        self,
        base: str,
        pool: TrainingRows,
        rows: np.ndarray | None,
        recipe: Any,
        out: Path,
        *,
        device: str = "auto",
        progress: Progress | None = None,
        resume: bool = True,
        image_pixels: ImagePixels | None = None,
    ) -> FitResult: ...


@dataclass(frozen=True)
class Trainer:
    """How models are trained and opened. `open`: a folder that `fit` wrote -> a handle; nothing is
    loaded yet.
    """

    fit: Fit
    open: Callable[[Path], ModelHandle]
    device: str = "auto"
    import_packages: Callable[[], None] | None = None
    """Imports what `fit` needs, so that `plan` can time it; None: `plan` tries no training."""


def make_trainer(
    *,
    device: str = "auto",
    dtype: str = "auto",
    batch_tokens: int | None = None,
    trust_remote_code: bool = False,
    cache: Path | None = None,
) -> Trainer:
    """The default trainer: `training.fit`, and `backends.resolve` with these options. Heavy
    packages are imported on use.

    Arguments:
        device: auto, or a torch device.
        dtype: auto, or the name of a torch dtype.
        batch_tokens: padded tokens per batch when the trained model scores rows; None: by device.
        trust_remote_code: whether the base's own Python code may run.
        cache: folder in which the hashes of a model's files are cached; None: no cache.
    """

    def fit(
        base: str,
        pool: TrainingRows,
        rows: np.ndarray | None,
        recipe: Any,
        out: Path,
        *,
        device: str = "auto",
        progress: Progress | None = None,
        resume: bool = True,
        image_pixels: ImagePixels | None = None,
    ) -> FitResult:
        from thresher import training

        return training.fit(
            base,
            pool,
            rows,
            recipe,
            out,
            device=device,
            progress=progress,
            resume=resume,
            trust_remote_code=trust_remote_code,
            cache=cache,
            image_pixels=image_pixels,
        )

    def open_(folder: Path) -> ModelHandle:
        from thresher.backends import resolve

        return resolve(
            str(folder),
            device=device,
            dtype=dtype,
            batch_tokens=batch_tokens,
            trust_remote_code=trust_remote_code,
            cache=cache,
        )

    def import_packages() -> None:
        from thresher.extras import require
        from thresher.training import fit as _  # noqa: F401

        require("train", "Training")
        import thresher.training.trainer  # noqa: F401

    return Trainer(fit, open_, device, import_packages)


@dataclass(frozen=True)
class TrainingRun:
    """The cost of a trained model that a signal used."""

    label: str  # of the signal
    fingerprint: str
    rows: int
    # of training, now or earlier; 0.0 if the model was deleted and only its columns are left
    seconds: float

    @classmethod
    def read(cls, store: Store, identity: TrainedIdentity, label: str, rows: int) -> TrainingRun:
        fp = fingerprint(identity)
        return cls(label, fp, rows, training_seconds(store, fp))


def training_seconds(store: Store, fp: str) -> float:
    """Seconds that training the model with fingerprint `fp` took; 0.0 if unknown.

    Arguments:
        store: where trained models are recorded.
        fp: fingerprint of the model.
    """
    record = _read_record(store, fp)
    return 0.0 if record is None else float(record["seconds"])


def trained_identity(model: TrainedModel, digests: np.ndarray) -> TrainedIdentity:
    """The identity of a model given its training samples (rows or distillation examples).

    Arguments:
        model: as declared.
        digests: DIGEST [m], in any order; duplicates count.
    """
    rows = hashlib.sha256(b"".join(sorted(digests_to_bytes(digests)))).hexdigest()
    return TrainedIdentity(model.base, model.recipe, "sha256:" + rows)


def model_folder(store: Store, identity: TrainedIdentity) -> Path:
    """The folder of a trained model in the store.

    Arguments:
        store: the store.
        identity: of the model.
    """
    return store.root / "models" / fingerprint(identity)


def is_trained(store: Store, identity: TrainedIdentity) -> bool:
    """Whether the store contains this trained model.

    Arguments:
        store: the store.
        identity: of the model.
    """
    return _read_record(store, fingerprint(identity)) is not None


def trained_model(
    identity: TrainedIdentity,
    base: ModelHandle,
    pool: TrainingRows,
    rows: np.ndarray,
    store: Store,
    trainer: Trainer | None,
    progress: Progress | None,
    on_trained: Callable[[float], None] | None = None,
) -> ModelHandle:
    """The model, from the store or trained now; if another process is training it, waits for that
    one.

    Arguments:
        identity: the model.
        base: the model to start from.
        pool: the samples to train on.
        rows: int64 [m], rows of `pool`.
        store: where models are kept.
        trainer: how to train; None: `make_trainer`.
        progress: displays the training.
        on_trained: called with the seconds, if it was trained now and by this process.

    Raises what training raises.
    """
    used_trainer = trainer or make_trainer(cache=store.root / "models")
    folder = model_folder(store, identity)
    if not is_trained(store, identity):
        with store.training_lock(folder.name, progress):
            if not is_trained(store, identity):  # the other process may have been killed
                began = time.monotonic()
                _train(identity, base, pool, rows, store, used_trainer, progress)
                if on_trained is not None:
                    on_trained(time.monotonic() - began)
                store.share_model(folder.name)
    store.share_model(folder.name)
    return used_trainer.open(folder)


def _train(
    identity: TrainedIdentity,
    base: ModelHandle,
    pool: TrainingRows,
    rows: np.ndarray,
    store: Store,
    trainer: Trainer,
    progress: Progress | None,
) -> None:
    started = time.monotonic()
    folder = model_folder(store, identity)
    result = trainer.fit(
        base.name,
        pool,
        rows,
        identity.recipe,
        folder,
        device=trainer.device,
        progress=progress,
        image_pixels=bounds_of(identity.base),
    )
    record = {
        "what": "a model that thresher trained; its folder is beside this file",
        "base": base.name,
        "rows": len(rows),
        "seconds": round(max(result.seconds, time.monotonic() - started), 3),
        "steps": result.steps,
        "identity": canonical(identity),
    }
    write_bytes(
        _record_path(store, fingerprint(identity)),
        (json.dumps(record, indent=2, ensure_ascii=False) + "\n").encode(),
    )


def bounds_of(model: ModelIdentity) -> ImagePixels | None:
    """The bounds on a model's images that are part of its identity."""
    return ImagePixels.parse(model.image_pixels) if model.image_pixels else None


def _record_path(store: Store, fp: str) -> Path:
    return store.root / "models" / f"{fp}.json"


def _read_record(store: Store, fp: str) -> dict[str, Any] | None:
    """The record of a finished model whose folder still exists."""
    data = store.model_record(fp)
    if data is None:
        return None
    try:
        record = parse_json(data)
    except ValueError as e:
        raise StoreError(
            f"{_record_path(store, fp)} cannot be read: {e}. Delete it, and the model is trained "
            f"again."
        ) from e
    return record if isinstance(record, dict) else None
