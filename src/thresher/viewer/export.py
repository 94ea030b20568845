"""Writes the displayed selection to a new selection folder, as `thresher select` does: by
`run.select` and `output.write`.

Writes one fresh folder and nothing else; a failure leaves nothing behind.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from thresher import methods
from thresher.errors import ConfigError
from thresher.report import try_to_write
from thresher.report.select_report import command
from thresher.selection import folder as output
from thresher.selection import select as run
from thresher.selection.task import SelectionTask
from thresher.storage.writable import check_folder
from thresher.training.registry import Trainer
from thresher.types import Budget
from thresher.viewer.pins import DROP, KEEP

if TYPE_CHECKING:
    from thresher.viewer.session import Session


@dataclass(frozen=True)
class Exported:
    """A selection that was written. `command`: writes the same. `problem`: what went wrong with its
    report; "" for nothing."""

    folder: Path
    rows: int
    command: str
    problem: str


def export(session: Session, where: str) -> Exported:
    """Write the displayed selection to a new folder.

    Arguments:
        session: the opened selection.
        where: a name beside the folder that was opened, or a path from the root.

    Raises ConfigError (not a fresh folder), StoreError, and what `run.select` raises.
    """
    with session.lock:
        session.may_choose()
        displayed, out = session.displayed, _fresh(session.folder, where)
        made = not out.exists()
        try:
            check_folder(out)
            request = session.request_for(displayed.params, displayed.keep, displayed.drop, out)
            for path, mask in ((request.keep, displayed.keep), (request.drop, displayed.drop)):
                if path is not None:
                    session.pins.write(mask, Path(path))
            method = methods.load(displayed.params.method, displayed.params.settings)
            target, budget = session.target_of(method), Budget.parse(displayed.params.budget)
            context = replace(
                session.context(method, request),
                trainer=Trainer(fit=session.refuse_model, open=session.refuse_model),
            )
            outcome = run.select(
                SelectionTask(session.pool, method, budget, request, target), context
            )
            output.write(outcome, session.pool, request, out)
        except BaseException:
            for name in (KEEP, DROP):
                (out / name).unlink(missing_ok=True)
            if made:
                shutil.rmtree(out, ignore_errors=True)
            raise
    problem = try_to_write(out, session.pool)
    return Exported(out, len(outcome.rows), command(request.to_mapping()), problem)


def _fresh(folder: Path, where: str) -> Path:
    """The folder that a user's text names. Raises ConfigError if it exists and is not empty, or
    cannot be created.

    Arguments:
        folder: of the opened selection.
        where: as for `export`.
    """
    text = where.strip()
    if not text or "\0" in text:
        raise ConfigError("Give the new selection a name, such as clipper-20, or a path.")
    named = os.sep not in text and text not in (".", "..")
    out = folder.parent / text if named else Path(os.path.expanduser(text))
    if not named and not out.is_absolute():
        raise ConfigError(
            f"{text}: give a plain name, which is made beside {folder}, or a path from the root "
            "(/)."
        )
    try:
        if not out.parent.is_dir():
            raise ConfigError(
                f"{out.parent} is not a folder. Give a name, or a path in a folder that exists."
            )
        if os.path.lexists(out) and (not out.is_dir() or any(out.iterdir())):
            raise ConfigError(f"{out} exists already. Give another name: nothing is overwritten.")
        out.exists()
    except OSError as error:
        raise ConfigError(f"{text[:60]}: {error.strerror or error}. Give another name.") from error
    return out
