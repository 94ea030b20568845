"""Mixes of sources with the flaws of real pools, for synthetic pools. CRAWL is that of the built-in
pool.

A mix is only data; pool.py generates the pool. Which rows have wrong answers, and the kind of each
row, is recorded only in hidden_labels.jsonl. The proof has its own mixes
(benchmarks/proof/mixes.py).
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Source:
    """One data source: its share of the pool, its kinds of questions, its answer styles, and the
    share of wrong answers."""

    name: str
    share: float
    kinds: dict[str, float]
    styles: dict[str, float]
    wrong: float
    instruct: float = 1.0  # share of questions with a format instruction
    lowercase: bool = False
    scenes: float = 0.0  # distinct scenes as a share of its rows; 0: a fresh scene for every row
    # whether these scenes suit its kinds (charts, texts); otherwise all show shapes
    own_scenes: bool = False
    multi_turn: float = 0.0
    two_images: float = 0.0
    distinct: bool = False  # no scene is repeated among all sources with this flag


@dataclass(frozen=True)
class Mix:
    """A pool. The shares of its sources add up to 1."""

    name: str
    about: str
    sources: tuple[Source, ...]


CRAWL = Mix(
    "crawl",
    "Nine sources: a third of the rows ask about few scenes, a web source is mostly wrong, and "
    "the skills that the questions test are scarce, each in a small and fairly clean source of "
    "its own.",
    (
        Source(
            "basic_vqa",
            0.33,
            {"colour": 5, "existence": 4, "shape": 2},
            {"word": 6, "sentence": 1},
            0.10,
            instruct=0.0,
            lowercase=True,
            scenes=0.05,
        ),
        Source(
            "web_crawl",
            0.27,
            {"colour": 2, "existence": 2, "shape": 2, "count": 2, "spatial": 1, "description": 1},
            {"word": 1, "sentence": 1},
            0.75,
            instruct=0.3,
            multi_turn=0.05,
        ),
        Source("text_chat", 0.10, {"text_only": 1}, {"word": 1}, 0.08, instruct=0.5),
        Source("captions", 0.10, {"description": 1}, {"description": 1}, 0.15),
        Source(
            "counting",
            0.07,
            {"count": 3, "comparison": 1},
            {"word": 2, "sentence": 1},
            0.15,
            multi_turn=0.15,
        ),
        Source("ocr", 0.05, {"digits": 2, "letters": 2}, {"word": 2, "sentence": 1}, 0.06),
        Source(
            "reasoning",
            0.04,
            {"logic": 2, "odd_one_out": 1, "arithmetic": 1.5, "spatial": 2, "position": 1},
            {"steps": 2, "word": 1},
            0.06,
            two_images=0.2,
        ),
        Source("charts", 0.025, {"chart": 1}, {"word": 2, "steps": 1}, 0.05),
        Source(
            "exam",
            0.015,
            {
                "spatial": 1,
                "comparison": 1,
                "chart": 1,
                "colour": 1,
                "count": 1,
                "shape": 1,
                "position": 1,
            },
            {"choice": 1},
            0.05,
            multi_turn=0.1,
        ),
    ),
)
