"""When a training writes a checkpoint, and which one it resumes from.

A checkpoint is complete once its `progress.json` exists, which is written last.
"""

from __future__ import annotations

import shutil
import time
import warnings
from pathlib import Path
from typing import Any, Protocol

from transformers import TrainerCallback

from thresher.console.progress import Progress
from thresher.storage.atomic import atomic_write
from thresher.storage.checksums import FILES, check_files, file_digests, seal, unseal
from thresher.training.batches import Batches

PROGRESS_FILE = "progress.json"
# the time between two checkpoints is at least this many times the time that writing one takes
SAVE_COST_RATIO = 20


class Losses(Protocol):
    """The part of a trainer that a checkpoint records."""

    losses: list[float]
    """Mean loss per target token (nats) of each step so far."""

    def end_step(self) -> float:
        """Append the loss of the step that has ended, and return it."""


class CheckpointCallback(TrainerCallback):  # type: ignore[misc]
    """Writes a checkpoint when the last one is `every` seconds old (later if writing takes long),
    and deletes older ones.

    `seconds`: of training so far, including earlier runs.

    Arguments:
        folder: of the checkpoints.
        every: seconds between checkpoints.
        batches: of the training; rows that failed are recorded in the checkpoint.
        progress: displays the rows trained on; None: no display.
    """

    def __init__(
        self, folder: Path, every: float, batches: Batches, progress: Progress | None
    ) -> None:
        self.trainer: Losses | None = None
        self.batches = batches
        self._folder, self._every, self._progress = folder, every, progress
        self._previous_seconds = 0.0
        self._started = self._last_save = time.monotonic()
        self._save_seconds = 0.0

    @property
    def seconds(self) -> float:
        return self._previous_seconds + time.monotonic() - self._started

    def resume(self, trainer: Losses) -> Path | None:
        """The last complete and undamaged checkpoint, whose counters are restored; all others are
        deleted.
        """
        self.trainer = trainer
        latest = None
        for folder in sorted(self._folder.glob("checkpoint-*"), key=_step_number, reverse=True):
            if not (folder / PROGRESS_FILE).exists():
                continue  # incomplete: the process was killed
            try:
                saved = unseal((folder / PROGRESS_FILE).read_bytes())
                check_files(folder, saved[FILES])
                trainer.losses, self._previous_seconds = (
                    list(saved["losses"]),
                    float(saved["seconds"]),
                )
                self.batches.errors.update(
                    {int(row): reason for row, reason in saved["bad"].items()}
                )
                self.batches.encoded = saved["good"]
            except (OSError, ValueError, KeyError, TypeError, AttributeError) as e:
                self._notify(f"The checkpoint {folder} is damaged ({e}) and is not used.")
                continue
            latest = folder
            break
        self._delete_others(latest)
        self._started = self._last_save = time.monotonic()
        return latest

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        assert self.trainer is not None
        loss = self.trainer.end_step()
        if self._progress is not None:
            first = (state.global_step - 1) * args.gradient_accumulation_steps
            self._progress.advance(
                self.batches.requested(first, first + args.gradient_accumulation_steps)
            )
            self._progress.measure("loss", loss)
        age = time.monotonic() - self._last_save
        if (
            age >= max(self._every, SAVE_COST_RATIO * self._save_seconds)
            and state.global_step < state.max_steps
        ):
            control.should_save = True
            self._last_save = time.monotonic()

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        assert self.trainer is not None
        checkpoint = self._folder / f"checkpoint-{state.global_step}"
        names = sorted(p.name for p in checkpoint.iterdir() if p.is_file())
        content = {
            "losses": self.trainer.losses,
            "seconds": self.seconds,
            "good": self.batches.encoded,
            "bad": {str(row): reason for row, reason in list(self.batches.errors.items())},
            FILES: file_digests(checkpoint, names),
        }
        with atomic_write(checkpoint / PROGRESS_FILE) as temporary:
            temporary.write_bytes(seal(content))
        self._delete_others(checkpoint)
        self._save_seconds, self._last_save = time.monotonic() - self._last_save, time.monotonic()

    def _notify(self, text: str) -> None:
        if self._progress is None:
            warnings.warn(text, stacklevel=2)
        else:
            self._progress.say(text)

    def _delete_others(self, keep: Path | None) -> None:
        for other in self._folder.glob("checkpoint-*"):
            if other != keep:
                shutil.rmtree(other, ignore_errors=True)


def _step_number(checkpoint: Path) -> int:
    number = checkpoint.name.rpartition("-")[2]
    return int(number) if number.isdecimal() else -1
