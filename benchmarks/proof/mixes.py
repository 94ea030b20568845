"""The mixes of the proof's pools: three with the flaws of real pools, a clean control, and one
whose questions follow its own mix.

They contain the kinds of question that the base model can read (ASKED) and, in some sources, rows
that the evaluation does not test: captions, text-only rows, pairs of images. No kind is so rare
that a random tenth of the pool cannot teach its format at all.
"""

from thresher.demo.comparison import ASKED
from thresher.demo.mixes import Mix, Source

# ASKED: untuned and in plain format, the base model answers 73 to 100% of these correctly (`python
# -m benchmarks.proof.development reads`). Excluded: count (19%), spatial (26%), odd one out (10%),
# arithmetic (64%, but a short training does not teach its format) and multiple choice (chance).

WEB = Mix(
    "web",
    "Nine sources: a third of the rows ask about few scenes, a crawled source is mostly wrong, "
    "and most of the skills that the questions test are scarce, each in a small and fairly clean "
    "source of its own.",
    (
        Source(
            "basic_vqa",
            0.30,
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
            {"colour": 2, "existence": 2, "shape": 2, "comparison": 0.5, "description": 1},
            {"word": 2, "sentence": 1},
            0.80,
            instruct=0.3,
            multi_turn=0.05,
        ),
        Source("text_chat", 0.06, {"text_only": 1}, {"word": 1}, 0.08, instruct=0.5),
        Source("captions", 0.06, {"description": 1}, {"description": 1}, 0.15),
        Source("comparing", 0.05, {"comparison": 1}, {"word": 3, "sentence": 1}, 0.15),
        Source("ocr", 0.08, {"digits": 1, "letters": 1}, {"word": 3, "sentence": 1}, 0.06),
        Source(
            "reasoning",
            0.10,
            {"logic": 1, "position": 1.5},
            {"word": 4, "steps": 1},
            0.06,
            two_images=0.1,
        ),
        Source("charts", 0.06, {"chart": 1}, {"word": 4, "steps": 1}, 0.05),
        Source(
            "exam",
            0.02,
            {"comparison": 1, "chart": 1, "colour": 1, "shape": 1, "position": 1},
            {"choice": 1},
            0.05,
        ),
    ),
)

_SHAPES: dict[str, float] = {
    "colour": 3,
    "shape": 3,
    "existence": 3,
    "position": 2,
    "comparison": 2,
    "logic": 2,
}

REDUNDANT = Mix(
    "redundant",
    "Seven in ten rows ask about very few scenes; 30% of the rows of every source are wrong, so "
    "that the source says nothing about the noise.",
    (
        Source(
            "album",
            0.42,
            _SHAPES,
            {"word": 4, "sentence": 1},
            0.30,
            instruct=0.5,
            scenes=0.01,
            own_scenes=True,
        ),
        Source(
            "signs",
            0.16,
            {"digits": 1, "letters": 1},
            {"word": 3, "sentence": 1},
            0.30,
            instruct=0.5,
            scenes=0.02,
            own_scenes=True,
        ),
        Source(
            "dashboards",
            0.12,
            {"chart": 1},
            {"word": 3, "choice": 1},
            0.30,
            scenes=0.02,
            own_scenes=True,
        ),
        Source("fresh_scenes", 0.18, _SHAPES, {"word": 3, "choice": 1}, 0.30),
        Source(
            "fresh_texts",
            0.07,
            {"digits": 1, "letters": 1, "chart": 1},
            {"word": 3, "choice": 1},
            0.30,
        ),
        Source("puzzles", 0.05, {"logic": 1, "comparison": 1}, {"word": 3, "steps": 1}, 0.30),
    ),
)

_TAIL: dict[str, float] = {
    "colour": 35,
    "existence": 23,
    "shape": 15,
    "position": 7,
    "comparison": 4,
    "logic": 4,
    "digits": 4,
    "letters": 4,
    "chart": 4,
}

SCARCE = Mix(
    "scarce",
    "Two large sources contain all kinds of question, nearly three quarters of them of three kinds "
    "and the others 4 to 7% each: the scarce skills have no source of their own. A third, "
    "machine-generated source is mostly wrong.",
    (
        Source("general", 0.45, _TAIL, {"word": 4, "sentence": 1}, 0.12, instruct=0.5),
        Source("instructions", 0.25, _TAIL, {"word": 6, "choice": 1}, 0.12),
        Source("synthetic", 0.30, _TAIL, {"word": 2, "sentence": 1}, 0.70, instruct=0.7),
    ),
)

CONTROL = Mix(
    "control",
    "Nothing to gain: all kinds are equally frequent, no answer is wrong, no scene is repeated, "
    "and the three sources are equivalent.",
    tuple(
        Source(name, share, dict.fromkeys(ASKED, 1.0), {"word": 3, "choice": 1}, 0.0, distinct=True)
        for name, share in (("first", 0.34), ("second", 0.33), ("third", 0.33))
    ),
)

OWN_MIX = Mix(
    "own_mix",
    "The sources of scarce with other rows. The questions follow this mix too: they have the kinds "
    "and answer styles of the rows, in the same shares, and right answers.",
    SCARCE.sources,
)

MIXES: dict[str, Mix] = {mix.name: mix for mix in (WEB, REDUNDANT, SCARCE, CONTROL, OWN_MIX)}
