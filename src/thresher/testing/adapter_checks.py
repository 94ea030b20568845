"""Conformance checks for adapters (`backends.adapted`). Raise AssertionError; run the model on
three rows."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from thresher.types import IMAGE_PLACEHOLDER, ImageRef, Sample, Turn

TOLERANCE = 1e-3  # nats a token


def check_adapter(
    adapter: str | type[Any],
    folder: str | Path,
    *,
    device: str = "cpu",
    dtype: str = "float32",
    reference: Mapping[str, Sequence[float]] | None = None,
    generate: bool = True,
) -> None:
    """Check that an adapter encodes and scores rows as thresher expects.

    The tokens of every answer decode to its text; an answer begins where the generation prompt
    ends; what comes later changes no earlier logits; an image and its order change the losses;
    appended tokens give what a longer conversation gives; two passes give the same; the losses of
    thresher's backend are those of one plain pass per row; generated text is the likeliest token
    after the other.

    Parameters
    ----------
    adapter : str or type
        module:Class as on the command line, or the class.
    folder : str or Path
        The model.
    device, dtype : str
        As for the adapter's `__init__`; use float32.
    reference : mapping of str to sequence of float, optional
        The model's own losses, in nats, computed without the adapter: for an answer in `ROWS`, the
        negative log-likelihood of each of its tokens.
    generate : bool
        Whether to check generation, which takes the longest.

    Raises
    ------
    AssertionError
        Says what is wrong.
    """
    import torch

    from thresher.backends.adapted.backend import AdaptedBackend
    from thresher.backends.adapted.resolve import load_class

    cls = load_class(adapter) if isinstance(adapter, str) else adapter
    made = cls(Path(folder), device, getattr(torch, dtype))
    with torch.inference_mode():
        for row in ROWS:
            _check_row(made, row)
        _check_images(made)
        backend = AdaptedBackend(made, cls.__name__)
        for row in ROWS:
            (piece,) = backend.answer_loss([row], _Images())
            assert not piece.errors[0], f"a row fails: {piece.errors[0]}"
            tokens = _token_losses(made, row)
            _close(float(piece.values["nll"][0]), sum(tokens) / len(tokens), "the loss of a row")
            given = (reference or {}).get(row.turns[-1].text)
            if given is not None:
                last = tokens[-len(given) :]
                assert len(tokens) >= len(given), "the reference has more tokens than the answer"
                for i, (own, other) in enumerate(zip(last, given, strict=True)):
                    _close(own, other, f"token {i} of {row.turns[-1].text!r} and the reference")
        if generate:
            _check_generation(made)


def _row(question: str, *answers: str, images: str = "") -> Sample:
    """A row with an image for each letter of `images`; further answers are further turns."""
    turns = [Turn("user", f"{IMAGE_PLACEHOLDER}\n" * len(images) + question)]
    for i, answer in enumerate(answers):
        turns += [Turn("user", "And now?")] if i else []
        turns.append(Turn("assistant", answer))
    refs = tuple(ImageRef(path=name, size=1) for name in images)
    return Sample('"check"', tuple(turns), refs)


ROWS = (
    _row("What colour is it?", "Red and blue.", images="a"),
    _row("Is ice cold?", "Yes."),
    _row("Which is larger?", "The second.", "12", images="ab"),
)
"""One image, none, and two images with two turns; their last answers name them in `reference`."""


class _Images:
    """Images a and b."""

    def load_image(self, ref: ImageRef) -> Any:
        from PIL import Image

        size, colours = ((96, 64), (2, 3, 5)) if ref.path == "a" else ((64, 96), (7, 1, 3))
        image = Image.new("RGB", size)
        image.putdata(
            [
                (x * colours[0] % 256, y * colours[1] % 256, (x + y) * colours[2] % 256)
                for y in range(size[1])
                for x in range(size[0])
            ]
        )
        return image

    def by_digest(self, digest: bytes) -> Sample:
        raise KeyError(digest)


def _encode(adapter: Any, row: Sample, *, turns: int | None = None, prompt: bool = False) -> Any:
    from thresher.backends.hf.conversation import conversation

    conv = conversation(row)
    messages = conv.messages[:turns]
    used = sum(part is None for m in messages for part in m.parts)
    return adapter.encode(messages, [_Images().load_image(r) for r in conv.images[:used]], prompt)


def _check_row(adapter: Any, row: Sample) -> None:
    whole = _encode(adapter, row)
    texts = [t.text for t in row.turns if t.role == "assistant"]
    assert len(whole.answers) == len(texts), (
        f"encode gives {len(whole.answers)} answers for {len(texts)} assistant messages"
    )
    ids = list(whole.ids)
    for text, (start, end) in zip(texts, whole.answers, strict=True):
        decoded = adapter.decode(ids[start:end])
        assert decoded.strip() == text, f"the tokens of the answer {text!r} decode to {decoded!r}"
        inside = adapter.stop_ids.intersection(ids[start:end])
        assert not inside, f"the answer {text!r} contains the stop token {min(inside, default=0)}"
    logits = adapter.logits(whole)
    assert logits.ndim == 2 and len(logits) == len(ids), (
        f"logits have the shape {list(logits.shape)} for {len(ids)} tokens"
    )
    assert bool((adapter.logits(whole) == logits).all()), "two passes over a row differ"
    turn = 0
    for k, t in enumerate(row.turns):
        if t.role != "assistant":
            continue
        before = _encode(adapter, row, turns=k, prompt=True)
        start, end = whole.answers[turn]
        assert list(before.ids) == ids[:start], (
            f"the answer {t.text!r} starts at token {start}, and the prompt before it, which ends "
            f"with the generation prompt, has {len(before.ids)} tokens or other ones"
        )
        alone = adapter.logits(before)
        _close(float((alone[-1] - logits[start - 1]).abs().max()), 0, "later tokens change logits")
        appended = adapter.logits(before.extended(ids[start:end]))
        difference = (appended[start - 1 :] - logits[start - 1 : end]).abs().max()
        _close(float(difference), 0, "tokens appended to a prompt give other logits")
        turn += 1


def _check_images(adapter: Any) -> None:
    one = _row("What is it?", "A cat.", images="a")
    other, none = _row("What is it?", "A cat.", images="b"), _row("What is it?", "A cat.")
    swapped = _row(ROWS[2].turns[0].text.split("\n")[-1], "The second.", images="ba")
    straight = _row(ROWS[2].turns[0].text.split("\n")[-1], "The second.", images="ab")
    losses = [_token_losses(adapter, row) for row in (one, other, none)]
    assert losses[0] != losses[1], "another image gives the same losses"
    assert losses[0] != losses[2], "no image gives the same losses"
    assert _token_losses(adapter, swapped) != _token_losses(adapter, straight), (
        "the order of two images changes nothing"
    )


def _check_generation(adapter: Any, most: int = 4) -> None:
    prompt = _encode(adapter, ROWS[0], turns=1, prompt=True)
    expected: list[int] = []
    while len(expected) < most:
        expected.append(int(adapter.logits(prompt.extended(expected))[-1].argmax()))
        if expected[-1] in adapter.stop_ids:
            break
    found = list(adapter.generate(prompt, most))
    assert found == expected, f"generate gives the tokens {found}, greedy decoding {expected}"


def _token_losses(adapter: Any, row: Sample) -> list[float]:
    """Nats of each answer token, computed plainly, one token at a time."""
    whole = _encode(adapter, row)
    logits = adapter.logits(whole).double()
    out = []
    for start, end in whole.answers:
        for p in range(start, end):
            before = logits[p - 1]
            out.append(float(before.logsumexp(0) - before[whole.ids[p]]))
    return out


def _close(found: float, expected: float, what: str) -> None:
    assert math.isfinite(found) and abs(found - expected) <= TOLERANCE, (
        f"{what}: {found:.6g}, expected {expected:.6g}"
    )
