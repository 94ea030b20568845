"""What servers call things and how much they allow, learned from their own refusals: each change is made once, for the whole run.

Known so far: `max_tokens` or `max_completion_tokens`; how many likeliest tokens a server names (20 by OpenAI's rule; some
allow 5 or 8).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

TOP = 20
_LENGTHS = ("max_tokens", "max_completion_tokens")
_UNKNOWN = re.compile(r"\b(unsupported|not supported|unrecognized|unknown|not permitted|extra inputs?|instead)\b", re.I)


@dataclass
class Dialect:
    """`length`: the name of the limit on new tokens. `top`: likeliest tokens asked for. `notes`: what was changed, in words."""

    length: str = _LENGTHS[0]
    top: int = TOP
    notes: list[str] = field(default_factory=list)

    def body(self, model: str, messages: Any, length: int, settings: dict[str, Any], top: bool) -> dict[str, Any]:
        """A request. `settings`: temperature, n, seed, as they are sent. `top`: ask for the likeliest first tokens."""
        likeliest = {"logprobs": True, "top_logprobs": self.top} if top else {}
        return {"model": model, "messages": messages, self.length: length, "stream": False, **settings, **likeliest}

    def learn(self, sent: dict[str, Any], refusal: str) -> bool:
        """Whether the request, sent again, will look different: another thread may have learned it already.

        >>> d = Dialect()
        >>> d.learn({"max_tokens": 1}, "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead.")
        True
        >>> d.length
        'max_completion_tokens'
        """
        name = next((n for n in _LENGTHS if n in sent), self.length)
        if name != self.length or sent.get("top_logprobs", self.top) != self.top:
            return True
        other = _LENGTHS[1 - _LENGTHS.index(name)]
        if re.search(rf"\b{name}\b", refusal) and _UNKNOWN.search(refusal):
            if any(other in note for note in self.notes):
                return False  # the server takes neither
            self.length = other
            self.notes.append(f"The server wants {other} in place of {name}.")
            return True
        if "top_logprobs" in sent and re.search(r"log_?prob", refusal, re.I):
            lower = [int(n) for n in re.findall(r"(?<![\w.])\d+(?![\w.]*\d)", refusal) if 1 <= int(n) < self.top]
            if lower:
                self.top = max(lower)
                self.notes.append(
                    f"The server names the {self.top} likeliest tokens at most, not {TOP}: an answer beyond them gets "
                    "probability 0."
                )
                return True
        return False
