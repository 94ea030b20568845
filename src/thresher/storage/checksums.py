"""Checksums of JSON objects and of files, to detect damage.

A file that was truncated or changed after it was written fails `unseal` or `check_files`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

SEAL, FILES = "sha256", "files"


class CorruptFile(ValueError):
    """A file differs from what was written. The message says which file and why."""


def seal(content: Mapping[str, Any]) -> bytes:
    """Serialize `content` as a JSON object that includes its own checksum.

    >>> unseal(seal({"steps": 3}))
    {'steps': 3}
    """
    return json.dumps({**content, SEAL: _digest(content)}).encode()


def unseal(data: bytes, *, required: bool = True) -> dict[str, Any]:
    """Inverse of `seal`.

    Arguments:
        data: as `seal` returned it.
        required: False accepts an object without a checksum, as written by earlier versions.

    Raises CorruptFile.
    """
    try:
        content = json.loads(data)
    except (ValueError, RecursionError) as e:
        raise CorruptFile(f"it is not valid JSON: {e}") from None
    if not isinstance(content, dict):
        raise CorruptFile("it is not a JSON object")
    if SEAL not in content and not required:
        return content
    if content.pop(SEAL, None) != _digest(content):
        raise CorruptFile("its checksum does not match its content")
    return content


def file_digests(folder: Path, names: Iterable[str]) -> dict[str, str]:
    """SHA-256 of each file, hexadecimal, by name. Raises OSError.

    Arguments:
        folder: the folder of the files.
        names: relative paths of the files.
    """
    out = {}
    for name in names:
        with open(folder / name, "rb") as f:
            out[name] = hashlib.file_digest(f, "sha256").hexdigest()
    return out


def check_files(folder: Path, expected: Mapping[str, str]) -> None:
    """Raises CorruptFile if a file is missing, unreadable or does not match its digest.

    Arguments:
        folder: the folder of the files.
        expected: relative path -> SHA-256, hexadecimal.
    """
    for name, digest in expected.items():
        try:
            found = file_digests(folder, [name])[name]
        except OSError as e:
            raise CorruptFile(f"{name} cannot be read: {e.strerror or e}") from None
        if found != digest:
            raise CorruptFile(f"{name} has changed since it was written")


def _digest(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
