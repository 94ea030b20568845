"""Parquet in Hugging Face's form: `conversations` of from/value, `images` of {bytes, path}.

`datasets` decodes `images`. With embedded images the bytes are in the file, else only paths, except
for rows whose images have no file. Fields without a column go to `extra_json`. Row groups are small
so that single rows can be read cheaply. Memory: one row group.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from thresher.exporters import target
from thresher.exporters.chats import messages
from thresher.exporters.fields import Fields
from thresher.exporters.images import ExportImages
from thresher.exporters.options import Options
from thresher.exporters.rows import Rows, clean
from thresher.exporters.sharegpt import FROM_ROLE
from thresher.pools.layouts import EXTRA

if TYPE_CHECKING:
    from thresher.pools import Pool

GROUP_ROWS = 1000
GROUP_BYTES = 32 << 20
_TYPES = {str: pa.string(), int: pa.int64(), float: pa.float64(), bool: pa.bool_()}
_IMAGES = pa.list_(pa.struct([("bytes", pa.binary()), ("path", pa.string())]))
_TURNS = pa.list_(pa.struct([("from", pa.string()), ("value", pa.string())]))


def export(
    pool: Pool, rows: np.ndarray, path: Path, format: str, options: Options
) -> tuple[str, ...]:
    """See `thresher.exporters.export`. `format`: "parquet"."""
    path = target.file(path)
    stream, images = Rows(pool, rows), ExportImages(pool, path, options)
    fields = Fields(stream)
    schema = _schema(fields)
    with (
        target.open_atomic(path) as out,
        pq.ParquetWriter(out, schema, compression="zstd") as writer,
    ):
        group: list[dict[str, Any]] = []
        size = 0
        for row in stream:
            turns, extra_json = messages(row, stream)
            if any(len(t) > 2 for t in turns):
                extra_json = {"conversations": row.turns}  # fields in a turn have no column
            cells = _images(row.images, images, options.embed)
            conversations = [
                {"from": FROM_ROLE.get(t["role"], t["role"]), "value": t["content"]} for t in turns
            ]
            group.append(
                {**fields.split(row, extra_json), "images": cells, "conversations": conversations}
            )
            size += sum(len(i["bytes"] or b"") for i in cells) + sum(
                len(t["value"]) for t in conversations
            )
            if len(group) >= GROUP_ROWS or size >= GROUP_BYTES:
                writer.write_table(pa.Table.from_pylist(group, schema))
                group, size = [], 0
        if group:
            writer.write_table(pa.Table.from_pylist(group, schema))
    return (*stream.loss_notes("parquet"), *images.notes())


def _schema(fields: Fields) -> pa.Schema:
    columns = [(name, _TYPES[kind]) for name, kind in fields.types.items()]
    columns += [(EXTRA, pa.string()), ("images", _IMAGES), ("conversations", _TURNS)]
    features = {
        name: {"dtype": str(kind), "_type": "Value"}
        for name, kind in columns[: len(fields.types) + 1]
    }
    features = {
        k: {**v, "dtype": {"double": "float64"}.get(v["dtype"], v["dtype"])}
        for k, v in features.items()
    }
    features["images"] = {"feature": {"_type": "Image"}, "_type": "List"}  # type: ignore[dict-item]
    text = {"dtype": "string", "_type": "Value"}
    features["conversations"] = {"feature": {"from": text, "value": text}, "_type": "List"}  # type: ignore[dict-item]
    metadata = json.dumps({"info": {"features": features}})
    return pa.schema(
        [pa.field(n, t) for n, t in columns], metadata={b"huggingface": metadata.encode("utf-8")}
    )


def _images(refs: list[Any], images: ExportImages, embed: bool) -> list[dict[str, Any]]:
    if not embed and all(i.data is None for i in refs):
        return [{"bytes": None, "path": clean(images.name(i))} for i in refs]
    contents = images.contents(refs)
    if contents is None:
        return [{"bytes": i.data, "path": None if i.data else clean(images.name(i))} for i in refs]
    return [
        {"bytes": content, "path": clean(i.path) if i.data is None else None}
        for i, content in zip(refs, contents, strict=True)
    ]
