"""One tiny model against the slow reference: the worst difference of everything a backend gives.

`python tools/models_page.py` measures every family of the table in this way and writes
docs/models.md. The same properties are tested one by one beside this file.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from tests.backends.hf.opened_backends import opened
from tests.backends.hf.random_rows import Images, ask, collect
from tests.backends.hf.slow_answers import official_answer, question_of, reference_logprob
from tests.backends.hf.slow_reference import messages_of, reference_one_shot, reference_rows
from tests.backends.hf.slow_videos import Videos, reference_video_loss, video_row
from tests.tiny_models import Loaded, load
from tests.tiny_videos import write_video
from tests.training.twelve_answers import ANSWERS, learn
from thresher.backends.hf.conversation import conversation
from thresher.backends.hf.training_loss import AnswerLossFn
from thresher.backends.hf.traits import stop_tokens
from thresher.signals.query import judge_prompt
from thresher.types import Query, Sample, Turn

TOLERANCE = 1e-4
"""Largest difference of a log-probability, in nats, in float32."""
NEW_TOKENS = 6

_TWO_TURNS = ask("A cat?", "Yes.", "3")
ROWS = (
    ask("What is in the picture?", "A red cat.", "1"),
    ask("Is ice cold?", "Yes, it is."),
    Sample(
        "0",
        (*_TWO_TURNS.turns, Turn("user", "Sure?"), Turn("assistant", "I am sure, 2 times.")),
        _TWO_TURNS.images,
    ),
    ask("Read it.", "12 5", "2"),
    ask("Which is larger?", "The second one.", "1", "4"),
    ask("How many?", "3", "5", system="Be brief."),
    ask("Was ist das? 日本", "Zu\u0308rich, 日本", "0"),
)
QUERIES = (
    Query("\nHow good is it, 0 to 5?", ("0", "3", "5")),
    Query("\nWhich style?", ("short description", "yes/no"), whole=True, end=False),
)


@dataclass(frozen=True)
class Conformance:
    """How far a family is from the reference: largest differences in nats (NaN: other tokens, or an
    error), and numbers of texts that are equal.

    loss: of an answer token, in the mean of a row. one_shot: the same, after a demonstration.
    judge: of an answer to a question about a row.
    training: of the training loss, per learned token.
    generated: (equal, all) texts of transformers' `generate`.
    learned: (given, all) answers that the model was trained on, given here and by transformers.
    reuses_prefix, query_mode: how one-shot losses and questions run.
    video: as `loss`, of rows with a video; None: the family scores none.
    """

    family: str
    model_class: str
    loss: float
    one_shot: float
    judge: float
    training: float
    generated: tuple[int, int]
    learned: tuple[int, int]
    reuses_prefix: bool
    query_mode: str | None
    video: float | None = None

    @property
    def passes(self) -> bool:
        worst = (self.loss, self.one_shot, self.judge, self.training, self.video or 0.0)
        equal = all(n == of for n, of in (self.generated, self.learned))
        return equal and all(d < TOLERANCE for d in worst)


def measure(name: str, folder: Path) -> Conformance:
    """Measure the tiny model `name`.

    folder: for the model that is trained, and for a video.

    Raises ModelError if it cannot be opened.
    """
    torch.set_num_threads(1)
    tiny, backend = load(name), opened(name)
    return Conformance(
        family=name,
        model_class=type(backend.forward.model).__name__,
        loss=max(_losses(tiny)),
        one_shot=max(_one_shot(tiny)),
        judge=max(_judge(tiny)),
        training=_training(tiny),
        generated=_generated(tiny),
        learned=_learned(name, folder),
        reuses_prefix=backend.reuses_prefix,
        query_mode=backend.query_mode,
        video=_video(tiny, folder),
    )


def _images(row: Sample) -> list:
    return [Images().load_image(ref) for ref in row.images]


def _losses(tiny: Loaded) -> Iterator[float]:
    got, errors = collect(opened(tiny.name).answer_loss(ROWS, Images()), len(ROWS))
    for i, row in enumerate(ROWS):
        want = reference_rows(tiny.processor, tiny.model, messages_of(row), _images(row))
        same = i not in errors and got["tokens"][i] == want["tokens"]
        yield abs(float(got["nll"][i]) - want["nll"]) if same else math.inf


def _one_shot(tiny: Loaded) -> Iterator[float]:
    pairs = [(q, d) for d in (ROWS[0], ROWS[2], ROWS[1]) for q in (*ROWS[3:6], ROWS[1])]
    got, errors = collect(
        opened(tiny.name).one_shot([q for q, _ in pairs], [d for _, d in pairs], Images()),
        len(pairs),
    )
    shrinks = opened(tiny.name).shrinks_images
    for i, (query, demo) in enumerate(pairs):
        if shrinks and len(query.images) + len(demo.images) == 1:
            continue  # encoded as one of several, to be comparable (docs/how-it-works.md)
        want = reference_one_shot(
            *(tiny.processor, tiny.model, messages_of(demo), _images(demo)),
            *(messages_of(query), _images(query)),
        )
        yield abs(float(got["nll"][i]) - want["nll"]) if i not in errors else math.inf


def _judge(tiny: Loaded) -> Iterator[float]:
    if opened(tiny.name).query_mode is None:
        yield math.inf
        return
    rows = [judge_prompt(row, "Be brief." if i else "") for i, row in enumerate(ROWS[:5])]
    for piece in opened(tiny.name).ask(rows, QUERIES, Images()):
        for i, values, error in zip(
            piece.index.tolist(), piece.values["logprob"], piece.errors, strict=True
        ):
            if error:
                yield math.inf
                continue
            want = [reference_logprob(tiny, rows[i], q, a) for q in QUERIES for a in q.answers]
            yield float(np.abs(values - np.array(want)).max())


@torch.no_grad()
def _training(tiny: Loaded) -> float:
    """Of the loss of all rows at once, whose targets are the answers and the ends of turns."""
    backend = opened(tiny.name)
    block = backend.prepare([conversation(r) for r in ROWS], range(len(ROWS)), Images(), False)
    if block.errors:
        return math.inf
    loss = AnswerLossFn(backend)
    targets = [loss.ends.targets(row) for row in block.rows]
    got = float(loss.loss(backend.forward.model, block.rows, targets, block.images))
    want = 0.0
    for row, target in zip(ROWS, targets, strict=True):
        encoded = reference_rows(tiny.processor, tiny.model, messages_of(row), _images(row))
        learned = set((target.position + 1).tolist())
        if not learned.issuperset(encoded["answer_positions"]):
            return math.inf
        logits = tiny.model(**encoded["inputs"]).logits[0].float().log_softmax(-1)
        want -= float(logits[target.position, target.token].sum())
    return abs(got - want) / sum(len(t.token) for t in targets)


def _generated(tiny: Loaded) -> tuple[int, int]:
    """Texts equal to those of transformers, but for rows where rounding decides."""
    backend = opened(tiny.name)
    stops = sorted(stop_tokens(backend.forward.model, backend.encoder))
    rows = ROWS * 2  # so that equal rows share a batch
    got, errors = collect(backend.generate(rows, Images(), NEW_TOKENS), len(rows))
    equal, compared = 0, 0
    for i, row in enumerate(rows):
        want, lead = official_answer(tiny, question_of(row), Images(), stops, NEW_TOKENS)
        if lead < TOLERANCE:
            continue
        compared += 1
        text = tiny.processor.tokenizer.decode(want, skip_special_tokens=True).strip()
        equal += i not in errors and got["text"][i] == text
    return equal, compared


def _video(tiny: Loaded, folder: Path) -> float | None:
    """Of rows with a video; None for a family that takes none."""
    write_video(folder / "videos" / "a.mp4", 16)
    row = video_row("a.mp4", "What happens?", "It turns red, 2 times.")
    source = Videos(folder / "videos")
    backend = opened(tiny.name)
    got, errors = collect(backend.answer_loss([row], source), 1)
    if errors and errors[0].startswith("video: "):
        return None
    want = reference_video_loss(backend.encoder.processor, tiny.model, row, source)
    return math.inf if errors else abs(float(got["nll"][0]) - want)


def _learned(name: str, folder: Path) -> tuple[int, int]:
    learned = learn(name, folder)
    both = zip(ANSWERS, learned.here, learned.plain, strict=True)
    return sum(answer == here == plain for answer, here, plain in both), len(ANSWERS)
