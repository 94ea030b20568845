"""Hidden states of some layers during a forward pass, and their means over parts of a row.

Depths are numbered like transformers' `hidden_states`: 0 is the input of the first layer, k the
output of layer k, and the last one is after the final norm. Only the requested layers are kept, and
only until their means are computed; `output_hidden_states` would keep every layer of the batch.
Where an architecture skips a layer (Llama-3.2-Vision its cross-attention layers in rows without an
image), the state of that depth is the input of the skipped layer.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, Protocol

import numpy as np
import torch

from thresher.errors import CapabilityError


class Tokens(Protocol):
    """The part of `EncodedRow` that is used here."""

    ids: np.ndarray
    answer_positions: np.ndarray
    separators: np.ndarray


class AllCollected(Exception):
    """All requested states are known; raised to skip the remaining layers."""


class LayerStates:
    """Hooks on the layers of a model's decoder. Safe to use from several threads.

    Raises CapabilityError for an architecture whose layers cannot be found.
    """

    def __init__(self, model: Any) -> None:
        config = model.config.get_text_config(decoder=True)
        decoder = model.get_decoder()
        layers = getattr(decoder, "layers", None)
        self.depth: int = config.num_hidden_layers
        self.width: int = config.hidden_size
        if layers is None or len(layers) != self.depth:
            raise CapabilityError(
                f"The hidden states of a {model.config.model_type} cannot be read: its layers are "
                "not where transformers usually has them. Use another model, or signals and "
                "methods without embeddings."
            )
        self._pass = threading.local()
        for k, layer in enumerate(layers):
            layer.register_forward_pre_hook(partial(self._before, k), with_kwargs=True)
            layer.register_forward_hook(partial(self._after, k + 1))
        decoder.register_forward_hook(self._end)

    def depth_of(self, layer: float) -> int:
        """The depth at a fraction 0 … 1 of the layers, rounded half up."""
        return int(layer * self.depth + 0.5)

    @contextmanager
    def collect(
        self, found: dict[int, torch.Tensor], depths: set[int], only: bool
    ) -> Iterator[None]:
        """A context in which a forward pass of this thread stores hidden states in `found`.

        Arguments:
            found: depth -> [batch, tokens, width]; filled by the pass.
            depths: which states to store.
            only: nothing else of the pass is needed, so it ends as soon as all are stored.
        """
        self._pass.depths, self._pass.found, self._pass.only = depths, found, only
        try:
            yield
        except AllCollected:
            pass
        finally:
            self._pass.depths = self._pass.found = None

    def _before(self, k: int, layer: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        depths = getattr(self._pass, "depths", None)
        if not depths:
            return
        states = args[0] if args else kwargs["hidden_states"]
        for depth in depths:
            self._pass.found.setdefault(depth, states)  # before the first layer that runs
        if self._pass.only and k >= max(depths):
            raise AllCollected

    def _after(self, k: int, layer: Any, args: tuple[Any, ...], output: Any) -> None:
        for depth in getattr(self._pass, "depths", None) or ():
            if k <= depth:
                self._pass.found[depth] = output[0] if isinstance(output, tuple) else output

    def _end(self, decoder: Any, args: tuple[Any, ...], output: Any) -> None:
        if self.depth in (getattr(self._pass, "depths", None) or ()):
            self._pass.found[self.depth] = output.last_hidden_state


def mean_states(
    rows: Sequence[Tokens],
    found: Mapping[int, torch.Tensor],
    states: Sequence[tuple[int, str]],
    image_token: int,
) -> list[np.ndarray]:
    """Mean hidden states of each row: float32 [len(states), width] of length 1; zeros where the row
    has no token of the part.

    Arguments:
        rows: the rows of the batch, without prefixes.
        found: depth -> [batch, tokens, width].
        states: (depth, part) of each mean; see `part_positions` for the parts.
        image_token: id of an image's own tokens.
    """
    out: list[torch.Tensor] = []
    for depth, part in states:
        hidden = found[depth]  # (B, T, width)
        positions = [part_positions(row, part, image_token) for row in rows]
        counts = np.array([len(p) for p in positions])  # (B,)
        flat = np.concatenate([p + j * hidden.shape[1] for j, p in enumerate(positions)])
        row_index = np.repeat(np.arange(len(rows)), counts)  # (tokens of the part in all rows,)
        chosen = hidden.reshape(-1, hidden.shape[-1])[_to_device(flat, hidden)].float()
        # token after token, so that a row's sum does not depend on the batch
        total = torch.zeros(len(rows), hidden.shape[-1], device=hidden.device)  # (B, width)
        total.index_add_(0, _to_device(row_index, hidden), chosen)
        out.append(total / total.norm(dim=-1, keepdim=True).clamp(min=1e-12))
    return list(torch.stack(out, dim=1).cpu().numpy())


def part_positions(row: Tokens, part: str, image_token: int) -> np.ndarray:
    """int64: positions of the tokens of a part, up to the row's last answer token.

    Arguments:
        row: an encoded row.
        part: image: the images' own tokens; answer: those with text of an answer; question: all
            others, the template's tokens and a system turn included; all: all three.
        image_token: id of an image's own tokens.
    """
    answer = row.answer_positions[~np.isin(row.answer_positions, row.separators)]
    if part == "answer":
        return answer
    ids = row.ids[: int(row.answer_positions[-1]) + 1]
    if part == "all":
        return np.arange(len(ids))
    is_other = ids != image_token
    if part == "image":
        return np.flatnonzero(~is_other)
    assert part == "question", part
    is_other[answer] = False
    return np.flatnonzero(is_other)


def _to_device(index: np.ndarray, like: torch.Tensor) -> torch.Tensor:
    return torch.from_numpy(index).to(like.device)
