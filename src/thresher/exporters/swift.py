"""ms-swift JSONL: `{"messages": [{"role", "content"}], "images": [...]}`; `images` only if any.

Fields have one type each (`fields.py`); the rest goes to `extra_json`. Lossless.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from thresher.exporters import raw, target
from thresher.exporters.chats import messages
from thresher.exporters.fields import Fields
from thresher.exporters.images import ExportImages
from thresher.exporters.options import Options
from thresher.exporters.rows import Rows, to_json

if TYPE_CHECKING:
    from thresher.pools import Pool

NATIVE = ("videos", "audios", "objects", "tools")


def export(
    pool: Pool, rows: np.ndarray, path: Path, format: str, options: Options
) -> tuple[str, ...]:
    """See `thresher.exporters.export`. `format`: "swift" or "swift-jsonl"."""
    path = target.file(path)
    stream, images = Rows(pool, rows), ExportImages(pool, path, options)
    fields = Fields(stream, NATIVE)

    def records() -> Iterator[bytes]:
        for row in stream:
            turns, extra_json = messages(row, stream)
            record: dict[str, Any] = {"messages": turns}
            if row.images:
                record["images"] = [images.name(i) for i in row.images]
            yield to_json({**record, **fields.split(row, extra_json)}, stream.lost)

    target.write(path, raw.jsonl(records()))
    return (*stream.loss_notes("swift"), *images.notes())
