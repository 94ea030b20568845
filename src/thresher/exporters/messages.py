"""Messages whose content is a list of parts, as for TRL, Qwen and OpenAI, JSONL (or JSON).

By default as for TRL: `{"type": "image"}` parts, with paths in `images`. With embedded images as
for OpenAI: `{"type": "image_url", "image_url": {"url": "data:…"}}`. A row whose placeholders do
not match its images keeps them as text. Fields have one type each (`fields.py`). Lossless.
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
from thresher.pools.embedded import data_uri
from thresher.types import IMAGE_PLACEHOLDER

if TYPE_CHECKING:
    from thresher.pools import Pool

NATIVE = ("videos", "tools")


def export(
    pool: Pool, rows: np.ndarray, path: Path, format: str, options: Options
) -> tuple[str, ...]:
    """See `thresher.exporters.export`.

    Arguments:
        format: "messages", "messages-json" or "messages-jsonl".
    """
    path = target.file(path)
    stream, images = Rows(pool, rows), ExportImages(pool, path, options)
    fields = Fields(stream, NATIVE)

    def records() -> Iterator[bytes]:
        for row in stream:
            turns, extra_json = messages(row, stream)
            inside: Iterator[bytes] | None = None
            if options.embed and row.aligned and row.images:
                contents = images.contents(row.images)
                inside = iter(contents) if contents is not None else None
            for turn in turns:
                turn["content"] = _parts(turn["content"], row.aligned, inside)
            record: dict[str, Any] = {"messages": turns}
            if inside is None:
                record["images"] = [images.name(i) for i in row.images]
            yield to_json({**record, **fields.split(row, extra_json)}, stream.lost)

    lines = raw.is_lines(format, path) or (format == "messages" and path.suffix.lower() != ".json")
    target.write(path, (raw.jsonl if lines else raw.json_list)(records()))
    return (*stream.loss_notes("messages"), *images.notes())


def _parts(text: str, aligned: bool, inside: Iterator[bytes] | None) -> list[dict[str, Any]]:
    """A text as parts, split at its placeholders."""
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
