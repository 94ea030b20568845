"""The loss of given answers from a server that has vLLM's `prompt_logprobs`.

A request contains the whole conversation with its answers as the prompt, and the server answers
with the log-probability of every token of it. Whether it does is found out with a short text before
the first row; a server that does not is refused with CapabilityError.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from thresher.backends.hf.conversation import Conversation, Message
from thresher.backends.openai.answer_tokens import (
    Span,
    TurnMarks,
    ends_greedily,
    exact_span,
    holds_answer,
    learn_marks,
    marked_spans,
)
from thresher.backends.openai.client import Client
from thresher.backends.openai.failures import Refused, Transient
from thresher.backends.openai.messages import Messages, messages
from thresher.backends.openai.prompt_logprobs import (
    EXTENSIONS,
    NoPromptLogprobs,
    PromptTokens,
    read_prompt,
)
from thresher.errors import CapabilityError, opt
from thresher.types import ImageRef

_QUESTION, _ANSWER = "Say yes.", "Yes"
_WHOLE = {"add_generation_prompt": False}
_PROMPT = {"add_generation_prompt": True}
_ENDED = {"add_generation_prompt": False, "continue_final_message": True}
_SETTINGS = {"temperature": 0, "prompt_logprobs": 0}


@dataclass(frozen=True)
class AnswerLosses:
    """nll: mean nats per answer token. tokens: their number. greedy_match: whether greedy decoding
    gives exactly these answers."""

    nll: float
    tokens: int
    greedy_match: bool


class LossReader:
    """Losses of conversations. Safe to use from several threads.

    Arguments:
        client: of the server.
    """

    def __init__(self, client: Client) -> None:
        self._client = client
        self._lock = threading.Lock()
        self._probed = False
        self._marks: TurnMarks | None = None
        # shapes of conversations of which one was located in both ways, with equal spans
        self._verified: set[Any] = set()

    def losses(
        self,
        conv: Conversation,
        uri: Callable[[ImageRef], str],
        sending: Callable[[], None],
        stop: threading.Event,
    ) -> AnswerLosses:
        """The loss of the answers of one conversation.

        Arguments:
            conv: with its answers.
            uri: gives an image's data URI.
            sending: called before the request that the row has reserved.
            stop: once it is set, nothing is sent again.

        Raises Refused for a row without a loss, CapabilityError for a server that gives none, and
        what the client raises.
        """
        self._probe(stop)  # before a row is refused: a refusal shows that the server answers
        scored = [i for i, m in enumerate(conv.messages) if _is_answer(conv, i) and _text(m)]
        if not scored:
            raise Refused("every assistant turn is empty", kind="no-answer")
        self._refuse_controls(conv)
        sent = messages(conv, uri)
        sending()
        whole = self._send(sent, _WHOLE, stop, reserved=True)
        spans = self._locate(conv, scored, sent, whole, stop)
        positions = [p for start, end in spans for p in range(start, end) if p > 0]
        nll = -np.array([whole.logprobs[p] for p in positions], np.float64).mean()
        if not np.isfinite(nll):
            raise Refused("the loss is not a finite number", kind="not-finite")
        greedy = all(whole.greedy[p] for p in positions) and all(
            ends_greedily(whole, span, self._marks) for span in spans
        )
        return AnswerLosses(float(nll), len(positions), greedy)

    # ------------------------------------------------------------------------ where the answers are

    def _locate(
        self,
        conv: Conversation,
        scored: list[int],
        sent: Messages,
        whole: PromptTokens,
        stop: threading.Event,
    ) -> list[Span]:
        """The tokens of the answers `scored`. Raises Refused if they cannot be located."""
        marked = self._marked(conv, scored, whole)
        shape = conv.shape
        if marked is not None and shape in self._verified:
            return marked
        exact: list[Span | None] = []
        for i in scored:
            prompt = self._send(sent[:i], _PROMPT, stop)
            ended = self._send(sent[: i + 1], _ENDED, stop)
            exact.append(exact_span(whole, prompt, ended, _text(conv.messages[i])))
        if marked is not None and marked == exact:
            self._verified.add(shape)
        spans = [span for span in exact if span is not None]
        if len(spans) < len(exact):
            if marked is not None:
                return marked
            raise Refused(
                "the tokens of the answer cannot be located: the server's chat template writes "
                "the conversation differently from the conversation up to the answer",
                kind="chat-template",
            )
        return spans

    def _marked(
        self, conv: Conversation, scored: list[int], whole: PromptTokens
    ) -> list[Span] | None:
        """The answers' tokens by what the template writes around them, checked against their
        texts."""
        if self._marks is None:
            return None
        turns = [i for i, m in enumerate(conv.messages) if m.role == "assistant"]
        spans = marked_spans(whole.ids, self._marks, len(turns))
        if spans is None:
            return None
        found = [span for i, span in zip(turns, spans, strict=True) if i in scored]
        fits = all(
            start < end and holds_answer(whole.texts[start:end], _text(conv.messages[i]))
            for i, (start, end) in zip(scored, found, strict=True)
        )
        return found if fits else None

    def _refuse_controls(self, conv: Conversation) -> None:
        """Raises Refused for a text that the server would read as control tokens."""
        for control in () if self._marks is None else self._marks.controls:
            if any(control in part for m in conv.messages for part in m.parts if part):
                raise Refused(
                    f"the text contains the model's control token {control!r}",
                    kind="control-token",
                )

    # -------------------------------------------------------------------------------- what is sent

    def _probe(self, stop: threading.Event) -> None:
        """Find out, once, whether the server gives losses, and what its template writes around an
        answer."""
        with self._lock:
            if self._probed:
                return
            question: Messages = [{"role": "user", "content": _QUESTION}]
            answered: Messages = [*question, {"role": "assistant", "content": _ANSWER}]
            try:
                whole = self._first(answered, stop)
                bare, prompt = (self._send(question, s, stop) for s in (_WHOLE, _PROMPT))
                ended = self._send(answered, _ENDED, stop)
            except Refused as refusal:
                named = " ".join((*refusal.parameters, refusal.message))
                if any(name in named for name in EXTENSIONS):
                    raise self._no_losses(
                        f"it refuses the test request ({refusal.message})"
                    ) from None
                raise
            span = exact_span(whole, prompt, ended, _ANSWER)
            if span is None:
                raise self._no_losses("it ignores where a prompt is to end")
            self._marks, self._probed = learn_marks(bare, whole, span), True

    def _first(self, sent: Messages, stop: threading.Event) -> PromptTokens:
        try:
            return self._client.chat(
                sent, 1, {**_SETTINGS, **_WHOLE}, read_prompt, stop, reserved=False
            )
        except NoPromptLogprobs:
            raise self._no_losses("its answer to a test request has none") from None

    def _no_losses(self, why: str) -> CapabilityError:
        return CapabilityError(
            f"The model {self._client.address.model!r} is behind a server that does not give the "
            "loss of answers that it did not generate: that takes prompt_logprobs, which vLLM adds "
            f"to chat completions, and {why}. No row was sent. Use a vLLM server, or give the "
            f"model's weights: {opt('model')} with a folder or a hub id. Methods that ask "
            "questions work with any server (mmssr, the teacher of error_driven)."
        )

    def _send(
        self,
        sent: Messages,
        settings: dict[str, bool],
        stop: threading.Event,
        reserved: bool = False,
    ) -> PromptTokens:
        return self._client.chat(
            sent, 1, {**_SETTINGS, **settings}, _read_again, stop, reserved=reserved
        )


def _read_again(response: dict[str, Any]) -> PromptTokens:
    """`read_prompt` of a server that has given prompt_logprobs before. Raises Transient."""
    try:
        return read_prompt(response)
    except NoPromptLogprobs:
        raise Transient("the answer has no prompt_logprobs", reason_given=True) from None


def _is_answer(conv: Conversation, i: int) -> bool:
    return i >= conv.scored_from and conv.messages[i].role == "assistant"


def _text(message: Message) -> str:
    """The message's text without its images and outer white space."""
    return "".join(part for part in message.parts if part is not None).strip()
