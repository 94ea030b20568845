"""The encoded beginning of a row, from which other rows continue.

A layer of transformers' caches holds all keys and values, those of a sliding window, or the
recurrent state of linear attention, each with its own counters. A layer is therefore copied
whole, whatever its class: every tensor in it has the batch as its first axis.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch


@dataclass(slots=True)
class Prefix:
    """A beginning of a row in a cache.

    length: tokens.
    images: images among these tokens.
    cache: of transformers, with this row as its only batch entry. Not to be run: see
        `stack_prefixes`.
    """

    length: int
    images: int
    cache: Any

    @property
    def nbytes(self) -> int:
        return sum(t.nbytes for layer in self.cache.layers for t in _tensors(layer))


def split_cache(cache: Any, rows: int) -> list[Any]:
    """One cache for each batch entry of `cache`.

    Their tensors are copies: a view would keep the whole batch in memory as long as one of its
    entries.

    Arguments:
        cache: of a batch.
        rows: number of rows of the batch.
    """
    return [
        _with_layers(cache, [_mapped(layer, partial(_copy_entry, j)) for layer in cache.layers])
        for j in range(rows)
    ]


def stack_prefixes(prefixes: Sequence[Prefix]) -> Any:
    """A cache whose batch entry j continues from `prefixes[j]`, and may be changed by the model.

    If all are the same object, its keys and values are shared in memory; recurrent states, which a
    model changes in place, are not.
    """
    n, first = len(prefixes), prefixes[0]
    if all(p is first for p in prefixes):
        shared = [
            _mapped(layer, lambda t: t.expand(n, *t.shape[1:]), lambda t: t.repeat_interleave(n, 0))
            for layer in first.cache.layers
        ]
        return _with_layers(first.cache, shared)
    layers = []
    for k, layer in enumerate(first.cache.layers):
        columns = zip(*(_tensors(p.cache.layers[k]) for p in prefixes), strict=True)
        layers.append(_mapped(layer, partial(_next_of, iter([torch.cat(c) for c in columns]))))
    return _with_layers(first.cache, layers)


def _copy_entry(j: int, tensor: torch.Tensor) -> torch.Tensor:
    return tensor[j : j + 1].clone()


def _next_of(tensors: Iterator[torch.Tensor], _: torch.Tensor) -> torch.Tensor:
    return next(tensors)


def _with_layers(cache: Any, layers: list[Any]) -> Any:
    out = copy.copy(cache)
    out.layers = layers
    return out


def _has_batch(value: Any) -> bool:
    """Whether a layer's attribute is a tensor of a batch, not a constant such as a window."""
    return isinstance(value, torch.Tensor) and value.dim() > 1


def _tensors(layer: Any) -> Iterator[torch.Tensor]:
    """The tensors of a layer, in the order in which `_mapped` visits them."""
    for value in vars(layer).values():
        for item in value.values() if isinstance(value, dict) else (value,):
            if _has_batch(item):
                yield item


def _mapped(
    layer: Any,
    change: Callable[[torch.Tensor], torch.Tensor],
    change_state: Callable[[torch.Tensor], torch.Tensor] | None = None,
) -> Any:
    """A copy of a layer with changed tensors.

    Arguments:
        change: of keys and values, which a layer replaces.
        change_state: of recurrent states, which are in dicts, and which a layer changes in place;
            default: `change`.
    """
    out = copy.copy(layer)
    of_state = change_state or change
    for name, value in vars(layer).items():
        if isinstance(value, dict):
            new = {k: of_state(item) if _has_batch(item) else item for k, item in value.items()}
            setattr(out, name, new)
        elif _has_batch(value):
            setattr(out, name, change(value))
    return out
