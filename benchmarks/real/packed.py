"""Pictures with all of their questions as batches of tokens.

The tokens of a picture stand once, before its questions, which do not see each other:

    <user> image | question 1 <assistant> answer 1 | question 2 <assistant> answer 2 | padding

The attention mask and the positions make that the same as one conversation per question (up to
rounding), with fewer tokens: a picture has 1.6 questions on average, and its tokens are half of a
row. Only answers are targets, and only their positions reach the output head.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from benchmarks.real.language import END, IMAGE, IMAGE_END, IMAGE_START
from benchmarks.real.rows import Picture, Row
from benchmarks.real.tower import IMAGE_TOKENS


@dataclass(frozen=True)
class Encoded:
    """Token ids of one picture with its questions.

    ids: int64 [l].
    positions: int64 [l], restarting at each question behind the picture.
    part: int64 [l], 0: the picture; k: its k-th question.
    is_target: bool [l], tokens of the answers, including the end of the turn.
    """

    ids: np.ndarray
    positions: np.ndarray
    part: np.ndarray
    is_target: np.ndarray

    def __len__(self) -> int:
        return len(self.ids)


def encode(tokenizer: Any, picture: Picture, image_tokens: int = IMAGE_TOKENS) -> Encoded:
    """The picture and its rows, in the model's chat format."""
    first = tokenizer.encode(f"<|im_start|>user\n{IMAGE_START}", add_special_tokens=False)
    first += [tokenizer.convert_tokens_to_ids(IMAGE)] * image_tokens
    first += tokenizer.encode(f"{IMAGE_END}\n", add_special_tokens=False)
    ids, positions = list(first), list(range(len(first)))
    part, target = [0] * len(first), [False] * len(first)
    for k, row in enumerate(picture.rows, 1):
        asked, answered = texts(row)
        question = tokenizer.encode(asked, add_special_tokens=False)
        answer = tokenizer.encode(answered, add_special_tokens=False)
        ids += question + answer
        positions += range(len(first), len(first) + len(question) + len(answer))
        part += [k] * (len(question) + len(answer))
        target += [False] * len(question) + [True] * len(answer)
    return Encoded(np.array(ids), np.array(positions), np.array(part), np.array(target))


def texts(row: Row) -> tuple[str, str]:
    """What follows the picture: up to the answer, and the answer."""
    return f"{row.question}{END}\n<|im_start|>assistant\n", f"{row.answer}{END}"


@dataclass(frozen=True)
class PackedBatch:
    """B pictures, padded to L tokens.

    ids: int64 [B, L].
    positions: int64 [B, L].
    visible: bool [B, 1, L, L], whether the third axis' token sees the fourth's.
    predicts: bool [B, L], positions whose next token is a target.
    targets: int64 [T], these next tokens, in reading order.
    row: int64 [T], number of the target's row in the batch.
    """

    ids: np.ndarray
    positions: np.ndarray
    visible: np.ndarray
    predicts: np.ndarray
    targets: np.ndarray
    row: np.ndarray


def pack(pictures: Sequence[Encoded], pad: int = 0) -> PackedBatch:
    size = len(pictures), max(map(len, pictures))
    ids, positions = np.full(size, pad), np.zeros(size, np.int64)
    part, target = np.full(size, -1), np.zeros(size, bool)
    for b, picture in enumerate(pictures):
        n = len(picture)
        ids[b, :n], positions[b, :n] = picture.ids, picture.positions
        part[b, :n], target[b, :n] = picture.part, picture.is_target
    earlier = np.tri(size[1], dtype=bool)
    same = part[:, :, None] == part[:, None, :]
    visible = earlier & (same | (part == 0)[:, None, :])  # padding sees padding: no empty softmax
    predicts = np.zeros(size, bool)
    predicts[:, :-1] = target[:, 1:]
    numbers = part + np.cumsum([0] + [int(p.part.max()) for p in pictures[:-1]])[:, None] - 1
    return PackedBatch(ids, positions, visible[:, None], predicts, ids[target], numbers[target])
