"""A file that is whole where it stands: written aside, then renamed. Touches that file and its folder only."""

from __future__ import annotations

import os
import uuid
from pathlib import Path

from thresher.errors import StoreError


def publish(path: Path, data: bytes, advice: str = " Make room and run the same command again.") -> None:
    """A kill leaves what stood there before, or all of `data`. Raises StoreError (disk full, no permission) with `advice`."""
    aside = path.with_name(f".tmp-{uuid.uuid4().hex}")
    try:
        aside.write_bytes(data)
        os.replace(aside, path)
    except OSError as e:
        raise StoreError(f"{path} cannot be written: {e.strerror or e}.{advice}") from e
    finally:
        aside.unlink(missing_ok=True)
