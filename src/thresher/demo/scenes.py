"""Scenes of the synthetic world: contents of an image, random sampling of scenes, and their splits.

A scene is a 3x3 grid of coloured shapes or characters, a small bar chart, or one large shape
anywhere in the image. A scene's split (pool, pretraining, evaluation, development) is a hash of
its content, so splits never share a scene. Drawing is in render.py; questions are in questions.py.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random
from typing import Literal

Split = Literal["pool", "pretraining", "evaluation", "development"]

COLOURS = ("red", "green", "blue", "yellow", "purple", "orange")
LARGE_COLOURS = (*COLOURS, "black", "gray", "teal", "brown")
SHAPES = ("circle", "square", "triangle", "cross", "diamond")
LARGE_SHAPES = ("circle", "rectangle", "triangle")
LETTERS = tuple("ACEHKLTUXZ")
DIGITS = tuple("123456789")
ROWS = ("top", "middle", "bottom")
COLUMNS = ("left", "center", "right")
MAX_BAR = 6

# twentieths of the hash space: pool 9, pretraining 7, evaluation 2, development 2
_SPLITS: tuple[Split, ...] = (
    ("pool",) * 9 + ("pretraining",) * 7 + ("evaluation",) * 2 + ("development",) * 2
)


@dataclass(frozen=True, order=True)
class Thing:
    """One object in one cell; `name` is a shape or a single character."""

    row: int
    column: int
    name: str
    colour: str

    @property
    def position(self) -> str:
        return f"{ROWS[self.row]} {COLUMNS[self.column]}"

    @property
    def phrase(self) -> str:
        return f"{self.colour} {self.name}"


@dataclass(frozen=True, order=True)
class Bar:
    """One bar of a chart: its column, its colour and its height in units."""

    column: int
    colour: str
    height: int


@dataclass(frozen=True)
class Large:
    """One large shape; the box (left, top, right, bottom) is in sixty-fourths of the image."""

    name: str
    colour: str
    box: tuple[int, int, int, int]


@dataclass(frozen=True)
class Scene:
    """The contents of an image: objects on the grid, or bars, or one large shape."""

    things: tuple[Thing, ...] = ()
    bars: tuple[Bar, ...] = ()
    large: Large | None = None

    @property
    def key(self) -> str:
        """A canonical text of the content; equal scenes have equal keys in every process."""
        parts = [f"{t.row}{t.column}{t.name}{t.colour}" for t in self.things]
        parts += [f"b{b.column}{b.colour}{b.height}" for b in self.bars]
        if self.large:
            parts.append(f"l{self.large.name}{self.large.colour}{self.large.box}")
        return "|".join(parts)

    @property
    def split(self) -> Split:
        return _SPLITS[self.digest()[0] % len(_SPLITS)]

    def digest(self) -> bytes:
        return hashlib.sha256(self.key.encode()).digest()


def grid_scene(things: Sequence[Thing]) -> Scene:
    return Scene(things=tuple(sorted(things)))


def _sample_cells(rng: Random, count: int) -> list[tuple[int, int]]:
    """Random cells of the grid, all different, as (row, column) from (0, 0) to (2, 2)."""
    return rng.sample([(row, column) for row in range(3) for column in range(3)], count)


def sample_shapes(rng: Random, low: int = 2, high: int = 5, distinct: bool = False) -> Scene:
    """Random shapes on the grid.

    Arguments:
        rng: random number generator.
        low, high: bounds on the number of shapes, both included, within 1 to 9.
        distinct: all different; False: from two or three shapes and colours.
    """
    count = rng.randint(low, high)
    if distinct:
        pairs = rng.sample([(s, c) for s in SHAPES for c in COLOURS], count)
    else:
        shapes, colours = (
            rng.sample(SHAPES, rng.randint(2, 3)),
            rng.sample(COLOURS, rng.randint(2, 3)),
        )
        pairs = [(rng.choice(shapes), rng.choice(colours)) for _ in range(count)]
    cells = _sample_cells(rng, count)
    return grid_scene(
        [Thing(row, column, s, c) for (row, column), (s, c) in zip(cells, pairs, strict=True)]
    )


def sample_text(rng: Random, alphabet: Sequence[str], length: int = 2) -> Scene:
    """A random scene: adjacent characters in one row, up to two shapes elsewhere.

    Arguments:
        rng: random number generator.
        alphabet: the characters.
        length: number of characters, 1 to 3.
    """
    row, start, colour = rng.randrange(3), rng.randrange(4 - length), rng.choice(COLOURS)
    things = [Thing(row, start + k, rng.choice(alphabet), colour) for k in range(length)]
    free = [(r, c) for r in range(3) for c in range(3) if r != row]
    for r, c in rng.sample(free, rng.randint(0, 2)):
        things.append(Thing(r, c, rng.choice(SHAPES), rng.choice(COLOURS)))
    return grid_scene(things)


def sample_chart(rng: Random) -> Scene:
    count = rng.randint(2, 3)
    columns, colours = sorted(rng.sample(range(3), count)), rng.sample(COLOURS, count)
    heights = rng.sample(range(1, MAX_BAR + 1), count)
    return Scene(bars=tuple(Bar(*b) for b in zip(columns, colours, heights, strict=True)))


def sample_odd(rng: Random) -> Scene:
    """A random scene of three to five objects, one of which differs in shape or colour."""
    cells = _sample_cells(rng, rng.randint(3, 5))
    (shape, other_shape), (colour, other_colour) = rng.sample(SHAPES, 2), rng.sample(COLOURS, 2)
    odd = (other_shape, colour) if rng.random() < 0.5 else (shape, other_colour)
    return grid_scene(
        [Thing(r, c, *(odd if k == 0 else (shape, colour))) for k, (r, c) in enumerate(cells)]
    )


def sample_large(rng: Random) -> Scene:
    """A random scene of one large shape: sides 10 to 36 sixty-fourths of the image, anywhere."""
    name, colour = rng.choice(LARGE_SHAPES), rng.choice(LARGE_COLOURS)
    width = rng.randint(9, 34)
    height = rng.randint(9, 34) if name == "rectangle" else width
    left, top = rng.randint(0, 63 - width), rng.randint(0, 63 - height)
    return Scene(large=Large(name, colour, (left, top, left + width, top + height)))


def sample_in_split(rng: Random, split: Split, sampler: Callable[[Random], Scene]) -> Scene:
    """A random scene of the split, by rejection sampling.

    Arguments:
        rng: random number generator.
        split: of the scene.
        sampler: returns a random scene of any split.
    """
    while True:
        scene = sampler(rng)
        if scene.split == split:
            return scene
