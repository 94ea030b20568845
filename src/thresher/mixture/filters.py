"""Filters: which rows match a comparison.

A row without the field, or with a non-number where numbers are compared, does not match, except for
`!=`.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import numpy as np

from thresher.console.formatting import pluralize
from thresher.errors import ConfigError, opt
from thresher.mixture.columns import as_number, as_text
from thresher.mixture.signal_scores import NamedColumns
from thresher.mixture.spec import ORDERED, Filter

_OPERATORS: dict[str, Callable[[Any, Any], Any]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "==": operator.eq,
    "!=": operator.ne,
}


def filtered(
    rule: Filter, columns: NamedColumns, within: np.ndarray, exempt: np.ndarray
) -> tuple[np.ndarray, str]:
    """The rows of `within` (bool [n]) that match or are exempt (bool [n]), and a note.

    Arguments:
        rule: the filter.
        columns: of the pool.
        within: bool [n], rows that are still considered.
        exempt: bool [n], rows that stay in any case.
    """
    fails = within & ~matches(rule, columns) & ~exempt
    return within & ~fails, f"{pluralize(int(fails.sum()))} left out by {opt('filter', rule.text)}."


def matches(rule: Filter, columns: NamedColumns) -> np.ndarray:
    """Rows that match a filter, bool [n].

    Arguments:
        rule: the filter.
        columns: of the pool, n rows.

    Raises ConfigError for an unknown column, or one without numbers where numbers are compared.
    """
    compare, label = _OPERATORS[rule.op], opt("filter", rule.text)
    facts = columns.numbers(rule.name)
    if facts is not None and rule.number is not None:
        return np.asarray(compare(facts, rule.number), bool)  # NaN: false, but true for !=
    values = columns.values(rule.name, label)
    if rule.op in ORDERED or rule.number is not None:
        numbers = [as_number(v) for v in values]
        if any(v is not None for v in numbers):
            array = np.array([np.nan if v is None else v for v in numbers])
            return np.asarray(compare(array, rule.number), bool)  # NaN: false, but true for !=
        if rule.op in ORDERED:
            example = next(as_text(v) for v in values if v is not None)
            raise ConfigError(f"{label}: {rule.name} has no numbers, but for example {example!r}.")
    value = columns.value(rule.name, rule.value, label)
    out = np.fromiter((v is not None and as_text(v) == value for v in values), bool, len(values))
    return ~out if rule.op == "!=" else out
