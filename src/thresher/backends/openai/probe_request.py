"""A request whose row nobody can blame: one plain picture where the row has pictures, and a word of
text.

Sent with the settings of a row's request when that row failed, it tells whether the server fails
the row or everything.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from thresher.backends.openai.image_uris import data_uri
from thresher.backends.openai.messages import Messages

TEXT = "Say yes."
SIDE = 256  # pixels


def stand_in(messages: Messages) -> Messages:
    """The conversation of a row, its system turn kept, with plain contents and no earlier
    answers."""
    has_image = any(isinstance(m["content"], list) for m in messages)
    content: Any = TEXT
    if has_image:
        content = [
            {"type": "image_url", "image_url": {"url": _plain()}},
            {"type": "text", "text": TEXT},
        ]
    system = [m for m in messages if m["role"] == "system"]
    return [*system, {"role": "user", "content": content}]


@cache
def _plain() -> str:
    from PIL import Image

    return data_uri(Image.new("RGB", (SIDE, SIDE), (128, 128, 128)), SIDE)
