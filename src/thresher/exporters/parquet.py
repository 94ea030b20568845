"""Parquet as Hugging Face has it: `conversations` of from/value, `images` of {bytes, path}, a column a plain field.

`datasets` shows `images` as pictures. With embedded images the bytes are in the file; else only their paths, except for
rows whose images have no file. What has no column stands in `extra_json`. Row groups are small, so that single rows are
read without much around them. Memory: one row group.
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
from thresher.exporters.options import Options
from thresher.exporters.pictures import Pictures
from thresher.exporters.rows import Rows, clean
from thresher.exporters.sharegpt import SAYS
from thresher.pools.layouts import EXTRA

if TYPE_CHECKING:
    from thresher.pools import Pool

GROUP_ROWS = 1000
GROUP_BYTES = 32 << 20
_TYPES = {str: pa.string(), int: pa.int64(), float: pa.float64(), bool: pa.bool_()}
_IMAGES = pa.list_(pa.struct([("bytes", pa.binary()), ("path", pa.string())]))
_TURNS = pa.list_(pa.struct([("from", pa.string()), ("value", pa.string())]))


def export(pool: Pool, rows: np.ndarray, path: Path, format: str, options: Options) -> tuple[str, ...]:
    """See `thresher.exporters.export`. `format`: "parquet"."""
    path = target.file(path)
    stream, pictures = Rows(pool, rows), Pictures(pool, path, options)
    fields = Fields(stream)
    schema = _schema(fields)
    with target.writing(path) as out, pq.ParquetWriter(out, schema, compression="zstd") as writer:
        group: list[dict[str, Any]] = []
        size = 0
        for row in stream:
            turns, further = messages(row, stream)
            if any(len(t) > 2 for t in turns):
                further = {"conversations": row.turns}  # fields in a turn have no column
            images = _images(row.images, pictures, options.embed)
            said = [{"from": SAYS.get(t["role"], t["role"]), "value": t["content"]} for t in turns]
            group.append({**fields.split(row, further), "images": images, "conversations": said})
            size += sum(len(i["bytes"] or b"") for i in images) + sum(len(t["value"]) for t in said)
            if len(group) >= GROUP_ROWS or size >= GROUP_BYTES:
                writer.write_table(pa.Table.from_pylist(group, schema))
                group, size = [], 0
        if group:
            writer.write_table(pa.Table.from_pylist(group, schema))
    return (*stream.losses("parquet"), *pictures.remarks())


def _schema(fields: Fields) -> pa.Schema:
    columns = [(name, _TYPES[kind]) for name, kind in fields.types.items()]
    columns += [(EXTRA, pa.string()), ("images", _IMAGES), ("conversations", _TURNS)]
    features = {name: {"dtype": str(kind), "_type": "Value"} for name, kind in columns[: len(fields.types) + 1]}
    features = {k: {**v, "dtype": {"double": "float64"}.get(v["dtype"], v["dtype"])} for k, v in features.items()}
    features["images"] = {"feature": {"_type": "Image"}, "_type": "List"}  # type: ignore[dict-item]
    text = {"dtype": "string", "_type": "Value"}
    features["conversations"] = {"feature": {"from": text, "value": text}, "_type": "List"}  # type: ignore[dict-item]
    told = json.dumps({"info": {"features": features}})
    return pa.schema([pa.field(n, t) for n, t in columns], metadata={b"huggingface": told.encode("utf-8")})


def _images(images: list[Any], pictures: Pictures, embed: bool) -> list[dict[str, Any]]:
    if not embed and all(i.data is None for i in images):
        return [{"bytes": None, "path": clean(pictures.name(i))} for i in images]
    contents = pictures.contents(images)
    if contents is None:
        return [{"bytes": i.data, "path": None if i.data else clean(pictures.name(i))} for i in images]
    return [
        {"bytes": content, "path": clean(i.path) if i.data is None else None}
        for i, content in zip(images, contents, strict=True)
    ]
