"""Conversations to token ids, with the exact answer tokens, for any chat template.

A template is rendered once per conversation shape, with placeholders in place of the texts. What it
writes between the placeholders is its own, so the character span of every answer is known without
searching. This shortcut is used only where the template is known not to read the texts of the shape
(see `template.py`). Every other row is rendered by itself, so that the rendering of a row never
depends on the rows before it. The whole string is tokenised at once (a token may span the border
between template and answer: it then counts as an answer token), with one placeholder token per
image, which is later replaced by the image's tokens.

An answer's tokens are what a model has to write after the template's generation prompt: where the
template writes something between that and the answer (the space in "ASSISTANT: 12"), it belongs to
the answer. Text that the processor writes around an image's tokens (Gemma 3's line breaks) is part
of the string, because it can merge with the text next to it.

Longer than 400 lines because rendering, placeholders and answer spans share one string.
"""

from __future__ import annotations

import copy
import itertools
import re
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from thresher.backends.hf.conversation import Conversation
from thresher.backends.hf.template import MARK, ChatTemplate, RenderError
from thresher.backends.hf.trie import Trie
from thresher.errors import ModelError

LightSpans = Callable[[str], Sequence[tuple[int, int]]]
"""Finds the words of an answer that are counted apart, as character spans."""


def template_arguments(processor: Any) -> dict[str, str]:
    """Further arguments of a processor's chat template: Llama-3.2's writes today's date into the
    prompt, and a fixed one keeps scores comparable from day to day."""
    return {"date_string": "26 Jul 2024"} if "date_string" in str(processor.chat_template) else {}


_MARK = re.compile("\ue000(\\d+)\ue001")
_LEFT, _RIGHT = "\u2003\n", "\n\u2002"  # white space that no template writes, put around marks


class AnswerSpan(NamedTuple):
    """Characters of an answer in a rendered conversation.

    begin: where the template's generation prompt ends.
    start: where the answer's own text starts; `begin` if the template writes nothing before it, or
        writes a finished turn differently from its generation prompt.
    end: where it ends.
    """

    begin: int
    start: int
    end: int


@dataclass(slots=True)
class EncodedText:
    """A tokenised conversation.

    ids: token ids, with one placeholder token per image.
    image_positions: positions of the placeholders.
    answer_positions: positions of the answer tokens that count.
    light: for each of them, whether it belongs to words that the encoder marks; None: not marked.
    separator_positions: those of `answer_positions` that hold no character of the answer itself.
    trie: what follows `ids`, where several prompts begin with them.
    """

    ids: list[int]
    image_positions: list[int]
    answer_positions: list[int]
    separator_positions: list[int] = field(default_factory=list)
    light: list[bool] | None = None
    trie: Trie | None = None


@dataclass(slots=True)
class _Skeleton:
    """What a template writes around the texts of one conversation shape.

    literals: before, between and after the texts: one more than there are texts.
    strips: for each text, whether the template strips white space from its left and right end.
    separators: for each text, how many of the characters before it follow the generation prompt.
    """

    literals: list[str]
    strips: list[tuple[bool, bool]]
    separators: list[int]


class Encoder:
    """Encodes whole conversations. Raises ModelError for a slow tokenizer or a template without
    images."""

    add_generation_prompt = False
    light_spans: LightSpans | None = None

    def __init__(self, processor: Any) -> None:
        tokenizer = processor.tokenizer
        if not getattr(tokenizer, "is_fast", False):
            raise ModelError(
                f"{type(tokenizer).__name__} is a slow tokenizer without character offsets; a "
                "fast one is needed."
            )
        self.processor = processor
        self.tokenizer = tokenizer
        self.image_token: str = processor.image_token
        self.image_token_id: int = tokenizer.convert_tokens_to_ids(self.image_token)
        # what a chat template writes for a video, if the model takes any
        self.video_token: str | None = getattr(processor, "video_token", None)
        arguments: dict[str, Any] = dict(template_arguments(processor))
        if self.add_generation_prompt:
            arguments["add_generation_prompt"] = True
        self._template = ChatTemplate(processor, arguments)
        self._generation_template = ChatTemplate(
            processor, {**arguments, "add_generation_prompt": True}
        )
        self._system_as_string = self._takes_system_as_string()
        self._check_content()
        self._skeletons: dict[Any, _Skeleton | None] = {}
        special = [t.content for t in tokenizer.added_tokens_decoder.values() if t.special]
        self._special_token = re.compile(
            "|".join(re.escape(t) for t in sorted(special, key=len, reverse=True)) or "(?!)"
        )

    def marking(self, light_spans: LightSpans) -> Encoder:
        """This encoder, which also marks the answer tokens that `light_spans` finds."""
        marking = copy.copy(self)
        marking.light_spans = light_spans
        return marking

    def encode(self, conversations: Sequence[Conversation]) -> list[EncodedText | str]:
        """Each conversation as token ids, or why the row cannot be encoded."""
        out: list[EncodedText | str] = [""] * len(conversations)
        strings: list[str] = []
        spans: list[list[AnswerSpan]] = []
        index: list[int] = []
        for i, conv in enumerate(conversations):
            try:
                string, answer_spans = self.render(conv)
            except RenderError as error:
                out[i] = str(error)
                continue
            strings.append(string)
            spans.append(answer_spans)
            index.append(i)
        # transformers' own rule: a template that writes the BOS token itself must not get a second
        bos = self.tokenizer.bos_token
        for with_bos, group in itertools.groupby(
            range(len(strings)), key=lambda j: bool(bos) and strings[j].startswith(bos)
        ):
            rows = list(group)
            encoding = self.tokenizer(
                [strings[j] for j in rows],
                add_special_tokens=not with_bos,
                return_offsets_mapping=True,
                return_attention_mask=False,
                verbose=False,
            )
            for j, ids, offsets in zip(
                rows, encoding["input_ids"], encoding["offset_mapping"], strict=True
            ):
                found = self._locate(conversations[index[j]], ids, offsets, spans[j])
                if self.light_spans is not None and isinstance(found, EncodedText):
                    chosen = [offsets[p] for p in found.answer_positions]
                    found.light = _marks(strings[j], chosen, spans[j], self.light_spans)
                out[index[j]] = found
        return out

    def _locate(
        self,
        conv: Conversation,
        ids: list[int],
        offsets: list[tuple[int, int]],
        spans: list[AnswerSpan],
    ) -> EncodedText | str:
        """Token positions of images and answers, from the tokens' and answers' character spans."""
        image_positions = self._image_positions(conv, ids)
        if isinstance(image_positions, str):
            return image_positions
        ends = [b for _, b in offsets]
        starts = [a for a, _ in offsets]
        answers: list[int] = []
        separators: list[int] = []
        for span in spans:
            first, last = bisect_right(ends, span.begin), bisect_left(starts, span.end)
            tokens = [p for p in range(first, last) if ends[p] > starts[p] and p > 0]
            answers += tokens
            separators += [p for p in tokens if ends[p] <= span.start]
        return (
            EncodedText(ids, image_positions, answers, separators)
            if len(answers) > len(separators)
            else "no-answer: every assistant turn is empty"
        )

    def _image_positions(self, conv: Conversation, ids: list[int]) -> list[int] | str:
        """Positions of the image placeholders, or an error if their number is wrong."""
        positions = [p for p, t in enumerate(ids) if t == self.image_token_id]
        if len(positions) != len(conv.images):
            return (
                f"chat-template: the chat template shows {len(positions)} images where the row has "
                f"{len(conv.images)}"
            )
        return positions

    # ------------------------------------------------------------------------------------ rendering

    def render(self, conv: Conversation) -> tuple[str, list[AnswerSpan]]:
        """The conversation as one string, and the character span of each answer that counts. Raises
        RenderError."""
        texts = [p for m in conv.messages for p in m.parts if p is not None]
        for text in texts:
            if hit := self._special_token.search(text):
                raise RenderError(
                    f"the text contains the model's control token {hit[0]!r}", kind="control-token"
                )
            if MARK in text or "\x00" in text:
                raise RenderError(
                    "the text contains a NUL or a private-use character (U+E000) that cannot be "
                    "encoded",
                    kind="nul-byte",
                )
        skeleton = self._skeleton_of(conv)
        # stripping a blank text may continue into its neighbour
        if skeleton is None or not all(map(str.strip, texts)):
            string, spans = self._align(conv, self._apply_template(conv, None))
        else:
            string, spans = _fill(conv, skeleton)
        return self._write_image_texts(conv, string, spans)

    def _write_image_texts(
        self, conv: Conversation, string: str, spans: list[AnswerSpan]
    ) -> tuple[str, list[AnswerSpan]]:
        """Write each image's texts around its placeholder, and the same placeholder for a video;
        shift the answers' spans. Raises RenderError for a video in another place than its own."""
        texts = conv.image_texts or ((("", ""),) * len(conv.images))
        found = list(self._placeholder(conv).finditer(string))
        if not any(conv.videos):
            # where the number of images is wrong, the row is refused after it is tokenised
            if not any(map(any, texts)) or len(found) != len(texts):
                return string, spans
        elif [place[0] == self.video_token for place in found] != list(conv.videos):
            written = sum(place[0] == self.video_token for place in found)
            raise RenderError(
                "the model's chat template "
                + (
                    "does not write the videos and images of this row in their order"
                    if written == sum(conv.videos)
                    else f"has places for {written} of the row's {sum(conv.videos)} videos"
                ),
                kind="video",
            )
        out: list[str] = []
        starts, shifts = [0], [0]  # shifts[k]: of what is at or after starts[k]
        start = 0
        for (before, after), place in zip(texts, found, strict=True):
            out += (string[start : place.start()], before, self.image_token, after)
            start = place.end()
            starts.append(start)
            written = len(before) + len(self.image_token) + len(after)
            shifts.append(shifts[-1] + written - len(place[0]))
        out.append(string[start:])

        def shifted(position: int) -> int:
            return position + shifts[bisect_right(starts, position) - 1]

        return "".join(out), [AnswerSpan(*map(shifted, span)) for span in spans]

    def _placeholder(self, conv: Conversation) -> re.Pattern[str]:
        """Finds what a chat template writes for the images, and for the videos of a row that has
        any."""
        tokens = [self.image_token]
        if any(conv.videos) and self.video_token is not None:
            tokens.append(self.video_token)
        return re.compile("|".join(map(re.escape, tokens)))

    def official_text(self, conv: Conversation) -> str:
        """The conversation as the chat template writes it. Raises RenderError."""
        return self._apply_template(conv, None)

    def is_text_independent(self, conv: Conversation) -> bool:
        """Whether the renderings of conversations of this shape differ only in their texts."""
        return self._skeleton_of(conv) is not None

    def _skeleton_of(self, conv: Conversation) -> _Skeleton | None:
        shape = conv.shape
        if shape not in self._skeletons:
            self._skeletons[shape] = self._derive_skeleton(conv)
        return self._skeletons[shape]

    def _messages(self, conv: Conversation, texts: Sequence[str] | None) -> list[dict[str, Any]]:
        """The messages for the chat template, with `texts` in place of the conversation's own if
        given."""
        replacements = iter(texts) if texts is not None else None
        videos = iter(conv.videos)
        messages: list[dict[str, Any]] = []
        for m in conv.messages:
            content = [
                {"type": "video" if next(videos, False) else "image"}
                if p is None
                else {"type": "text", "text": next(replacements) if replacements else p}
                for p in m.parts
            ]
            if m.role == "system" and self._system_as_string:
                messages.append(
                    {"role": m.role, "content": "".join(c.get("text", "") for c in content)}
                )
            else:
                messages.append({"role": m.role, "content": content})
        return messages

    def _apply_template(self, conv: Conversation, texts: Sequence[str] | None) -> str:
        return self._template.render(self._messages(conv, texts))

    def _takes_system_as_string(self) -> bool:
        """Whether the template expects the content of a system turn as a string instead of a list
        of parts (Llama-3.2-Vision)."""
        user = {"role": "user", "content": [{"type": "text", "text": "Is it red?"}]}
        as_parts: list[dict[str, Any]] = [
            {"role": "system", "content": [{"type": "text", "text": "Be brief."}]},
            user,
        ]
        as_string: list[dict[str, Any]] = [{"role": "system", "content": "Be brief."}, user]
        return self._misreads(as_parts) and not self._misreads(as_string)

    def _check_content(self) -> None:
        """Raises ModelError for a template that takes strings only: it cannot place an image."""
        parts: list[dict[str, Any]] = [
            {"role": "user", "content": [{"type": "text", "text": "Is it red?"}]}
        ]
        if self._misreads(parts) and not self._misreads(
            [{"role": "user", "content": "Is it red?"}]
        ):
            raise ModelError(
                "The model's chat template takes plain texts, not texts and images, like that of a "
                "language model without images. Copy the chat_template.jinja of the model that it "
                "was fine-tuned from into its folder."
            )

    def _misreads(self, messages: list[dict[str, Any]]) -> bool:
        """Whether the template refuses these messages, or writes a list of parts as its Python
        repr."""
        try:
            return "{'type': 'text'" in self._template.render(messages)
        except RenderError:
            return True

    def _derive_skeleton(self, conv: Conversation) -> _Skeleton | None:
        """None where the template reads the texts, or does not write each of them exactly once."""
        n = sum(p is not None for m in conv.messages for p in m.parts)
        marks = [f"{MARK}{i}\ue001" for i in range(n)]
        rendering = self._apply_template(conv, marks)
        bare = _MARK.split(rendering)
        if bare[1::2] != [str(i) for i in range(n)] or self._template.reads_texts(
            self._messages(conv, marks)
        ):
            return None
        # rendered again with white space around each mark: what is missing was stripped
        wide = _MARK.split(self._apply_template(conv, [_LEFT + m + _RIGHT for m in marks]))
        if wide[1::2] != bare[1::2]:
            return None
        strips_left, strips_right = [True] * n, [True] * n
        for i, (literal, spaced) in enumerate(zip(bare[0::2], wide[0::2], strict=True)):
            kept = [
                (after, before)
                for after in ((False, True) if i > 0 else (False,))  # the text that ends here
                for before in ((False, True) if i < n else (False,))  # the text that begins here
                if spaced == (_RIGHT if after else "") + literal + (_LEFT if before else "")
            ]
            if len(kept) != 1:
                return None
            if i > 0:
                strips_right[i - 1] = not kept[0][0]
            if i < n:
                strips_left[i] = not kept[0][1]
        separators = self._separators(conv, marks, rendering)
        if separators is None:
            return None
        strips = list(zip(strips_left, strips_right, strict=True))
        return _Skeleton(bare[0::2], strips, separators)

    def _separators(self, conv: Conversation, marks: list[str], rendering: str) -> list[int] | None:
        """As in `_Skeleton`, for the rendering with marks in place of the texts; None where the
        template reads the texts."""
        messages = self._messages(conv, marks)
        out = [0] * len(marks)
        text = 0
        for k, message in enumerate(conv.messages):
            if message.role == "assistant" and k > 0 and message.parts[0] is not None:
                front = messages[:k]
                out[text] = self._separator(front, rendering, rendering.index(marks[text]))
                if out[text] and self._generation_template.reads_texts(front):
                    return None
            text += sum(p is not None for p in message.parts)
        return out

    def _separator(self, messages: list[dict[str, Any]], rendering: str, start: int) -> int:
        """How many characters the template writes between its generation prompt and an answer.

        messages: those before the answer.
        rendering: the conversation.
        start: where the answer starts in it.

        0 where a finished turn is written differently from a generation prompt.
        """
        try:
            prompt = self._generation_template.render(messages)
        except RenderError:  # a template may refuse a conversation without a question
            return 0
        separator = rendering[len(prompt) : start]
        follows = len(prompt) <= start and rendering.startswith(prompt)
        return len(separator) if follows and self.image_token not in separator else 0

    def _align(self, conv: Conversation, rendering: str) -> tuple[str, list[AnswerSpan]]:
        """Answer spans in the actual rendering, for templates that read the texts.

        Only the answers are replaced by marks; where that changes what the template writes
        elsewhere, marks are put around the answers' own texts. Empty answers have no span.
        """
        scored = _scored_texts(conv)
        if not any(scored):
            return rendering, []
        texts = [p for m in conv.messages for p in m.parts if p is not None]
        replaced = [
            f"{MARK}{i}\ue001" if is_scored else text
            for i, (text, is_scored) in enumerate(zip(texts, scored, strict=True))
        ]
        spans = _gaps(_MARK.split(self._apply_template(conv, replaced))[0::2], rendering)
        if spans is None or len(spans) != sum(scored):
            surrounded = [
                f"{MARK}{i}\ue001{text}{MARK}{i}\ue001" if is_scored else text
                for i, (text, is_scored) in enumerate(zip(texts, scored, strict=True))
            ]
            pieces = _MARK.split(self._apply_template(conv, surrounded))
            expected = [str(k) for k, is_scored in enumerate(scored) if is_scored for _ in range(2)]
            if "".join(pieces[0::2]) != rendering or pieces[1::2] != expected:
                raise RenderError(
                    "the model's chat template moves text about, so that answers cannot be located"
                )
            borders = list(itertools.accumulate(map(len, pieces[0::2])))
            spans = list(zip(borders[0:-1:2], borders[1:-1:2], strict=True))
        messages = self._messages(conv, None)
        before = [  # of each answer: the messages before it; none if it continues a message
            messages[:k] if n == 0 else []
            for k, m in enumerate(conv.messages)
            if m.role == "assistant" and k >= conv.scored_from
            for n, p in enumerate(m.parts)
            if p is not None
        ]
        out = []
        for (start, end), front in zip(spans, before, strict=True):
            if start < end:
                separator = self._separator(front, rendering, start) if front else 0
                out.append(AnswerSpan(start - separator, start, end))
        return rendering, out


def _marks(
    text: str,
    tokens: Sequence[tuple[int, int]],
    spans: Sequence[AnswerSpan],
    light_spans: LightSpans,
) -> list[bool]:
    """For each token, whether `light_spans` finds all of its characters but white space.

    text: the rendered conversation.
    tokens: the character span of each answer token.
    spans: those of the answers.
    """
    light = {
        start + at
        for _, start, end in spans
        for a, b in light_spans(text[start:end])
        for at in range(a, b)
    }
    letters = [[at for at in range(a, b) if not text[at].isspace()] for a, b in tokens]
    return [bool(word) and light.issuperset(word) for word in letters]


class PromptEncoder(Encoder):
    """Encodes conversations as prompts: without answers, and with the template's generation prompt
    at the end."""

    add_generation_prompt = True

    def _locate(
        self,
        conv: Conversation,
        ids: list[int],
        offsets: list[tuple[int, int]],
        spans: list[AnswerSpan],
    ) -> EncodedText | str:
        positions = self._image_positions(conv, ids)
        return positions if isinstance(positions, str) else EncodedText(ids, positions, [])


def _gaps(pieces: Sequence[str], text: str) -> list[tuple[int, int]] | None:
    """The spans of `text` between consecutive `pieces`; None if `text` does not consist of them in
    this order."""
    first, *inner, last = pieces if len(pieces) > 1 else [*pieces, ""]
    if not text.startswith(first) or len(pieces) < 2:
        return None
    spans = []
    start = len(first)
    for piece in inner:
        found = text.find(piece, start)
        if found < 0:
            return None
        spans.append((start, found))
        start = found + len(piece)
    end = len(text) - len(last)
    if end < start or not text.endswith(last):
        return None
    return [*spans, (start, end)]


def _scored_texts(conv: Conversation) -> list[bool]:
    """For each text of the conversation, whether it is an answer that counts."""
    return [
        m.role == "assistant" and k >= conv.scored_from
        for k, m in enumerate(conv.messages)
        for p in m.parts
        if p is not None
    ]


def _fill(conv: Conversation, skeleton: _Skeleton) -> tuple[str, list[AnswerSpan]]:
    """The skeleton with the conversation's texts, and the spans of the answers that count."""
    pieces = [skeleton.literals[0]]
    spans = []
    start = len(pieces[0])
    texts = (p for m in conv.messages for p in m.parts if p is not None)
    for text, is_scored, (strip_left, strip_right), separator, literal in zip(
        texts,
        _scored_texts(conv),
        skeleton.strips,
        skeleton.separators,
        skeleton.literals[1:],
        strict=True,
    ):
        text = text.lstrip() if strip_left else text
        text = text.rstrip() if strip_right else text
        if is_scored and text:
            spans.append(AnswerSpan(start - separator, start, start + len(text)))
        pieces += (text, literal)
        start += len(text) + len(literal)
    return "".join(pieces), spans
