"""Which fields of the rows may stand as columns of their own, so that Arrow (and with it `datasets`, and the trainers that
load with it) takes the file: Arrow wants one type a column, and users' extra fields keep to none.

A field that is text, a whole number, a number or a truth value in every row that has it keeps its name. Everything else
goes, as JSON, into one text column `extra_json`, which our readers put back. One pass over the rows.
"""

from __future__ import annotations

import json
from typing import Any

from thresher.exporters.rows import Row, Rows, encodable
from thresher.pools.layouts import EXTRA
from thresher.pools.llava import in_words

MOST = 64  # columns
NATIVE: dict[str, type] = {"videos": list, "audios": list, "objects": dict, "tools": str}  # fields that trainers know
_WHOLE = 2**63


def _kind(value: Any) -> type | None:
    """The type of a value that Arrow has a column for, else None."""
    kind: type = type(value)
    if kind is int:
        return kind if -_WHOLE <= value < _WHOLE else None
    return kind if kind in (str, float, bool) else None


class Fields:
    """The columns for some rows: name -> type. `native`: which of NATIVE the format has."""

    def __init__(self, rows: Rows, native: tuple[str, ...] = ()) -> None:
        self.native = native
        seen: dict[str, type | None] = {}
        for row in rows:
            for name, value in row.fields.items():
                if value is None or name in native:
                    continue
                kind = _kind(value)
                fits = kind is not None
                if not fits or seen.setdefault(name, kind) is not kind or not name.isprintable() or not name:
                    seen[name] = None
        if seen.get("id", str) is None:
            seen["id"] = str  # as people write it; the true one stands in extra_json
        several = {name: kind for name, kind in seen.items() if kind is not None}
        first = {"id": several.get("id", str)} | several
        self.types: dict[str, type] = dict(list(first.items())[:MOST])

    def split(self, row: Row, further: dict[str, Any]) -> dict[str, Any]:
        """The row's fields as columns, `extra_json` last. `further`: what must go there beside the fields without a column."""
        out: dict[str, Any] = dict.fromkeys(self.types)
        extra: dict[str, Any] = {}
        for name, value in row.fields.items():
            if self._fits(name, value):
                out[name] = value
            else:
                extra[name] = value
        if extra.get("id") is not None:
            text = extra["id"] if isinstance(extra["id"], str) else json.dumps(extra["id"], default=in_words)
            if self.types["id"] is str:
                out["id"] = text.encode("utf-8", "replace").decode("utf-8")
        extra |= further
        out[EXTRA] = json.dumps(extra, default=in_words) if extra else ""
        return out

    def _fits(self, name: str, value: Any) -> bool:
        """Whether a value may stand in the column of its name."""
        if name in self.native:
            return isinstance(value, NATIVE[name]) and encodable(value)
        kind = _kind(value)
        if kind is None or self.types.get(name) != kind:
            return False
        return not isinstance(value, str) or encodable(value)
