"""What a store holds, by the identities that `signal.json` of each column describes. Reads only."""

from __future__ import annotations

import json
from typing import Any

from thresher.storage.columns import Store


def described(store: Store, kind: str) -> list[tuple[str, dict[str, Any]]]:
    """(fingerprint, fields of the identity) of every column of this kind of signal, sorted.

    A column without a readable description is not listed: it can still be loaded by its signal.

    Arguments:
        store: the store to search.
        kind: of the signal, such as "answer_loss".
    """
    out = []
    for path in store.descriptions():
        try:
            content = json.loads(path.read_bytes())
            identity = content["identity"]
            if identity["kind"] == kind:
                out.append((path.parent.name, dict(identity["fields"])))
        except (OSError, ValueError, KeyError, TypeError):
            continue
    return out
