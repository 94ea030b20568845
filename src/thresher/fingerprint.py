"""Identity of a frozen dataclass: sha256 of its canonical JSON. Two values with one fingerprint
give the same numbers.

Covers the class's `kind`, its `version` and all fields, recursively, but not where the class lives:
moving or renaming it keeps every stored score. So does a field that is added later, as long as it
has the value at which the numbers are those of before: `added = {"field": that value}`. Refuses
what it does not know: a lossy guess here would make two different signals share a column.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections.abc import Mapping
from typing import Any


def canonical(value: Any) -> Any:
    """A JSON value that is equal for equal identities. Raises TypeError for a type it does not
    know."""
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):
        if not math.isfinite(value):
            return {"float": repr(value)}
        return {"float": value.hex()}  # 1 and 1.0 differ, and no decimal rounding
    if isinstance(value, bytes):
        return {"bytes": value.hex()}
    if isinstance(value, tuple):
        return [canonical(v) for v in value]
    if isinstance(value, Mapping):
        if not all(isinstance(k, str) for k in value):
            raise TypeError("only text keys have a canonical form")
        return {"map": {k: canonical(value[k]) for k in sorted(value)}}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        if not value.__dataclass_params__.frozen:  # type: ignore[attr-defined]
            raise TypeError(
                f"{type(value).__qualname__} is not frozen: its identity could change after it "
                "was used"
            )
        # Its own: an inherited kind would make a class and its parent one.
        kind = vars(type(value)).get("kind")
        if not isinstance(kind, str) or not kind:
            raise TypeError(
                f"{type(value).__qualname__} has no identity: give the class a `kind: "
                "ClassVar[str]`"
            )
        out = {"kind": kind, "version": getattr(value, "version", 0)}
        # A field that was added later leaves the identity unchanged if it changes nothing.
        added = getattr(type(value), "added", {})
        skip = {name for name, before in added.items() if getattr(value, name) == before}
        skip.update(getattr(type(value), "not_identity", ()))
        out["fields"] = {
            f.name: canonical(getattr(value, f.name))
            for f in dataclasses.fields(value)
            if f.name not in skip
        }
        return out
    raise TypeError(
        f"{type(value).__qualname__} has no canonical form; use frozen dataclasses, tuples, "
        "numbers, text"
    )


def canonical_json(value: Any) -> str:
    return json.dumps(canonical(value), sort_keys=True, separators=(",", ":"), ensure_ascii=True)


def fingerprint(value: Any) -> str:
    """32 hexadecimal digits.

    >>> from thresher.types import ModelIdentity
    >>> a = ModelIdentity("sha256:1", "llava", "float32", "pil")
    >>> fingerprint(a) == fingerprint(ModelIdentity("sha256:1", "llava", "float32", "pil"))
    True
    >>> fingerprint(a) == fingerprint(ModelIdentity("sha256:1", "llava", "bfloat16", "pil"))
    False
    """
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()[:32]
