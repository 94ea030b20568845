"""Whether greedy decoding would stop behind an answer: a model that goes on has said something
longer."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

# the end token stands at most this many tokens behind the answer's last one, behind white space
CLOSE = 4


@dataclass(frozen=True, slots=True)
class Ends:
    """Of each answer of a row, the positions whose next token decides: the answer's last one, and
    what the template writes between it and the end of the turn. `stops`: tokens that end an
    answer."""

    positions: tuple[tuple[int, ...], ...]
    stops: frozenset[int]

    @classmethod
    def of(cls, ids: np.ndarray, answers: np.ndarray, stops: frozenset[int]) -> Ends:
        """ids: int64 [tokens]. answers: positions of the answer tokens, int64 [m >= 1],
        ascending."""
        last = answers[np.append(answers[1:] != answers[:-1] + 1, True)]
        return cls(tuple(_until_the_end(ids, at, stops) for at in last.tolist()), stops)

    @property
    def flat(self) -> list[int]:
        return [p for some in self.positions for p in some]

    def met(self, ids: np.ndarray, said: dict[int, int]) -> bool:
        """said: of each of `flat`, the token that the model finds likeliest behind it."""
        return all(self._met(some, ids, said) for some in self.positions)

    def _met(self, positions: tuple[int, ...], ids: np.ndarray, said: dict[int, int]) -> bool:
        for p in positions:
            if said[p] in self.stops:
                return True
            if p + 1 >= len(ids) or said[p] != ids[p + 1]:
                return False
        return False


def _until_the_end(ids: np.ndarray, at: int, stops: frozenset[int]) -> tuple[int, ...]:
    """From the answer's last token to the one before the end token; the answer's last token alone
    where none is near."""
    for k in range(at + 1, min(at + 1 + CLOSE, len(ids))):
        if int(ids[k]) in stops:
            return tuple(range(at, k))
    return (at,)
