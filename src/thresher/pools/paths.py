"""Which image paths may be read: relative ones that stay inside the image folder, however they are
written.

`unsafe_path_reason` checks the text only (no disk access); `resolve_inside` follows symbolic links
too. Both run before anything is opened.
"""

from __future__ import annotations

import os
import re

from thresher.errors import ImageError
from thresher.types import RowError

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.\-]*://|(?i:data:|file:)")
_DRIVE = re.compile(r"[A-Za-z]:")
_SEPARATORS = re.compile(r"[/\\]")


def unsafe_path_reason(path: str) -> str:
    """Why this path may not be read, as "kind: explanation"; "" if its text is harmless.

    >>> unsafe_path_reason("coco/a..b.jpg"), unsafe_path_reason("a/../../etc/passwd")
    ('', 'unsafe-path: .. could leave the image folder')
    """
    if "\0" in path:
        return "unsafe-path: a NUL byte"
    if _URL.match(path):
        return "remote-url: images are read from the image folder only; download it first"
    if path[:1] in ("/", "\\") or _DRIVE.match(path):
        return (
            "unsafe-path: an absolute path; image paths are relative to the image folder (--images)"
        )
    if ".." in path and ".." in _SEPARATORS.split(path):
        return "unsafe-path: .. could leave the image folder"
    return ""


def resolve_inside(folder: str, path: str) -> str:
    """The real path of `path` below `folder`.

    Arguments:
        folder: a resolved folder.
        path: a path relative to it.

    Raises ImageError if the path is unsafe or a symbolic link leads out of the folder.
    """
    if reason := unsafe_path_reason(path):
        raise ImageError(f"{printable(path)}: {reason}", kind=RowError.parse(reason).kind)
    try:
        real = os.path.realpath(os.path.join(folder, path))
    except (OSError, ValueError) as error:
        raise ImageError(
            f"{printable(path)}: not a usable path: {error}", kind="missing-image"
        ) from error
    if real != folder and not real.startswith(folder.rstrip(os.sep) + os.sep):
        raise ImageError(
            f"{printable(path)}: unsafe-path: a symbolic link leads out of the image folder",
            kind="unsafe-path",
        )
    return real


def printable(path: str) -> str:
    """A path for a message: at most 200 characters, non-printable ones escaped."""
    text = path if len(path) <= 200 else path[:200] + "…"
    return ascii(text)[1:-1] if not text.isprintable() else text
