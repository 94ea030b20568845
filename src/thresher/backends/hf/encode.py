"""Conversations to token ids, with the answer tokens known exactly, for any chat template.

A template is rendered once per conversation shape with marks in place of the texts; the pieces
between the marks are the template's own words, so the character span of every answer is known
without searching. That is done only where the template is known not to read the texts of this shape
(see `template.py`); every other row is rendered by itself, so that what is written for a row never
depends on the rows before it. The whole string is tokenised at once (a token may straddle the
border between template and answer: it then counts as an answer token) with each image as its one
placeholder token, which the image's own expansion replaces later.
"""

from __future__ import annotations

import itertools
import re
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from thresher.backends.hf.conversation import Conversation
from thresher.backends.hf.template import MARK, ChatTemplate, Unrenderable
from thresher.backends.hf.trie import Tree
from thresher.errors import ModelError


def template_arguments(processor: Any) -> dict[str, str]:
    """Llama-3.2's template writes today's date into the prompt; a fixed one keeps scores comparable
    over days."""
    return {"date_string": "26 Jul 2024"} if "date_string" in str(processor.chat_template) else {}


_MARK = re.compile("\ue000(\\d+)\ue001")
_LEFT, _RIGHT = "\u2003\n", "\n\u2002"  # white space that no template writes, put around marks


@dataclass(slots=True)
class Text:
    """A tokenised conversation. `holes`: positions of image placeholders; `answers`: positions of
    counted answer tokens.

    `tree`: what follows `ids` where several prompts begin with them.
    """

    ids: list[int]
    holes: list[int]
    answers: list[int]
    tree: Tree | None = None


@dataclass(slots=True)
class _Skeleton:
    """What a template writes around the texts of one conversation shape."""

    literals: list[str]  # one more than there are texts
    trims: list[tuple[bool, bool]]  # does the template strip this text's left and right white space


class Encoder:
    invites = False  # the template's invitation to answer is written last

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
        arguments: dict[str, Any] = dict(template_arguments(processor))
        if self.invites:
            arguments["add_generation_prompt"] = True
        self._template = ChatTemplate(processor, arguments)
        self._system_as_string = self._takes_system_as_string()
        self._check_content()
        self._skeletons: dict[Any, _Skeleton | None] = {}
        special = [t.content for t in tokenizer.added_tokens_decoder.values() if t.special]
        self._control = re.compile(
            "|".join(re.escape(t) for t in sorted(special, key=len, reverse=True)) or "(?!)"
        )

    def encode(self, conversations: Sequence[Conversation]) -> list[Text | str]:
        """A Text, or why the row cannot be encoded, for each conversation."""
        out: list[Text | str] = [""] * len(conversations)
        strings: list[str] = []
        spans: list[list[tuple[int, int]]] = []
        index: list[int] = []
        for i, conv in enumerate(conversations):
            try:
                string, answer_spans = self._render(conv)
            except Unrenderable as why:
                out[i] = str(why)
                continue
            strings.append(string)
            spans.append(answer_spans)
            index.append(i)
        # transformers' own rule: a template that writes the begin token itself must not get a
        # second one
        bos = self.tokenizer.bos_token
        for with_bos, group in itertools.groupby(
            range(len(strings)), key=lambda j: bool(bos) and strings[j].startswith(bos)
        ):
            rows = list(group)
            got = self.tokenizer(
                [strings[j] for j in rows],
                add_special_tokens=not with_bos,
                return_offsets_mapping=True,
                return_attention_mask=False,
                verbose=False,
            )
            for j, ids, offsets in zip(rows, got["input_ids"], got["offset_mapping"], strict=True):
                out[index[j]] = self._locate(conversations[index[j]], ids, offsets, spans[j])
        return out

    def _locate(
        self,
        conv: Conversation,
        ids: list[int],
        offsets: list[tuple[int, int]],
        spans: list[tuple[int, int]],
    ) -> Text | str:
        holes = self._holes(conv, ids)
        if isinstance(holes, str):
            return holes
        ends = [b for _, b in offsets]
        starts = [a for a, _ in offsets]
        answers: list[int] = []
        for a, b in spans:
            first, last = bisect_right(ends, a), bisect_left(starts, b)
            answers += [p for p in range(first, last) if ends[p] > starts[p] and p > 0]
        return (
            Text(ids, holes, answers)
            if answers
            else ("no answer token: every assistant turn is empty")
        )

    def _holes(self, conv: Conversation, ids: list[int]) -> list[int] | str:
        """Positions of the image placeholders, or what is wrong with them."""
        holes = [p for p, t in enumerate(ids) if t == self.image_token_id]
        if len(holes) != len(conv.images):
            return (
                f"the chat template shows {len(holes)} images where the row has {len(conv.images)}"
            )
        return holes

    # ------------------------------------------------------------------------------------ rendering

    def _render(self, conv: Conversation) -> tuple[str, list[tuple[int, int]]]:
        """The conversation as one string, and the character span of each counted answer."""
        texts = [p for m in conv.messages for p in m.parts if p is not None]
        for text in texts:
            if hit := self._control.search(text):
                raise Unrenderable(f"the text holds the model's control token {hit[0]!r}")
            if MARK in text or "\x00" in text:
                raise Unrenderable(
                    "the text holds a NUL or a private-use character (U+E000) that cannot be "
                    "encoded"
                )
        skeleton = self._known(conv)
        # stripping a blank text may go on to its neighbour
        if skeleton is None or not all(map(str.strip, texts)):
            return self._align(conv, self._apply(conv, None))
        return _fill(conv, skeleton)

    def proven(self, conv: Conversation) -> bool:
        """Whether conversations of this shape differ in what their texts say only, wherever the
        template writes them."""
        return self._known(conv) is not None

    def _known(self, conv: Conversation) -> _Skeleton | None:
        shape = conv.shape
        if shape not in self._skeletons:
            self._skeletons[shape] = self._skeleton(conv)
        return self._skeletons[shape]

    def _messages(self, conv: Conversation, texts: Sequence[str] | None) -> list[dict[str, Any]]:
        """What the chat template takes, with `texts` in place of the conversation's own if
        given."""
        replaced = iter(texts) if texts is not None else None
        messages: list[dict[str, Any]] = []
        for m in conv.messages:
            content = [
                {"type": "image"}
                if p is None
                else {"type": "text", "text": next(replaced) if replaced else p}
                for p in m.parts
            ]
            if m.role == "system" and self._system_as_string:
                messages.append(
                    {"role": m.role, "content": "".join(c.get("text", "") for c in content)}
                )
            else:
                messages.append({"role": m.role, "content": content})
        return messages

    def _apply(self, conv: Conversation, texts: Sequence[str] | None) -> str:
        return self._template.render(self._messages(conv, texts))

    def _takes_system_as_string(self) -> bool:
        """Whether the template wants a system turn's content as a text, not as a list of parts
        (Llama-3.2-Vision)."""
        user = {"role": "user", "content": [{"type": "text", "text": "Is it red?"}]}
        parts: list[dict[str, Any]] = [
            {"role": "system", "content": [{"type": "text", "text": "Be brief."}]},
            user,
        ]
        plain: list[dict[str, Any]] = [{"role": "system", "content": "Be brief."}, user]
        return self._misreads(parts) and not self._misreads(plain)

    def _check_content(self) -> None:
        """Raises ModelError for a template that takes plain texts only: it has no place for an
        image."""
        parts: list[dict[str, Any]] = [
            {"role": "user", "content": [{"type": "text", "text": "Is it red?"}]}
        ]
        if self._misreads(parts) and not self._misreads(
            [{"role": "user", "content": "Is it red?"}]
        ):
            raise ModelError(
                "The model's chat template takes plain texts, not texts and images, as that of a "
                "language model without images does. Copy the chat_template.jinja of the model "
                "that it was tuned from into its folder."
            )

    def _misreads(self, messages: list[dict[str, Any]]) -> bool:
        """Whether the template refuses these turns, or writes a list of parts as Python prints
        it."""
        try:
            return "{'type': 'text'" in self._template.render(messages)
        except Unrenderable:
            return True

    def _skeleton(self, conv: Conversation) -> _Skeleton | None:
        """None where the template reads the texts, or does not write each of them once."""
        n = sum(p is not None for m in conv.messages for p in m.parts)
        marks = [f"{MARK}{i}\ue001" for i in range(n)]
        bare = _MARK.split(self._apply(conv, marks))
        if bare[1::2] != [str(i) for i in range(n)] or self._template.reads_texts(
            self._messages(conv, marks)
        ):
            return None
        wide = _MARK.split(self._apply(conv, [_LEFT + mark + _RIGHT for mark in marks]))
        if wide[1::2] != bare[1::2]:
            return None
        left, right = [True] * n, [True] * n
        for i, (literal, spaced) in enumerate(zip(bare[0::2], wide[0::2], strict=True)):
            kept = [
                (behind, before)
                for behind in ((False, True) if i > 0 else (False,))  # of the text that ends here
                for before in ((False, True) if i < n else (False,))  # of the text that begins here
                if spaced == (_RIGHT if behind else "") + literal + (_LEFT if before else "")
            ]
            if len(kept) != 1:
                return None
            if i > 0:
                right[i - 1] = not kept[0][0]
            if i < n:
                left[i] = not kept[0][1]
        return _Skeleton(bare[0::2], list(zip(left, right, strict=True)))

    def _align(self, conv: Conversation, real: str) -> tuple[str, list[tuple[int, int]]]:
        """Answer spans in a real rendering, for templates that read the texts.

        Only the answers are marked; where that changes what the template writes elsewhere, marks
        are put around the answers' own texts. Empty answers have no span.
        """
        counted = _counted(conv)
        if not any(counted):
            return real, []
        texts = [p for m in conv.messages for p in m.parts if p is not None]
        instead = [
            f"{MARK}{i}\ue001" if counts else text
            for i, (text, counts) in enumerate(zip(texts, counted, strict=True))
        ]
        spans = _between(_MARK.split(self._apply(conv, instead))[0::2], real)
        if spans is None or len(spans) != sum(counted):
            around = [
                f"{MARK}{i}\ue001{text}{MARK}{i}\ue001" if counts else text
                for i, (text, counts) in enumerate(zip(texts, counted, strict=True))
            ]
            pieces = _MARK.split(self._apply(conv, around))
            ends = [k for k, counts in enumerate(counted) if counts for _ in range(2)]
            if "".join(pieces[0::2]) != real or pieces[1::2] != [str(k) for k in ends]:
                raise Unrenderable(
                    "the model's chat template moves text about, so that answers cannot be located"
                )
            at = list(itertools.accumulate(map(len, pieces[0::2])))
            spans = list(zip(at[0:-1:2], at[1:-1:2], strict=True))
        return real, [(a, b) for a, b in spans if a < b]


class PromptEncoder(Encoder):
    """Encodes conversations as prompts: no answers are looked for, and the template's invitation to
    answer stands last."""

    invites = True

    def _locate(
        self,
        conv: Conversation,
        ids: list[int],
        offsets: list[tuple[int, int]],
        spans: list[tuple[int, int]],
    ) -> Text | str:
        holes = self._holes(conv, ids)
        return holes if isinstance(holes, str) else Text(ids, holes, [])


def _between(pieces: Sequence[str], text: str) -> list[tuple[int, int]] | None:
    """Where `text` has something between consecutive `pieces`; None where it does not consist of
    them in this order."""
    first, *inner, last = pieces if len(pieces) > 1 else [*pieces, ""]
    if not text.startswith(first) or len(pieces) < 2:
        return None
    spans = []
    at = len(first)
    for piece in inner:
        found = text.find(piece, at)
        if found < 0:
            return None
        spans.append((at, found))
        at = found + len(piece)
    end = len(text) - len(last)
    if end < at or not text.endswith(last):
        return None
    return [*spans, (at, end)]


def _counted(conv: Conversation) -> list[bool]:
    """For each text of the conversation: is it an answer that counts?"""
    return [
        m.role == "assistant" and k >= conv.counted
        for k, m in enumerate(conv.messages)
        for p in m.parts
        if p is not None
    ]


def _fill(conv: Conversation, skeleton: _Skeleton) -> tuple[str, list[tuple[int, int]]]:
    pieces = [skeleton.literals[0]]
    spans = []
    at = len(pieces[0])
    texts = (p for m in conv.messages for p in m.parts if p is not None)
    for text, counts, (left, right), literal in zip(
        texts, _counted(conv), skeleton.trims, skeleton.literals[1:], strict=True
    ):
        text = text.lstrip() if left else text
        text = text.rstrip() if right else text
        if counts and text:
            spans.append((at, at + len(text)))
        pieces += (text, literal)
        at += len(text) + len(literal)
    return "".join(pieces), spans
