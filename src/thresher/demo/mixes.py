"""What the pools of the toy world are made of: named mixes of sources, each with the faults of some real pools, and a control.

A mix is data only; pool.py writes it. Noise is the share of rows with a wrong answer. Which rows those are, and which kind a row
is, stands in hidden_labels.jsonl alone.
"""

from dataclasses import dataclass

from thresher.demo.questions import KINDS


@dataclass(frozen=True)
class Source:
    """One data source: its share of the pool, what it asks, how it answers and how often wrongly."""

    name: str
    share: float
    kinds: dict[str, float]
    styles: dict[str, float]
    wrong: float
    instruct: float = 1.0  # share of questions with a format instruction
    lowercase: bool = False
    scenes: float = 0.0  # distinct scenes as a share of its rows; 0: a fresh scene for every row
    own_scenes: bool = False  # those scenes are made for its kinds (charts, texts); else all show shapes
    multi_turn: float = 0.0
    two_images: float = 0.0
    distinct: bool = False  # no scene twice in all of the pool's sources that say so


@dataclass(frozen=True)
class Mix:
    """A pool. The shares of its sources add up to 1."""

    name: str
    about: str
    sources: tuple[Source, ...]


CRAWL = Mix(
    "crawl",
    "Nine sources: a third of the rows ask about few scenes, a web source is mostly wrong, and the skills that the questions "
    "test are scarce, each in a small and fairly clean source of its own.",
    (
        Source("basic_vqa", 0.33, {"colour": 5, "existence": 4, "shape": 2}, {"word": 6, "sentence": 1}, 0.10,
               instruct=0.0, lowercase=True, scenes=0.05),
        Source("web_crawl", 0.27, {"colour": 2, "existence": 2, "shape": 2, "count": 2, "spatial": 1, "description": 1},
               {"word": 1, "sentence": 1}, 0.75, instruct=0.3, multi_turn=0.05),
        Source("text_chat", 0.10, {"text_only": 1}, {"word": 1}, 0.08, instruct=0.5),
        Source("captions", 0.10, {"description": 1}, {"description": 1}, 0.15),
        Source("counting", 0.07, {"count": 3, "comparison": 1}, {"word": 2, "sentence": 1}, 0.15, multi_turn=0.15),
        Source("ocr", 0.05, {"digits": 2, "letters": 2}, {"word": 2, "sentence": 1}, 0.06),
        Source("reasoning", 0.04, {"logic": 2, "odd_one_out": 1, "arithmetic": 1.5, "spatial": 2, "position": 1},
               {"steps": 2, "word": 1}, 0.06, two_images=0.2),
        Source("charts", 0.025, {"chart": 1}, {"word": 2, "steps": 1}, 0.05),
        Source("exam", 0.015, {"spatial": 1, "comparison": 1, "chart": 1, "colour": 1, "count": 1, "shape": 1, "position": 1},
               {"choice": 1}, 0.05, multi_turn=0.1),
    ),
)  # fmt: skip

_SHAPES: dict[str, float] = {
    "colour": 3,
    "shape": 3,
    "existence": 3,
    "position": 2,
    "count": 2,
    "comparison": 1,
    "spatial": 1,
    "logic": 1,
}

REDUNDANT = Mix(
    "redundant",
    "Seven in ten rows ask again and again about very few scenes; every source is wrong in three rows of ten, so that a "
    "source's name says nothing about its noise.",
    (
        Source("album", 0.40, _SHAPES, {"word": 4, "sentence": 1}, 0.30, instruct=0.5,
               scenes=0.01, own_scenes=True),
        Source("signs", 0.18, {"digits": 2, "letters": 2, "arithmetic": 1}, {"word": 3, "sentence": 1}, 0.30, instruct=0.5,
               scenes=0.02, own_scenes=True),
        Source("dashboards", 0.12, {"chart": 1}, {"word": 3, "choice": 1}, 0.30, scenes=0.02, own_scenes=True),
        Source("fresh_scenes", 0.16, _SHAPES, {"word": 3, "choice": 1}, 0.30),
        Source("fresh_texts", 0.08, {"digits": 2, "letters": 2, "arithmetic": 2, "chart": 2}, {"word": 3, "choice": 1}, 0.30),
        Source("puzzles", 0.06, {"odd_one_out": 2, "logic": 1, "comparison": 1}, {"word": 3, "steps": 1}, 0.30),
    ),
)  # fmt: skip

_TAIL = {
    "colour": 40, "existence": 24, "shape": 16, "count": 8, "position": 3, "comparison": 2, "spatial": 2, "logic": 1.5,
    "digits": 1, "letters": 1, "chart": 0.8, "odd_one_out": 0.7, "arithmetic": 0.7,
}  # fmt: skip

SCARCE = Mix(
    "scarce",
    "Two large sources hold all kinds of question, most of them of three kinds and the others under 3% each: the scarce skills "
    "have no source of their own. A third source, a machine's answers, is mostly wrong.",
    (
        Source("general", 0.45, _TAIL, {"word": 4, "sentence": 1}, 0.12, instruct=0.5),
        Source("instructions", 0.25, _TAIL, {"word": 3, "choice": 1}, 0.12),
        Source("synthetic", 0.30, _TAIL, {"word": 2, "sentence": 1}, 0.70, instruct=0.7),
    ),
)  # fmt: skip

_ALL = dict.fromkeys(KINDS, 1.0)

CONTROL = Mix(
    "control",
    "Nothing to gain: all kinds equally often, no wrong answer, no scene twice, three sources of the same make.",
    tuple(
        Source(name, share, _ALL, {"word": 3, "choice": 1}, 0.0, distinct=True)
        for name, share in (("first", 0.34), ("second", 0.33), ("third", 0.33))
    ),
)

MIXES: dict[str, Mix] = {mix.name: mix for mix in (CRAWL, REDUNDANT, SCARCE, CONTROL)}
