"""How a user names a model: a folder, a hub id, or the URL of a server."""

from __future__ import annotations


def is_url(spec: str | None) -> bool:
    """Whether a model is named by the URL of its server; None: no model is named.

    >>> is_url("http://127.0.0.1:8000/v1#m"), is_url("Qwen/Qwen2.5-VL-3B-Instruct"), is_url(None)
    (True, False, False)
    """
    return (spec or "").lower().startswith(("http://", "https://"))
