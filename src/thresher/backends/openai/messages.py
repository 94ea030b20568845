"""A conversation as the messages of a chat completion: texts, and images as data URIs where the
placeholders stand. Pure."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from thresher.backends.hf.conversation import Conversation, conversation, prompt_of
from thresher.types import ImageRef, Sample, Turn

Messages = list[dict[str, Any]]


def prompt(sample: Sample) -> Conversation:
    """All that stands before the sample's last answer; all of it where there is no answer."""
    return (
        prompt_of(sample)
        if any(t.role == "assistant" for t in sample.turns)
        else conversation(sample)
    )


def question(sample: Sample, text: str) -> Conversation:
    """The sample, whose last turn is the user's, with `text` at its end. Raises ValueError for
    another last turn."""
    *before, last = sample.turns
    if last.role != "user":
        raise ValueError(
            f"a sample that is asked about ends with a user turn, not with {last.role!r}"
        )
    return conversation(Sample(sample.id, (*before, Turn("user", last.text + text)), sample.images))


def messages(talk: Conversation, uri: Callable[[ImageRef], str]) -> Messages:
    """Messages in order. One without an image has plain text as its content, which every server
    takes. Raises what `uri` does."""
    images = iter(talk.images)
    out: Messages = []
    for message in talk.messages:
        if None not in message.parts:
            out.append(
                {
                    "role": message.role,
                    "content": "".join(p for p in message.parts if p is not None),
                }
            )
            continue
        parts = [
            {"type": "text", "text": part}
            if part is not None
            else {"type": "image_url", "image_url": {"url": uri(next(images))}}
            for part in message.parts
        ]
        out.append({"role": message.role, "content": parts})
    return out
