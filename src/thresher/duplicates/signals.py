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
    RowError,
    Sample,
    SampleSource,
    Scored,
    Signal,
    VideoRef,
)

if TYPE_CHECKING:
    from PIL.Image import Image

CHUNK_ROWS = 512  # rows per chunk
BATCH_KEY = "duplicates"
_UNREAD_MEDIA = (
    "has media that are not compared (video, audio or an unreadable image), so it is not a copy of "
    "another row"
)


class _ScoredTogether:
    """`TextMinhash` and `ImageHash` are scored together: a row is parsed once for both."""

    def inputs(self) -> Mapping[str, Signal]:
        return {}

    def batch_key(self) -> Hashable:
        return BATCH_KEY

    def batch_rows(
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


@dataclass(frozen=True)
class TextMinhash(_ScoredTogether):
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

    def scored(self, samples: Sequence[Sample], start: int) -> Scored:
        """Score `samples`, whose first row has index `start`.

        Arguments:
            samples: m rows.
            start: index of the first one.
        """
        values = {
            "exact": np.array([exact_text_hash(s) for s in samples], "S16"),
            "roles": np.array([role_order_hash(s) for s in samples], "S8"),
            "question": text.as_bytes(
                text.signatures(text.text_of(s, "system", "user", "unknown") for s in samples)
            ),
            "answer": text.as_bytes(text.signatures(text.text_of(s, "assistant") for s in samples)),
        }
        return Scored(np.arange(start, start + len(samples)), values, [""] * len(samples))


@dataclass(frozen=True)
class ImageHash(_ScoredTogether):
    """Perceptual signatures of a row's images. A row without images has a value; an unreadable
    image fails.
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

    def scored(
        self, signatures_by_row: Sequence[list[image.ImageSignature] | str], start: int
    ) -> Scored:
        """Score rows from the signatures of their images.

        Arguments:
            signatures_by_row: for each row, a signature per image, or an error.
            start: index of the first row.
        """
        readable = [
            signatures if isinstance(signatures, list) else [] for signatures in signatures_by_row
        ]
        errors = [
            signatures if isinstance(signatures, str) else "" for signatures in signatures_by_row
        ]
        values = {
            "images": np.array([len(g) for g in readable], np.int32),
            "content": np.array([combined_content_hash(g) for g in readable], "S16"),
            "first": np.array(
                [g[0].mark if g else b"" for g in readable], f"S{image.PERCEPTUAL.itemsize}"
            ),
            "others": np.array(["".join(x.mark.hex() for x in g[1:]) for g in readable], object),
        }
        return Scored(np.arange(start, start + len(signatures_by_row)), values, errors)


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
        for start, by_row in iter_image_signatures(samples, pool, image.content_signature):
            readable = [signatures if isinstance(signatures, list) else [] for signatures in by_row]
            values = {
                "exact": np.array(
                    [exact_text_hash(s) for s in samples[start : start + CHUNK_ROWS]], "S16"
                ),
                "images": np.array([len(g) for g in readable], np.int32),
                "content": np.array([combined_content_hash(g) for g in readable], "S16"),
            }
            errors = [signatures if isinstance(signatures, str) else "" for signatures in by_row]
            yield Scored(np.arange(start, start + len(by_row)), values, errors)


def _score_chunks(
    signals: Sequence[Any], samples: Sequence[Sample], pool: SampleSource
) -> Iterator[list[Scored]]:
    """Score both signals on the same chunks; images are read only if needed."""
    needs_images = any(isinstance(s, ImageHash) for s in signals)
    empty: list[list[image.ImageSignature] | str] = []
    starts = range(0, len(samples), CHUNK_ROWS)
    chunks = (
        iter_image_signatures(samples, pool)
        if needs_images
        else ((start, empty) for start in starts)
    )
    for start, signatures in chunks:
        chunk = samples[start : start + CHUNK_ROWS]
        yield [
            s.scored(chunk if isinstance(s, TextMinhash) else signatures, start) for s in signals
        ]


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
    known: dict[str, image.ImageSignature | str] | None = None,
) -> Iterator[tuple[int, list[list[image.ImageSignature] | str]]]:
    """(index of the first row, for each row its images' signatures or an error), in chunks of rows.

    Each image is read once. Uses threads: decoding releases the GIL.

    Arguments:
        samples: the rows.
        pool: reads the images.
        signature: computed from each image.
        known: identity of an image -> its signature or error, extended by this call; for several
            calls on parts of one pool. None: starts empty.
    """
    known = {} if known is None else known
    with ThreadPoolExecutor(min(cpu_count() or 1, 16)) as threads:
        for start in range(0, len(samples), CHUNK_ROWS):
            chunk = samples[start : start + CHUNK_ROWS]
            # not the references: those of a parquet file hold the whole image
            identities = [[ref.identity for ref in s.images] for s in chunk]
            new = {
                identity: ref
                for s, names in zip(chunk, identities, strict=True)
                for identity, ref in zip(names, s.images, strict=True)
                if identity not in known
            }
            known.update(
                zip(
                    new,
                    threads.map(
                        lambda ref: _signature_or_error(pool, ref, signature), new.values()
                    ),
                    strict=True,
                )
            )
            yield (
                start,
                [
                    _UNREAD_MEDIA if s.media else _row_signatures([known[name] for name in names])
                    for s, names in zip(chunk, identities, strict=True)
                ],
            )


def _signature_or_error(
    pool: SampleSource, ref: ImageRef, signature: Callable[[Image], image.ImageSignature]
) -> image.ImageSignature | str:
    if isinstance(ref, VideoRef):
        return _UNREAD_MEDIA
    try:
        return signature(pool.load_image(ref))
    except ImageError as error:
        return str(RowError.of(error))


def _row_signatures(
    signatures: Sequence[image.ImageSignature | str],
) -> list[image.ImageSignature] | str:
    out = []
    for found in signatures:
        if isinstance(found, str):
            return found
        out.append(found)
    return out
