"""Rows of a pool for conversion to another format: fields, turns and images, one row at a time.

What a row loses is counted in `Rows.lost` and reported at the end. Reads the pool; writes only the
images of `ExportImages`.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from thresher.pools import llava
from thresher.types import IMAGE_PLACEHOLDER, ImageRef, Sample

if TYPE_CHECKING:
    from thresher.pools import Pool

# Names that readers interpret as another format, or as a turn.
RESERVED = ("messages", "texts", "images", "image", "extra_json")


@dataclass(slots=True)
class Row:
    """One row. `fields`: all but conversation and images; `data_source` is added if there is no
    source.
    """

    number: int  # in the pool
    fields: dict[str, Any]
    turns: list[Any]  # as in LLaVA: {"from", "value", …}, with placeholders
    images: list[ImageRef]
    aligned: bool  # as many placeholders as images


class Rows:
    """The rows, each read on demand. Can be iterated repeatedly; `lost` counts the last pass.

    Arguments:
        pool: the pool.
        rows: int64 [k], pool rows in the order of the export.
    """

    def __init__(self, pool: Pool, rows: np.ndarray) -> None:
        self.pool, self.rows = pool, rows
        self.lost: Counter[str] = Counter()

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[Row]:
        self.lost.clear()
        for number in self.rows.tolist():
            yield self._row(number)

    def loss_notes(self, format: str) -> tuple[str, ...]:
        """Notes on what was lost, most frequent first."""
        return tuple(
            f"{format}: {loss} ({n:,} row{'s' if n > 1 else ''})"
            for loss, n in self.lost.most_common()
        )

    def _row(self, number: int) -> Row:
        record, sample = self.pool.record_and_sample(number)
        assert record is not None  # target.check refused unreadable rows
        fields: dict[str, Any] = {}
        used = "image" if record.get("image") is not None else "images"
        for name, value in record.items():
            if name in ("conversations", used):
                continue
            if name in RESERVED or (name == "system" and isinstance(value, str) and value):
                if value:
                    self.lost[f"the field {name!r} has another meaning there and is left out"] += 1
                continue
            fields[name] = value
        if not any(fields.get(k) not in (None, "") for k in llava.SOURCE_KEYS):
            fields["data_source"] = sample.source
        given = record.get(used)
        if given and len(sample.images) < (len(given) if isinstance(given, list) else 1):
            self.lost["an image that is neither a path nor bytes is left out"] += 1
        turns = list(record["conversations"])
        if self.pool.index.flags[number] & (llava.PLACEHOLDER_ADDED | llava.MARKERS_READ):
            turns = insert_placeholders(turns, sample)
        texts = [t.get("value") for t in turns if isinstance(t, dict)]
        placeholders = sum(t.count(IMAGE_PLACEHOLDER) for t in texts if isinstance(t, str))
        return Row(number, fields, turns, list(sample.images), placeholders == len(sample.images))


def insert_placeholders(turns: list[Any], sample: Sample) -> list[Any]:
    """The record's turns with the sample's texts, which have `<image>` for each image, in order.

    Arguments:
        turns: of the record.
        sample: the same row as a sample.
    """
    out = []
    for turn, read in zip(turns, sample.turns, strict=True):
        # other turns are left unchanged
        if isinstance(turn, dict) and isinstance(turn.get("value"), str):
            turn = {**turn, "value": read.text}
        out.append(turn)
    return out


def encodable(value: Any) -> bool:
    """Whether all texts in a decoded value are valid Unicode: no lone surrogates."""
    try:
        json.dumps(value, ensure_ascii=False, default=str).encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def clean(text: str) -> str:
    """The text with ? for invalid Unicode."""
    return text.encode("utf-8", "replace").decode("utf-8")


def to_json(value: Any, lost: Counter[str]) -> bytes:
    """A record as JSON in UTF-8. Values without a JSON form become text, and text that UTF-8 cannot
    hold (lone surrogates, as which invalid bytes are read) is escaped; both are counted.

    Arguments:
        value: the record.
        lost: counts the values that changed, by what happened to them.
    """

    def text_of(inner: Any) -> str:
        lost["a value without a JSON form is written as text"] += 1
        return llava.json_default(inner)

    text = json.dumps(value, ensure_ascii=False, default=text_of)
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError:
        lost["text that is not valid Unicode is written as escapes of lone surrogates"] += 1
        return json.dumps(value, default=llava.json_default).encode("ascii")
