"""What a server takes, learned from its own refusals: each change is made once, for the whole run,
and said once.

`max_tokens` has a second name; `top_logprobs`, `max_tokens` and `temperature` get another value;
`n`, `seed`, `temperature` and `stream` can be left out. What an answer cannot do without (model,
messages, log-probabilities) is never changed.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from thresher.backends.openai.failures import Refused

TOP = 20
FEWER = (10, 5, 3)  # likeliest tokens to ask for, where a server names no limit
ALMOST_GREEDY = 0.01  # temperature, where 0 is refused and a range is named
_LENGTHS = ("max_tokens", "max_completion_tokens")
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
_LEFT_OUT = {
    "n": "the draws of a row are asked for one by one",
    "seed": "draws cannot be repeated exactly",
    "temperature": (
        "the server's own temperature is used, so written answers may differ from run to run"
    ),
    "stream": "",
}


@dataclass
class Dialect:
    """How requests to one server are written.

    `length`: the name of the limit on new tokens; `least`: the smallest that the server takes.
    `top`: likeliest tokens asked for. `temperature`: what is sent for 0. `left_out`: parameters
    that are not sent. `notes`: what was changed, in words.
    """

    length: str = _LENGTHS[0]
    least: int = 1
    top: int = TOP
    temperature: float = 0
    left_out: tuple[str, ...] = ()
    notes: list[str] = field(default_factory=list)

    def body(
        self, model: str, messages: Any, length: int, settings: dict[str, Any], top: bool
    ) -> dict[str, Any]:
        """A request. `settings`: temperature, n, seed. `top`: ask for the likeliest first
        tokens."""
        likeliest = {"logprobs": True, "top_logprobs": self.top} if top else {}
        limit = {self.length: max(length, self.least)}
        sent = {
            "model": model,
            "messages": messages,
            **limit,
            "stream": False,
            **settings,
            **likeliest,
        }
        if sent.get("temperature") == 0:
            sent["temperature"] = self.temperature
        return {name: value for name, value in sent.items() if name not in self.left_out}

    def learn(self, sent: dict[str, Any], refusal: Refused) -> bool:
        """Whether the request, written again, will differ from `sent`: another thread may have
        learned it already.

        >>> d = Dialect()
        >>> refusal = "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens'."
        >>> d.learn({"max_tokens": 1}, Refused(refusal))
        True
        >>> d.length
        'max_completion_tokens'
        >>> refusal = Refused("Extra inputs are not permitted", named=("seed",))
        >>> d.learn({"max_completion_tokens": 1, "seed": 7}, refusal)
        True
        >>> d.left_out
        ('seed',)
        """
        if self._learned_meanwhile(sent):
            return True
        name = next((n for n in _LENGTHS if n in sent), self.length)
        named = refusal.named if any(part in sent for part in refusal.named) else ()
        if "messages" in named:
            return False  # about what this row says
        if self._is_named(name, named, refusal.words) and self._learn_length(name, refusal.words):
            return True
        if "top_logprobs" in sent and self._learn_top(named, refusal.words):
            return True
        for parameter, effect in _LEFT_OUT.items():
            if parameter in sent and self._is_named(parameter, named, refusal.words):
                self._leave_out(parameter, sent, effect, refusal.words)
                return True
        return False

    def _learned_meanwhile(self, sent: dict[str, Any]) -> bool:
        other_name = any(n in sent for n in _LENGTHS) and self.length not in sent
        other_top = sent.get("top_logprobs", self.top) != self.top
        left_out = any(name in sent for name in self.left_out)
        shorter = sent.get(self.length, self.least) < self.least
        colder = sent.get("temperature") == 0 and self.temperature != 0
        return other_name or other_top or left_out or shorter or colder

    def _is_named(self, name: str, named: tuple[str, ...], words: str) -> bool:
        if named:
            return name in named
        if name == "n":  # a letter is a parameter where it is quoted, or stands as one
            pattern = (
                r"[\"'`]n[\"'`]|^\W*n\s*[:=]|\b(?:parameter|argument|value|field|property)\W{1,3}n\b|\bn "  # noqa: E501
                r"(?:must|is|should)\b"
            )
        else:
            pattern = rf"(?<![\w-]){name}(?![\w-])"
        return bool(re.search(pattern, words, re.I)) and bool(_ABOUT_PARAMETERS.search(words))

    def _learn_length(self, name: str, words: str) -> bool:
        other = _LENGTHS[1 - _LENGTHS.index(name)]
        floor = _AT_LEAST.search(words)
        if floor and self.least < int(floor[1]) <= 1024:
            self.least = int(floor[1])
            self.notes.append(
                f"The server takes a limit of at least {self.least} new tokens: shorter ones are "
                "raised to it."
            )
            return True
        if not _UNKNOWN.search(words) or any(other in note for note in self.notes):
            return False  # about the length of this row, or the server takes neither
        self.length = other
        self.notes.append(f"The server wants {other} in place of {name}.")
        return True

    def _learn_top(self, named: tuple[str, ...], words: str) -> bool:
        if "logprobs" in named or not re.search(r"log_?prob", " ".join((*named, words)), re.I):
            return False
        lower = [
            int(n)
            for n in re.findall(r"(?<![\w.])\d+(?![\w.]*\d)", words)
            if 1 <= int(n) < self.top
        ]
        if (
            not lower
            and (named or "top_logprobs" in words)
            and not re.search(r"support|permit|recogni|unknown|unexpected|extra", words, re.I)
        ):
            lower = [n for n in FEWER if n < self.top]
        if not lower:
            return False
        self.top = max(lower)
        self.notes = [note for note in self.notes if "likeliest tokens at most" not in note]
        self.notes.append(
            f"The server names the {self.top} likeliest tokens at most, not {TOP}: an answer "
            "beyond them gets probability 0."
        )
        return True

    def _leave_out(self, parameter: str, sent: dict[str, Any], effect: str, words: str) -> None:
        if parameter == "temperature" and sent["temperature"] == 0 and _RANGE.search(words):
            self.temperature = ALMOST_GREEDY
            self.notes.append(
                f"The server refuses temperature 0 ({words}): {ALMOST_GREEDY} is sent."
            )
            return
        self.left_out = (*self.left_out, parameter)
        because = f" ({words})" if words else ""
        self.notes.append(
            f"The server refuses {parameter}{because}: requests go without "
            f"it{f'; {effect}' if effect else ''}."
        )
