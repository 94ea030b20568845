"""What an embeddings server gets of a row: one user message, or one text. Pure functions.

One message whatever the row's turns are, because the templates of embedding models take no
conversations: the texts of the turns joined by line breaks, with the images where the row has them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal

from thresher.backends.hf.conversation import (
    ContentPart,
    Conversation,
    Message,
    conversation,
    split_parts,
)
from thresher.backends.openai.messages import prompt
from thresher.types import Sample

Part = Literal["question", "answer", "image", "all"]


def part_of(sample: Sample, part: Part) -> Conversation | None:
    """A part of a row as one user message; None if the row has nothing of it.

    Arguments:
        sample: the row.
        part: question: everything before the last answer, images and earlier answers included;
            answer: the texts of all answers; image: the images and nothing else; all: the row.
    """
    if part == "image":
        parts: tuple[ContentPart, ...] = (None,) * len(sample.images)
        return Conversation((Message("user", parts),), sample.images) if parts else None
    if part == "answer":
        turns = (t for t in sample.turns if t.role == "assistant")
        texts = (text_of(split_parts(turn.text)) for turn in turns)
        text = "\n".join(filter(None, texts))
        return Conversation((Message("user", (text,)),), ()) if text.strip() else None
    whole = prompt(sample) if part == "question" else conversation(sample)
    joined = tuple(_joined([m.parts for m in whole.messages]))
    if not any(p is None or p.strip() for p in joined):
        return None
    return Conversation((Message("user", joined),), whole.images)


def text_only(sample: Sample, part: Part) -> str | None:
    """The text of a part, without images; None if the row has none.

    Arguments:
        sample: the row.
        part: as of `part_of`; image has no text.
    """
    if part == "image":
        return None
    if part == "answer":
        found = part_of(sample, part)
        return None if found is None else str(found.messages[0].parts[0])
    whole = prompt(sample) if part == "question" else conversation(sample)
    text = "\n".join(filter(None, (text_of(m.parts) for m in whole.messages)))
    return text if text.strip() else None


def text_of(parts: Sequence[ContentPart]) -> str:
    """The text around images, with a space in the place of each.

    >>> text_of(("Compare ", None, " and ", None))
    'Compare and'
    """
    if None not in parts:
        return "".join(p for p in parts if p is not None)
    return " ".join(filter(None, (p.strip() for p in parts if p is not None)))


def _joined(turns: Sequence[tuple[ContentPart, ...]]) -> Iterator[ContentPart]:
    """The parts of all turns, texts that follow each other as one, on lines of their own."""
    text: str | None = None
    for parts in turns:
        for part in parts:
            if part is None:
                if text:
                    yield text
                yield None
                text = None
            elif part:
                text = part if text is None else f"{text}\n{part}"
    if text:
        yield text
