"""Hidden states of a layer, taken out of a pass that runs anyway, and their means over parts of a
row.

`hidden_states[depth]` as transformers numbers them: 0 is what the first layer reads, k the output
of layer k, and the last one is normed. Only the layers asked for are kept, and only for as long as
their means take; `output_hidden_states` would keep every layer of the batch. Where an architecture
skips a layer (Llama-3.2-Vision its cross-attention layers in rows without an image), the state of
that depth is the one that the skipped layer would have read.
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
    """The part of a row that says where its parts are: token ids, positions of the answers."""

    ids: np.ndarray
    answers: np.ndarray


class Enough(Exception):
    """All states that were asked for are known: the layers behind them need not run."""


class LayerStates:
    """Hooks on the layers of a model's decoder. Passes of several threads keep apart."""

    def __init__(self, model: Any) -> None:
        """Raises CapabilityError for an architecture whose layers cannot be found."""
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

    def at(self, layer: float) -> int:
        """The depth at a fraction 0 … 1 of the layers, rounded half up."""
        return int(layer * self.depth + 0.5)

    @contextmanager
    def kept(self, found: dict[int, torch.Tensor], depths: set[int], only: bool) -> Iterator[None]:
        """Inside, a pass of this thread puts the states at `depths`, [batch, tokens, width], into
        `found`. `only`: nothing else is wanted of the pass, which ends as soon as they are
        known."""
        self._pass.wanted, self._pass.found, self._pass.only = depths, found, only
        try:
            yield
        except Enough:
            pass
        finally:
            self._pass.wanted = self._pass.found = None

    def _before(self, k: int, layer: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        wanted = getattr(self._pass, "wanted", None)
        if not wanted:
            return
        states = args[0] if args else kwargs["hidden_states"]
        for depth in wanted:
            self._pass.found.setdefault(depth, states)  # before the first layer that runs
        if self._pass.only and k >= max(wanted):
            raise Enough

    def _after(self, k: int, layer: Any, args: tuple[Any, ...], output: Any) -> None:
        for depth in getattr(self._pass, "wanted", None) or ():
            if k <= depth:
                self._pass.found[depth] = output[0] if isinstance(output, tuple) else output

    def _end(self, decoder: Any, args: tuple[Any, ...], output: Any) -> None:
        if self.depth in (getattr(self._pass, "wanted", None) or ()):
            self._pass.found[self.depth] = output.last_hidden_state


def means(
    rows: Sequence[Tokens],
    found: Mapping[int, torch.Tensor],
    states: Sequence[tuple[int, str]],
    image_token: int,
) -> list[np.ndarray]:
    """Of each row, float32 [len(states), width]: the mean over its tokens of a part at a depth, of
    length 1; zeros where the row has no such token.

    Arguments:
        rows: the batch, nothing of them encoded before.
        found: depth -> [batch, tokens, width].
        states: (depth, part); see `positions` for the parts.
        image_token: id of the tokens that stand for images.
    """
    out: list[torch.Tensor] = []
    for depth, part in states:
        hidden = found[depth]
        each = [positions(row, part, image_token) for row in rows]
        count = np.array([len(at) for at in each])
        flat = np.concatenate([at + j * hidden.shape[1] for j, at in enumerate(each)])
        of_row = np.repeat(np.arange(len(rows)), count)
        chosen = hidden.reshape(-1, hidden.shape[-1])[_on(flat, hidden)].float()
        # token after token, so that a row's sum does not depend on the batch
        total = torch.zeros(len(rows), hidden.shape[-1], device=hidden.device)
        total.index_add_(0, _on(of_row, hidden), chosen)
        out.append(total / total.norm(dim=-1, keepdim=True).clamp(min=1e-12))
    return list(torch.stack(out, dim=1).cpu().numpy())


def positions(row: Tokens, part: str, image_token: int) -> np.ndarray:
    """int64: the tokens of a part, up to the row's last answer token. image: those that stand for
    images; answer: of all answers; question: all others, the template's words and a system turn
    included; all: all three."""
    if part == "answer":
        return row.answers
    before = row.ids[: int(row.answers[-1]) + 1]
    if part == "all":
        return np.arange(len(before))
    shown = before == image_token
    if part == "image":
        return np.flatnonzero(shown)
    assert part == "question", part
    shown[row.answers] = True
    return np.flatnonzero(~shown)


def _on(index: np.ndarray, like: torch.Tensor) -> torch.Tensor:
    return torch.from_numpy(index).to(like.device)
