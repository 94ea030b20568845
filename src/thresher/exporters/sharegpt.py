"""ShareGPT: `{"conversations": [{"from", "value"}], "images": [...]}`, JSON or JSONL.

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

NATIVE = ("videos", "audios", "tools")
FROM_ROLE = {"user": "human", "assistant": "gpt"}


def export(
    pool: Pool, rows: np.ndarray, path: Path, format: str, options: Options
) -> tuple[str, ...]:
    """See `thresher.exporters.export`.

    Arguments:
        format: "sharegpt", "sharegpt-json" or "sharegpt-jsonl".
    """
    path = target.file(path)
    stream, images = Rows(pool, rows), ExportImages(pool, path, options)
    fields = Fields(stream, NATIVE)

    def records() -> Iterator[bytes]:
        for row in stream:
            turns, extra_json = messages(row, stream)
            conversations = [
                {"from": FROM_ROLE.get(t["role"], t["role"]), "value": t["content"]} | _rest(t)
                for t in turns
            ]
            record: dict[str, Any] = {
                **fields.split(row, extra_json),
                "images": [images.name(i) for i in row.images],
            }
            yield to_json({**record, "conversations": conversations}, stream.lost)

    pieces = raw.jsonl if raw.is_lines(format, path) else raw.json_list
    target.write(path, pieces(records()))
    return (*stream.loss_notes("sharegpt"), *images.notes())


def _rest(turn: dict[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in turn.items() if k not in ("role", "content")}
