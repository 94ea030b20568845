"""Generates a pool of the synthetic world in LLaVA format, with the flaws of real pools.

A mix (mixes.py) defines its contents: by default nine sources of very unequal shares, a third of
the rows about few scenes, a web source with mostly wrong answers, text-only rows, scarce skills,
several answer styles and formats, a few rows with several turns or two images. Labels that a real
pool does not have (kind, style, noise) are written to hidden_labels.jsonl, which no selection
method may read.
"""

from pathlib import Path
from random import Random

from thresher.demo.evaluation import make_evaluation
from thresher.demo.house_style import in_house_style
from thresher.demo.llava_rows import Row, write_rows
from thresher.demo.mixes import CRAWL, Mix, Source
from thresher.demo.noise import wrong_answer
from thresher.demo.plain_text import text_turn
from thresher.demo.questions import ask, sample_question
from thresher.demo.scenes import Scene, sample_in_split, sample_shapes
from thresher.demo.styles import Turn, phrase

__all__ = ["SOURCES", "Source", "make_evaluation", "make_pool"]

SOURCES = CRAWL.sources


def make_pool(
    folder: Path, rows: int = 6000, seed: int = 0, mix: Mix = CRAWL, *, house_style: bool = False
) -> Path:
    """Write pool.json, images/ and hidden_labels.jsonl. The same arguments give the same bytes.

    Arguments:
        folder: where to write.
        rows: number of rows.
        seed: of the generator.
        mix: the sources.
        house_style: write short answers in the format of their kind (house_style.py).

    Returns the path of pool.json.
    """
    rng = Random(f"pool {seed}" if mix is CRAWL else f"pool {mix.name} {seed}")
    sources = mix.sources
    counts = [round(rows * s.share) for s in sources]
    counts[0] += rows - sum(counts)
    generated: list[Row] = []
    used: dict[str, bool] = {}
    for source, count in zip(sources, counts, strict=True):
        repeated = [_repeated(rng, source) for _ in range(max(2, round(count * source.scenes)))]
        generated += [
            _row(rng, source, repeated if source.scenes else [], used) for _ in range(count)
        ]
    rng.shuffle(generated)
    if house_style:
        generated = [in_house_style(row) for row in generated]
    return write_rows(folder, "pool", "hidden_labels.jsonl", "row", generated)


def _draw(rng: Random, weights: dict[str, float]) -> str:
    return rng.choices(list(weights), list(weights.values()))[0]


def _repeated(rng: Random, source: Source) -> Scene:
    """One of the few scenes that a source with repeated scenes uses."""
    if source.own_scenes:
        return sample_question(rng, _draw(rng, source.kinds), "pool").scene
    return sample_in_split(rng, "pool", sample_shapes)


def _row(rng: Random, source: Source, repeated: list[Scene], used: dict[str, bool]) -> Row:
    """used: keys of the scenes of sources with distinct scenes so far; extended here."""
    noisy = rng.random() < source.wrong
    if "text_only" in source.kinds:
        return Row(
            source.name,
            (),
            (text_turn(rng, "pool", instruct=rng.random() < source.instruct, noisy=noisy),),
        )
    if rng.random() < source.two_images:
        return _two_images(rng, source, noisy)
    question = None
    while question is None:
        kind = _draw(rng, source.kinds)
        question = (
            ask(rng, kind, rng.choice(repeated)) if repeated else sample_question(rng, kind, "pool")
        )
        if question is not None and source.distinct:
            if question.scene.key in used:
                question = None
                continue
            used[question.scene.key] = True
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
    """A question about which of two images contains a thing that is in only one of them."""
    while True:
        pair = tuple(sample_in_split(rng, "pool", sample_shapes) for _ in range(2))
        phrases = [[t.phrase for t in s.things] for s in pair]
        which = rng.randrange(2)
        only = sorted({p for p in phrases[which] if p not in phrases[1 - which]})
        if only and pair[0] != pair[1]:
            break
    question = f"Which picture contains a {rng.choice(only)}, the first or the second?".replace(
        "a orange", "an orange"
    )
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
