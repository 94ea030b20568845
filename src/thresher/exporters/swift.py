"""ms-swift JSONL: `{"messages": [{"role", "content"}], "images": [...]}`; rows without images have no `images`.

Fields keep to one type each (`fields.py`); the rest stands in `extra_json`. Lost: nothing of a row.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from thresher.exporters import raw, target
from thresher.exporters.chats import messages
from thresher.exporters.fields import Fields
from thresher.exporters.options import Options
from thresher.exporters.pictures import Pictures
from thresher.exporters.rows import Rows, plain

if TYPE_CHECKING:
    from thresher.pools import Pool

NATIVE = ("videos", "audios", "objects", "tools")


def export(pool: Pool, rows: np.ndarray, path: Path, format: str, options: Options) -> tuple[str, ...]:
    """See `thresher.exporters.export`. `format`: "swift" or "swift-jsonl"."""
    path = target.file(path)
    stream, pictures = Rows(pool, rows), Pictures(pool, path, options)
    fields = Fields(stream, NATIVE)

    def records() -> Iterator[bytes]:
        for row in stream:
            turns, further = messages(row, stream)
            record: dict[str, Any] = {"messages": turns}
            if row.images:
                record["images"] = [pictures.name(i) for i in row.images]
            yield plain({**record, **fields.split(row, further)}, stream.lost)

    target.write(path, raw.jsonl(records()))
    return (*stream.losses("swift"), *pictures.remarks())
