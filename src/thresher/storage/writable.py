"""Check that an output is writable before any work is done.

Creates a temporary file that it deletes at once, in the output's folder or the nearest one above it
that exists; no folder, so that a run that is refused afterwards leaves nothing behind.
"""

from __future__ import annotations

import contextlib
import errno
import os
from pathlib import Path

from thresher.errors import ConfigError, opt
from thresher.storage.atomic import NAME_BYTES, temporary_path


def check_folder(folder: str | Path, option: str = "out") -> Path:
    """Check that files can be written to `folder`, which need not exist. Raises ConfigError.

    Arguments:
        folder: the folder.
        option: name of the option that it was given by, for the message.
    """
    folder = Path(folder)
    if os.path.lexists(folder) and not folder.is_dir():
        raise ConfigError(
            " is a file. Give a folder; it is created if it does not exist.",
            option=option,
            value=folder,
        )
    _try_to_write(
        folder, f"{opt(option, folder)} cannot be written to", "Give a folder you may write to."
    )
    return folder


def check_file(
    path: str | Path,
    option: str = "out",
    *,
    suffixes: tuple[str, ...] = (),
    beside: tuple[str, ...] = (),
) -> Path:
    """Check that `path` can be written; its folder need not exist. Raises ConfigError.

    Arguments:
        path: the output file.
        option: the option that it was given by, for the message.
        suffixes: allowed suffixes; empty allows any.
        beside: names of further files that will be written to the same folder.
    """
    path = Path(path)
    if suffixes and path.suffix not in suffixes:
        raise ConfigError(
            f": expected a file name that ends in {' or '.join(suffixes)}.",
            option=option,
            value=path,
        )
    if path.is_dir() or path.name in ("", ".", ".."):
        raise ConfigError(" is a folder. Give the name of a file in it.", option=option, value=path)
    for name in (path.name, *beside):
        size = len(os.fsencode(name))
        if size > NAME_BYTES:
            which = "its name" if name == path.name else f"the name of {name[:30]}… beside it"
            raise ConfigError(
                f": {which} would be {size} bytes long; file systems allow "
                f"{NAME_BYTES}. Give a shorter name.",
                option=option,
                value=path,
            )
    _try_to_write(
        path.parent,
        f"{opt(option, path)} cannot be written",
        "Give a file in a folder that you may write to.",
    )
    return path


def _try_to_write(folder: Path, problem: str, advice: str) -> None:
    try:
        probe = temporary_path(nearest_folder(folder))
        try:
            probe.touch()
        finally:
            probe.unlink(missing_ok=True)
    except (OSError, ValueError) as e:
        raise ConfigError(f"{problem}: {getattr(e, 'strerror', None) or e}. {advice}") from e


def nearest_folder(folder: Path) -> Path:
    """The folder, or the nearest one above it that exists. Raises OSError, ValueError for names
    that no folder can have."""
    with contextlib.suppress(FileNotFoundError):
        folder.lstat()  # ValueError: a NUL in the name
    if any(len(os.fsencode(name)) > NAME_BYTES for name in folder.parts):
        raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG))
    while not os.path.lexists(folder) and folder != folder.parent:
        folder = folder.parent
    return folder
