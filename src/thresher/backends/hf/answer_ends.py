"""Whether greedy decoding would end an answer where it ends: a model that continues would have
given a longer answer."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

# tokens between an answer and the token that ends the turn, such as white space
MAX_GAP = 4


@dataclass(frozen=True, slots=True)
class AnswerEnds:
    """Where the predictions of a row decide whether its answers end.

    positions: for each answer, the position of its last token and of what the template writes
        between it and the end of the turn.
    stop_ids: ids of the tokens that end an answer.
    """

    positions: tuple[tuple[int, ...], ...]
    stop_ids: frozenset[int]

    @classmethod
    def find(cls, ids: np.ndarray, answers: np.ndarray, stop_ids: frozenset[int]) -> AnswerEnds:
        """Locate the ends of a row's answers.

        Arguments:
            ids: int64 [tokens], token ids of the row.
            answers: int64 [m >= 1], positions of the answer tokens, ascending.
            stop_ids: ids of the tokens that end an answer.
        """
        last = answers[np.append(answers[1:] != answers[:-1] + 1, True)]
        return cls(tuple(_up_to_stop(ids, p, stop_ids) for p in last.tolist()), stop_ids)

    @property
    def flat_positions(self) -> list[int]:
        """The positions of all answers, in order."""
        return [p for positions in self.positions for p in positions]

    def reached(self, ids: np.ndarray, predicted: dict[int, int]) -> bool:
        """Whether greedy decoding ends every answer.

        Arguments:
            ids: int64 [tokens], token ids of the row.
            predicted: for each of `flat_positions`, the most likely next token id.
        """
        return all(self._reached(positions, ids, predicted) for positions in self.positions)

    def _reached(
        self, positions: tuple[int, ...], ids: np.ndarray, predicted: dict[int, int]
    ) -> bool:
        for p in positions:
            if predicted[p] in self.stop_ids:
                return True
            if p + 1 >= len(ids) or predicted[p] != ids[p + 1]:
                return False
        return False


def _up_to_stop(ids: np.ndarray, last: int, stop_ids: frozenset[int]) -> tuple[int, ...]:
    """From the answer's last token to the one before the stop token; only the answer's last token
    if no stop token follows within `MAX_GAP` tokens."""
    for k in range(last + 1, min(last + 1 + MAX_GAP, len(ids))):
        if int(ids[k]) in stop_ids:
            return tuple(range(last, k))
    return (last,)
