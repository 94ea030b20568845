"""Numbers of images in a prompt, which MiniCPM-V writes before each image of a conversation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class NumberSpan:
    """Where the number of an image is among its token ids: MiniCPM-V numbers the images of a
    conversation from 0.

    start, end: the ids of the number 0.
    ids_of: number -> its token ids.
    """

    start: int
    end: int
    ids_of: Callable[[int], list[int]]


def before_number(first: str, second: str) -> str | None:
    """What is written before the number of an image; None if no number is written.

    Arguments:
        first: what replaces the placeholder of an image.
        second: what replaces that of the same image after it.

    >>> before_number("<id>0</id><image>", "<id>1</id><image>"), before_number("<a>", "<a>")
    ('<id>', None)
    """
    place = next((k for k, (a, b) in enumerate(zip(first, second, strict=False)) if a != b), None)
    if place is None or f"{first[:place]}1{first[place + 1 :]}" != second or first[place] != "0":
        return None
    return first[:place]
