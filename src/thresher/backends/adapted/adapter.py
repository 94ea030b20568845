"""`Adapter`: what thresher needs of a model that it cannot run itself.

An adapter turns a conversation into token ids and says where its answers are, and turns token ids
into logits. docs/adapters.md explains how to write one; `thresher.testing.check_adapter` checks it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

from thresher.backends.hf.conversation import Message

__all__ = ["Adapter", "Encoded", "Message"]


@dataclass(frozen=True)
class Encoded:
    """A conversation as the model reads it.

    Attributes
    ----------
    ids : sequence of int
        Token ids of the whole conversation. The tokens of an image may be any placeholder.
    answers : sequence of (int, int)
        For each assistant message in order, its tokens as [start, end). `start` is the first token
        that the model generates after the generation prompt; `end` excludes the token that ends
        the turn.
    inputs : mapping
        Whatever else `logits` needs, such as image features. It stays valid if tokens are appended
        to `ids`.
    """

    ids: Sequence[int]
    answers: Sequence[tuple[int, int]] = ()
    inputs: Mapping[str, Any] = field(default_factory=dict)

    def extended(self, ids: Sequence[int]) -> Encoded:
        """The conversation followed by more tokens."""
        return replace(self, ids=[*self.ids, *ids])


class Adapter(ABC):
    """Base class of adapters. One instance serves one model; its methods are called from one
    thread.

    Attributes
    ----------
    version : int
        Part of a score's identity. Raise it when `encode` or `logits` gives other numbers.
    stop_ids : set of int
        Tokens that end an answer.
    context : int
        Most tokens of a row.
    """

    version: ClassVar[int] = 1
    stop_ids: frozenset[int] = frozenset()
    context: int = 10**9

    @abstractmethod
    def __init__(self, folder: Path, device: str, dtype: Any) -> None:
        """Load the model.

        Parameters
        ----------
        folder : Path
            The model's files.
        device : str
            A torch device, such as cuda or cpu.
        dtype : torch.dtype
            Of the weights.
        """

    @abstractmethod
    def encode(self, messages: Sequence[Message], images: Sequence[Any], prompt: bool) -> Encoded:
        """A conversation as token ids.

        Parameters
        ----------
        messages : sequence of Message
            Each has a `role` (system, user or assistant) and `parts`: texts, and None for an image.
        images : sequence of PIL.Image.Image
            RGB, one for each None, in order.
        prompt : bool
            End with what the model's template writes before an answer.

        Returns
        -------
        Encoded

        Raises
        ------
        ValueError
            The row cannot be encoded; it becomes a failure with this reason, of the kind "adapter"
            unless the reason begins with "too long: ", "no-answer: " or "not-finite: ".
        """

    @abstractmethod
    def logits(self, row: Encoded) -> Any:
        """The logits of the token after each token, in one pass.

        Parameters
        ----------
        row : Encoded
            From `encode`, possibly with more `ids` at the end.

        Returns
        -------
        torch.Tensor
            [len(row.ids), vocabulary], floating point. Position i predicts token i + 1.
        """

    @abstractmethod
    def decode(self, ids: Sequence[int]) -> str:
        """The text of tokens, without special ones."""

    def generate(self, row: Encoded, max_new_tokens: int) -> list[int]:
        """The tokens of a greedy answer to a prompt, with the stop token if the model stopped.

        The default runs `logits` once a token; override it with the model's own cached generation,
        which must give the same tokens.
        """
        new: list[int] = []
        while len(new) < max_new_tokens:
            last = self.logits(row.extended(new))[-1]  # [vocabulary]
            if bool(last.isnan().any()):
                raise ValueError("not-finite: the logits are not numbers (NaN)")
            new.append(int(last.argmax()))
            if new[-1] in self.stop_ids:
                break
        return new
