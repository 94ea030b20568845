"""Messages whose content is a list of parts, as TRL, Qwen and OpenAI take them, JSONL (or JSON).

By default TRL's way: `{"type": "image"}` parts and the paths in `images` beside them. With embedded images OpenAI's:
`{"type": "image_url", "image_url": {"url": "data:…"}}`. A row whose placeholders do not match its images keeps them as
text. Fields keep to one type each (`fields.py`). Lost: nothing of a row.
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
from thresher.pools.embedded import data_uri
from thresher.types import IMAGE_PLACEHOLDER

if TYPE_CHECKING:
    from thresher.pools import Pool

NATIVE = ("videos", "tools")


def export(pool: Pool, rows: np.ndarray, path: Path, format: str, options: Options) -> tuple[str, ...]:
    """See `thresher.exporters.export`. `format`: "messages", "messages-json" or "messages-jsonl"."""
    path = target.file(path)
    stream, pictures = Rows(pool, rows), Pictures(pool, path, options)
    fields = Fields(stream, NATIVE)

    def records() -> Iterator[bytes]:
        for row in stream:
            turns, further = messages(row, stream)
            inside: Iterator[bytes] | None = None
            if options.embed and row.aligned and row.images:
                contents = pictures.contents(row.images)
                inside = iter(contents) if contents is not None else None
            for turn in turns:
                turn["content"] = _parts(turn["content"], row.aligned, inside)
            record: dict[str, Any] = {"messages": turns}
            if inside is None:
                record["images"] = [pictures.name(i) for i in row.images]
            yield plain({**record, **fields.split(row, further)}, stream.lost)

    lines = raw.is_lines(format, path) or (format == "messages" and path.suffix.lower() != ".json")
    target.write(path, (raw.jsonl if lines else raw.json_list)(records()))
    return (*stream.losses("messages"), *pictures.remarks())


def _parts(text: str, aligned: bool, inside: Iterator[bytes] | None) -> list[dict[str, Any]]:
    """A text as parts, cut at its placeholders."""
    if not aligned:
        return [{"type": "text", "text": text}]
    parts: list[dict[str, Any]] = []
    for i, piece in enumerate(text.split(IMAGE_PLACEHOLDER)):
        if i and inside is not None:
            parts.append({"type": "image_url", "image_url": {"url": data_uri(next(inside))}})
        elif i:
            parts.append({"type": "image"})
        if piece:
            parts.append({"type": "text", "text": piece})
    return parts or [{"type": "text", "text": ""}]
