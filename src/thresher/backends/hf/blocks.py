"""Blocks: rows on their way into the model. Images decoded and cut, texts tokenised, vision
features made.

While the model runs on one block, a background thread prepares the next. Each image of a block
passes the vision tower once, however many rows show it. What a row's numbers are may not depend on
its block (see `forward.py`), so blocks may be cut by memory alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from thresher.backends.hf.conversation import Conversation
from thresher.backends.hf.encode import Encoder, PromptEncoder, Text
from thresher.backends.hf.forward import Forward, Row, cores
from thresher.backends.hf.images import Features, ImagePreparer, Prepared
from thresher.errors import ImageError
from thresher.types import ImageRef, SampleSource

if TYPE_CHECKING:
    from thresher.backends.hf.ask_encode import AskEncoder

BLOCK_ROWS = 1024
BLOCK_FEATURES = 2**30  # bytes of vision features held at once, on the device
BLOCK_PIXELS = 2**30  # bytes of cut images held at once for one block, in main memory
FIRST_IMAGES = 8  # images of the first blocks, until it is known what an image takes
PIXEL_BUDGET = 2**23  # input values through the vision tower at once

ImageKey = tuple[str, bool]  # identity, encoded as among several


@dataclass(slots=True)
class Block:
    """A block ready for the model: `rows[j]` belongs to sample `index[j]`; `errors`: the samples
    that fell out, and why."""

    index: list[int]
    rows: list[Row]
    errors: dict[int, str]
    images: dict[ImageKey, Prepared]


class BlockPipeline:
    """A model with its processor: prepares blocks of rows, and gives their images' features."""

    def __init__(
        self,
        forward: Forward,
        encoder: Encoder,
        preparer: ImagePreparer,
        context: int,
        shrinks_images: bool,
    ) -> None:
        self.forward = forward
        # an image gets fewer tokens in a conversation of several
        self.shrinks_images = shrinks_images
        self.encoder = encoder
        self.prompt_encoder = PromptEncoder(encoder.processor)
        self.preparer = preparer
        self.context = context  # most tokens a row may have
        self._most_images = FIRST_IMAGES  # of a block
        self._image_bytes = [0, 0]  # the most that an image took so far: cut, and as features
        # decode and cut images beside the model
        self._readers = ThreadPoolExecutor(max(1, min(8, cores() - 1)))

    @property
    def feature_tokens(self) -> int:
        """The most tokens that an image took so far (a guess before the first)."""
        hidden = self.forward.model.config.get_text_config(decoder=True).hidden_size
        return self._image_bytes[1] // (hidden * self.forward.model.dtype.itemsize) or 1024

    @property
    def reuses_prefix(self) -> bool:
        """Whether one encoding of a demonstration serves all its queries."""
        return self.forward.reuses_prefix

    def blocks(
        self,
        items: Sequence[Any],
        talk: Callable[[Any], Conversation],
        pool: SampleSource,
        among: bool,
        encoder: Encoder | AskEncoder | None = None,
    ) -> Iterator[Block]:
        """Prepared blocks of consecutive items, each made while the one before it is being used."""
        with ThreadPoolExecutor(1) as ahead:
            at = 0
            coming: Future[Block] | None = None
            while at < len(items) or coming is not None:
                block = coming.result() if coming is not None else None
                coming = None
                if at < len(items):
                    end, conversations = self._cut(items, at, talk)
                    coming = ahead.submit(
                        self.prepare, conversations, range(at, end), pool, among, encoder
                    )
                    at = end
                if block is not None:
                    yield block

    def _cut(
        self, items: Sequence[Any], at: int, talk: Callable[[Any], Conversation]
    ) -> tuple[int, list[Conversation]]:
        """Where the block that begins at `at` ends: rows and the memory of its images' features are
        bounded."""
        seen: set[str] = set()
        conversations: list[Conversation] = []
        while at < len(items) and len(conversations) < BLOCK_ROWS and len(seen) < self._most_images:
            conversations.append(talk(items[at]))
            seen.update(ref.identity for ref in conversations[-1].images)
            at += 1
        return at, conversations

    def prepare(
        self,
        conversations: Sequence[Conversation],
        index: Sequence[int],
        pool: SampleSource,
        among: bool,
        encoder: Encoder | AskEncoder | None = None,
    ) -> Block:
        """Everything before the model. `among`: encode a single image as one of several, too.
        `encoder`: not the usual one."""
        errors: dict[int, str] = {}
        texts: list[tuple[int, Text, list[ImageKey]]] = []
        wanted: dict[ImageKey, ImageRef] = {}
        for i, conv, text in zip(
            index, conversations, (encoder or self.encoder).encode(conversations), strict=True
        ):
            if isinstance(text, str):
                errors[i] = text
                continue
            together = self.shrinks_images and (among or len(conv.images) > 1)
            keys = [(ref.identity, together) for ref in conv.images]
            wanted.update(zip(keys, conv.images, strict=True))
            texts.append((i, text, keys))
        prepared = self._readers.map(
            lambda item: self._prepare_image(pool, item[0], item[1]), wanted.items()
        )
        read = dict(zip(wanted, prepared, strict=True))
        images = {key: found for key, found in read.items() if not isinstance(found, str)}
        kept: list[int] = []
        rows: list[Row] = []
        for i, text, keys in texts:
            if bad := [read[k] for k in keys if k not in images]:
                errors[i] = str(bad[0])
                continue
            row = assemble(text, keys, images)
            if row.longest > self.context:
                errors[i] = (
                    f"too long: {row.longest:,} tokens, and the model's context is {self.context:,}"
                )
                continue
            kept.append(i)
            rows.append(row)
        return Block(kept, rows, errors, images)

    def _prepare_image(self, pool: SampleSource, key: ImageKey, ref: ImageRef) -> Prepared | str:
        """The image ready for the vision tower, or why it cannot be used."""
        try:
            return self.preparer.prepare(pool.load_image(ref), key[1])
        except ImageError as e:
            return str(e)
        # a processor that refuses a shape, such as 1 x 4000
        except (ValueError, ZeroDivisionError) as e:
            return f"the model's image processor refuses {ref.path or 'the embedded image'}: {e}"

    def features(self, block: Block) -> dict[ImageKey, Features]:
        """Vision features of the block's images; the cut images are let go. Rows whose image does
        not fit become errors."""
        vision, images, keys = self.forward.vision, list(block.images.values()), list(block.images)
        if not images or vision is None:
            return {}
        batches = vision.batches(images, PIXEL_BUDGET)
        found: dict[ImageKey, Features | str] = {}

        def job(batch: list[int]) -> list[Features | str]:
            return self.forward.halving(
                lambda some: list(vision.features(some)), [images[i] for i in batch]
            )

        for batch, got in zip(batches, self.forward.run(job, batches), strict=True):
            found.update({keys[i]: f for i, f in zip(batch, got, strict=True)})
        out = {key: f for key, f in found.items() if not isinstance(f, str)}
        if len(out) < len(found):
            good = [all(k in out for k in row.images) for row in block.rows]
            for i, row, fits in zip(block.index, block.rows, good, strict=True):
                if not fits:
                    block.errors[i] = next(str(found[k]) for k in row.images if k not in out)
            block.index = [i for i, fits in zip(block.index, good, strict=True) if fits]
            block.rows = [row for row, fits in zip(block.rows, good, strict=True) if fits]
        self._learn(images, list(out.values()))
        block.images = {}
        return out

    def _learn(self, images: Sequence[Prepared], features: Sequence[Features]) -> None:
        """From what images took, how many a block may have."""
        self._image_bytes = [
            max([self._image_bytes[0], *(p.nbytes for p in images)]),
            max([self._image_bytes[1], *(f.nbytes for f in features)]),
        ]
        cut, made = self._image_bytes
        self._most_images = max(1, min(BLOCK_PIXELS // max(cut, 1), BLOCK_FEATURES // max(made, 1)))


def assemble(text: Text, keys: Sequence[ImageKey], images: dict[ImageKey, Prepared]) -> Row:
    """The row's final ids: each placeholder replaced by its image's expansion, answer positions
    moved along."""
    ids: list[int] = []
    answers = np.array(text.answers, np.int64)
    moved = answers.copy()
    grids = []
    at = 0
    for hole, key in zip(text.holes, keys, strict=True):
        image = images[key]
        ids += text.ids[at:hole] + image.expansion
        moved += np.where(answers > hole, len(image.expansion) - 1, 0)
        at = hole + 1
        if image.grid is not None:
            grids.append(image.grid)
    ids += text.ids[at:]
    if text.tree is not None:
        moved = len(ids) + text.tree.outputs
    return Row(np.array(ids, np.int64), moved, tuple(keys), tuple(grids), tree=text.tree)
