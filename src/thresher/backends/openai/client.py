"""One request to a server, sent until it is answered, refused, or given up. Keeps the key to
itself.

What comes of a response: an answer; `Transient` (429, 5xx, a timeout, a lost connection, an answer
that cannot be read), sent again after a wait; `Refused` (400, 413, 422: this request will never
work), the failure of its row; anything else stops the run with a ServerError that says what to do.
A stand-in (`probe_request.py`) tells whether a failure is the row's.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar

from tenacity import RetryCallState, Retrying, retry_if_exception_type
from tenacity.nap import sleep_using_event
from tenacity.stop import stop_after_attempt, stop_any, stop_when_event_set

from thresher.backends.openai.address import Address
from thresher.backends.openai.completions import choices
from thresher.backends.openai.dialect import Dialect
from thresher.backends.openai.failures import NoLogprobs, Refused, Transient
from thresher.backends.openai.options import KEY_VARIABLE, ServerOptions
from thresher.backends.openai.probe_request import stand_in
from thresher.backends.openai.retries import (
    LONGEST_ASKED,
    StopWhenSame,
    StopWhenSilent,
    retry_after,
    waits,
)
from thresher.backends.openai.server_text import (
    Unreadable,
    named_parameters,
    one_line,
    parse,
    said_in,
    without_key,
    words,
)
from thresher.backends.openai.transport import Reply, Transport
from thresher.errors import CapabilityError, CapReached, ServerError

T = TypeVar("T")
log = logging.getLogger(__name__)
ABSENT = 3  # answers without log-probabilities before it is believed that there are none
# rows that failed in one way by themselves, before others that do are given up sooner
ROW_FAULTS = 2
# before any answer, after which a stand-in is asked whether everything is refused
EQUAL_REFUSALS = 3
# passes, says nothing about the request
_LOAD = (408, 409, 425, 429, 502, 503, 504, 520, 521, 522, 523, 524, 529)
_ROW = (400, 413, 415, 422)  # about this request, not about all
_KEPT = "What came so far is stored; run the same command again to go on."


@dataclass(frozen=True)
class _Call(Generic[T]):
    """One chat completion that is wanted."""

    messages: Any
    length: int
    settings: dict[str, Any]
    read: Callable[[dict[str, Any]], T]
    top: bool


class Client:
    """One model of one server. Safe to use from several threads. Raises ConfigError for a key that
    cannot be one."""

    def __init__(self, address: Address, key: str | None, options: ServerOptions) -> None:
        self.address, self.options, self.dialect = address, options, Dialect()
        self._key = key
        self._transport = Transport(address, key, options.timeout, options.concurrency)
        self._warned = False  # it was said that no request has been answered yet
        self._last_answer = 0.0  # time of the last usable answer; 0: none so far
        self._refusals: Counter[str] = Counter()  # kinds, while nothing has been answered
        # reason -> rows that failed so while others were answered
        self._row_faults: Counter[str] = Counter()
        self._seen_logprobs = False
        self._absent = 0
        self._lock = threading.Lock()
        self._one_stand_in = threading.Lock()

    def close(self) -> None:
        """Let go of its connections."""
        self._transport.close()

    # -------------------------------------------------------------------------------- the two calls

    def models(self) -> list[str]:
        """The names of the models that the server has. Raises ServerError."""
        try:
            reply = self._transport.send("GET", "/models", None)
            if reply.code == 200:
                return _model_names(parse(reply.body))
            if reply.code not in (404, 405, 501):
                self._raise_for(reply.code, words(reply.body, self._key), (), reply)
            said = f"HTTP {reply.code}: {words(reply.body, self._key)}"
        except Transient as error:
            raise ServerError(
                f"The server {self.address.base} could not be asked for its models: {error.reason}."
            ) from None
        except Refused as refusal:
            said = str(refusal)
        except ValueError:
            said = f"it answers {words(reply.body, self._key)}"
        raise ServerError(
            f"The server {self.address.base} does not say which models it has ({said}). Name one: "
            "--model NAME, or #NAME behind the URL."
        )

    def chat(
        self,
        messages: Any,
        length: int,
        settings: dict[str, Any],
        read: Callable[[dict[str, Any]], T],
        stop: threading.Event,
        *,
        top: bool = False,
    ) -> T:
        """One chat completion of at most `length` new tokens. `top`: with the likeliest first
        tokens.

        `read(response)` makes the result and may raise Transient (the answer is not usable: ask
        again) or Refused. Once `stop` is set nothing is sent again. Raises Transient when all tries
        failed, Refused, CapReached, ServerError and, where a server gives no log-probabilities at
        all, CapabilityError.
        """
        call = _Call(messages, length, settings, read, top)
        sent = 0

        def once() -> T:
            nonlocal sent
            sent += 1
            return self._attempt(call, stop, again=sent > 1)

        tries = Retrying(
            stop=stop_any(
                stop_after_attempt(self.options.tries),
                stop_when_event_set(stop),
                StopWhenSame(self._is_row_fault),
                StopWhenSilent(lambda: self._last_answer > 0),
            ),
            wait=waits(self.options.backoff),
            retry=retry_if_exception_type(Transient),
            sleep=sleep_using_event(stop),
            before_sleep=self._say_that_it_waits,
            reraise=True,
        )
        try:
            return tries(once)
        except Refused as refusal:
            self._weigh(call, refusal, stop)
            raise
        except Transient as error:
            error.tries = sent
            if stop.is_set() or not self._answers_others(call, error, stop):
                raise
            try:
                return once()  # it answers: was it down until just now, or does it fail this row?
            except Transient as last:
                last.tries, last.row_at_fault = sent, not stop.is_set()
                with self._lock:
                    self._row_faults[last.reason] += last.row_at_fault
                raise

    # ---------------------------------------------------------------------------- whose fault it is

    def _is_row_fault(self, reason: str) -> bool:
        with self._lock:
            return self._row_faults[reason] >= ROW_FAULTS

    def _answers_others(self, call: _Call[T], error: Transient, stop: threading.Event) -> bool:
        """Whether the server answers anybody else now: another row's request, or the stand-in."""
        if isinstance(error, NoLogprobs):
            return True
        if not error.reached:
            return False
        since = time.monotonic()
        with self._one_stand_in:
            if self._last_answer > since:  # while this one waited for its turn
                return True
            try:
                return self._ask_stand_in(call, stop)
            except (Refused, Transient):
                return False

    def _weigh(self, call: _Call[T], refusal: Refused, stop: threading.Event) -> None:
        """Raises ServerError where the server refuses everything. Sets `refusal.of_all` while that
        is not known."""
        with self._one_stand_in:
            if self._last_answer:
                return
            refusal.of_all = True
            self._refusals[refusal.kind] += 1
            if self._refusals[refusal.kind] < EQUAL_REFUSALS or stop.is_set():
                return
            try:
                if self._ask_stand_in(call, stop):
                    refusal.of_all = False
            except Transient:
                return
            except Refused as other:
                raise ServerError(
                    f"The server {self.address.base} refuses every request: {other.words}. No row "
                    "has been answered, and none was stored as a failure. Change what it refuses, "
                    "or ask another server or model."
                ) from None

    def _ask_stand_in(self, call: _Call[T], stop: threading.Event) -> bool:
        """Whether it is answered; False where --max-requests has no room for it. Raises Refused,
        Transient."""
        try:
            self._attempt(replace(call, messages=stand_in(call.messages)), stop, again=True)
        except CapReached:
            return False
        return True

    def _say_that_it_waits(self, state: RetryCallState) -> None:
        """Once, at the first request that fails while the server has answered none: a wrong URL
        should not look like work."""
        error = None if state.outcome is None else state.outcome.exception()
        if (
            self._warned or self._last_answer or isinstance(error, NoLogprobs)
        ):  # absent log-probabilities are named soon
            return
        self._warned = True
        log.warning(
            "The server %s has given no usable answer yet (%s). A request is sent up to %d times.",
            self.address.base,
            error,
            self.options.tries,
        )

    # --------------------------------------------------------------------------------- one response

    def _attempt(self, call: _Call[T], stop: threading.Event, *, again: bool) -> T:
        """Sent once, and once more for each thing that a refusal teaches."""
        while True:
            if again and stop.is_set():
                raise Transient("stopped")
            if not self.options.account.send(self.options.max_requests, again=again):
                raise CapReached("--max-requests")
            again = True
            body = self.dialect.body(
                self.address.model, call.messages, call.length, call.settings, call.top
            )
            try:
                response = self._read(
                    self._transport.send(
                        "POST", "/chat/completions", json.dumps(body).encode("ascii")
                    )
                )
            except Refused as refusal:
                if self._learns(body, refusal):
                    continue
                named = " ".join((*refusal.named, refusal.words))
                if call.top and "logprobs" in named and not self._seen_logprobs:
                    raise CapabilityError(
                        self._no_logprobs(f"refuses to give any ({refusal})")
                    ) from None
                raise
            self._count(response)
            found = self._checked(response, call)
            self._last_answer = time.monotonic()
            return found

    def _read(self, reply: Reply) -> dict[str, Any]:
        """The response, if it is an answer."""
        if reply.code != 200:
            self._raise_for(reply.code, words(reply.body, self._key), _named(reply), reply)
        try:
            found = parse(reply.body)
        except Unreadable as fault:
            if reply.body.lstrip()[:1] in (b"{", b"[", b""):
                raise Transient(f"the answer is {fault}", load="whole" in str(fault)) from None
            raise Transient(
                f"the answer is no JSON: {words(reply.body, self._key)}", reason_given=True
            ) from None
        if (
            isinstance(found, dict)
            and not found.get("error")
            and ("choices" in found or "data" in found)
        ):
            return found
        if isinstance(found, dict) and (
            found.get("error") or "message" in found or "detail" in found
        ):
            inner = found["error"] if isinstance(found.get("error"), dict) else found
            code = inner.get("code", inner.get("status"))
            known = code if isinstance(code, int) and 400 <= code < 600 else 500
            self._raise_for(known, words(reply.body, self._key), named_parameters(found), reply)
        raise Transient(
            f"the answer is no chat completion: {words(reply.body, self._key)}", reason_given=True
        )

    def _raise_for(self, code: int, said: str, named: tuple[str, ...], reply: Reply) -> None:
        """What follows from an error with this code. It may stand in an answer with HTTP 200."""
        where = (
            f"HTTP {code}"
            if reply.code == code
            else (f"an error in an answer with HTTP {reply.code}")
        )
        told = f"{where}: {said}" if said else where
        if code == 429 and "insufficient_quota" in reply.body.decode("utf-8", "replace"):
            raise ServerError(
                f"The server {self.address.base} says that the quota of this key is used up "
                f"({told}). {_KEPT}"
            )
        if code in _LOAD or code >= 500:
            after = _after(reply)
            if after is not None and after > LONGEST_ASKED:
                raise ServerError(
                    f"The server {self.address.base} asks to wait {after:,.0f} seconds before the "
                    f"next request ({told}). {_KEPT}"
                )
            # inside an answer, 502 is no gateway's word
            load = code in (_LOAD if reply.code == code else (429, 503))
            raise Transient(told, after, load=load, reason_given=_is_specific(said))
        if code in _ROW:
            raise Refused(f"the server refuses it ({where}): {said}", said, named)
        if code in (401, 403):
            variable = (
                "the variable that --api-key-env names"
                if self.options.api_key_env
                else KEY_VARIABLE
            )
            if self._key:
                model = (
                    f", or does not let it use {self.address.model!r}" if self.address.model else ""
                )
                what = f"refuses the key in {variable}{model}"
            else:
                what = f"wants a key. Put it into {variable}"
            raise ServerError(f"The server {self.address.base} {what} ({told}). {_KEPT}")
        if code == 404:
            raise ServerError(
                f"The server {self.address.base} has no model {self.address.model!r}, or no chat "
                f"completions at this URL ({told}). Its models are listed at "
                f"{self.address.base}/models."
            )
        raise ServerError(f"The server {self.address.base} answers {told}. {_KEPT}")

    def _count(self, response: dict[str, Any]) -> None:
        usage = response.get("usage")
        numbers = (
            [usage.get(name) for name in ("prompt_tokens", "completion_tokens")]
            if isinstance(usage, dict)
            else []
        )
        known = [n for n in numbers if isinstance(n, int) and n >= 0]
        if len(known) == 2:
            self.options.account.pay(*known)
        elif self.options.max_cost is not None:
            raise ServerError(
                f"The server {self.address.base} does not say how many tokens an answer took, so "
                "--max-cost cannot be kept. Use --max-requests."
            )

    def _learns(self, body: dict[str, Any], refusal: Refused) -> bool:
        with self._lock:
            return self.dialect.learn(body, refusal)

    def _checked(self, response: dict[str, Any], call: _Call[T]) -> T:
        try:
            self._refuse_failed_choice(response)
            result = call.read(response)
        except NoLogprobs:
            with self._lock:
                self._absent += 1
                if not self._seen_logprobs and self._absent >= ABSENT:
                    raise CapabilityError(self._no_logprobs("does not give any")) from None
            raise
        except (ValueError, RecursionError) as error:
            said = one_line(without_key(str(error), self._key))
            raise Transient(said or "the answer is no chat completion", reason_given=True) from None
        if call.top:
            self._seen_logprobs = True
        return result

    def _refuse_failed_choice(self, response: dict[str, Any]) -> None:
        """Some servers put the error of one choice into it. Raises Transient."""
        for choice in choices(response):
            if choice.get("error"):
                said = one_line(without_key(said_in(choice["error"]), self._key))
                raise Transient(f"an error in the answer: {said}", reason_given=True)

    def _no_logprobs(self, what: str) -> str:
        return (
            f"Log-probabilities of answers are needed, and the server {self.address.base} {what}. "
            "Nothing was put in their place. Ask a server that gives them (vLLM and SGLang do), "
            "or, where the method has this setting (mmssr), let the model write its answers: "
            "--set score=generate."
        )


def _is_specific(said: str) -> bool:
    """Whether the words say more than the code does."""
    return said.casefold().strip(" .!") not in (
        "",
        "internal server error",
        "500 internal server error",
        "server error",
        "error",
    )


def _model_names(found: Any) -> list[str]:
    """Of an answer to /models. Raises ValueError for one of another shape."""
    listed = found.get("data") if isinstance(found, dict) else None
    if not isinstance(listed, list) or not all(
        isinstance(m, dict) and isinstance(m.get("id"), str) for m in listed
    ):
        raise ValueError("no list of models")
    return [one_line(m["id"]) for m in listed]


def _named(reply: Reply) -> tuple[str, ...]:
    try:
        return named_parameters(parse(reply.body))
    except Unreadable:
        return ()


def _after(reply: Reply) -> float | None:
    """Seconds that the server asks to wait."""
    thousandths = retry_after(reply.headers.get("Retry-After-Ms"))
    if thousandths is not None:
        return thousandths / 1000
    return retry_after(reply.headers.get("Retry-After"))
