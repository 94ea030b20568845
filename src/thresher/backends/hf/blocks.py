"""Blocks of rows on their way into the model: images are decoded and processed, texts tokenised,
vision features computed.

While the model runs on one block, a background thread prepares the next. Each image of a block runs
through the vision tower once, however many rows show it. A row's numbers do not depend on its block
(see `forward.py`), so block sizes are chosen by memory alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from thresher.backends.hf.conversation import Conversation
from thresher.backends.hf.encode import EncodedText, Encoder, PromptEncoder
from thresher.backends.hf.forward import EncodedRow, Forward, available_cores
from thresher.backends.hf.images import ImageFeatures, ImagePreparer, PreparedImage
from thresher.backends.hf.videos import VideoSupport
from thresher.cores import usable_cores
from thresher.errors import ImageError, reason_of
from thresher.types import ImageRef, RowError, SampleSource, VideoRef

if TYPE_CHECKING:
    from thresher.backends.hf.ask_encode import AskEncoder

BLOCK_ROWS = 1024
BLOCK_FEATURE_BYTES = 2**30  # vision features of a block, on the device
BLOCK_IMAGE_BYTES = 2**30  # processed images of a block, in main memory
INITIAL_BLOCK_IMAGES = 8  # images of a block, until it is known how much memory an image takes
PIXEL_BUDGET = 2**23  # input values that run through the vision tower at once
GUESSED_IMAGE_TOKENS = 1024
MOST_IMAGE_THREADS = 16

ImageKey = tuple[str, bool]
"""(identity of the image, whether it is prepared as one of several images)."""


@dataclass(slots=True)
class Block:
    """A block ready for the model.

    index: for each of `rows`, its index into the samples.
    rows: the rows that could be encoded.
    errors: index of every other sample -> why it could not be encoded.
    images: the images of the rows.
    """

    index: list[int]
    rows: list[EncodedRow]
    errors: dict[int, str]
    images: dict[ImageKey, PreparedImage]


class BlockPipeline:
    """A model with its processor: prepares blocks of rows, and computes their images' features.

    Arguments:
        forward: runs the model.
        encoder: conversations to token ids.
        preparer: images to tensors.
        context: maximum tokens of a row.
        shrinks_images: whether the model gives an image fewer tokens in a conversation of several.
    """

    def __init__(
        self,
        forward: Forward,
        encoder: Encoder,
        preparer: ImagePreparer,
        context: int,
        shrinks_images: bool,
    ) -> None:
        self.forward = forward
        self.shrinks_images = shrinks_images
        self.encoder = encoder
        self.prompt_encoder = PromptEncoder(encoder.processor)
        self.preparer = preparer
        self.context = context
        self._max_block_images = INITIAL_BLOCK_IMAGES
        self._max_image_bytes = 0  # largest processed image so far, in bytes
        self._max_feature_bytes = 0  # most bytes of an image's features so far
        self._videos: VideoSupport | None = None  # made for the first video
        # decode and process images while the model runs
        self._image_threads = ThreadPoolExecutor(image_threads(forward.device.type))

    @property
    def feature_tokens(self) -> int:
        """Most tokens of an image so far (a guess before the first)."""
        hidden = self.forward.model.config.get_text_config(decoder=True).hidden_size
        token_bytes = hidden * self.forward.model.dtype.itemsize
        return self._max_feature_bytes // token_bytes or GUESSED_IMAGE_TOKENS

    @property
    def reuses_prefix(self) -> bool:
        """Whether a demonstration is encoded once for all its queries."""
        return self.forward.reuses_prefix

    def blocks(
        self,
        items: Sequence[Any],
        to_conversation: Callable[[Any], Conversation],
        pool: SampleSource,
        multi_image: bool,
        encoder: Encoder | AskEncoder | None = None,
    ) -> Iterator[Block]:
        """Blocks of consecutive items, each prepared while the one before it is being used.

        Arguments:
            items: samples, or whatever `to_conversation` takes.
            to_conversation: converts an item to a conversation.
            pool, multi_image, encoder: as in `prepare`.
        """
        with ThreadPoolExecutor(1) as executor:
            start = 0
            upcoming: Future[Block] | None = None
            while start < len(items) or upcoming is not None:
                block = upcoming.result() if upcoming is not None else None
                upcoming = None
                if start < len(items):
                    end, conversations = self._next_block(items, start, to_conversation)
                    upcoming = executor.submit(
                        self.prepare, conversations, range(start, end), pool, multi_image, encoder
                    )
                    start = end
                if block is not None:
                    yield block

    def _next_block(
        self, items: Sequence[Any], end: int, to_conversation: Callable[[Any], Conversation]
    ) -> tuple[int, list[Conversation]]:
        """The end and the conversations of the block that starts at `end`, within the limits on
        rows and images."""
        images: set[str] = set()
        conversations: list[Conversation] = []
        while (
            end < len(items)
            and len(conversations) < BLOCK_ROWS
            and len(images) < self._max_block_images
        ):
            conversations.append(to_conversation(items[end]))
            images.update(ref.identity for ref in conversations[-1].images)
            end += 1
        return end, conversations

    def prepare(
        self,
        conversations: Sequence[Conversation],
        index: Sequence[int],
        pool: SampleSource,
        multi_image: bool,
        encoder: Encoder | AskEncoder | None = None,
    ) -> Block:
        """Encode texts and process images.

        Arguments:
            conversations: of the block.
            index: for each conversation, its index into the samples.
            pool: where images are loaded from.
            multi_image: prepare a single image as one of several, too.
            encoder: instead of `self.encoder`.
        """
        errors: dict[int, str] = {}
        keys_of: list[list[ImageKey]] = []  # of each conversation
        refs: dict[ImageKey, ImageRef] = {}
        if any(any(conv.videos) for conv in conversations):
            self.check_videos()
        for conv in conversations:
            images_alone = len(conv.images) - sum(conv.videos)
            as_multi_image = self.shrinks_images and (multi_image or images_alone > 1)
            keys = [
                (ref.identity, as_multi_image and not video)
                for ref, video in zip(conv.images, conv.videos, strict=True)
            ]
            refs.update(zip(keys, conv.images, strict=True))
            keys_of.append(keys)
        prepared = self._image_threads.map(
            lambda item: self._prepare_image(pool, item[0], item[1]), refs.items()
        )
        results = dict(zip(refs, prepared, strict=True))
        images = {key: image for key, image in results.items() if not isinstance(image, str)}
        complete: list[tuple[int, Conversation, list[ImageKey]]] = []
        for i, conv, keys in zip(index, conversations, keys_of, strict=True):
            if failed := [results[k] for k in keys if k not in images]:
                errors[i] = str(failed[0])
                continue
            image_texts = tuple(images[k].texts for k in keys)
            complete.append((i, replace(conv, image_texts=image_texts), keys))
        texts = (encoder or self.encoder).encode([conv for _, conv, _ in complete])
        row_index: list[int] = []
        rows: list[EncodedRow] = []
        for (i, _, keys), text in zip(complete, texts, strict=True):
            if isinstance(text, str):
                errors[i] = text
                continue
            row = assemble(text, keys, images)
            if row.longest_prompt > self.context:
                errors[i] = (
                    f"too long: {row.longest_prompt:,} tokens, and the model's context is "
                    f"{self.context:,}"
                )
                continue
            row_index.append(i)
            rows.append(row)
        used = dict.fromkeys(key for row in rows for key in row.images)
        return Block(row_index, rows, errors, {key: images[key] for key in used})

    def check_videos(self) -> None:
        """Find out whether the model takes videos, unless that is known. The weights must not
        change meanwhile."""
        if self._videos is None:
            self._videos = VideoSupport(self)
            if not self._videos.problem:
                self._videos.check()

    def _prepare_image(
        self, pool: SampleSource, key: ImageKey, ref: ImageRef
    ) -> PreparedImage | str:
        """The image or video ready for the vision tower, or why it cannot be used."""
        try:
            if not isinstance(ref, VideoRef):
                prepared = self.preparer.prepare(pool.load_image(ref), key[1])
            else:
                assert self._videos is not None
                if self._videos.problem:
                    return self._videos.problem
                prepared = self._videos.prepare(pool.load_image(ref))
        except ImageError as e:
            return str(RowError.of(e))
        # a processor that refuses a shape, such as 1 x 4000
        except (ValueError, ZeroDivisionError) as e:
            what = "video" if isinstance(ref, VideoRef) else "image"
            name = ref.path or f"the embedded {what}"
            detail = f"the model's {what} processor refuses {name}: {reason_of(e)}"
            return str(RowError(f"{what}-processor", detail))
        if self.forward.device.type == "cuda":
            prepared.pin()
        return prepared

    def features(self, block: Block) -> dict[ImageKey, ImageFeatures]:
        """Vision features of the block's images. Frees the processed images; rows whose image does
        not fit into memory become errors."""
        vision, images, keys = self.forward.vision, list(block.images.values()), list(block.images)
        if not images or vision is None:
            return {}
        batches = vision.batches(images, PIXEL_BUDGET)
        results: dict[ImageKey, ImageFeatures | str] = {}

        def job(batch: list[int]) -> list[ImageFeatures | str]:
            return self.forward.split_on_oom(
                lambda part: list(vision.features(part)), [images[i] for i in batch]
            )

        for batch, found in zip(batches, self.forward.parallel_map(job, batches), strict=True):
            results.update({keys[i]: f for i, f in zip(batch, found, strict=True)})
        out = {key: f for key, f in results.items() if not isinstance(f, str)}
        if len(out) < len(results):
            complete = [all(k in out for k in row.images) for row in block.rows]
            for i, row, ok in zip(block.index, block.rows, complete, strict=True):
                if not ok:
                    block.errors[i] = next(str(results[k]) for k in row.images if k not in out)
            block.index = [i for i, ok in zip(block.index, complete, strict=True) if ok]
            block.rows = [row for row, ok in zip(block.rows, complete, strict=True) if ok]
        self._update_block_images(images, list(out.values()))
        block.images = {}
        return out

    def _update_block_images(
        self, images: Sequence[PreparedImage], features: Sequence[ImageFeatures]
    ) -> None:
        """Set how many images a block may have, from the largest so far."""
        self._max_image_bytes = max([self._max_image_bytes, *(p.nbytes for p in images)])
        self._max_feature_bytes = max([self._max_feature_bytes, *(f.nbytes for f in features)])
        self._max_block_images = max(
            1,
            min(
                BLOCK_IMAGE_BYTES // max(self._max_image_bytes, 1),
                BLOCK_FEATURE_BYTES // max(self._max_feature_bytes, 1),
            ),
        )


def image_threads(device: str) -> int:
    """Threads that decode and process images: at least 1.

    Threads and not processes, because decoders and image processors release the interpreter's lock
    for most of their time. Beside a GPU, OMP_NUM_THREADS does not count: it is often 1 there, and
    the model uses none of these cores.

    Arguments:
        device: type of the model's device, such as "cpu" or "cuda".
    """
    cores = available_cores() if device == "cpu" else usable_cores()
    return max(1, min(MOST_IMAGE_THREADS, cores - 1))


def assemble(
    text: EncodedText, keys: Sequence[ImageKey], images: dict[ImageKey, PreparedImage]
) -> EncodedRow:
    """The row's final ids: each placeholder replaced by its image's tokens, and answer positions
    shifted accordingly.

    Arguments:
        text: token ids with one placeholder per image.
        keys: of the images, in order.
        images: the processed images.
    """
    ids: list[int] = []
    positions = np.array(text.answer_positions, np.int64)
    is_separator = np.isin(positions, text.separator_positions)
    shifted = positions.copy()
    grids = []
    start = place = 0
    for placeholder, key in zip(text.image_positions, keys, strict=True):
        image = images[key]
        expansion = image.expansion_at(place)
        place += not image.is_video
        ids += text.ids[start:placeholder] + expansion
        shifted += np.where(positions > placeholder, len(expansion) - 1, 0)
        start = placeholder + 1
        if image.grid is not None:
            grids.append(image.grid)
    ids += text.ids[start:]
    separators = shifted[is_separator]
    if text.trie is not None:
        shifted = len(ids) + text.trie.output_nodes
    light = None if text.light is None else np.array(text.light, bool)
    return EncodedRow(
        np.array(ids, np.int64),
        shifted,
        tuple(keys),
        tuple(grids),
        trie=text.trie,
        light=light,
        separators=separators,
    )
