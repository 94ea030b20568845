"""Any `AutoModelForImageTextToText` model: the backend behind `answer_loss`, `one_shot`, `generate`, `choice` and `ask`.

Rows go through in blocks. While the model runs on one block, a background thread decodes the images of the next, lets the
processor cut them and tokenises the texts. Each image of a block passes the vision tower once, however many rows show it.
What a row's numbers are may not depend on its block (see `forward.py`), so blocks may be cut by memory alone.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch

from thresher.backends.hf.ask import ask
from thresher.backends.hf.choice import choice
from thresher.backends.hf.conversation import Conversation, after_demonstration, conversation
from thresher.backends.hf.embed import embed, embed_rows
from thresher.backends.hf.encode import Encoder, PromptEncoder, Text
from thresher.backends.hf.forward import Forward, Loss, Prefix, Row, cores
from thresher.backends.hf.generate import generate
from thresher.backends.hf.images import Features, ImagePreparer, Prepared
from thresher.backends.hf.steps import ask_growing, grows
from thresher.errors import ImageError
from thresher.peak_memory import peak_bytes
from thresher.types import ImageRef, Sample, SampleSource, Scored, digests_to_array

if TYPE_CHECKING:
    from thresher.backends.hf.ask_encode import AskEncoder
    from thresher.types import Query

BLOCK_ROWS = 1024
BLOCK_FEATURES = 2**30  # bytes of vision features held at once, on the device
BLOCK_PIXELS = 2**30  # bytes of cut images held at once for one block, in main memory
FIRST_IMAGES = 8  # images of the first blocks, until it is known what an image takes
PIXEL_BUDGET = 2**23  # input values through the vision tower at once
HAND_ON_SECONDS = 1.0
PREFIX_BYTES = 2**31  # keys and values of demonstrations held at once, on the device

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
    """Cost of scoring some rows: seconds (warm), tokens through the language model with padding, most bytes held (None where
    the system does not tell)."""

    seconds: float
    tokens: int
    peak_bytes: int | None


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
        self._demonstrations = _Demonstrations(self)
        self._most_images = FIRST_IMAGES  # of a block
        self._image_bytes = [0, 0]  # the most that an image took so far: cut, and as features
        self._readers = ThreadPoolExecutor(max(1, min(8, cores() - 1)))  # decode and cut images beside the model

    @property
    def feature_tokens(self) -> int:
        """The most tokens that an image took so far (a guess before the first)."""
        hidden = self.forward.model.config.get_text_config(decoder=True).hidden_size
        return self._image_bytes[1] // (hidden * self.forward.model.dtype.itemsize) or 1024

    @property
    def reuses_prefix(self) -> bool:
        """Whether one encoding of a demonstration serves all its queries."""
        return self.forward.reuses_prefix

    @property
    def asks(self) -> Literal["packed", "batched", "full"] | None:
        """How several queries of one row are run: in one pass, as a batch behind one encoding, each with its whole prompt,
        or not at all."""
        return self.forward.asks

    # ------------------------------------------------------------------------------------------ the questions

    def answer_loss(
        self, samples: Sequence[Sample], pool: SampleSource, among_images: bool = False
    ) -> Iterator[Scored]:
        for block in self.blocks(samples, conversation, pool, among_images):
            yield from self._score(block, self.features(block), ("nll", "tokens", "greedy_match"))

    def one_shot(
        self, samples: Sequence[Sample], demonstrations: Sequence[Sample], pool: SampleSource
    ) -> Iterator[Scored]:
        """Loss of `samples[i]` after `demonstrations[i]`; equal demonstrations are encoded once a call."""
        encoded = self._demonstrations if self.reuses_prefix else None
        order = np.arange(len(samples))
        if encoded is not None and not encoded.all_fit(demonstrations):  # then queries of one demonstration go together
            order = np.argsort(digests_to_array([d.digest for d in demonstrations]), kind="stable")
        pairs = [(samples[i], demonstrations[i]) for i in order.tolist()]
        for block in self.blocks(pairs, lambda pair: after_demonstration(pair[1], pair[0]), pool, True):
            features = self.features(block)
            if encoded is not None:
                encoded.attach(block, [pairs[i][1] for i in block.index], pool)
            for piece in self._score(block, features, ("nll",)):
                yield Scored(order[piece.index], piece.values, piece.errors)

    def generate(self, samples: Sequence[Sample], pool: SampleSource, max_new_tokens: int) -> Iterator[Scored]:
        """The model's own answer in place of each row's last answer, decoded greedily: text, tokens, finished."""
        return generate(self, samples, pool, max_new_tokens)

    def choice(
        self, samples: Sequence[Sample], candidates: Sequence[Sequence[str]], pool: SampleSource
    ) -> Iterator[Scored]:
        """Which of `candidates[i]` the model finds likeliest as the last answer of `samples[i]`: picked, margin."""
        return choice(self, samples, candidates, pool)

    def ask(self, samples: Sequence[Sample], queries: Sequence[Query], pool: SampleSource) -> Iterator[Scored]:
        """Log-probabilities of each query's answers behind each row's one user turn: logprob [m, all answers]."""
        return ask(self, samples, queries, pool)

    @property
    def grows(self) -> bool:
        """Whether `ask_growing` can be used."""
        return grows(self.forward)

    def ask_growing(
        self, samples: Sequence[Sample], pieces: Sequence[Sequence[str]], query: Query, pool: SampleSource
    ) -> Iterator[Scored]:
        """`ask` after each of `pieces[i]` that the row's one user turn grows by: logprob [m, most pieces + 1, answers]."""
        return ask_growing(self, samples, pieces, query, pool)

    def embed(self, texts: Sequence[str]) -> list[np.ndarray | str]:
        """What each text means to the model: float32 [hidden size] of length 1, or why there is none."""
        return embed(self, texts)

    def embed_rows(self, samples: Sequence[Sample], pool: SampleSource) -> Iterator[Scored]:
        """What each row's pictures, question and answer mean to the model: images, question, answer, float32 [m, hidden size]
        each, of length 1; zeros where a row has none."""
        return embed_rows(self, samples, pool)

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
            peak = peak_bytes()
        return Probe(seconds, self.forward.tokens - before, peak)

    # ------------------------------------------------------------------------------------------ blocks

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
                    coming = ahead.submit(self.prepare, conversations, range(at, end), pool, among, encoder)
                    at = end
                if block is not None:
                    yield block

    def _cut(
        self, items: Sequence[Any], at: int, talk: Callable[[Any], Conversation]
    ) -> tuple[int, list[Conversation]]:
        """Where the block that begins at `at` ends: rows and the memory of its images' features are bounded."""
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
            if row.longest > self.context:
                errors[i] = f"too long: {row.longest:,} tokens, and the model's context is {self.context:,}"
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
        """Vision features of the block's images; the cut images are let go. Rows whose image does not fit become errors."""
        vision, images, keys = self.forward.vision, list(block.images.values()), list(block.images)
        if not images or vision is None:
            return {}
        batches = vision.batches(images, PIXEL_BUDGET)
        found: dict[ImageKey, Features | str] = {}

        def job(batch: list[int]) -> list[Features | str]:
            return self.forward.halving(lambda some: list(vision.features(some)), [images[i] for i in batch])

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
    """Encoded demonstrations, kept as long as memory allows. A demonstration's prefix ends with its last answer token."""

    def __init__(self, backend: HFBackend) -> None:
        self.backend = backend
        self.known: dict[bytes, tuple[np.ndarray, Prefix] | None] = {}
        self.held = 0

    def all_fit(self, demonstrations: Sequence[Sample]) -> bool:
        """Whether the keys and values of all these demonstrations may be held at once, by a rough count of their tokens."""
        text = self.backend.forward.model.config.get_text_config(decoder=True)
        heads = getattr(text, "num_key_value_heads", None) or text.num_attention_heads
        width = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
        a_token = 2 * text.num_hidden_layers * heads * width * self.backend.forward.model.dtype.itemsize
        image = self.backend.feature_tokens
        tokens = {
            d.digest: sum(1.5 * len(t.text.split()) + 8 for t in d.turns) + image * len(d.images)
            for d in demonstrations
        }
        return sum(tokens.values()) * a_token < PREFIX_BYTES

    def attach(self, block: Block, demonstrations: Sequence[Sample], pool: SampleSource) -> None:
        """Give each row of the block the prefix that its first tokens are; rows for which that is not so run whole."""
        keys = [demo.digest for demo in demonstrations]
        wanted = {key: demo for key, demo in zip(keys, demonstrations, strict=True) if key not in self.known}
        if self.held > PREFIX_BYTES:
            self.known, self.held = {}, 0
            wanted = dict(zip(keys, demonstrations, strict=True))
        for key, demo in wanted.items():
            if self.held <= PREFIX_BYTES:
                self._encode(key, demo, pool)
        for row, key in zip(block.rows, keys, strict=True):
            if (found := self.known.get(key)) is not None:
                ids, prefix = found
                if prefix.length < row.answers[0] and np.array_equal(row.ids[: prefix.length], ids):
                    row.prefix = prefix

    def _encode(self, key: bytes, demo: Sample, pool: SampleSource) -> None:
        """The demonstration's prefix; None where it has none, so that its queries run whole."""
        self.known[key] = None
        block = self.backend.prepare([conversation(demo)], range(1), pool, True)
        features = self.backend.features(block)
        if not block.rows:
            return
        row = block.rows[0]
        cut = Row(row.ids[: int(row.answers[-1]) + 1], row.answers, row.images, row.grids)
        got = self.backend.forward.halving(lambda some: list(self.backend.forward.prefixes(some, features)), [cut])[0]
        if not isinstance(got, str):
            self.known[key] = (cut.ids, got)
            self.held += sum(k.nbytes + v.nbytes for k, v in got.layers)


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
    if text.tree is not None:
        moved = len(ids) + text.tree.outputs
    return Row(np.array(ids, np.int64), moved, tuple(keys), tuple(grids), tree=text.tree)
