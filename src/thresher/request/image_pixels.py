"""The value of `image_pixels`: how many pixels an image may have when a model sees it."""

from __future__ import annotations

import re
from dataclasses import dataclass

from thresher.errors import ConfigError, opt

_RANGE = re.compile(r"(\d*)\.\.(\d+)")
MOST_DIGITS = 15
_NUMBER = re.compile(r"\d+")


@dataclass(frozen=True)
class ImagePixels:
    """Bounds on the pixels of an image after it was resized for the model.

    most: at least 1.
    least: 1 … `most`; None: as in the model's own files.
    """

    most: int
    least: int | None = None

    @classmethod
    def parse(cls, text: str) -> ImagePixels:
        """The bounds that a user wrote. Raises ConfigError (`image_pixels`).

        >>> ImagePixels.parse("200704..1003520"), ImagePixels.parse("..1003520")
        (ImagePixels(most=1003520, least=200704), ImagePixels(most=1003520, least=None))
        """
        problem = ""
        if re.search(rf"\d{{{MOST_DIGITS + 1}}}", text):
            problem = "no image has that many pixels"
        elif (found := _RANGE.fullmatch(text.strip())) is not None:
            least, most = found[1], int(found[2])
            if most < 1 or (least and int(least) < 1):
                problem = "a number of pixels is at least 1"
            elif least and int(least) > most:
                problem = f"the minimum {int(least):,} is above the maximum {most:,}"
            else:
                return cls(most, int(least) if least else None)
        elif _NUMBER.fullmatch(text.strip()):
            meant = opt("image_pixels", f"..{text.strip()}")
            problem = f"one number does not say which bound it is; for a maximum give {meant}"
        elif text.strip().endswith("..") and _NUMBER.fullmatch(text.strip()[:-2]):
            problem = "the maximum is missing"
        elif text.strip().startswith("-") or "..-" in text:
            problem = "a number of pixels is at least 1"
        else:
            problem = "these are not two whole numbers"
        raise ConfigError(
            f": expected pixels as MIN..MAX, such as 200704..1003520, or ..MAX: {problem}.",
            option="image_pixels",
            value=text,
        )

    def __str__(self) -> str:
        return f"{self.least or ''}..{self.most}"
