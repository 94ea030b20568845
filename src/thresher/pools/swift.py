"""ms-swift JSONL: `{"messages": [{"role", "content"}], "images": ["/a.jpg"], "videos": […],
"objects": {…}}`.

`images` may hold paths, `{"path": …}` or `{"bytes": …}`. All other fields are kept.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from thresher.pools import chat, sharegpt


def to_llava(record: Mapping[str, Any]) -> dict[str, Any]:
    """The record in the LLaVA layout (`chat.to_llava`)."""
    if not record.get("messages") and record.get("conversations"):
        return sharegpt.to_llava(record)
    return chat.to_llava(record, "messages")
