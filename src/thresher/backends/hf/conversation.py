"""A sample as the messages that a chat template takes, and two samples as one conversation (a
demonstration, then a query)."""

from __future__ import annotations

from dataclasses import dataclass

from thresher.types import IMAGE_PLACEHOLDER, ImageRef, Sample, Turn, VideoRef

ContentPart = str | None  # text, or None for an image or a video


@dataclass(frozen=True, slots=True)
class Message:
    role: str
    parts: tuple[ContentPart, ...]


@dataclass(frozen=True, slots=True)
class Conversation:
    """images: the images and videos, in the order of their places in the messages.
    scored_from: index of the first message whose assistant texts count as answers; messages
        before it are a demonstration or a prompt.
    image_texts: for each image, the text that the model's processor writes before and after its
        tokens; empty if it writes none, or if the images are not prepared yet.
    """

    messages: tuple[Message, ...]
    images: tuple[ImageRef, ...]
    scored_from: int = 0
    image_texts: tuple[tuple[str, str], ...] = ()

    @property
    def shape(self) -> tuple[tuple[tuple[str, tuple[bool, ...]], ...], tuple[bool, ...]]:
        """Roles, the order of texts and images, and which of these are videos: everything that a
        chat template may depend on apart from the texts."""
        messages = tuple((m.role, tuple(p is None for p in m.parts)) for m in self.messages)
        return messages, self.videos if any(self.videos) else ()

    @property
    def videos(self) -> tuple[bool, ...]:
        """For each of `images`, whether it is a video."""
        return tuple(isinstance(ref, VideoRef) for ref in self.images)


def split_parts(text: str) -> tuple[ContentPart, ...]:
    """Text around `<image>` placeholders; one newline that only separates a placeholder from the
    text is dropped.

    >>> split_parts("<image>\\nWhat is this?")
    (None, 'What is this?')
    >>> split_parts("Compare <image> and <image>")
    ('Compare ', None, ' and ', None)
    """
    parts: list[ContentPart] = []
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
    """The whole sample; all its answers count."""
    return Conversation(_messages(sample.turns), sample.images)


def last_answer_index(sample: Sample) -> int:
    """Index of the last assistant turn, which an evaluation asks for. Raises ValueError if there is
    none."""
    for i in range(len(sample.turns) - 1, -1, -1):
        if sample.turns[i].role == "assistant":
            return i
    raise ValueError("no assistant turn: there is no answer to ask for")


def prompt_of(sample: Sample) -> Conversation:
    """Everything before the last answer, with its images."""
    turns = sample.turns[: last_answer_index(sample)]
    n_images = sum(t.text.count(IMAGE_PLACEHOLDER) for t in turns)
    return Conversation(_messages(turns), sample.images[:n_images], scored_from=len(turns))


def with_answer(sample: Sample, answer: str) -> Conversation:
    """`prompt_of(sample)` followed by `answer`, the only answer that counts.

    Arguments:
        sample: the row.
        answer: text of the answer.
    """
    prompt = prompt_of(sample)
    return Conversation(
        (*prompt.messages, Message("assistant", (answer,))), prompt.images, prompt.scored_from
    )


def after_demonstration(demonstration: Sample, query: Sample) -> Conversation:
    """The demonstration followed by the query, as one conversation; only the query's answers count.

    A chat template takes one system turn, at the front: the query's own if it has one, else the
    demonstration's. User turns that the demonstration leaves unanswered are left out.

    Arguments:
        demonstration: with its answers.
        query: the row that is scored.
    """
    shown = demonstration.turns
    while shown and shown[-1].role == "user":
        shown = shown[:-1]
    system = [t for t in query.turns if t.role == "system"] or [
        t for t in shown if t.role == "system"
    ]
    shown = tuple(t for t in shown if t.role != "system")
    front = tuple(system) + shown
    query_turns = tuple(t for t in query.turns if t.role != "system")
    n_images = sum(t.text.count(IMAGE_PLACEHOLDER) for t in shown)
    return Conversation(
        _messages(front) + _messages(query_turns),
        demonstration.images[:n_images] + query.images,
        scored_from=len(front),
    )
