"""Random rows of words and images, a pool that counts image reads, and a helper that collects a
backend's results in row order."""

from __future__ import annotations

import random
from collections.abc import Iterator

import numpy as np
from PIL import Image

from tests.tiny_models import picture
from thresher.errors import ImageError
from thresher.types import ImageRef, Sample, Scored, Turn

WORDS = [
    "red",
    "blue",
    "what",
    "is",
    "the",
    "colour",
    "of",
    "three",
    "small",
    "cats",
    "on",
    "a",
    "mat",
    "yes",
    "no",
    "there",
    "are",
    "many",
    "things",
    "here",
    "12",
    "été",
    "日本",
]


class Images:
    """A pool of synthetic images by number; counts how often each is loaded."""

    def __init__(self) -> None:
        self.loads: dict[str, int] = {}

    def load_image(self, ref: ImageRef) -> Image.Image:
        self.loads[ref.path] = self.loads.get(ref.path, 0) + 1
        if ref.path == "broken":
            raise ImageError("broken: truncated image file")
        rng = random.Random(ref.path)
        return picture(rng.randint(24, 200), rng.randint(24, 200), int(ref.path))

    def by_digest(self, digest: bytes) -> Sample:
        raise KeyError(digest)


def ask(question: str, answer: str, *images: str, system: str = "") -> Sample:
    turns = [Turn("system", system)] if system else []
    turns += [Turn("user", "<image>\n" * len(images) + question), Turn("assistant", answer)]
    return Sample("0", tuple(turns), tuple(ImageRef(path=i, size=1) for i in images))


def some_rows(n: int, seed: int) -> list[Sample]:
    """Text-only, one image, two images, several turns, a system turn, white space at the ends."""
    rng = random.Random(seed)

    def words(a: int, b: int) -> str:
        return " ".join(rng.choice(WORDS) for _ in range(rng.randint(a, b)))

    out = []
    for i in range(n):
        k = rng.choice([0, 1, 1, 1, 2])
        row = ask(words(1, 12), words(1, 8), *(str(rng.randrange(6)) for _ in range(k)))
        turns = row.turns
        if i % 4 == 1:
            turns += (Turn("user", words(1, 5)), Turn("assistant", words(1, 5)))
        if i % 7 == 2:
            turns = (Turn("system", words(2, 5)), *turns)
        if i % 5 == 3:
            turns = (*turns[:-1], Turn("assistant", "  " + turns[-1].text + "\n"))
        out.append(Sample(str(i), turns, row.images))
    return out


def collect(pieces: Iterator[Scored], n: int) -> tuple[dict[str, np.ndarray], dict[int, str]]:
    values: dict[str, np.ndarray] = {}
    errors: dict[int, str] = {}
    seen: list[int] = []
    for piece in pieces:
        seen += piece.index.tolist()
        for name, array in piece.values.items():
            shape = (n, *array.shape[1:])
            values.setdefault(name, np.zeros(shape, array.dtype))[piece.index] = array
        errors |= {int(i): e for i, e in zip(piece.index, piece.errors, strict=True) if e}
    assert sorted(seen) == list(range(n)), "every row exactly once"
    return values, errors
