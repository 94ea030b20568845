"""A sample as the messages that a chat template takes, and two samples as one conversation (a
demonstration, then a query)."""

from __future__ import annotations

from dataclasses import dataclass

from thresher.types import IMAGE_PLACEHOLDER, ImageRef, Sample, Turn

Part = str | None  # text, or None for an image


@dataclass(frozen=True, slots=True)
class Message:
    role: str
    parts: tuple[Part, ...]


@dataclass(frozen=True, slots=True)
class Conversation:
    """`counted`: the message from which on assistant texts count as answers (what stands before is
    a demonstration)."""

    messages: tuple[Message, ...]
    images: tuple[ImageRef, ...]
    counted: int = 0

    @property
    def shape(self) -> tuple[tuple[str, tuple[bool, ...]], ...]:
        """Roles and the order of texts and images: all that a chat template may depend on apart
        from the texts."""
        return tuple((m.role, tuple(p is None for p in m.parts)) for m in self.messages)


def split_parts(text: str) -> tuple[Part, ...]:
    """Text around `<image>` placeholders; one newline that only separates a placeholder from the
    text is dropped.

    >>> split_parts("<image>\\nWhat is this?")
    (None, 'What is this?')
    >>> split_parts("Compare <image> and <image>")
    ('Compare ', None, ' and ', None)
    """
    parts: list[Part] = []
    pieces = text.split(IMAGE_PLACEHOLDER)
    for i, piece in enumerate(pieces):
        if i > 0:
            parts.append(None)
            piece = piece.removeprefix("\n")
        if i < len(pieces) - 1:
            piece = piece.removesuffix("\n")
        if piece:
            parts.append(piece)
    return tuple(parts) if parts else ("",)


def _messages(turns: tuple[Turn, ...]) -> tuple[Message, ...]:
    return tuple(Message(t.role, split_parts(t.text)) for t in turns)


def conversation(sample: Sample) -> Conversation:
    return Conversation(_messages(sample.turns), sample.images)


def last_answer(sample: Sample) -> int:
    """The turn that an evaluation asks for: the last assistant turn. Raises ValueError when there
    is none."""
    for at in range(len(sample.turns) - 1, -1, -1):
        if sample.turns[at].role == "assistant":
            return at
    raise ValueError("no assistant turn: there is no answer to ask for")


def asked(sample: Sample) -> Conversation:
    """All that stands before the last answer, the images of it included."""
    before = sample.turns[: last_answer(sample)]
    shown = sum(t.text.count(IMAGE_PLACEHOLDER) for t in before)
    return Conversation(_messages(before), sample.images[:shown], counted=len(before))


def answered(sample: Sample, answer: str) -> Conversation:
    """`asked`, with `answer` for the last answer; only it counts."""
    question = asked(sample)
    return Conversation(
        (*question.messages, Message("assistant", (answer,))), question.images, question.counted
    )


def after_demonstration(demonstration: Sample, query: Sample) -> Conversation:
    """The query's turns after the finished demonstration, as one conversation; only the query's
    answers count.

    A chat template takes one system turn, at the front: the query's own if it has one, else the
    demonstration's. User turns that the demonstration leaves unanswered are left out.
    """
    shown = demonstration.turns
    while shown and shown[-1].role == "user":
        shown = shown[:-1]
    system = [t for t in query.turns if t.role == "system"] or [
        t for t in shown if t.role == "system"
    ]
    shown = tuple(t for t in shown if t.role != "system")
    front = tuple(system) + shown
    asked = tuple(t for t in query.turns if t.role != "system")
    kept = sum(t.text.count(IMAGE_PLACEHOLDER) for t in shown)
    return Conversation(
        _messages(front) + _messages(asked),
        demonstration.images[:kept] + query.images,
        counted=len(front),
    )
