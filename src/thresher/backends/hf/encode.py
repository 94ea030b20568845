"""Conversations to token ids, with the answer tokens known exactly, for any chat template.

A template is rendered once per conversation shape with marks in place of the texts; the pieces between the marks are the
template's own words, so the character span of every answer is known without searching. The whole string is tokenised
at once (a token may straddle the border between template and answer: it then counts as an answer token) with
each image as its one placeholder token, which the image's own expansion replaces later.
"""

from __future__ import annotations

import itertools
import re
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from thresher.backends.hf.conversation import Conversation
from thresher.backends.hf.tree import Tree
from thresher.errors import ModelError


def template_arguments(processor: Any) -> dict[str, str]:
    """Llama-3.2's template writes today's date into the prompt; a fixed one keeps scores comparable over days."""
    return {"date_string": "26 Jul 2024"} if "date_string" in str(processor.chat_template) else {}


_MARK = re.compile("\ue000(\\d+)\ue001")


@dataclass(slots=True)
class Text:
    """A tokenised conversation. `holes`: positions of image placeholders; `answers`: positions of counted answer tokens.

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
    checks_left: int = 3  # real rows to compare with a real rendering before the skeleton is trusted


class Encoder:
    def __init__(self, processor: Any) -> None:
        tokenizer = processor.tokenizer
        if not getattr(tokenizer, "is_fast", False):
            raise ModelError(
                f"{type(tokenizer).__name__} is a slow tokenizer without character offsets; a fast one is needed."
            )
        self.processor = processor
        self.tokenizer = tokenizer
        self.image_token: str = processor.image_token
        self.image_token_id: int = tokenizer.convert_tokens_to_ids(self.image_token)
        self._arguments: dict[str, Any] = dict(template_arguments(processor))
        self._system_as_string = False  # Llama-3.2's template takes a system turn's content for a string
        self._skeletons: dict[Any, _Skeleton | None] = {}
        special = [t.content for t in tokenizer.added_tokens_decoder.values() if t.special]
        self._control = re.compile("|".join(re.escape(t) for t in sorted(special, key=len, reverse=True)) or "(?!)")

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
        # transformers' own rule: a template that writes the begin token itself must not get a second one
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
        self, conv: Conversation, ids: list[int], offsets: list[tuple[int, int]], spans: list[tuple[int, int]]
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
        return Text(ids, holes, answers) if answers else "no answer token: every assistant turn is empty"

    def _holes(self, conv: Conversation, ids: list[int]) -> list[int] | str:
        """Positions of the image placeholders, or what is wrong with them."""
        holes = [p for p, t in enumerate(ids) if t == self.image_token_id]
        if len(holes) != len(conv.images):
            return f"the chat template shows {len(holes)} images where the row has {len(conv.images)}"
        return holes

    # ------------------------------------------------------------------------------------------ rendering

    def _render(self, conv: Conversation) -> tuple[str, list[tuple[int, int]]]:
        """The conversation as one string, and the character span of each counted answer."""
        texts = [p for m in conv.messages for p in m.parts if p is not None]
        for text in texts:
            if hit := self._control.search(text):
                raise Unrenderable(f"the text holds the model's control token {hit[0]!r}")
            if "\ue000" in text or "\x00" in text:
                raise Unrenderable("the text holds a NUL or a private-use character (U+E000) that cannot be encoded")
        shape = conv.shape
        if shape not in self._skeletons:
            self._skeletons[shape] = self._skeleton(conv)
        skeleton = self._skeletons[shape]
        if skeleton is None:
            return self._align(conv, self._apply(conv, None))
        string, spans = _fill(conv, skeleton)
        if skeleton.checks_left:
            skeleton.checks_left -= 1
            real = self._apply(conv, None)
            if real != string:  # the template changes texts in a way that marks do not show: render every such row
                self._skeletons[shape] = None
                return self._align(conv, real)
        return string, spans

    def _apply(self, conv: Conversation, texts: Sequence[str] | None) -> str:
        """The real chat template, with `texts` in place of the conversation's own if given."""
        replaced = iter(texts) if texts is not None else None
        messages: list[dict[str, Any]] = []
        for m in conv.messages:
            content = [
                {"type": "image"} if p is None else {"type": "text", "text": next(replaced) if replaced else p}
                for p in m.parts
            ]
            if m.role == "system" and self._system_as_string:
                messages.append({"role": m.role, "content": "".join(c.get("text", "") for c in content)})
            else:
                messages.append({"role": m.role, "content": content})
        try:
            string = str(self.processor.apply_chat_template(messages, tokenize=False, **self._arguments))
        except Exception as e:  # templates raise their own errors for turns that they do not allow
            raise Unrenderable(f"the model's chat template refuses these turns: {e}") from e
        if "[{'type': 'text'" in string and not self._system_as_string and conv.messages[0].role == "system":
            self._system_as_string = True
            return self._apply(conv, texts)
        return string

    def _skeleton(self, conv: Conversation) -> _Skeleton | None:
        n = sum(p is not None for m in conv.messages for p in m.parts)
        bare = _MARK.split(self._apply(conv, [f"\ue000{i}\ue001" for i in range(n)]))
        wide = _MARK.split(self._apply(conv, [f" \n\ue000{i}\ue001 \n" for i in range(n)]))
        if bare[1::2] != [str(i) for i in range(n)] or wide[1::2] != bare[1::2]:
            return None
        trims = []
        for i in range(n):
            left = not (wide[2 * i].endswith(" \n") and len(wide[2 * i]) >= len(bare[2 * i]) + 2)
            right = not (wide[2 * i + 2].startswith(" \n") and len(wide[2 * i + 2]) >= len(bare[2 * i + 2]) + 2)
            trims.append((left, right))
        return _Skeleton(bare[0::2], trims)

    def _align(self, conv: Conversation, real: str) -> tuple[str, list[tuple[int, int]]]:
        """Answer spans in a real rendering, for templates that change the texts: only the answers are marked."""
        n = sum(p is not None for m in conv.messages for p in m.parts)
        counted = _counted(conv)
        texts = [p for m in conv.messages for p in m.parts if p is not None]
        pieces = _MARK.split(self._apply(conv, [f"\ue000{i}\ue001" if counted[i] else texts[i] for i in range(n)]))[
            0::2
        ]
        pattern = re.compile("(.*?)".join(re.escape(p) for p in pieces), re.DOTALL)
        if not (match := pattern.fullmatch(real)):
            raise Unrenderable("the model's chat template moves text about, so that answers cannot be located")
        return real, [match.span(g) for g in range(1, len(pieces))]


class PromptEncoder(Encoder):
    """Encodes conversations as prompts: no answers are looked for, and the template's invitation to answer stands last."""

    def __init__(self, processor: Any) -> None:
        super().__init__(processor)
        self._arguments["add_generation_prompt"] = True

    def _locate(
        self, conv: Conversation, ids: list[int], offsets: list[tuple[int, int]], spans: list[tuple[int, int]]
    ) -> Text | str:
        holes = self._holes(conv, ids)
        return holes if isinstance(holes, str) else Text(ids, holes, [])


class Unrenderable(Exception):
    """Why a conversation cannot be written as the chat template writes it; becomes the row's error."""


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
