"""What is shown, written as a selection folder of its own: by `run.select` and `output.write`, as
`thresher select` does.

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
    """`where`: a name beside the folder that was opened, or a path from the root.

    Raises ConfigError (not a fresh folder), StoreError, and what `run.select` raises.
    """
    with session.lock:
        session.may_choose()
        shown, out = session.shown, fresh(session.folder, where)
        made = not out.exists()
        try:
            check_folder(out)
            told = session.request_for(shown.ask, shown.keep, shown.drop, out)
            for path, mask in ((told.keep, shown.keep), (told.drop, shown.drop)):
                if path is not None:
                    session.pins.write(mask, Path(path))
            method = methods.load(shown.ask.method, shown.ask.settings)
            target, budget = session.target_of(method), Budget.parse(shown.ask.budget)
            context = replace(
                session.context(method), trainer=Trainer(fit=session.gone, open=session.gone)
            )
            outcome = run.select(SelectionTask(session.pool, method, budget, told, target), context)
            output.write(outcome, session.pool, told, out)
        except BaseException:
            for name in (KEEP, DROP):
                (out / name).unlink(missing_ok=True)
            if made:
                shutil.rmtree(out, ignore_errors=True)
            raise
    problem = try_to_write(out, session.pool)
    return Exported(out, len(outcome.rows), command(told.to_mapping()), problem)


def fresh(folder: Path, where: str) -> Path:
    """The folder that a user's words mean; `folder`: the selection that is open. Raises ConfigError
    where it is there already, or cannot be made.
    """
    text = where.strip()
    if not text or "\0" in text:
        raise ConfigError("Give the new selection a name, such as mine, or a path.")
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
                f"{out.parent} is no folder. Give a name, or a path in a folder that exists."
            )
        if os.path.lexists(out) and (not out.is_dir() or any(out.iterdir())):
            raise ConfigError(f"{out} is there already. Give another name: nothing is overwritten.")
        out.exists()
    except OSError as error:
        raise ConfigError(f"{text[:60]}: {error.strerror or error}. Give another name.") from error
    return out
