"""LLaVA JSON and JSONL. Rows of a LLaVA file are copied (`raw.py`); others are converted.

Unknown fields are kept. Lost: only how another format expresses the same (content parts, a list of
one image).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from thresher.exporters import raw, target
from thresher.exporters.images import ExportImages
from thresher.exporters.options import Options
from thresher.exporters.rows import Rows, to_json

if TYPE_CHECKING:
    from thresher.pools import Pool


def export(
    pool: Pool, rows: np.ndarray, path: Path, format: str, options: Options
) -> tuple[str, ...]:
    """See `thresher.exporters.export`. `format`: "llava", "llava-json" or "llava-jsonl"."""
    path = target.file(path)
    stream, images = Rows(pool, rows), ExportImages(pool, path, options)

    def records() -> Iterator[bytes]:
        for row in stream:
            record: dict[str, Any] = dict(row.fields)
            names = [images.name(i) for i in row.images]
            if names:
                record["image"] = names[0] if len(names) == 1 else names
            record["conversations"] = row.turns
            yield to_json(record, stream.lost)

    pieces = raw.jsonl if raw.is_lines(format, path) else raw.json_list
    target.write(path, pieces(records()))
    return (*stream.loss_notes("llava"), *images.notes())
