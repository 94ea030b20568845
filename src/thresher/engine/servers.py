"""Servers that a run asks late: they have to answer before another model scores the pool.

Sends one request to each server; reads the store's folders.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from thresher.engine.graph import model_of, walk
from thresher.fingerprint import fingerprint
from thresher.types import RowSignal, Signal

if TYPE_CHECKING:
    from thresher.backends import ModelHandle
    from thresher.engine.context import RunContext


def servers_of(signals: Mapping[str, Signal], context: RunContext) -> list[ModelHandle]:
    """The models behind servers that these signals or their inputs will ask.

    Where a column has stored values the server was asked before, and may have nothing left to
    answer, so it is left out: a run with all its scores needs no server.

    Arguments:
        signals: by name.
        context: the models and the store.
    """
    named = [context.model, *context.roles.values()]
    served = {h.identity: h for h in named if h is not None and h.check is not None}
    found = {}
    for signal in walk(signals) if served else ():
        model = model_of(signal) if isinstance(signal, RowSignal) else None
        if model in served and not context.store.parts(fingerprint(signal)):
            found[model] = served[model]
    return list(found.values())


def check_servers(handles: list[ModelHandle]) -> None:
    """Raise ServerError if one of the servers does not answer.

    Arguments:
        handles: of `servers_of`.
    """
    for handle in handles:
        if handle.check is not None:
            handle.check()
