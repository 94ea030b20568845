"""Which fields of the rows can be columns: Arrow (and so `datasets` and trainers) needs one type
each.

A field that is text, an integer, a float or a bool in every row that has it becomes a column. All
others go, as JSON, into one text column `extra_json`, which our readers restore. One pass over the
rows.
"""

from __future__ import annotations

import json
from typing import Any

from thresher.exporters.rows import Row, Rows, clean, encodable
from thresher.pools.layouts import EXTRA
from thresher.pools.llava import json_default

MAX_COLUMNS = 64  # columns
# fields that trainers read
NATIVE: dict[str, type] = {"videos": list, "audios": list, "objects": dict, "tools": str}
_INT64 = 2**63


def _kind(value: Any) -> type | None:
    """The type of a value that Arrow has a column for, else None."""
    kind: type = type(value)
    if kind is int:
        return kind if -_INT64 <= value < _INT64 else None
    return kind if kind in (str, float, bool) else None


class Fields:
    """The columns for the other fields of some rows: name -> type.

    Arguments:
        rows: the rows of the export, which count what is lost.
        native: names of NATIVE that the format has itself.
    """

    def __init__(self, rows: Rows, native: tuple[str, ...] = ()) -> None:
        self.native = native
        self._rows = rows
        seen: dict[str, type | None] = {}
        for row in rows:
            for name, value in row.fields.items():
                if value is None or name in native:
                    continue
                kind = _kind(value)
                fits = kind is not None
                if (
                    not fits
                    or seen.setdefault(name, kind) is not kind
                    or not name.isprintable()
                    or not name
                ):
                    seen[name] = None
        if seen.get("id", str) is None:
            seen["id"] = str  # as text; the original is in extra_json
        several = {name: kind for name, kind in seen.items() if kind is not None}
        first = {"id": several.get("id", str)} | several
        self.types: dict[str, type] = dict(list(first.items())[:MAX_COLUMNS])

    def split(self, row: Row, extra_json: dict[str, Any]) -> dict[str, Any]:
        """The row's fields as columns, `extra_json` last.

        Arguments:
            row: the row.
            extra_json: further content for that column, besides fields without a column.
        """
        out: dict[str, Any] = dict.fromkeys(self.types)
        extra: dict[str, Any] = {}
        for name, value in row.fields.items():
            if self._fits(name, value):
                out[name] = value
            else:
                extra[name] = value
        if extra.get("id") is not None:
            text = (
                extra["id"]
                if isinstance(extra["id"], str)
                else json.dumps(extra["id"], default=json_default)
            )
            if self.types["id"] is str:
                out["id"] = clean(text)
                if out["id"] != text:
                    lost = "invalid Unicode in the id is replaced by ?; extra_json has the original"
                    self._rows.lost[lost] += 1
        extra |= extra_json
        out[EXTRA] = json.dumps(extra, default=json_default) if extra else ""
        return out

    def _fits(self, name: str, value: Any) -> bool:
        """Whether a value fits the column of its name."""
        if name in self.native:
            return isinstance(value, NATIVE[name]) and encodable(value)
        kind = _kind(value)
        if kind is None or self.types.get(name) != kind:
            return False
        return not isinstance(value, str) or encodable(value)
