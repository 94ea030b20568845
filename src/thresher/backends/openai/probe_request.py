"""A request that any working model answers: a short text and, if the row has images, one plain
image.

Sent with the settings of a row's request after that row failed, it tells whether the server fails
that row or every request.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from thresher.backends.openai.image_uris import data_uri
from thresher.backends.openai.messages import Messages

TEXT = "Say yes."
SIDE = 256  # pixels


def probe_messages(messages: Messages) -> Messages:
    """A row's messages reduced to the system turn and one trivial user turn."""
    has_image = any(isinstance(m["content"], list) for m in messages)
    content: Any = TEXT
    if has_image:
        content = [
            {"type": "image_url", "image_url": {"url": _plain()}},
            {"type": "text", "text": TEXT},
        ]
    system = [m for m in messages if m["role"] == "system"]
    return [*system, {"role": "user", "content": content}]


def probe_content(content: str | Messages) -> str | Messages:
    """A trivial text or trivial messages, in place of what a row embeds."""
    return TEXT if isinstance(content, str) else probe_messages(content)


@cache
def _plain() -> str:
    from PIL import Image

    return data_uri(Image.new("RGB", (SIDE, SIDE), (128, 128, 128)), SIDE)
