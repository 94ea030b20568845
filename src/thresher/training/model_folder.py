"""The folder of a trained model: its files, and how it is written so that it is never incomplete:

config.json, *.safetensors …         a whole model (full training, or merged adapters), or
adapter_config.json, adapter_model.safetensors    adapters, which `--model` loads on top of their
                                                  base
tokenizer, processor, chat template  copied from the base; only bounds on the pixels of an image are
                                     written into the processor's files
training.json                        recipe, base, fingerprint of the rows, versions, losses:
                                     written last
failures.jsonl                       rows that could not be trained on, if any
.training/                           checkpoints, until the training is finished
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from thresher.errors import ConfigError, ModelError, StoreError
from thresher.storage.atomic import atomic_write, write_bytes

if TYPE_CHECKING:
    from thresher.training.batches import UnusableRow

RECORD = "training.json"
FAILURES = "failures.jsonl"
WORK_FOLDER = ".training"
IDENTITY_FILE = "identity"  # in WORK_FOLDER: the fingerprint of the unfinished training
# keys of a record
REQUIRED_KEYS = frozenset({"identity", "seconds", "losses", "rows", "failures", "learning_rate"})
MODEL_FILES = ("config.json", "adapter_config.json")
PROCESSING_SUFFIXES = (".json", ".jinja", ".txt", ".model", ".py")
EXCLUDED_FILES = ("config.json", "generation_config.json", "adapter_config.json", RECORD)


def find_finished(out: Path, identity: str, resume: bool) -> dict[str, Any] | None:
    """The record of this training if `out` contains it, finished (and `resume`); else None. Writes
    nothing.

    Arguments:
        out: folder of the model.
        identity: of the training.
        resume: whether the folder's content may be reused.

    Raises ConfigError if `out` holds another model or an unfinished other training.
    """
    record = read_record(out)
    if record is not None and record.get("identity") == identity and resume:
        return record
    if (record is not None and record.get("identity") != identity) or (
        record is None and any((out / name).exists() for name in MODEL_FILES)
    ):
        content = "a model that thresher did not train there"
        if record is not None:
            content = _describe_other_training(record)
        elif (out / RECORD).exists():
            content = f"a model whose record, {RECORD}, is damaged"
        raise ConfigError(
            f" contains {content}. Give another folder, or delete this one.",
            option="out",
            value=out,
        )
    started = _started_identity(out)
    if started is not None and started != identity:
        raise ConfigError(
            " contains another unfinished training (its rows, base or recipe differ). Repeat that "
            f"command to finish it, give another folder, or delete {out / WORK_FOLDER}.",
            option="out",
            value=out,
        )
    return None


def prepare_folder(out: Path, identity: str, resume: bool) -> None:
    """Prepare `out` for the training with this identity. Raises ConfigError if it is not
    writable.

    Arguments:
        out: folder of the model.
        identity: of the training.
        resume: whether to continue from the folder's checkpoints.
    """
    try:
        if (
            not resume or _started_identity(out) is None
        ):  # old checkpoints may belong to another training
            shutil.rmtree(out / WORK_FOLDER, ignore_errors=True)
        write_bytes(out / WORK_FOLDER / IDENTITY_FILE, identity.encode(), advice="")
    except StoreError as e:
        raise ConfigError(
            f" cannot be written to: {e.message} Give a folder you may write to.",
            option="out",
            value=out,
        ) from e


def discard_unstarted(out: Path) -> None:
    """Remove what `prepare_folder` wrote, if no checkpoint follows it: the training was refused.

    Arguments:
        out: folder of the model.
    """
    work = out / WORK_FOLDER
    if not any(work.rglob("checkpoint-*")):
        shutil.rmtree(work, ignore_errors=True)


def _started_identity(out: Path) -> str | None:
    """The identity of an unfinished training in `out`; None if there is none or its file is
    damaged.
    """
    try:
        text = (out / WORK_FOLDER / IDENTITY_FILE).read_text("utf-8")
    except (OSError, UnicodeDecodeError):
        return None
    return text if re.fullmatch("[0-9a-f]{32}", text) else None


def read_record(out: Path) -> dict[str, Any] | None:
    """The record of a finished training, or None."""
    try:
        record = json.loads((out / RECORD).read_text("utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    return record if isinstance(record, dict) and record.keys() >= REQUIRED_KEYS else None


def move_into_place(
    out: Path, saved: Path, record: dict[str, Any], failures: Sequence[UnusableRow]
) -> None:
    """Move the saved files to their place, the record last, and delete the checkpoints. Raises
    StoreError.

    Arguments:
        out: folder of the model.
        saved: a folder inside `out` with the files.
        record: of the training, written as JSON.
        failures: rows that were not trained on; listed in a file if there are any.
    """
    try:
        if failures:
            lines = "".join(json.dumps(asdict(f), ensure_ascii=False) + "\n" for f in failures)
            (saved / FAILURES).write_text(lines, "utf-8", "backslashreplace")
        else:
            (out / FAILURES).unlink(missing_ok=True)
        (out / RECORD).unlink(missing_ok=True)
        names = sorted(p.name for p in saved.iterdir())
        # follow the user's umask: safetensors creates private files
        mode = (out / WORK_FOLDER / IDENTITY_FILE).stat().st_mode
        for name in names:
            (saved / name).chmod(mode)
        # the config last: a folder with a config is complete
        for name in sorted(names, key=lambda n: n in MODEL_FILES):
            os.replace(saved / name, out / name)
        with atomic_write(out / RECORD) as temporary:
            temporary.write_text(
                json.dumps(record, indent=1, ensure_ascii=False) + "\n", "utf-8", "backslashreplace"
            )
    except OSError as e:
        raise StoreError(
            f"The trained model could not be written to {out}: {e.strerror or e}. Run again."
        ) from e
    shutil.rmtree(out / WORK_FOLDER, ignore_errors=True)


def save_model(model: Any, target: Path, base_files: Path) -> None:
    """Save a whole model with its processing files.

    Arguments:
        model: a transformers model.
        target: folder to write.
        base_files: folder with the processing files of the base, which are copied.
    """
    _save(lambda: model.save_pretrained(target), target, base_files)


def save_adapter(
    model: Any, target: Path, base_files: Path, base: str, revision: str | None
) -> None:
    """Save the adapters of a PEFT model.

    Arguments:
        model: a PEFT model.
        target: folder to write.
        base_files: folder with the processing files of the base, which are copied.
        base: recorded as the base of the adapters: `demo`, a folder, or a hub id.
        revision: the commit of a hub id; None otherwise.
    """

    def save() -> None:
        model.save_pretrained(target, save_embedding_layers=False)
        (target / "README.md").unlink(missing_ok=True)
        file = target / "adapter_config.json"
        config = json.loads(file.read_text("utf-8"))
        config |= {"base_model_name_or_path": base, "revision": revision}
        file.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", "utf-8")

    _save(save, target, base_files)


def _save(save: Any, target: Path, base_files: Path) -> None:
    from safetensors import SafetensorError  # raised for a full disk, and not an OSError

    try:
        shutil.rmtree(target, ignore_errors=True)
        target.mkdir(parents=True)
        save()
        for file in sorted(base_files.iterdir()):
            copied = (
                file.suffix in PROCESSING_SUFFIXES
                and file.name not in EXCLUDED_FILES
                and not file.name.endswith(".index.json")
            )
            if copied and file.is_file() and not (target / file.name).exists():
                shutil.copyfile(file, target / file.name)
    except (OSError, SafetensorError) as e:
        out = target.parent.parent
        raise StoreError(
            f"The trained model could not be written to {out}: {_error_text(e)}. Make room and run "
            "again."
        ) from e


def write_image_budget(target: Path, changes: dict[str, Any]) -> None:
    """Write the settings of the image processor that differ from the base's. Raises StoreError.

    Arguments:
        target: folder of the saved model.
        changes: settings of the image processor that differ from the base's.
    """
    from thresher.backends.hf.image_budget import write_budget

    try:
        write_budget(target, changes)
    except OSError as e:
        raise StoreError(
            f"The trained model could not be written to {target.parent.parent}: "
            f"{_error_text(e)}. Make room and run again."
        ) from e


def _error_text(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)


def processing_files(where: str, revision: str | None) -> Path:
    """The folder with the base's tokenizer and processor: itself, or the downloaded snapshot of a
    hub id.

    Arguments:
        where: folder or hub id of the base.
        revision: the commit of a hub id.
    """
    if Path(where).is_dir():
        return Path(where)
    from transformers.utils import cached_file

    found = cached_file(where, "config.json", revision=revision, local_files_only=True)
    if found is None:
        raise ModelError(f"The downloaded files of {where} are missing. Run again.")
    return Path(found).parent


def _describe_other_training(record: dict[str, Any]) -> str:
    base = record.get("base", {}).get("name", "?")
    rows = record.get("rows", {}).get("given", 0)
    return (
        f"another trained model ({base}, {rows:,} rows; its recipe, rows or base differ: see "
        f"{RECORD})"
    )
