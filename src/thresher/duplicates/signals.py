"""Signals for finding duplicates: text signatures and perceptual image signatures. No model needed.

They depend on a row's texts and pixels only, so they are stored, resumed and shared between pools
like any other score.
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
from thresher.types import (
    Capability,
    Columns,
    Field,
    ImageRef,
    Sample,
    SampleSource,
    Scored,
    Signal,
)

if TYPE_CHECKING:
    from PIL.Image import Image

PIECE = 512  # rows handed on at once
TOGETHER = "duplicates"
_UNREAD_MEDIA = (
    "holds media that empty needs_images at (video, audio or an unreadable image): a copy of no "
    "other row"
)


@dataclass(frozen=True)
class TextMinhash:
    """MinHash signatures of question and answer, and a hash of the normalised conversation."""

    permutations: int = text.PERMUTATIONS
    shingle: int = text.SHINGLE
    algorithm: int = text.ALGORITHM

    kind: ClassVar[str] = "text_minhash"
    version: ClassVar[int] = 1
    needs: ClassVar[Capability] = Capability.NONE
    fields: ClassVar[tuple[Field, ...]] = (
        Field(
            "exact",
            "S16",
            "hash of roles and texts in normal form (case, white space and <image> left out)",
        ),
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
        return _score_chunks(signals, samples, pool)

    def rows(
        self, samples: Sequence[Sample], inputs: Columns | None, backend: Any, pool: SampleSource
    ) -> Iterator[Scored]:
        return (one for (one,) in _score_chunks([self], samples, pool))

    def scored(self, piece: Sequence[Sample], start: int) -> Scored:
        """Score `piece`, whose first row has index `start`."""
        values = {
            "exact": np.array([exact_text_hash(s) for s in piece], "S16"),
            "roles": np.array([role_order_hash(s) for s in piece], "S8"),
            "question": text.as_bytes(
                text.signatures(text.text_of(s, "system", "user", "unknown") for s in piece)
            ),
            "answer": text.as_bytes(text.signatures(text.text_of(s, "assistant") for s in piece)),
        }
        return Scored(np.arange(start, start + len(piece)), values, [""] * len(piece))


@dataclass(frozen=True)
class ImageHash:
    """Perceptual signatures of a row's images. A row without images has a value; an unreadable
    image
    fails.
    """

    side: int = image.SIDE

    kind: ClassVar[str] = "image_hash"
    version: ClassVar[int] = 1
    needs: ClassVar[Capability] = Capability.NONE
    fields: ClassVar[tuple[Field, ...]] = (
        Field("images", "int32", "images of the row, >= 0"),
        Field(
            "content",
            "S16",
            "hash of the decoded pixels of all images, in order; zeros without an image",
        ),
        Field(
            "first",
            f"S{image.PERCEPTUAL.itemsize}",
            "the first image: perceptual hashes, aspect, thumbnail",
        ),
        Field(
            "others",
            "str",
            'the same of the other images, in hexadecimal; "" where there are none',
        ),
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
        return _score_chunks(signals, samples, pool)

    def rows(
        self, samples: Sequence[Sample], inputs: Columns | None, backend: Any, pool: SampleSource
    ) -> Iterator[Scored]:
        return (one for (one,) in _score_chunks([self], samples, pool))

    def scored(self, seen: Sequence[list[image.ImageSignature] | str], start: int) -> Scored:
        """Score rows from their images' signatures or errors; the first row has index `start`."""
        good = [signatures if isinstance(signatures, list) else [] for signatures in seen]
        errors = [signatures if isinstance(signatures, str) else "" for signatures in seen]
        values = {
            "images": np.array([len(g) for g in good], np.int32),
            "content": np.array([combined_content_hash(g) for g in good], "S16"),
            "first": np.array(
                [g[0].mark if g else b"" for g in good], f"S{image.PERCEPTUAL.itemsize}"
            ),
            "others": np.array(["".join(x.mark.hex() for x in g[1:]) for g in good], object),
        }
        return Scored(np.arange(start, start + len(seen)), values, errors)


@dataclass(frozen=True)
class ExactHash:
    """Hashes of the normalised conversation and of the images' pixels, for exact duplicates.

    Needs no optional package; a row with an unreadable image fails.
    """

    algorithm: int = 1

    kind: ClassVar[str] = "exact_hash"
    version: ClassVar[int] = 1
    needs: ClassVar[Capability] = Capability.NONE
    fields: ClassVar[tuple[Field, ...]] = (
        Field(
            "exact",
            "S16",
            "hash of roles and texts in normal form (case, white space and <image> left out)",
        ),
        Field("images", "int32", "images of the row, >= 0"),
        Field(
            "content",
            "S16",
            "hash of the decoded pixels of all images, in order; zeros without an image",
        ),
    )

    def inputs(self) -> Mapping[str, Signal]:
        return {}

    def rows(
        self, samples: Sequence[Sample], inputs: Columns | None, backend: Any, pool: SampleSource
    ) -> Iterator[Scored]:
        for start, seen in iter_image_signatures(samples, pool, image.content_signature):
            good = [signatures if isinstance(signatures, list) else [] for signatures in seen]
            values = {
                "exact": np.array(
                    [exact_text_hash(s) for s in samples[start : start + PIECE]], "S16"
                ),
                "images": np.array([len(g) for g in good], np.int32),
                "content": np.array([combined_content_hash(g) for g in good], "S16"),
            }
            errors = [signatures if isinstance(signatures, str) else "" for signatures in seen]
            yield Scored(np.arange(start, start + len(seen)), values, errors)


def _score_chunks(
    signals: Sequence[Any], samples: Sequence[Sample], pool: SampleSource
) -> Iterator[list[Scored]]:
    """Score both signals on the same chunks; images are read only if needed."""
    needs_images = any(isinstance(s, ImageHash) for s in signals)
    empty: list[list[image.ImageSignature] | str] = []
    starts = range(0, len(samples), PIECE)
    pieces = (
        iter_image_signatures(samples, pool)
        if needs_images
        else ((start, empty) for start in starts)
    )
    for start, seen in pieces:
        piece = samples[start : start + PIECE]
        yield [s.scored(piece if isinstance(s, TextMinhash) else seen, start) for s in signals]


def exact_text_hash(sample: Sample) -> bytes:
    """16 bytes, equal for conversations that differ only in case, white space and place of
    `<image>`.
    """
    state = hashlib.blake2b(digest_size=16)
    for turn in sample.turns:
        words = text.normalise(turn.text).encode("utf-8", "surrogatepass")
        state.update(
            b"%s\x1f%d\x1f%s" % (turn.role.encode("utf-8", "surrogatepass"), len(words), words)
        )
    return state.digest()


def role_order_hash(sample: Sample) -> bytes:
    """8 bytes, equal for conversations with the same order of user and assistant turns."""
    roles = " ".join(t.role for t in sample.turns if t.role != "system")
    return hashlib.blake2b(roles.encode("utf-8", "surrogatepass"), digest_size=8).digest()


def combined_content_hash(signatures: Sequence[image.ImageSignature]) -> bytes:
    """16 bytes for all images in order; empty without images."""
    if not signatures:
        return b""
    return hashlib.blake2b(b"".join(x.content for x in signatures), digest_size=16).digest()


def iter_image_signatures(
    samples: Sequence[Sample],
    pool: SampleSource,
    signature: Callable[[Image], image.ImageSignature] = image.image_signature,
) -> Iterator[tuple[int, list[list[image.ImageSignature] | str]]]:
    """(index of the first row, for each row its images' signatures or an error), in chunks of rows.

    Each image is read once per call. Uses threads: decoding releases the GIL.
    """
    known: dict[ImageRef, image.ImageSignature | str] = {}
    with ThreadPoolExecutor(min(cpu_count() or 1, 16)) as threads:
        for start in range(0, len(samples), PIECE):
            piece = samples[start : start + PIECE]
            new = list(dict.fromkeys(ref for s in piece for ref in s.images if ref not in known))
            known |= dict(
                zip(
                    new,
                    threads.map(lambda ref: _signature_or_error(pool, ref, signature), new),
                    strict=True,
                )
            )
            yield (
                start,
                [
                    _UNREAD_MEDIA if s.media else _row_signatures([known[ref] for ref in s.images])
                    for s in piece
                ],
            )


def _signature_or_error(
    pool: SampleSource, ref: ImageRef, signature: Callable[[Image], image.ImageSignature]
) -> image.ImageSignature | str:
    try:
        return signature(pool.load_image(ref))
    except ImageError as error:
        return str(error)


def _row_signatures(
    signatures: Sequence[image.ImageSignature | str],
) -> list[image.ImageSignature] | str:
    out = []
    for found in signatures:
        if isinstance(found, str):
            return found
        out.append(found)
    return out
