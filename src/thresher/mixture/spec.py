"""Parsing of the user's mixture options, as far as possible without a pool. Pure.

quota    GROUP=RANGE   GROUP: a source, `text_only` or COLUMN:VALUE    RANGE: 5%..20%, ..10%, 100..,
1000, 5%
filter   NAME OP VALUE, one comparison: length < 2000, source != coco, .quality >= 0.8
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from fractions import Fraction

from thresher.errors import ConfigError, opt
from thresher.request import RunRequest

THRESHOLDS = {  # --dedup-threshold: minimum, and its meaning
    "near": (0.7, "the Jaccard similarity of two texts' word trigrams"),  # below, pairs are missed
    "semantic": (0.5, "the lowest cosine similarity of images, questions and answers of two rows"),
}
_BOUND = re.compile(r"(\d+(?:\.\d+)?)\s*(%?)")
_COMPARISON = re.compile(r"\s*([^\s<>=!]+)\s*(<=|>=|==|!=|<|>|=)\s*(.*?)\s*")
ORDERED = ("<", "<=", ">", ">=")


def check_mixture(request: RunRequest) -> None:
    """Raises ConfigError for mixture options that no pool could meet."""
    for text in request.quota:
        parse_quota(text)
    for text in request.filter:
        parse_filter(text)
    least = request.drop_suspects
    if least is not None and not 0 < least <= 1:
        raise ConfigError(
            ": the suspicion from which rows are left out is above 0 and at most 1, such as 0.5.",
            option="drop_suspects",
            value=least,
        )
    given = request.dedup_threshold
    if given is None:
        return
    if request.dedup not in THRESHOLDS:
        has = (
            f"{opt('dedup', request.dedup)} has none"
            if request.dedup
            else f"{opt('dedup')} is not given"
        )
        raise ConfigError(
            f": {has}. Use it with {opt('dedup', 'near')} or {opt('dedup', 'semantic')}.",
            option="dedup_threshold",
            value=given,
        )
    minimum, meaning = THRESHOLDS[request.dedup]
    if not minimum <= given <= 1:
        raise ConfigError(
            f": with {opt('dedup', request.dedup)} it is {meaning}, from {minimum:g} to 1.",
            option="dedup_threshold",
            value=given,
        )


# ------------------------------------------------------------------------------------------- quotas


@dataclass(frozen=True)
class Bound:
    """A number of rows, or a percentage of the budget."""

    value: Fraction
    percent: bool

    def exact(self, budget: int) -> Fraction:
        """Number of rows before rounding."""
        return self.value * budget / 100 if self.percent else self.value

    def __str__(self) -> str:
        return f"{float(self.value):g}%" if self.percent else f"{int(self.value):,}"


@dataclass(frozen=True)
class Quota:
    """At least `low` and at most `high` rows of a group; None: unbounded."""

    text: str  # as typed
    group: str  # left of the last =
    low: Bound | None
    high: Bound | None

    def rows(self, budget: int) -> tuple[int, int | None]:
        """(minimum, maximum) in whole rows for a budget; an exact percentage is rounded to nearest.

        Raises ConfigError if no whole number lies between.

        >>> parse_quota("ocr=5%..20%").rows(101)
        (6, 20)
        >>> parse_quota("ocr=5%").rows(101)
        (5, 5)
        """
        if self.low is not None and self.low == self.high:
            exact = math.floor(self.low.exact(budget) + Fraction(1, 2))
            return exact, exact
        low = 0 if self.low is None else math.ceil(self.low.exact(budget))
        high = None if self.high is None else math.floor(self.high.exact(budget))
        if high is not None and low > high:
            parts = " and ".join(
                f"{side} {bound} of {budget:,} = {float(bound.exact(budget)):g}"
                if bound.percent
                else f"{side} {bound}"
                for side, bound in (("at least", self.low), ("at most", self.high))
                if bound is not None
            )
            raise ConfigError(
                f": no number of rows is {parts}. Widen the range.", option="quota", value=self.text
            )
        return low, high


def parse_quota(text: str) -> Quota:
    """Parse GROUP=RANGE. Raises ConfigError.

    >>> q = parse_quota("images:0=..10%")
    >>> q.group, q.low, str(q.high)
    ('images:0', None, '10%')
    """
    group, equals, range_ = text.rpartition("=")
    group, range_ = group.strip(), range_.strip()
    expected = "expected GROUP=RANGE, such as ocr_vqa=5%..20%, text_only=1000 or images:0=..10%."
    if not equals or not group or not range_:
        raise ConfigError(f": {expected}", option="quota", value=text)
    first, dots, last = range_.partition("..")
    if not dots:
        exact = _bound(first, text)
        return Quota(text, group, exact, exact)
    if not first.strip() and not last.strip():
        raise ConfigError(f": a range needs an end; {expected}", option="quota", value=text)
    low = _bound(first, text) if first.strip() else None
    high = _bound(last, text) if last.strip() else None
    if (
        low is not None
        and high is not None
        and low.percent == high.percent
        and low.value > high.value
    ):
        raise ConfigError(
            f": the minimum, {low}, is more than the maximum, {high}. Swap them.",
            option="quota",
            value=text,
        )
    return Quota(text, group, low, high)


def _bound(word: str, text: str) -> Bound:
    found = _BOUND.fullmatch(word.strip())
    if not found:
        dots = " A range has two dots: 5%..20%." if "-" in word else ""
        raise ConfigError(
            f": {word.strip()!r} is neither a number of rows nor a share of the "
            f"budget such as 5%.{dots}",
            option="quota",
            value=text,
        )
    value, percent = Fraction(found[1]), bool(found[2])
    if percent and value > 100:
        raise ConfigError(": a share of the budget is at most 100%.", option="quota", value=text)
    if not percent and value.denominator != 1:
        raise ConfigError(
            f": {word.strip()} is not a whole number of rows. Did you mean {word.strip()}%?",
            option="quota",
            value=text,
        )
    return Bound(value, percent)


# ------------------------------------------------------------------------------------------ filters


@dataclass(frozen=True)
class Filter:
    """One comparison. `number`: the value as a number, None if it is not one."""

    text: str
    name: str
    op: str  # one of < <= > >= == !=
    value: str
    number: float | None


def parse_filter(text: str) -> Filter:
    """Parse a comparison; nothing is evaluated as code. Raises ConfigError.

    >>> parse_filter("length < 2000")
    Filter(text='length < 2000', name='length', op='<', value='2000', number=2000.0)
    """
    found = _COMPARISON.fullmatch(text)
    expected = (
        "expected one comparison such as 'length < 2000' or 'source != coco'; give several as "
        f"further values of {opt('filter')}, and put quotes around a text that holds such signs or "
        "words."
    )
    if not found or not found[3]:
        raise ConfigError(f": {expected}", option="filter", value=text)
    name, op, value = found[1], found[2], found[3]
    quoted = len(value) > 1 and value[0] == value[-1] and value[0] in "'\""
    if quoted:
        value = value[1:-1]
    elif re.search(r"\s(and|or|AND|OR)\s|&&|\|\|", f" {value} ") or re.search(r"[<>]|[=!]=", value):
        raise ConfigError(f": {expected}", option="filter", value=text)
    op = "==" if op == "=" else op
    number = None
    if not quoted:
        try:
            number = float(value)
        except ValueError:
            number = None
        if number is not None and not math.isfinite(number):
            number = None
    if number is None and op in ORDERED:
        raise ConfigError(
            f": {op} compares numbers; {value!r} is not a number.", option="filter", value=text
        )
    return Filter(text, name, op, value, number)
