"""Conversations as they are trained: the last answer follows the template's generation prompt.

Most templates write a finished turn as the continuation of their generation prompt, and there this
is the encoding that is scored. LLaVA-OneVision's does not: a finished turn begins with `assistant`,
a space and a newline, and the generation prompt ends with `assistant` and a newline. A model that
is trained on finished turns only never meets the prompt that it is asked with, so the last answer
is put behind the prompt. Earlier turns keep the form in which the template writes them, which is
how a model meets them in later turns.
"""

from __future__ import annotations

from typing import Any

from thresher.backends.hf.conversation import Conversation, Message
from thresher.backends.hf.encode import AnswerSpan, Encoder
from thresher.backends.hf.template import RenderError

_QUESTION = Message("user", ("Is it red?",))
_EXAMPLE = Conversation((_QUESTION, Message("assistant", ("Yes",))), ())


class TrainingEncoder(Encoder):
    """Encodes whole conversations for training."""

    def __init__(self, processor: Any) -> None:
        super().__init__(processor)
        self.rewrites = False
        """Whether a finished turn is written differently from the generation prompt."""
        try:
            prompt = self._generation_template.render(self._messages(_EXAMPLE, None)[:1])
            self.rewrites = not self._apply_template(_EXAMPLE, None).startswith(prompt)
        except RenderError:  # a template may refuse so short a conversation: it is left as it is
            pass

    def _write_image_texts(
        self, conv: Conversation, string: str, spans: list[AnswerSpan]
    ) -> tuple[str, list[AnswerSpan]]:
        if self.rewrites and spans and conv.messages[-1].role == "assistant":
            string, spans = self._behind_prompt(conv, string, spans)
        return super()._write_image_texts(conv, string, spans)

    def _behind_prompt(
        self, conv: Conversation, string: str, spans: list[AnswerSpan]
    ) -> tuple[str, list[AnswerSpan]]:
        """The conversation with its last answer behind the generation prompt; unchanged where that
        does not go together with the earlier answers."""
        *earlier, last = spans
        own = conv.messages[-1].parts
        if len(own) != 1 or own[0] is None or not own[0].strip():
            return string, spans
        try:
            prompt = self._generation_template.render(self._messages(conv, None)[:-1])
        except RenderError:
            return string, spans
        kept = earlier[-1].end if earlier else 0
        if prompt[:kept] != string[:kept]:
            return string, spans
        length = last.end - last.start
        moved = AnswerSpan(len(prompt), len(prompt), len(prompt) + length)
        return prompt + string[last.start :], [*earlier, moved]
