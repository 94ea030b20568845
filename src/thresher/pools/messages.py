"""OpenAI, Qwen and TRL messages: `{"messages": [{"role": "user", "content": "Q" | [{"type": "text",
…}, {"type": "image", …}]}]}`.

Image parts: `{"type": "image_url", "image_url": {"url": "data:…" | path}}`, `{"type": "image",
"image": path}`, or bare `{"type": "image"}`, which take the next image of the list `images` beside
the messages. Parts are joined without anything between them, an image part as `<image>`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from thresher.pools import swift


def to_llava(record: Mapping[str, Any]) -> dict[str, Any]:
    """The record in the LLaVA layout, by the rules of ms-swift's: the two differ in name only."""
    return swift.to_llava(record)
