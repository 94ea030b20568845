"""ShareGPT: `{"conversations": [{"from", "value"}], "images": [...]}`, JSON or JSONL.

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

NATIVE = ("videos", "audios", "tools")
SAYS = {"user": "human", "assistant": "gpt"}


def export(pool: Pool, rows: np.ndarray, path: Path, format: str, options: Options) -> tuple[str, ...]:
    """See `thresher.exporters.export`. `format`: "sharegpt", "sharegpt-json" or "sharegpt-jsonl"."""
    path = target.file(path)
    stream, pictures = Rows(pool, rows), Pictures(pool, path, options)
    fields = Fields(stream, NATIVE)

    def records() -> Iterator[bytes]:
        for row in stream:
            turns, further = messages(row, stream)
            said = [{"from": SAYS.get(t["role"], t["role"]), "value": t["content"]} | _rest(t) for t in turns]
            record: dict[str, Any] = {**fields.split(row, further), "images": [pictures.name(i) for i in row.images]}
            yield plain({**record, "conversations": said}, stream.lost)

    pieces = raw.jsonl if raw.is_lines(format, path) else raw.json_list
    target.write(path, pieces(records()))
    return (*stream.losses("sharegpt"), *pictures.remarks())


def _rest(turn: dict[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in turn.items() if k not in ("role", "content")}
