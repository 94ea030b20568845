"""Which request parameters a server accepts, learned from its refusals. Each change is made once
for the whole run, and reported once.

`max_tokens` has a second name; `top_logprobs`, `max_tokens` and `temperature` can get another
value; `n`, `seed`, `temperature`, `stream` and `return_tokens_as_token_ids` can be omitted. What
the result depends on (model, messages, log-probabilities) is never changed.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from thresher.backends.openai.failures import Refused
from thresher.types import Note

MAX_TOP_LOGPROBS = 20
FALLBACK_TOP_LOGPROBS = (10, 5, 3)  # tried in turn if the server names no limit
ALMOST_GREEDY = 0.01  # temperature if 0 is refused and a range is named
_LENGTH_NAMES = ("max_tokens", "max_completion_tokens")
_UNKNOWN = re.compile(
    r"\b(unsupported|not supported|unrecognized|unknown|not permitted|extra "
    r"inputs?|instead)\b",
    re.I,
)
_NOT_AT_ALL = re.compile(r"support|permit|recogni|unknown|unexpected|extra", re.I)
_ABOUT_PARAMETERS = re.compile(
    r"support|allow|permit|recogni[sz]|unknown|invalid|illegal|unexpected|extra|must|only|range|value|argument|parameter"
    r"|property|field|greater|less than|between|deprecated|ignored|cannot|can't|not (?:be "
    r")?(?:set|used)",
    re.I,
)
_RANGE = re.compile(r"positive|greater than|larger than|>|range|between|\(0|0\.01|at least", re.I)
_AT_LEAST = re.compile(
    r"(?:at least|>=|≥|minimum(?: value)?(?: is| of)?:?|greater than or equal "
    r"to)\s*(\d{1,6})\b",
    re.I,
)
_OPTIONAL = {
    "n": "the samples of a row are requested one by one",
    "seed": "sampled answers cannot be reproduced exactly",
    "temperature": (
        "the server's own temperature is used, so generated answers may differ from run to run"
    ),
    "stream": "",
    "return_tokens_as_token_ids": "answers are found by the tokens' texts",
}


@dataclass
class Dialect:
    """How requests to one server are written.

    length: name of the parameter that limits the new tokens.
    min_length: smallest limit that the server accepts.
    top: number of most likely tokens that are requested.
    temperature: value that is sent instead of 0.
    omitted: parameters that are not sent.
    refused_lengths: names of the length parameter that the server does not know.
    notes: what was changed, as messages for the user; their kind is the parameter.
    """

    length: str = _LENGTH_NAMES[0]
    min_length: int = 1
    top: int = MAX_TOP_LOGPROBS
    temperature: float = 0
    omitted: tuple[str, ...] = ()
    refused_lengths: tuple[str, ...] = ()
    notes: list[Note] = field(default_factory=list)

    def body(
        self, model: str, messages: Any, length: int, settings: dict[str, Any], top: bool
    ) -> dict[str, Any]:
        """The JSON body of a request.

        Arguments:
            model: its name.
            messages: of the conversation.
            length: maximum number of new tokens.
            settings: temperature, n, seed.
            top: request the log-probabilities of the most likely first tokens.
        """
        read_top_logprobs = {"logprobs": True, "top_logprobs": self.top} if top else {}
        limit = {self.length: max(length, self.min_length)}
        sent = {
            "model": model,
            "messages": messages,
            **limit,
            "stream": False,
            **settings,
            **read_top_logprobs,
        }
        if sent.get("temperature") == 0:
            sent["temperature"] = self.temperature
        return {name: value for name, value in sent.items() if name not in self.omitted}

    def adapt(self, sent: dict[str, Any], refusal: Refused) -> bool:
        """Adapt to a refusal.

        Arguments:
            sent: the body of the refused request.
            refusal: of the server.

        Returns whether a new body would differ from `sent`; another thread may have adapted
        already.

        >>> d = Dialect()
        >>> refusal = "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens'."
        >>> d.adapt({"max_tokens": 1}, Refused(refusal))
        True
        >>> d.length
        'max_completion_tokens'
        >>> refusal = Refused("Extra inputs are not permitted", parameters=("seed",))
        >>> d.adapt({"max_completion_tokens": 1, "seed": 7}, refusal)
        True
        >>> d.omitted
        ('seed',)
        """
        if self._is_outdated(sent):
            return True
        name = next((n for n in _LENGTH_NAMES if n in sent), self.length)
        parameters = refusal.parameters if any(part in sent for part in refusal.parameters) else ()
        if "messages" in parameters:
            return False  # about the content of this row
        if self._is_named(name, parameters, refusal.message) and self._adapt_length(
            name, refusal.message
        ):
            return True
        if "top_logprobs" in sent and self._adapt_top_logprobs(parameters, refusal.message):
            return True
        for parameter, effect in _OPTIONAL.items():
            if parameter in sent and self._is_named(parameter, parameters, refusal.message):
                self._omit(parameter, sent, effect, refusal.message)
                return True
        return False

    def _is_outdated(self, sent: dict[str, Any]) -> bool:
        other_name = any(n in sent for n in _LENGTH_NAMES) and self.length not in sent
        other_top = sent.get("top_logprobs", self.top) != self.top
        omitted = any(name in sent for name in self.omitted)
        shorter = sent.get(self.length, self.min_length) < self.min_length
        colder = sent.get("temperature") == 0 and self.temperature != 0
        return other_name or other_top or omitted or shorter or colder

    def _is_named(self, name: str, parameters: tuple[str, ...], message: str) -> bool:
        if parameters:
            return name in parameters
        if name == "n":  # a single letter: only if it is quoted or clearly a parameter
            pattern = (
                r"[\"'`]n[\"'`]|^\W*n\s*[:=]|\b(?:parameter|argument|value|field|property)\W{1,3}n\b|\bn "  # noqa: E501
                r"(?:must|is|should)\b"
            )
        else:
            pattern = rf"(?<![\w-]){name}(?![\w-])"
        return bool(re.search(pattern, message, re.I)) and bool(_ABOUT_PARAMETERS.search(message))

    def _adapt_length(self, name: str, message: str) -> bool:
        other = _LENGTH_NAMES[1 - _LENGTH_NAMES.index(name)]
        floor = _AT_LEAST.search(message)
        if floor and self.min_length < int(floor[1]) <= 1024:
            self.min_length = int(floor[1])
            self._note(
                name,
                f"The server accepts limits of at least {self.min_length} new tokens: smaller ones "
                "are raised to that.",
            )
            return True
        if not _UNKNOWN.search(message) or other in self.refused_lengths:
            return False  # about the length of this row, or the server accepts neither name
        self.length = other
        self.refused_lengths = (*self.refused_lengths, name)
        self._note(name, f"The server expects {other} instead of {name}.")
        return True

    def _adapt_top_logprobs(self, parameters: tuple[str, ...], message: str) -> bool:
        if "logprobs" in parameters or not re.search(
            r"log_?prob", " ".join((*parameters, message)), re.I
        ):
            return False
        lower = [
            int(n)
            for n in re.findall(r"(?<![\w.])\d+(?![\w.]*\d)", message)
            if 1 <= int(n) < self.top
        ]
        if (
            not lower
            and (parameters or "top_logprobs" in message)
            and not re.search(r"support|permit|recogni|unknown|unexpected|extra", message, re.I)
        ):
            lower = [n for n in FALLBACK_TOP_LOGPROBS if n < self.top]
        if not lower:
            return False
        self.top = max(lower)
        self.notes = [note for note in self.notes if note.kind != "top_logprobs"]
        self._note(
            "top_logprobs",
            f"The server reports the {self.top} most likely tokens only, not {MAX_TOP_LOGPROBS}: "
            "an answer beyond them gets probability 0.",
        )
        return True

    def _omit(self, parameter: str, sent: dict[str, Any], effect: str, message: str) -> None:
        if parameter == "temperature" and sent["temperature"] == 0 and _RANGE.search(message):
            self.temperature = ALMOST_GREEDY
            text = f"The server refuses temperature 0 ({message}): {ALMOST_GREEDY} is sent."
            self._note(parameter, text)
            return
        self.omitted = (*self.omitted, parameter)
        because = f" ({message})" if message else ""
        self._note(
            parameter,
            f"The server refuses {parameter}{because}: requests go without "
            f"it{f'; {effect}' if effect else ''}.",
        )

    def _note(self, parameter: str, text: str) -> None:
        self.notes.append(Note(parameter, text))
