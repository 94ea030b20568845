"""Made-up photographs: shapes on a gradient with noise, written as JPEG."""

from __future__ import annotations

import random
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL.Image import Image

WIDTH, HEIGHT = 320, 240
SHAPES = 8


def picture(seed: int) -> Image:
    """A picture that no other seed gives."""
    import numpy as np
    from PIL import Image, ImageDraw

    rng = random.Random(seed)

    def colour() -> tuple[int, int, int]:
        return rng.randrange(256), rng.randrange(256), rng.randrange(256)

    left, right = np.array(colour()), np.array(colour())
    across = np.linspace(0, 1, WIDTH)[None, :, None]
    ground = np.broadcast_to(left + (right - left) * across, (HEIGHT, WIDTH, 3))
    image = Image.fromarray(ground.astype(np.uint8))
    draw = ImageDraw.Draw(image)
    for _ in range(SHAPES):
        x, y = rng.randrange(WIDTH), rng.randrange(HEIGHT)
        box = (x, y, x + rng.randrange(20, 120), y + rng.randrange(20, 120))
        (draw.ellipse if rng.random() < 0.5 else draw.rectangle)(box, fill=colour())
    noise = np.random.default_rng(seed).integers(-12, 13, (HEIGHT, WIDTH, 1))
    return Image.fromarray(np.clip(np.asarray(image) + noise, 0, 255).astype(np.uint8))


def write_copy(image: Image, path: Path, how: int) -> None:
    """Write the image again: stronger compression, smaller, or darker by a little.

    Arguments:
        image: what is copied.
        path: the JPEG file to write.
        how: any whole number; it chooses the change.
    """
    if how % 3 == 1:
        image = image.resize((WIDTH * 3 // 4, HEIGHT * 3 // 4))
    elif how % 3 == 2:
        image = image.point(lambda value: value * 0.99)
    image.save(path, quality=60)
