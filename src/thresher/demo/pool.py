"""Writes a pool of the toy world in LLaVA format, with the pathologies of real instruction-tuning pools.

Nine sources of very unequal shares: a third from few scenes, a web source with mostly wrong answers, text-only rows,
scarce skills, several answer styles and formats, a few rows with several turns or two images. What a reader of a real
pool would not know (kind, style, noise) goes to hidden_labels.jsonl, which no selection method may read.
"""

from dataclasses import dataclass
from pathlib import Path
from random import Random

from thresher.demo.evaluation import make_evaluation
from thresher.demo.llava_rows import Row, write_rows
from thresher.demo.noise import wrong_answer
from thresher.demo.plain_text import text_turn
from thresher.demo.questions import ask, sample_question
from thresher.demo.scenes import Scene, sample_in_split, sample_shapes
from thresher.demo.styles import Turn, phrase

__all__ = ["SOURCES", "Source", "make_evaluation", "make_pool"]


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
    multi_turn: float = 0.0
    two_images: float = 0.0


SOURCES: tuple[Source, ...] = (
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
)  # fmt: skip


def make_pool(folder: Path, rows: int = 6000, seed: int = 0) -> Path:
    """Writes pool.json, images/ and hidden_labels.jsonl; returns the path of pool.json. Same seed, same bytes."""
    rng = Random(f"pool {seed}")
    counts = [round(rows * s.share) for s in SOURCES]
    counts[0] += rows - sum(counts)
    made: list[Row] = []
    for source, count in zip(SOURCES, counts, strict=True):
        repeated = [sample_in_split(rng, "pool", sample_shapes) for _ in range(max(2, round(count * source.scenes)))]
        made += [_row(rng, source, repeated if source.scenes else []) for _ in range(count)]
    rng.shuffle(made)
    return write_rows(folder, "pool", "hidden_labels.jsonl", "row", made)


def _draw(rng: Random, weights: dict[str, float]) -> str:
    return rng.choices(list(weights), list(weights.values()))[0]


def _row(rng: Random, source: Source, repeated: list[Scene]) -> Row:
    noisy = rng.random() < source.wrong
    if "text_only" in source.kinds:
        return Row(source.name, (), (text_turn(rng, "pool", instruct=rng.random() < source.instruct, noisy=noisy),))
    if rng.random() < source.two_images:
        return _two_images(rng, source, noisy)
    question = None
    while question is None:
        kind = _draw(rng, source.kinds)
        question = ask(rng, kind, rng.choice(repeated)) if repeated else sample_question(rng, kind, "pool")
    turns = [question]
    if rng.random() < source.multi_turn:
        more = [ask(rng, _draw(rng, source.kinds), question.scene) for _ in range(2)]
        turns += [q for q in more if q is not None]
    texts: list[Turn] = []
    for q in turns:
        texts.append(
            phrase(
                rng,
                q,
                _draw(rng, source.styles),
                "pool",
                instruct=rng.random() < source.instruct,
                lowercase=source.lowercase,
                wrong=wrong_answer(rng, q) if noisy else None,
            )
        )
    return Row(source.name, (question.scene,), tuple(texts))


def _two_images(rng: Random, source: Source, noisy: bool) -> Row:
    """Which of two pictures contains a thing that is in only one of them."""
    while True:
        pair = tuple(sample_in_split(rng, "pool", sample_shapes) for _ in range(2))
        phrases = [[t.phrase for t in s.things] for s in pair]
        which = rng.randrange(2)
        only = sorted({p for p in phrases[which] if p not in phrases[1 - which]})
        if only and pair[0] != pair[1]:
            break
    question = f"Which picture contains a {rng.choice(only)}, the first or the second?".replace("a orange", "an orange")
    names = ("First", "Second")
    turn = Turn(
        f"{question}\nAnswer using a single word or phrase.",
        names[1 - which if noisy else which],
        "two_images",
        "word",
        noisy,
        names,
    )
    return Row(source.name, pair, (turn,))
