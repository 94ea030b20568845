"""Renders a scene as a 48x48 RGB image; one grid cell is one 16-pixel patch of the model's vision
tower.

Background, small shifts, sizes and pixel noise are random, from the given generator.
"""

from random import Random

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from thresher.demo.scenes import Large, Scene

SIDE = 48
CELL = 16
_RGB = {
    "red": (220, 40, 40),
    "green": (40, 180, 60),
    "blue": (50, 80, 230),
    "yellow": (235, 215, 50),
    "purple": (160, 60, 200),
    "orange": (245, 140, 30),
}
# two shades of every colour; a large shape's colour is interpolated between them at random
_LARGE_RGB = {
    "red": ((220, 40, 40), (255, 0, 0)),
    "green": ((40, 180, 60), (0, 255, 0)),
    "blue": ((50, 80, 230), (0, 0, 255)),
    "yellow": ((235, 215, 50), (255, 255, 0)),
    "purple": ((160, 60, 200), (130, 0, 130)),
    "orange": ((245, 140, 30), (255, 165, 0)),
    "black": ((0, 0, 0), (25, 25, 25)),
    "gray": ((115, 115, 115), (145, 145, 145)),
    "teal": ((0, 128, 128), (20, 140, 140)),
    "brown": ((165, 42, 42), (140, 60, 30)),
}
_BACKGROUNDS = ((20, 20, 20), (60, 60, 60), (235, 235, 235), (200, 200, 190))
_FONT = ImageFont.load_default(15)


def render(scene: Scene, rng: Random) -> np.ndarray:
    """Render a scene; returns uint8 [48, 48, 3], RGB.

    Arguments:
        scene: to draw.
        rng: for background, shifts, sizes and noise.
    """
    light = tuple(rng.randint(228, 255) for _ in range(3))
    image = Image.new("RGB", (SIDE, SIDE), light if scene.large else rng.choice(_BACKGROUNDS))
    draw = ImageDraw.Draw(image)
    if scene.large:
        _draw_large(draw, scene.large, rng)
    for bar in scene.bars:
        left = bar.column * CELL
        draw.rectangle(
            [left + 3, SIDE - 1 - bar.height * 7, left + 12, SIDE - 1], fill=_RGB[bar.colour]
        )
    for thing in scene.things:
        x = thing.column * CELL + 8 + rng.randint(-1, 1)
        y = thing.row * CELL + 8 + rng.randint(-1, 1)
        _draw_thing(draw, thing.name, x, y, rng.choice((5, 6)), _RGB[thing.colour])
    noise = np.random.Generator(np.random.PCG64(rng.getrandbits(63)))
    pixels = np.asarray(image, dtype=np.int16) + noise.integers(
        -8, 9, (SIDE, SIDE, 3), dtype=np.int16
    )
    return pixels.clip(0, 255).astype(np.uint8)


def render_fixed(scene: Scene) -> np.ndarray:
    """Render a scene with randomness derived from the scene itself."""
    return render(scene, Random(int.from_bytes(scene.digest()[1:9], "big")))


def _draw_thing(
    draw: ImageDraw.ImageDraw, name: str, x: int, y: int, r: int, fill: tuple[int, int, int]
) -> None:
    if name == "circle":
        draw.ellipse([x - r, y - r, x + r, y + r], fill=fill)
    elif name == "square":
        draw.rectangle([x - r, y - r, x + r, y + r], fill=fill)
    elif name == "triangle":
        draw.polygon([(x, y - r), (x - r, y + r), (x + r, y + r)], fill=fill)
    elif name == "cross":
        draw.line([x - r, y, x + r, y], fill=fill, width=4)
        draw.line([x, y - r, x, y + r], fill=fill, width=4)
    elif name == "diamond":
        draw.polygon([(x, y - r - 1), (x + r, y), (x, y + r + 1), (x - r, y)], fill=fill)
    else:
        draw.text((x, y), name, font=_FONT, fill=fill, anchor="mm")


def _draw_large(draw: ImageDraw.ImageDraw, large: Large, rng: Random) -> None:
    first, second = _LARGE_RGB[large.colour]
    mix = rng.random()
    fill = tuple(round(a + (b - a) * mix) for a, b in zip(first, second, strict=True))
    left, top, right, bottom = (round(v * SIDE / 64) for v in large.box)
    if large.name == "circle":
        draw.ellipse([left, top, right, bottom], fill=fill)
    elif large.name == "rectangle":
        draw.rectangle([left, top, right, bottom], fill=fill)
    else:
        draw.polygon([((left + right) // 2, top), (left, bottom), (right, bottom)], fill=fill)
