"""Any `AutoModelForImageTextToText` model: the backend behind `answer_loss`, `one_shot`, `generate` and `choice`.

Rows go through in blocks. While the model runs on one block, a background thread decodes the images of the next, lets the
processor cut them and tokenises the texts. Each image of a block passes the vision tower once, however many rows show it.
What a row's numbers are may not depend on its block (see `forward.py`), so blocks may be cut by memory alone.
"""

from __future__ import annotations

import resource
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from thresher.backends.hf.choice import choice
from thresher.backends.hf.conversation import Conversation, after_demonstration, conversation
from thresher.backends.hf.encode import Encoder, PromptEncoder, Text
from thresher.backends.hf.forward import Forward, Loss, Prefix, Row, cores
from thresher.backends.hf.generate import generate
from thresher.backends.hf.images import Features, ImagePreparer, Prepared
from thresher.errors import ImageError
from thresher.types import ImageRef, Sample, SampleSource, Scored

BLOCK_ROWS = 1024
BLOCK_FEATURES = 2**30  # bytes of vision features held at once
PIXEL_BUDGET = 2**23  # input values through the vision tower at once
HAND_ON_SECONDS = 1.0
PREFIX_BYTES = 2**31  # keys and values of demonstrations held at once

ImageKey = tuple[str, bool]  # identity, encoded as among several


@dataclass(slots=True)
class Block:
    """A block ready for the model: `rows[j]` belongs to sample `index[j]`; `errors`: the samples that fell out, and why."""

    index: list[int]
    rows: list[Row]
    errors: dict[int, str]
    images: dict[ImageKey, Prepared]


@dataclass(frozen=True)
class Probe:
    """Cost of scoring some rows: seconds (warm), tokens through the language model with padding, most bytes held."""

    seconds: float
    tokens: int
    peak_bytes: int


class HFBackend:
    def __init__(
        self, forward: Forward, encoder: Encoder, preparer: ImagePreparer, context: int, shrinks_images: bool
    ) -> None:
        self.forward = forward
        self.shrinks_images = shrinks_images  # an image gets fewer tokens in a conversation of several
        self.encoder = encoder
        self.prompt_encoder = PromptEncoder(encoder.processor)
        self.preparer = preparer
        self.context = context  # most tokens a row may have
        text = forward.model.config.get_text_config(decoder=True)
        self._feature_bytes = text.hidden_size * forward.model.dtype.itemsize
        self._image_tokens = 1024  # a guess until the first block has been seen
        self._readers = ThreadPoolExecutor(max(1, min(8, cores() - 1)))  # decode and cut images beside the model

    @property
    def reuses_prefix(self) -> bool:
        """Whether one encoding of a demonstration serves all its queries."""
        return self.forward.reuses_prefix

    # ------------------------------------------------------------------------------------------ the two questions

    def answer_loss(
        self, samples: Sequence[Sample], pool: SampleSource, among_images: bool = False
    ) -> Iterator[Scored]:
        for block in self.blocks(samples, conversation, pool, among_images):
            yield from self._score(block, self.features(block), ("nll", "tokens", "greedy_match"))

    def one_shot(
        self, samples: Sequence[Sample], demonstrations: Sequence[Sample], pool: SampleSource
    ) -> Iterator[Scored]:
        """Loss of `samples[i]` after `demonstrations[i]`; equal demonstrations are encoded once a call."""
        encoded = _Demonstrations(self, pool) if self.reuses_prefix else None
        pairs = list(zip(samples, demonstrations, strict=True))
        for block in self.blocks(pairs, lambda pair: after_demonstration(pair[1], pair[0]), pool, True):
            features = self.features(block)
            if encoded is not None:
                encoded.attach(block, [pairs[i][1] for i in block.index])
            yield from self._score(block, features, ("nll",))

    def generate(self, samples: Sequence[Sample], pool: SampleSource, max_new_tokens: int) -> Iterator[Scored]:
        """The model's own answer in place of each row's last answer, decoded greedily: text, tokens, finished."""
        return generate(self, samples, pool, max_new_tokens)

    def choice(
        self, samples: Sequence[Sample], candidates: Sequence[Sequence[str]], pool: SampleSource
    ) -> Iterator[Scored]:
        """Which of `candidates[i]` the model finds likeliest as the last answer of `samples[i]`: picked, margin."""
        return choice(self, samples, candidates, pool)

    def probe(self, samples: Sequence[Sample], pool: SampleSource) -> Probe:
        """Score some rows once to warm up and once to measure; nothing is stored."""
        for _ in self.answer_loss(samples, pool):
            continue
        device = self.forward.device
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
        before, start = self.forward.tokens, time.perf_counter()
        for _ in self.answer_loss(samples, pool):
            continue
        seconds = time.perf_counter() - start
        if device.type == "cuda":
            peak = torch.cuda.max_memory_allocated(device)
        else:
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        return Probe(seconds, self.forward.tokens - before, peak)

    # ------------------------------------------------------------------------------------------ blocks

    def blocks(
        self,
        items: Sequence[Any],
        talk: Callable[[Any], Conversation],
        pool: SampleSource,
        among: bool,
        encoder: Encoder | None = None,
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
                    coming = ahead.submit(self.prepare, conversations, range(at, end), pool, among, encoder)
                    at = end
                if block is not None:
                    yield block

    def _cut(
        self, items: Sequence[Any], at: int, talk: Callable[[Any], Conversation]
    ) -> tuple[int, list[Conversation]]:
        """Where the block that begins at `at` ends: rows and the memory of its images' features are bounded."""
        most = max(BLOCK_FEATURES // (self._image_tokens * self._feature_bytes), 8)
        seen: set[str] = set()
        conversations: list[Conversation] = []
        while at < len(items) and len(conversations) < BLOCK_ROWS and len(seen) < most:
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
        encoder: Encoder | None = None,
    ) -> Block:
        """Everything before the model. `among`: encode a single image as one of several, too. `encoder`: not the usual one."""
        errors: dict[int, str] = {}
        texts: list[tuple[int, Text, list[ImageKey]]] = []
        wanted: dict[ImageKey, ImageRef] = {}
        for i, conv, text in zip(index, conversations, (encoder or self.encoder).encode(conversations), strict=True):
            if isinstance(text, str):
                errors[i] = text
                continue
            together = self.shrinks_images and (among or len(conv.images) > 1)
            keys = [(ref.identity, together) for ref in conv.images]
            wanted.update(zip(keys, conv.images, strict=True))
            texts.append((i, text, keys))
        prepared = self._readers.map(lambda item: self._prepare_image(pool, item[0], item[1]), wanted.items())
        read = dict(zip(wanted, prepared, strict=True))
        images = {key: found for key, found in read.items() if not isinstance(found, str)}
        kept: list[int] = []
        rows: list[Row] = []
        for i, text, keys in texts:
            if bad := [read[k] for k in keys if k not in images]:
                errors[i] = str(bad[0])
                continue
            row = assemble(text, keys, images)
            if len(row.ids) > self.context:
                errors[i] = f"too long: {len(row.ids):,} tokens, and the model's context is {self.context:,}"
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
        except (ValueError, ZeroDivisionError) as e:  # a processor that refuses a shape, such as 1 x 4000
            return f"the model's image processor refuses {ref.path or 'the embedded image'}: {e}"

    def features(self, block: Block) -> dict[ImageKey, Features]:
        if not block.images or self.forward.vision is None:
            return {}
        self._image_tokens = max(len(p.expansion) for p in block.images.values())
        vision, images = self.forward.vision, list(block.images.values())
        batches = vision.batches(images, PIXEL_BUDGET)
        out: dict[ImageKey, Features] = {}
        keys = list(block.images)
        for batch, found in zip(
            batches, self.forward.run(lambda b: vision.features([images[i] for i in b]), batches), strict=True
        ):
            out.update({keys[i]: f for i, f in zip(batch, found, strict=True)})
        return out

    def _score(self, block: Block, features: dict[ImageKey, Features], fields: tuple[str, ...]) -> Iterator[Scored]:
        """The block's results, handed on about once a second so that little is lost when the run is killed."""
        ready: dict[int, Loss | str] = dict(block.errors)
        since = time.monotonic()
        for batch, losses in self.forward.losses(block.rows, features):
            ready.update(zip((block.index[i] for i in batch), losses, strict=True))
            if time.monotonic() - since > HAND_ON_SECONDS:
                yield _scored(ready, fields)
                ready, since = {}, time.monotonic()
        if ready:
            yield _scored(ready, fields)


class _Demonstrations:
    """The encoded demonstrations of one call. A demonstration's prefix ends with its last answer token."""

    def __init__(self, backend: HFBackend, pool: SampleSource) -> None:
        self.backend = backend
        self.pool = pool
        self.known: dict[bytes, tuple[np.ndarray, Prefix] | None] = {}
        self.held = 0

    def attach(self, block: Block, demonstrations: Sequence[Sample]) -> None:
        """Give each row of the block the prefix that its first tokens are; rows for which that is not so run whole."""
        keys = [demo.digest for demo in demonstrations]
        if self.held > PREFIX_BYTES:
            self.known, self.held = {}, 0
        self._encode({key: demo for key, demo in zip(keys, demonstrations, strict=True) if key not in self.known})
        for row, key in zip(block.rows, keys, strict=True):
            if (found := self.known[key]) is not None:
                ids, prefix = found
                if prefix.length < row.answers[0] and np.array_equal(row.ids[: prefix.length], ids):
                    row.prefix = prefix

    def _encode(self, wanted: dict[bytes, Sample]) -> None:
        talks = [conversation(demo) for demo in wanted.values()]
        block = self.backend.prepare(talks, range(len(talks)), self.pool, True)
        keys = list(wanted)
        for i in block.errors:
            self.known[keys[i]] = None
        cut = [Row(r.ids[: int(r.answers[-1]) + 1], r.answers, r.images, r.grids) for r in block.rows]
        prefixes = self.backend.forward.prefixes(cut, self.backend.features(block))
        for i, row, prefix in zip(block.index, cut, prefixes, strict=True):
            self.known[keys[i]] = (row.ids, prefix)
            self.held += sum(k.nbytes + v.nbytes for k, v in prefix.layers)


def _scored(found: dict[int, Loss | str], fields: tuple[str, ...]) -> Scored:
    index = np.array(sorted(found), dtype=np.int64)
    ordered = [found[i] for i in index.tolist()]
    blank = Loss(float("nan"), 0, False)
    losses = [blank if isinstance(x, str) else x for x in ordered]
    odd = "the loss is not a finite number"
    errors = [x if isinstance(x, str) else "" if np.isfinite(x.nll) else odd for x in ordered]
    values = {
        "nll": np.array([x.nll for x in losses], np.float32),
        "tokens": np.array([x.tokens for x in losses], np.int32),
        "greedy_match": np.array([x.greedy_match for x in losses], bool),
    }
    return Scored(index, {f: values[f] for f in fields}, errors)


def assemble(text: Text, keys: Sequence[ImageKey], images: dict[ImageKey, Prepared]) -> Row:
    """The row's final ids: each placeholder replaced by its image's expansion, answer positions moved along."""
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
    return Row(np.array(ids, np.int64), moved, tuple(keys), tuple(grids))
