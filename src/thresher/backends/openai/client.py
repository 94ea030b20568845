"""One request to a server, sent until it is answered, refused, or given up. Speaks HTTP; keeps the key to itself.

What comes of a response: an answer; `Transient` (429, 5xx, a timeout, a lost connection, an answer that cannot be read),
sent again after a wait; `Refused` (400, 413, 422: this request will never work), the failure of its row; anything else
stops the run with a ServerError that says what to do.
"""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable
from typing import Any, TypeVar

import httpx
from tenacity import RetryCallState, Retrying, retry_if_exception_type
from tenacity.nap import sleep_using_event
from tenacity.stop import stop_after_attempt, stop_when_event_set

from thresher.backends.openai.address import Address
from thresher.backends.openai.dialect import Dialect
from thresher.backends.openai.options import KEY_VARIABLE, ServerOptions
from thresher.backends.openai.waiting import Transient, retry_after, waits
from thresher.errors import CapabilityError, CapReached, ServerError

T = TypeVar("T")
log = logging.getLogger(__name__)
CONNECT_SECONDS = 10.0
SAID = 300  # characters of what a server says that are shown
ABSENT = 3  # answers without log-probabilities before it is believed that there are none
_PASSING = (408, 409, 425, 429)
_ROW = (400, 413, 415, 422)  # about this request, not about all


class Refused(Exception):
    """The server will never answer this request. The text is the reason that is stored with the row."""


class NoLogprobs(Transient):
    """An answer without the log-probabilities that were asked for."""


class Client:
    """One model of one server. Safe to use from several threads. Raises ConfigError for a key that cannot be one."""

    def __init__(self, address: Address, key: str | None, options: ServerOptions) -> None:
        self.address, self.options, self.dialect = address, options, Dialect()
        self._key = key
        self._http = httpx.Client(
            headers={} if key is None else {"Authorization": f"Bearer {key}"},
            timeout=httpx.Timeout(options.timeout, connect=min(CONNECT_SECONDS, options.timeout)),
            limits=httpx.Limits(max_connections=options.concurrency),
            trust_env=not address.is_here,  # a proxy from the environment is for hosts elsewhere
        )
        self._answered = False  # a request was answered, or it was said that none was
        self._seen_logprobs = False
        self._absent = 0
        self._lock = threading.Lock()

    def close(self) -> None:
        """Let go of its connections."""
        self._http.close()

    # ------------------------------------------------------------------------------------------ the two calls

    def models(self) -> list[str]:
        """The names of the models that the server has. Raises ServerError."""
        try:
            found = self._read(self._send("GET", "/models", None))
            return [str(m["id"]) for m in found["data"]]
        except Transient as error:
            raise ServerError(
                f"The server {self.address.base} could not be asked for its models: {error.reason}."
            ) from None
        except (Refused, KeyError, TypeError):
            raise ServerError(
                f"The server {self.address.base} does not say which models it has. Name one: --model NAME, or #NAME behind the URL."
            ) from None

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
        """One chat completion of at most `length` new tokens. `top`: with the likeliest first tokens.

        `read(response)` makes the result and may raise Transient (the answer is not usable: ask again) or Refused.
        Once `stop` is set nothing is sent again. Raises Transient when all tries failed, Refused, CapReached, ServerError
        and, where a server gives no log-probabilities at all, CapabilityError.
        """
        sent = 0

        def once() -> T:
            nonlocal sent
            while True:
                if sent and stop.is_set():
                    raise Transient("stopped")
                if not self.options.account.send(self.options.max_requests, again=sent > 0):
                    raise CapReached("--max-requests")
                sent += 1
                body = self.dialect.body(self.address.model, messages, length, settings, top)
                try:
                    response = self._read(self._send("POST", "/chat/completions", body))
                except Refused as refusal:
                    self._answered = True
                    if self._learns(body, str(refusal)):
                        continue
                    if top and "logprobs" in str(refusal) and not self._seen_logprobs:
                        raise CapabilityError(self._no_logprobs(f"refuses to give any ({refusal})")) from None
                    raise
                self._count(response)
                return self._checked(response, read, top)

        tries = Retrying(
            stop=stop_after_attempt(self.options.tries) | stop_when_event_set(stop),
            wait=waits(self.options.backoff),
            retry=retry_if_exception_type(Transient),
            sleep=sleep_using_event(stop),
            before_sleep=self._say_that_it_waits,
            reraise=True,
        )
        found = tries(once)
        self._answered = True
        return found

    def _say_that_it_waits(self, state: RetryCallState) -> None:
        """Once, at the first request that fails while the server has answered none: a wrong URL should not look like work."""
        error = None if state.outcome is None else state.outcome.exception()
        if self._answered or isinstance(error, NoLogprobs):  # absent log-probabilities are named soon enough
            return
        self._answered = True
        log.warning(
            "The server %s has given no usable answer yet (%s). A request is sent up to %d times.",
            self.address.base,
            error,
            self.options.tries,
        )

    # ------------------------------------------------------------------------------------------ one response

    def _send(self, method: str, path: str, body: dict[str, Any] | None) -> httpx.Response:
        content = None if body is None else json.dumps(body).encode("ascii")
        kind = {"Content-Type": "application/json"}
        try:
            return self._http.request(method, self.address.base + path, content=content, headers=kind)
        except httpx.TimeoutException as error:
            reached = not isinstance(error, httpx.ConnectTimeout)
            raise Transient(f"no answer within {self.options.timeout:g} s", reached=reached) from None
        except httpx.ConnectError:
            raise Transient("the server cannot be reached", reached=False) from None
        except httpx.HTTPError as error:  # a connection lost half-way, a protocol error
            raise Transient(f"the connection broke ({type(error).__name__})") from None

    def _read(self, response: httpx.Response) -> dict[str, Any]:
        code = response.status_code
        if code == 200:
            try:
                found = response.json()
            except ValueError:
                raise Transient("the answer is not whole JSON") from None
            if not isinstance(found, dict) or found.get("error"):
                raise Transient("the answer is no chat completion")
            return found
        said = self._said(response)
        if code == 429 and "insufficient_quota" in response.text:
            raise ServerError(f"The server {self.address.base} says that the quota of this key is used up. {_KEPT}")
        if code in _PASSING or code >= 500:
            raise Transient(f"HTTP {code}", retry_after(response.headers.get("Retry-After")))
        if code in _ROW:
            raise Refused(f"the server refuses it (HTTP {code}): {said}")
        if code in (401, 403):  # what the server says is left out: some repeat a part of the key
            variable = "the variable that --api-key-env names" if self.options.api_key_env else KEY_VARIABLE
            if self._key:
                told = f"refuses the key in {variable}, or does not let it use {self.address.model!r}"
            else:
                told = f"wants a key. Put it into {variable}"
            raise ServerError(f"The server {self.address.base} {told} (HTTP {code}). {_KEPT}")
        if code == 404:
            raise ServerError(
                f"The server {self.address.base} has no model {self.address.model!r}, or no chat completions at this URL "
                f"(HTTP 404: {said}). Its models are listed at {self.address.base}/models."
            )
        raise ServerError(f"The server {self.address.base} answers HTTP {code}: {said}. {_KEPT}")

    def _said(self, response: httpx.Response) -> str:
        """What the server says about an error, on one line, short, without the key."""
        text = response.text
        try:
            found = response.json()
            inner = found.get("error", found) if isinstance(found, dict) else found
            if isinstance(inner, dict):
                inner = inner.get("message") or inner.get("detail") or inner
            text = inner if isinstance(inner, str) else json.dumps(inner)
        except ValueError:
            pass  # not JSON: shown as it is
        if self._key:
            text = text.replace(self._key, "[key]")
        text = " ".join(text.split())
        return text if len(text) <= SAID else text[:SAID] + " …"

    def _count(self, response: dict[str, Any]) -> None:
        usage = response.get("usage")
        numbers = (
            [usage.get(name) for name in ("prompt_tokens", "completion_tokens")] if isinstance(usage, dict) else []
        )
        known = [n for n in numbers if isinstance(n, int)]
        if len(known) == 2:
            self.options.account.pay(*known)
        elif self.options.max_cost is not None:
            raise ServerError(
                f"The server {self.address.base} does not say how many tokens an answer took, so --max-cost cannot be kept. "
                "Use --max-requests."
            )

    def _learns(self, body: dict[str, Any], refusal: str) -> bool:
        with self._lock:
            return self.dialect.learn(body, refusal)

    def _checked(self, response: dict[str, Any], read: Callable[[dict[str, Any]], T], top: bool) -> T:
        try:
            result = read(response)
        except NoLogprobs:
            with self._lock:
                self._absent += 1
                if not self._seen_logprobs and self._absent >= ABSENT:
                    raise CapabilityError(self._no_logprobs("does not give any")) from None
            raise
        except (KeyError, IndexError, TypeError, AttributeError, ValueError) as error:
            raise Transient(f"the answer is no chat completion ({type(error).__name__})") from None
        if top:
            self._seen_logprobs = True
        return result

    def _no_logprobs(self, what: str) -> str:
        return (
            f"Log-probabilities of answers are needed, and the server {self.address.base} {what}. Nothing was put in their "
            "place. Ask a server that gives them (vLLM and SGLang do), or, where the method has this setting (mmssr), let the "
            "model write its answers: --set score=generate."
        )


_KEPT = "What came so far is stored; run the same command again to go on."
