"""One request to a server, sent until it is answered, refused, or given up. No message contains the
key.

A response is one of: an answer; `Transient` (429, 5xx, a timeout, a lost connection, an unreadable
answer), sent again after a wait; `Refused` (400, 413, 422: this request will never work), an error
of its row; anything else stops the run with a ServerError that says what to do. A probe request
(`probe_request.py`) tells whether the row or the server is at fault.

Longer than 400 lines because which failure is whose, and what each does to the run, is one
decision.
"""

from __future__ import annotations

import json
import logging
import re
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
from thresher.backends.openai.completions import list_choices
from thresher.backends.openai.dialect import Dialect
from thresher.backends.openai.failures import SERVER, NoLogprobs, Refused, Transient
from thresher.backends.openai.not_found import not_found
from thresher.backends.openai.options import KEY_VARIABLE, ServerOptions
from thresher.backends.openai.probe_request import probe_content, probe_messages
from thresher.backends.openai.retries import (
    MAX_RETRY_AFTER,
    StopOnEqualFailures,
    StopOnTimeouts,
    retry_after,
    wait_strategy,
)
from thresher.backends.openai.server_text import (
    NotJSON,
    body_message,
    message_in,
    one_line,
    parameters_in,
    parse,
    redact_key,
    with_detail,
)
from thresher.backends.openai.transport import Reply, Transport
from thresher.errors import CapabilityError, CapReached, ServerError, opt

T = TypeVar("T")
log = logging.getLogger(__name__)
# answers without log-probabilities, after which the server is assumed not to give any
MAX_ABSENT_LOGPROBS = 3
# rows that were at fault with one reason; further ones with that reason are given up sooner
KNOWN_ROW_FAULTS = 2
# equal refusals before any answer, after which a probe tells whether everything is refused
REFUSALS_BEFORE_PROBE = 3
CHAT, EMBEDDINGS = "/chat/completions", "/embeddings"  # paths below the base URL
REACH_TRIES = 3  # to find out whether a server is there at all
# temporary; says nothing about the request
_OVERLOAD_CODES = (408, 409, 425, 429, 502, 503, 504, 520, 521, 522, 523, 524, 529)
_ROW_CODES = (400, 413, 415, 422)  # about this request, not about all
# a row that does not fit into the model's context, in the words of vLLM, SGLang and OpenAI
_TOO_LONG = re.compile(r"context length|maximum (?:model|sequence) length", re.I)
_RESUME = "Results so far are stored; run the same command again to continue."


@dataclass(frozen=True)
class _Call(Generic[T]):
    """One chat completion or embedding.

    content: messages, or the text of an embedding.
    read: makes the result from a response.
    path: below the server's base URL.
    what: of a response, for messages.
    body: content -> the JSON body, as the server's dialect is now.
    probe: content -> a trivial one of the same form.
    top: whether log-probabilities of the first token are requested.
    """

    content: Any
    read: Callable[[dict[str, Any]], T]
    path: str
    what: str
    body: Callable[[Any], dict[str, Any]]
    probe: Callable[[Any], Any]
    top: bool = False


class Client:
    """One model of one server. Safe to use from several threads.

    Arguments:
        address: the server and the model.
        key: API key; None: requests have none.
        options: of the run.
    """

    def __init__(self, address: Address, key: str | None, options: ServerOptions) -> None:
        self.address, self.options, self.dialect = address, options, Dialect()
        self.is_vllm = False  # whether an answer had vLLM's own fields
        self._key = key
        self._transport = Transport(address, key, options.timeout, options.concurrency)
        self._warned = False  # that no request has been answered yet
        self._last_answer = 0.0  # time of the last usable answer; 0: none so far
        self._refusals: Counter[str] = Counter()  # by kind, while nothing has been answered
        # reason -> rows that failed with it while others were answered
        self._row_faults: Counter[str] = Counter()
        self._seen_logprobs = False
        self._absent_logprobs = 0
        self._lock = threading.Lock()
        self._probe_lock = threading.Lock()

    def close(self) -> None:
        """Close its connections."""
        self._transport.close()

    # ------------------------------------------------------------------------------------- requests

    def models(self) -> list[str]:
        """The names of the server's models. Raises ServerError."""
        try:
            reply = self._transport.send("GET", "/models", None)
            if reply.code == 200:
                return _model_names(parse(reply.body))
            if reply.code not in (404, 405, 501):
                self._raise_for_status(reply.code, body_message(reply.body, self._key), (), reply)
            message = f"HTTP {reply.code}: {body_message(reply.body, self._key)}"
        except Transient as error:
            raise ServerError(
                f"The server {self.address.base} could not be asked for its models: {error.reason}"
                ". Is the URL right, and is the server running?"
            ) from None
        except Refused as refusal:
            message = str(refusal)
        except ValueError:
            message = f"it answers {body_message(reply.body, self._key)}"
        raise ServerError(
            f"The server {self.address.base} does not say which models it has ({message}). "
            f"Name one: {opt('model')}, or #NAME after the URL."
        )

    def _listed(self) -> list[str] | None:
        """As `models`; None if the server does not say."""
        try:
            return self.models()
        except ServerError:
            return None

    def tokenize(self, body: dict[str, Any]) -> list[int] | None:
        """Token ids from vLLM's `/tokenize`, which runs no model and is not counted as a request.

        Arguments:
            body: of the request, without the model's name.

        Returns None if the server refuses. Raises Transient, ServerError.
        """
        sent = json.dumps({"model": self.address.model, **body}).encode("ascii")
        reply = self._tries()(self._transport.send, "POST", "/tokenize", sent, at_root=True)
        if reply.code != 200:
            return None
        try:
            found = parse(reply.body)
        except NotJSON:
            return None
        tokens = found.get("tokens") if isinstance(found, dict) else None
        known = isinstance(tokens, list) and all(type(token) is int for token in tokens)
        return tokens if known else None

    def _tries(self) -> Retrying:
        """The tries of a small request."""
        return Retrying(
            stop=stop_after_attempt(min(self.options.tries, REACH_TRIES)),
            wait=wait_strategy(self.options.backoff),
            retry=retry_if_exception_type(Transient),
            reraise=True,
        )

    def check_reachable(self) -> None:
        """Raise ServerError if the server does not answer, or refuses the key. Sends no chat
        completion; any other answer will do."""
        try:
            reply = self._tries()(self._transport.send, "GET", "/models", None)
        except Transient as error:
            raise ServerError(
                f"The server {self.address.base} does not answer ({error.reason}). It is needed "
                "later in this run, which stops before another model starts. Is the URL right, "
                "and is the server running?"
            ) from None
        if reply.code in (401, 403):
            self._raise_for_status(reply.code, body_message(reply.body, self._key), (), reply)

    def chat(
        self,
        messages: Any,
        length: int,
        settings: dict[str, Any],
        read: Callable[[dict[str, Any]], T],
        stop: threading.Event,
        *,
        top: bool = False,
        reserved: bool = True,
    ) -> T:
        """Request one chat completion.

        Arguments:
            messages: of the request.
            length: most new tokens.
            settings: further parameters: temperature, n, seed.
            read: makes the result from a response; may raise Transient (unusable: ask again),
                Refused.
            stop: once it is set, nothing is sent again.
            top: request the log-probabilities of the most likely first tokens.
            reserved: whether the request is one of those that its row has reserved.

        Raises Transient if all tries failed, Refused, CapReached, ServerError, and CapabilityError
        if the server gives no log-probabilities at all.
        """

        def body(content: Any) -> dict[str, Any]:
            return self.dialect.body(self.address.model, content, length, settings, top)

        call = _Call(messages, read, CHAT, "a chat completion", body, probe_messages, top)
        return self._request(call, stop, reserved)

    def embed(
        self,
        content: Any,
        read: Callable[[dict[str, Any]], T],
        stop: threading.Event,
        *,
        reserved: bool = True,
    ) -> T:
        """Request the embedding of a text or of messages. Raises as `chat`.

        Arguments:
            content: a text, or messages, which only vLLM's embeddings API takes.
            read: makes the result from a response; may raise Refused.
            stop: once it is set, nothing is sent again.
            reserved: whether the request is one of those that its row has reserved.
        """

        def body(content: Any) -> dict[str, Any]:
            name = "input" if isinstance(content, str) else "messages"
            return {"model": self.address.model, name: content}

        call = _Call(content, read, EMBEDDINGS, "an embedding", body, probe_content)
        return self._request(call, stop, reserved)

    def _request(self, call: _Call[T], stop: threading.Event, reserved: bool) -> T:
        """Send the request of `call` until it is answered, refused or given up."""
        sent = 0

        def once() -> T:
            nonlocal sent
            sent += 1
            return self._attempt(call, stop, again=sent > 1 or not reserved)

        tries = Retrying(
            stop=stop_any(
                stop_after_attempt(self.options.tries),
                stop_when_event_set(stop),
                StopOnEqualFailures(self._is_row_fault),
                StopOnTimeouts(lambda: self._last_answer > 0),
            ),
            wait=wait_strategy(self.options.backoff),
            retry=retry_if_exception_type(Transient),
            sleep=sleep_using_event(stop),
            before_sleep=self._warn_before_wait,
            reraise=True,
        )
        try:
            return tries(once)
        except Refused as refusal:
            self._check_refusal(call, refusal, stop)
            raise
        except Transient as error:
            error.tries = sent
            if stop.is_set() or not self._server_works(call, error, stop):
                raise
            try:
                return once()  # it works: was it down until now, or does it fail on this row?
            except Transient as last:
                last.tries, last.row_at_fault = sent, not stop.is_set()
                with self._lock:
                    self._row_faults[last.reason] += last.row_at_fault
                raise

    # ----------------------------------------------------------- is the row or the server at fault?

    def _is_row_fault(self, reason: str) -> bool:
        with self._lock:
            return self._row_faults[reason] >= KNOWN_ROW_FAULTS

    def _server_works(self, call: _Call[T], error: Transient, stop: threading.Event) -> bool:
        """Whether the server answers anything else now: another row's request, or the probe."""
        if isinstance(error, NoLogprobs):
            return True
        if not error.reached:
            return False
        since = time.monotonic()
        with self._probe_lock:
            if self._last_answer > since:  # while this thread waited for the lock
                return True
            try:
                return self._send_probe(call, stop)
            except (Refused, Transient):
                return False

    def _check_refusal(self, call: _Call[T], refusal: Refused, stop: threading.Event) -> None:
        """Raises ServerError if the server refuses everything. Sets `refusal.maybe_all` while that
        is unknown."""
        with self._probe_lock:
            if self._last_answer:
                return
            refusal.maybe_all = True
            self._refusals[refusal.alike] += 1
            if self._refusals[refusal.alike] < REFUSALS_BEFORE_PROBE or stop.is_set():
                return
            try:
                if self._send_probe(call, stop):
                    refusal.maybe_all = False
            except Transient:
                return
            except Refused as other:
                raise ServerError(
                    f"The server {self.address.base} refuses every request: {other.message}. "
                    "No row has been answered, and none was stored as a failure. Change what it "
                    "refuses, or use another server or model."
                ) from None

    def _send_probe(self, call: _Call[T], stop: threading.Event) -> bool:
        """Whether the probe is answered; False if --max-requests has no room for it. Raises
        Refused, Transient."""
        try:
            self._attempt(replace(call, content=call.probe(call.content)), stop, again=True)
        except CapReached:
            return False
        return True

    def _warn_before_wait(self, state: RetryCallState) -> None:
        """Warn once, at the first request that fails while none has been answered: a wrong URL
        should not look like progress."""
        error = None if state.outcome is None else state.outcome.exception()
        if (
            self._warned or self._last_answer or isinstance(error, NoLogprobs)
        ):  # absent log-probabilities are reported soon
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
        """Send the request, and again after every adaptation of the dialect."""
        while True:
            if again and stop.is_set():
                raise Transient("stopped")
            if not self.options.account.send(self.options.max_requests, again=again):
                raise CapReached(option="max_requests")
            again = True
            body = call.body(call.content)
            try:
                response = self._read(
                    self._transport.send("POST", call.path, json.dumps(body).encode("ascii")), call
                )
            except Refused as refusal:
                if call.path == CHAT and self._adapt(body, refusal):
                    continue
                parameters = " ".join((*refusal.parameters, refusal.message))
                if call.top and "logprobs" in parameters and not self._seen_logprobs:
                    raise CapabilityError(
                        self._no_logprobs(f"refuses to give any ({refusal})")
                    ) from None
                raise
            self._count(response, call)
            self.is_vllm = self.is_vllm or "prompt_logprobs" in response
            found = self._read_result(response, call)
            self._last_answer = time.monotonic()
            return found

    def _read(self, reply: Reply, call: _Call[T]) -> dict[str, Any]:
        """The parsed response, if it is an answer. Raises Transient, Refused, ServerError."""
        if reply.code != 200:
            self._raise_for_status(
                reply.code,
                body_message(reply.body, self._key),
                _parameter_values(reply),
                reply,
                call.path,
            )
        try:
            found = parse(reply.body)
        except NotJSON as fault:
            if reply.body.lstrip()[:1] in (b"{", b"[", b""):
                raise Transient(f"the answer is {fault}", overloaded=fault.truncated) from None
            raise Transient(
                with_detail("the answer is not JSON", body_message(reply.body, self._key)),
                reason_given=True,
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
            self._raise_for_status(
                known, body_message(reply.body, self._key), parameters_in(found), reply, call.path
            )
        raise Transient(
            with_detail(f"the answer is not {call.what}", body_message(reply.body, self._key)),
            reason_given=True,
        )

    def _raise_for_status(
        self,
        code: int,
        message: str,
        parameters: tuple[str, ...],
        reply: Reply,
        path: str = "",
    ) -> None:
        """Raise the exception for an error code, which may be inside a response with HTTP 200."""
        where = (
            f"HTTP {code}"
            if reply.code == code
            else (f"an error in an answer with HTTP {reply.code}")
        )
        detail = with_detail(where, message)
        if code == 429 and "insufficient_quota" in reply.body.decode("utf-8", "replace"):
            raise ServerError(
                f"The server {self.address.base} reports that the quota of this key is used up "
                f"({detail}). {_RESUME}"
            )
        if code in _OVERLOAD_CODES or code >= 500:
            after = _requested_wait(reply)
            if after is not None and after > MAX_RETRY_AFTER:
                raise ServerError(
                    f"The server {self.address.base} asks to wait {after:,.0f} seconds before the "
                    f"next request ({detail}). {_RESUME}"
                )
            # inside a response, 502 is not a gateway's error
            overloaded = code in (_OVERLOAD_CODES if reply.code == code else (429, 503))
            raise Transient(
                detail, after, overloaded=overloaded, reason_given=_is_specific(message)
            )
        if code in _ROW_CODES:
            kind = "too long" if _TOO_LONG.search(message) else SERVER
            reason = with_detail(f"the server refuses it ({where})", message)
            raise Refused(reason, message, parameters, kind)
        if code in (401, 403):
            variable = (
                f"the variable that {opt('api_key_env')} names"
                if self.options.api_key_env
                else KEY_VARIABLE
            )
            if self._key:
                model = (
                    f", or does not let it use {self.address.model!r}" if self.address.model else ""
                )
                what = f"refuses the key in {variable}{model}"
            else:
                what = f"needs a key. Put it into {variable}"
            raise ServerError(f"The server {self.address.base} {what} ({detail}). {_RESUME}")
        if code == 404:
            begun = bool(self._last_answer)
            names = None if begun else self._listed()
            raise not_found(self.address, names, detail, path == EMBEDDINGS, begun)
        raise ServerError(f"The server {self.address.base} answers {detail}. {_RESUME}")

    def _count(self, response: dict[str, Any], call: _Call[T]) -> None:
        usage = response.get("usage")
        if not isinstance(usage, dict):
            usage = {}
        written = None if call.path == CHAT else 0  # embeddings have no completion tokens
        numbers = [usage.get("prompt_tokens"), usage.get("completion_tokens", written)]
        known = [n for n in numbers if isinstance(n, int) and n >= 0]
        if len(known) == 2:
            self.options.account.add_tokens(*known)
        elif self.options.max_cost is not None:
            raise ServerError(
                f"The server {self.address.base} does not report how many tokens an answer took, "
                f"so {opt('max_cost')} cannot be enforced. Use {opt('max_requests')}."
            )

    def _adapt(self, body: dict[str, Any], refusal: Refused) -> bool:
        with self._lock:
            return self.dialect.adapt(body, refusal)

    def _read_result(self, response: dict[str, Any], call: _Call[T]) -> T:
        try:
            if call.path == CHAT:
                self._refuse_failed_choice(response)
            result = call.read(response)
        except NoLogprobs:
            with self._lock:
                self._absent_logprobs += 1
                if not self._seen_logprobs and self._absent_logprobs >= MAX_ABSENT_LOGPROBS:
                    raise CapabilityError(self._no_logprobs("does not give any")) from None
            raise
        except (ValueError, RecursionError) as error:
            message = one_line(redact_key(str(error), self._key))
            raise Transient(
                message or f"the answer is not {call.what}", reason_given=True
            ) from None
        if call.top:
            self._seen_logprobs = True
        return result

    def _refuse_failed_choice(self, response: dict[str, Any]) -> None:
        """Raises Transient for a choice that contains an error, as some servers send it."""
        for choice in list_choices(response):
            if choice.get("error"):
                message = one_line(redact_key(message_in(choice["error"]), self._key))
                raise Transient(f"an error in the answer: {message}", reason_given=True)

    def _no_logprobs(self, what: str) -> str:
        return (
            f"Log-probabilities of answers are needed, and the server {self.address.base} {what}. "
            "Nothing was used in their place. Use a server that gives them (vLLM and SGLang do), "
            "or, if the method has this setting (mmssr), let the model write its answers: "
            f"{opt('settings.score', 'generate')}."
        )


def _is_specific(message: str) -> bool:
    """Whether the message says more than the status code."""
    return message.casefold().strip(" .!") not in (
        "",
        "internal server error",
        "500 internal server error",
        "server error",
        "error",
    )


def _model_names(found: Any) -> list[str]:
    """The names in a response of /models. Raises ValueError for any other response."""
    listed = found.get("data") if isinstance(found, dict) else None
    if not isinstance(listed, list) or not all(
        isinstance(m, dict) and isinstance(m.get("id"), str) for m in listed
    ):
        raise ValueError("no list of models")
    return [one_line(m["id"]) for m in listed]


def _parameter_values(reply: Reply) -> tuple[str, ...]:
    try:
        return parameters_in(parse(reply.body))
    except NotJSON:
        return ()


def _requested_wait(reply: Reply) -> float | None:
    """Seconds that the server asks to wait, or None."""
    thousandths = retry_after(reply.headers.get("Retry-After-Ms"))
    if thousandths is not None:
        return thousandths / 1000
    return retry_after(reply.headers.get("Retry-After"))
