"""A conversation as the messages of a chat completion: texts, and images as data URIs in place of
the placeholders. Pure functions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from thresher.backends.hf.conversation import Conversation, conversation, prompt_of
from thresher.types import ImageRef, Sample, Turn

Messages = list[dict[str, Any]]


def prompt(sample: Sample) -> Conversation:
    """Everything before the sample's last answer; the whole sample if it has no answer."""
    return (
        prompt_of(sample)
        if any(t.role == "assistant" for t in sample.turns)
        else conversation(sample)
    )


def question(sample: Sample, text: str) -> Conversation:
    """The sample with `text` appended to its last turn, which must be a user turn. Raises
    ValueError.

    Arguments:
        sample: ends with a user turn.
        text: the question.
    """
    *before, last = sample.turns
    if last.role != "user":
        raise ValueError(
            f"a query needs a sample that ends with a user turn, not with {last.role!r}"
        )
    return conversation(Sample(sample.id, (*before, Turn("user", last.text + text)), sample.images))


def messages(conv: Conversation, uri: Callable[[ImageRef], str]) -> Messages:
    """The messages in order.

    Arguments:
        conv: a conversation.
        uri: gives an image's data URI.

    The content of a message without images is a string, which every server accepts. Raises what
    `uri` raises.
    """
    images = iter(conv.images)
    out: Messages = []
    for message in conv.messages:
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
