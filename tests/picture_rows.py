"""Conversations of different shapes, and their images, to compare backends."""

from __future__ import annotations

from typing import Any

from tests.tiny_models import picture
from thresher.errors import ImageError
from thresher.types import ImageRef, Sample, Turn


class Pictures:
    """Images by name: each name is another picture."""

    def by_digest(self, digest: bytes) -> Sample:
        raise KeyError(digest)

    def load_image(self, ref: ImageRef) -> Any:
        if ref.path == "broken.png":
            raise ImageError("broken.png: broken image: cut off")
        return picture(72, 56, seed=sum(ref.path.encode()))


def row(name: str, *turns: str, images: int = 0, system: str = "") -> Sample:
    """`turns`: user and assistant by turns."""
    roles = ("user", "assistant")
    spoken = [Turn(roles[i % 2], text) for i, text in enumerate(turns)]
    front = [Turn("system", system)] if system else []
    refs = tuple(ImageRef(f"{name}{i}.png", size=1) for i in range(images))
    return Sample(name, (*front, *spoken), refs)


ROWS = [
    row("a", "<image>\nWhat colour is the ball?", "red", images=1),
    row("b", "<image>\nWhat colour is it?", "A red ball.", images=1),
    row("c", "Is it red?", "Yes, it is.\nIt is a red ball"),
    row("d", "<image>\nIs it?", "No.", "Why not?", "It is a blue ball.", images=1),
    row("e", "Is it red?", "No", system="Be brief."),
    row("f", "Wie heißt das?", "Größe: 12 µm", "And this?", "12"),
]
