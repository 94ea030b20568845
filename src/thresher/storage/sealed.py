"""JSON that carries its own checksum, and checksums of files: what lets damage be noticed.

A file that was cut, emptied or changed after it was written fails `unseal` or `check_files`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

SEAL, FILES = "sha256", "files"


class Damaged(ValueError):
    """A file is not what was written. The message says which and why."""


def seal(content: Mapping[str, Any]) -> bytes:
    """`content` as one JSON object with its own checksum.

    >>> unseal(seal({"steps": 3}))
    {'steps': 3}
    """
    return json.dumps({**content, SEAL: _digest(content)}).encode()


def unseal(data: bytes, *, required: bool = True) -> dict[str, Any]:
    """What `seal` was given. `required`: False accepts an object without a checksum, as earlier
    versions wrote it. Raises Damaged.
    """
    try:
        content = json.loads(data)
    except (ValueError, RecursionError) as e:
        raise Damaged(f"it is no JSON: {e}") from None
    if not isinstance(content, dict):
        raise Damaged("it holds no JSON object")
    if SEAL not in content and not required:
        return content
    if content.pop(SEAL, None) != _digest(content):
        raise Damaged("its checksum does not match its content")
    return content


def digests(folder: Path, names: Iterable[str]) -> dict[str, str]:
    """sha256 of each file, in hexadecimal. Raises OSError."""
    out = {}
    for name in names:
        with open(folder / name, "rb") as f:
            out[name] = hashlib.file_digest(f, "sha256").hexdigest()
    return out


def check_files(folder: Path, expected: Mapping[str, str]) -> None:
    """Raises Damaged where a file is missing, unreadable or has another digest."""
    for name, digest in expected.items():
        try:
            found = digests(folder, [name])[name]
        except OSError as e:
            raise Damaged(f"{name} cannot be read: {e.strerror or e}") from None
        if found != digest:
            raise Damaged(f"{name} has changed since it was written")


def _digest(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
