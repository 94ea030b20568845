"""Resolve the names in filters and quotas: facts, fields of the records, or signals.

A field of the records takes precedence over a signal of the same name, and a note says so: a filter
must not change its meaning when a later version adds a signal of that name.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from thresher.errors import ConfigError, opt
from thresher.mixture.columns import FACTS, SOURCE, PoolColumns, is_fact
from thresher.mixture.quotas import column_of
from thresher.mixture.spec import Filter, Quota, parse_filter, parse_quota
from thresher.signals.named import SHORT, NamedField, all_names, named_field, names_of_field

if TYPE_CHECKING:
    from thresher.pools import Pool
    from thresher.request import RunRequest

MAX_SUGGESTIONS = 3  # names in "Did you mean"


def may_name_signals(request: RunRequest) -> bool:
    """Whether a filter or quota uses the name of a signal, which may still be a record field."""
    names = [parse_filter(text).name for text in request.filter]
    names += [parse_quota(text).group.partition(":")[0] for text in request.quota]
    return any(named_field(name) is not None for name in names)


def asks_for_signals(request: RunRequest, pool: Pool) -> str:
    """The first filter or quota that names a signal, as typed; "" if none does.

    Reads the records if a name may be either. Raises ConfigError for an unknown name.

    Arguments:
        request: its filters and quotas.
        pool: whose records are read if needed.
    """
    if not may_name_signals(request):
        return ""
    rules = [parse_filter(text) for text in request.filter]
    quotas = [parse_quota(text) for text in request.quota]
    named = list(_named(rules, quotas, pool))
    fields, _ = signals_in(rules, quotas, pool, PoolColumns(pool, [name for name, _ in named]))
    return next((option for name, option in named if name in fields), "")


def signals_in(
    rules: Sequence[Filter], quotas: Sequence[Quota], pool: Pool, columns: PoolColumns
) -> tuple[dict[str, NamedField], list[str]]:
    """(name as typed -> signal field, notes about names that are also fields of the records).

    Arguments:
        rules: the filters.
        quotas: the quotas.
        pool: n rows.
        columns: opened with all names.

    Raises ConfigError for an unknown name.
    """
    signals: dict[str, NamedField] = {}
    notes: list[str] = []
    for name, option in _named(rules, quotas, pool):
        field = named_field(name)
        if is_fact(name):
            continue
        if columns.has(name):
            if field is not None:
                other = "" if name == field.full_name else f" The signal is {field.full_name}."
                notes.append(f"{option}: the records have a field {name!r}, which is used.{other}")
        elif field is not None:
            signals[name] = field
        else:
            raise ConfigError(f"{option}: {_unknown(name.removeprefix('.'), columns)}")
    return signals, list(dict.fromkeys(notes))


def _named(
    rules: Sequence[Filter], quotas: Sequence[Quota], pool: Pool
) -> Iterator[tuple[str, str]]:
    """(name, option as typed) of each filter, and of each quota that names a column."""
    for rule in rules:
        yield rule.name, opt("filter", rule.text)
    for quota in quotas:
        if (column := column_of(quota, pool)) is not None:
            yield column, opt("quota", quota.text)


def _unknown(name: str, columns: PoolColumns) -> str:
    """The error message for a name that is neither a fact nor a field nor a signal."""
    fields = [*FACTS, SOURCE, *columns.seen]
    known = (
        f" Known: {', '.join(fields)}; signals of the model: "
        f"{', '.join(n for n in SHORT if not n.startswith('score_'))}, score_CAPABILITY."
    )
    if meant := names_of_field(name):
        several = " or ".join(meant[:MAX_SUGGESTIONS]) + (
            " …" if len(meant) > MAX_SUGGESTIONS else ""
        )
        what = "a signal" if len(meant) == 1 else f"{len(meant)} signals"
        return f"no row has {name!r}, which is a field of {what}. Write {several}.{known}"
    named = all_names() if "." in name else SHORT  # SIGNAL.FIELD, or a short name
    close = difflib.get_close_matches(name, [*fields, *named], MAX_SUGGESTIONS, 0.6)
    hint = f" Did you mean {' or '.join(map(repr, close))}?" if close else ""
    return f"no row has {name!r}.{hint}{known}"
