"""What is stored of each row so that duplicates can be found: the text's signature and what its pictures look like.

Two row signals that ask no model. They read texts and pixels of the row alone, so they are stored, resumed and shared
between pools as any other score.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from os import cpu_count
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from thresher.duplicates import image, text
from thresher.errors import ImageError
from thresher.types import Capability, Columns, Field, ImageRef, Sample, SampleSource, Scored, Signal

if TYPE_CHECKING:
    from PIL.Image import Image

PIECE = 512  # rows handed on at once
TOGETHER = "duplicates"
_NOT_LOOKED_AT = "holds media that nobody looked at (video, audio or an unreadable image): a copy of no other row"


@dataclass(frozen=True)
class TextMinhash:
    """MinHash signatures of what is asked and of what is answered, and a hash of the whole conversation's normal form."""

    permutations: int = text.PERMUTATIONS
    shingle: int = text.SHINGLE
    algorithm: int = text.ALGORITHM

    kind: ClassVar[str] = "text_minhash"
    version: ClassVar[int] = 1
    needs: ClassVar[Capability] = Capability.NONE
    fields: ClassVar[tuple[Field, ...]] = (
        Field("exact", "S16", "hash of roles and texts in normal form (case, white space and <image> left out)"),
        Field("roles", "S8", "hash of the order of user and assistant turns"),
        Field(
            "question",
            f"S{text.SIGNATURE}",
            "b-bit MinHash of system and user turns: 127 x uint16, words; little-endian",
        ),
        Field("answer", f"S{text.SIGNATURE}", "the same of all assistant turns"),
    )

    def inputs(self) -> Mapping[str, Signal]:
        return {}

    def together(self) -> Hashable:
        """Asked with `ImageHash`: a row is parsed once for both."""
        return TOGETHER

    def rows_together(
        self,
        signals: Sequence[Any],
        samples: Sequence[Sample],
        inputs: Columns | None,
        backend: Any,
        pool: SampleSource,
    ) -> Iterator[list[Scored]]:
        return _in_turn(signals, samples, pool)

    def rows(
        self, samples: Sequence[Sample], inputs: Columns | None, backend: Any, pool: SampleSource
    ) -> Iterator[Scored]:
        return (one for (one,) in _in_turn([self], samples, pool))

    def scored(self, piece: Sequence[Sample], start: int) -> Scored:
        """Of `piece`, whose first row has position `start`."""
        values = {
            "exact": np.array([exact_text(s) for s in piece], "S16"),
            "roles": np.array([order_of_roles(s) for s in piece], "S8"),
            "question": text.as_bytes(text.signatures(text.said(s, "system", "user", "unknown") for s in piece)),
            "answer": text.as_bytes(text.signatures(text.said(s, "assistant") for s in piece)),
        }
        return Scored(np.arange(start, start + len(piece)), values, [""] * len(piece))


@dataclass(frozen=True)
class ImageHash:
    """What the row's pictures look like. A row without a picture has a value too; one with an unreadable picture fails."""

    side: int = image.SIDE

    kind: ClassVar[str] = "image_hash"
    version: ClassVar[int] = 1
    needs: ClassVar[Capability] = Capability.NONE
    fields: ClassVar[tuple[Field, ...]] = (
        Field("images", "int32", "pictures of the row, >= 0"),
        Field("content", "S16", "hash of the decoded pixels of all pictures, in order; zeros without a picture"),
        Field("first", f"S{image.MARK.itemsize}", "the first picture: perceptual hashes, aspect, thumbnail"),
        Field("others", "str", 'the same of the other pictures, in hexadecimal; "" where there are none'),
    )

    def inputs(self) -> Mapping[str, Signal]:
        return {}

    def together(self) -> Hashable:
        """Asked with `TextMinhash`: a row is parsed once for both."""
        return TOGETHER

    def rows_together(
        self,
        signals: Sequence[Any],
        samples: Sequence[Sample],
        inputs: Columns | None,
        backend: Any,
        pool: SampleSource,
    ) -> Iterator[list[Scored]]:
        return _in_turn(signals, samples, pool)

    def rows(
        self, samples: Sequence[Sample], inputs: Columns | None, backend: Any, pool: SampleSource
    ) -> Iterator[Scored]:
        return (one for (one,) in _in_turn([self], samples, pool))

    def scored(self, seen: Sequence[list[image.Look] | str], start: int) -> Scored:
        """Of rows whose pictures look like `seen`, or cannot be read; the first has position `start`."""
        good = [looks if isinstance(looks, list) else [] for looks in seen]
        errors = [looks if isinstance(looks, str) else "" for looks in seen]
        values = {
            "images": np.array([len(g) for g in good], np.int32),
            "content": np.array([contents(g) for g in good], "S16"),
            "first": np.array([g[0].mark if g else b"" for g in good], f"S{image.MARK.itemsize}"),
            "others": np.array(["".join(x.mark.hex() for x in g[1:]) for g in good], object),
        }
        return Scored(np.arange(start, start + len(seen)), values, errors)


@dataclass(frozen=True)
class ExactHash:
    """What tells exact copies: hashes of the conversation's normal form and of the images' pixels. Needs no optional package;
    a row with an unreadable image fails."""

    algorithm: int = 1

    kind: ClassVar[str] = "exact_hash"
    version: ClassVar[int] = 1
    needs: ClassVar[Capability] = Capability.NONE
    fields: ClassVar[tuple[Field, ...]] = (
        Field("exact", "S16", "hash of roles and texts in normal form (case, white space and <image> left out)"),
        Field("images", "int32", "images of the row, >= 0"),
        Field("content", "S16", "hash of the decoded pixels of all images, in order; zeros without an image"),
    )

    def inputs(self) -> Mapping[str, Signal]:
        return {}

    def rows(
        self, samples: Sequence[Sample], inputs: Columns | None, backend: Any, pool: SampleSource
    ) -> Iterator[Scored]:
        for start, seen in in_pieces(samples, pool, image.only_content):
            good = [looks if isinstance(looks, list) else [] for looks in seen]
            values = {
                "exact": np.array([exact_text(s) for s in samples[start : start + PIECE]], "S16"),
                "images": np.array([len(g) for g in good], np.int32),
                "content": np.array([contents(g) for g in good], "S16"),
            }
            errors = [looks if isinstance(looks, str) else "" for looks in seen]
            yield Scored(np.arange(start, start + len(seen)), values, errors)


def _in_turn(signals: Sequence[Any], samples: Sequence[Sample], pool: SampleSource) -> Iterator[list[Scored]]:
    """Both kinds of signals on the same pieces; pictures are read only where somebody asks for them."""
    looked = any(isinstance(s, ImageHash) for s in signals)
    nobody: list[list[image.Look] | str] = []
    starts = range(0, len(samples), PIECE)
    pieces = in_pieces(samples, pool) if looked else ((start, nobody) for start in starts)
    for start, seen in pieces:
        piece = samples[start : start + PIECE]
        yield [s.scored(piece if isinstance(s, TextMinhash) else seen, start) for s in signals]


def exact_text(sample: Sample) -> bytes:
    """16 bytes: equal for conversations that differ in case, white space and the place of `<image>` only."""
    state = hashlib.blake2b(digest_size=16)
    for turn in sample.turns:
        words = text.normal(turn.text).encode("utf-8", "surrogatepass")
        state.update(b"%s\x1f%d\x1f%s" % (turn.role.encode("utf-8", "surrogatepass"), len(words), words))
    return state.digest()


def order_of_roles(sample: Sample) -> bytes:
    """8 bytes: equal for conversations in which user and assistant speak in the same order."""
    said = " ".join(t.role for t in sample.turns if t.role != "system")
    return hashlib.blake2b(said.encode("utf-8", "surrogatepass"), digest_size=8).digest()


def contents(looks: Sequence[image.Look]) -> bytes:
    """16 bytes for all pictures in order; zeros where there is none."""
    if not looks:
        return b""
    return hashlib.blake2b(b"".join(x.content for x in looks), digest_size=16).digest()


def in_pieces(
    samples: Sequence[Sample], pool: SampleSource, look: Callable[[Image], image.Look] = image.look
) -> Iterator[tuple[int, list[list[image.Look] | str]]]:
    """(first position, for each row its images' looks or why one cannot be read), each image of a call read once.

    Threads: decoding leaves Python.
    """
    known: dict[ImageRef, image.Look | str] = {}
    with ThreadPoolExecutor(min(cpu_count() or 1, 16)) as threads:
        for start in range(0, len(samples), PIECE):
            piece = samples[start : start + PIECE]
            new = list(dict.fromkeys(ref for s in piece for ref in s.images if ref not in known))
            known |= dict(zip(new, threads.map(lambda ref: _look(pool, ref, look), new), strict=True))
            yield start, [_NOT_LOOKED_AT if s.media else _of_row([known[ref] for ref in s.images]) for s in piece]


def _look(pool: SampleSource, ref: ImageRef, look: Callable[[Image], image.Look]) -> image.Look | str:
    try:
        return look(pool.load_image(ref))
    except ImageError as error:
        return str(error)


def _of_row(looks: Sequence[image.Look | str]) -> list[image.Look] | str:
    out = []
    for found in looks:
        if isinstance(found, str):
            return found
        out.append(found)
    return out
