"""Any `AutoModelForImageTextToText` model as a backend.

Rows go through in blocks (`blocks.py`). Each method yields `Scored` about once a second, so that
little is lost when the run is killed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from thresher.backends.hf.ask import ask
from thresher.backends.hf.ask_incremental import ask_incrementally, can_ask_incrementally
from thresher.backends.hf.blocks import Block, BlockPipeline
from thresher.backends.hf.choice import choice
from thresher.backends.hf.conversation import after_demonstration, conversation
from thresher.backends.hf.embed import embed, embed_rows
from thresher.backends.hf.encode import Encoder, LightSpans
from thresher.backends.hf.forward import EncodedRow, Forward, QueryMode
from thresher.backends.hf.generate import generate
from thresher.backends.hf.images import ImagePreparer
from thresher.backends.hf.outputs import LOSS
from thresher.backends.hf.prefix import Prefix
from thresher.backends.hf.read import read, require_finite, score
from thresher.console.peak_memory import peak_bytes
from thresher.console.timing import typical_seconds
from thresher.types import Sample, SampleSource, Scored, digests_to_array

if TYPE_CHECKING:
    from thresher.types import Query

PREFIX_BYTES = 2**31  # keys and values of demonstrations held at once, on the device


@dataclass(frozen=True)
class Probe:
    """Cost of scoring some rows.

    seconds: without warm-up.
    tokens: through the language model, padding included.
    peak_bytes: most memory used; None if the system does not report it.
    """

    seconds: float
    tokens: int
    peak_bytes: int | None


class HFBackend(BlockPipeline):
    """The capabilities of a model that runs in this process.

    In every method `samples` are the rows to score and `pool` is where images are loaded from;
    `Scored.index` counts the samples.

    Arguments:
        forward: runs the model.
        encoder: conversations to token ids.
        preparer: images to tensors.
        context: maximum number of tokens of a row.
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
        super().__init__(forward, encoder, preparer, context, shrinks_images)
        self._demonstrations = _DemonstrationCache(self)

    @property
    def query_mode(self) -> QueryMode | None:
        """How several queries of one row run: packed into one pass, as a batch after one encoding
        of the row, each with its full prompt, or not at all."""
        return self.forward.query_mode

    # --------------------------------------------------------------------------------- capabilities

    def answer_loss(
        self, samples: Sequence[Sample], pool: SampleSource, among_images: bool = False
    ) -> Iterator[Scored]:
        """Yields `nll`, `tokens` and `greedy_match`, as `read` does; a loss that is not a finite
        number is an error."""
        yield from map(require_finite, self.read(samples, pool, among_images=among_images))

    def read(
        self,
        samples: Sequence[Sample],
        pool: SampleSource,
        *,
        loss: bool = True,
        spread: bool = False,
        states: Sequence[tuple[float, str]] = (),
        light_spans: LightSpans | None = None,
        among_images: bool = False,
    ) -> Iterator[Scored]:
        """One teacher-forced pass per row; a number that is not finite is not an error here.

        Arguments:
            loss: yield `nll` float32 [m], the mean negative log-likelihood of the answer tokens in
                nats; `tokens` int32 [m], their number; `greedy_match` bool [m], whether greedy
                decoding gives exactly these answers.
            spread: yield `entropy` and `own_gap` float32 [m], means over the answer tokens in nats.
            states: (layer, part) of each hidden state in `states` float32 [m, len(states), hidden
                size], of length 1. layer: 0 … 1 of the depth; part: image, question, answer or all.
            light_spans: gives the character spans of words in an answer. Yield `content` float32
                [m], the summed loss in nats of the answer tokens outside of these words, `light`
                float32 [m], that of the tokens inside, and their numbers `content_tokens` and
                `light_tokens` int32 [m]. A token is inside if all its characters but white space
                are.
            among_images: encode images as in a conversation of several.
        """
        return read(
            self,
            samples,
            pool,
            loss=loss,
            spread=spread,
            states=states,
            light_spans=light_spans,
            among_images=among_images,
        )

    def one_shot(
        self, samples: Sequence[Sample], demonstrations: Sequence[Sample], pool: SampleSource
    ) -> Iterator[Scored]:
        """Yields `nll` float32 of `samples[i]` after `demonstrations[i]`, in nats per answer token.

        Equal demonstrations are encoded once per call.
        """
        cache = self._demonstrations if self.reuses_prefix else None
        order = np.arange(len(samples))
        # if they do not all fit, queries of the same demonstration are made neighbours
        if cache is not None and not cache.all_fit(demonstrations):
            order = np.argsort(digests_to_array([d.digest for d in demonstrations]), kind="stable")
        pairs = [(samples[i], demonstrations[i]) for i in order.tolist()]
        for block in self.blocks(
            pairs, lambda pair: after_demonstration(pair[1], pair[0]), pool, True
        ):
            features = self.features(block)
            if cache is not None:
                cache.set_prefixes(block, [pairs[i][1] for i in block.index], pool)
            for scored in map(require_finite, score(self, block, features, LOSS)):
                yield Scored(order[scored.index], scored.values, scored.errors)

    def generate(
        self, samples: Sequence[Sample], pool: SampleSource, max_new_tokens: int
    ) -> Iterator[Scored]:
        """The model's own answer in place of each row's last answer, decoded greedily: text,
        tokens, finished. See `generate.generate`."""
        return generate(self, samples, pool, max_new_tokens)

    def choice(
        self, samples: Sequence[Sample], candidates: Sequence[Sequence[str]], pool: SampleSource
    ) -> Iterator[Scored]:
        """The most likely of `candidates[i]` as the last answer of `samples[i]`: picked, margin.
        See `choice.choice`."""
        return choice(self, samples, candidates, pool)

    def ask(
        self, samples: Sequence[Sample], queries: Sequence[Query], pool: SampleSource
    ) -> Iterator[Scored]:
        """Log-probabilities of each query's answers after each row's last user turn: logprob [m,
        answers of all queries]. See `ask.ask`."""
        return ask(self, samples, queries, pool)

    @property
    def can_ask_incrementally(self) -> bool:
        """Whether `ask_incrementally` may be called."""
        return can_ask_incrementally(self.forward)

    def ask_incrementally(
        self,
        samples: Sequence[Sample],
        pieces: Sequence[Sequence[str]],
        query: Query,
        pool: SampleSource,
    ) -> Iterator[Scored]:
        """`ask` after each of `pieces[i]` that extend the row's user turn: logprob [m, most pieces
        + 1, answers]. See `ask_incremental.ask_incrementally`."""
        return ask_incrementally(self, samples, pieces, query, pool)

    def embed(self, texts: Sequence[str]) -> list[np.ndarray | str]:
        """The embedding of each text, float32 [hidden size] of length 1, or why there is none."""
        return embed(self, texts)

    def embed_rows(self, samples: Sequence[Sample], pool: SampleSource) -> Iterator[Scored]:
        """Embeddings of each row's images, question and answer: images, question, answer, float32
        [m, hidden size] each, of length 1; zeros where a row has none."""
        return embed_rows(self, samples, pool)

    def probe(self, samples: Sequence[Sample], pool: SampleSource) -> Probe:
        """Score some rows once to warm up, and then to measure; nothing is stored.

        Arguments:
            samples: n rows.
            pool: where images are loaded from.
        """
        before = self.forward.tokens
        for _ in self.answer_loss(samples, pool):
            continue
        device = self.forward.device
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
        tokens = self.forward.tokens - before
        seconds = typical_seconds(lambda: self.answer_loss(samples, pool))
        return Probe(seconds, tokens, self.peak_bytes())

    def peak_bytes(self) -> int | None:
        """Most memory so far: of the GPU by this process's tensors since the last `probe`, or of
        the process; None if the system does not report it."""
        device = self.forward.device
        if device.type == "cuda":
            return int(torch.cuda.max_memory_allocated(device))
        return peak_bytes()


class _DemonstrationCache:
    """Encoded demonstrations, kept as long as memory allows. A demonstration's prefix ends with its
    last answer token."""

    def __init__(self, backend: HFBackend) -> None:
        self.backend = backend
        # digest -> its ids and prefix; None if it cannot be encoded
        self.encoded: dict[bytes, tuple[np.ndarray, Prefix] | None] = {}
        self.nbytes = 0

    def all_fit(self, demonstrations: Sequence[Sample]) -> bool:
        """Whether the keys and values of all these demonstrations fit within `PREFIX_BYTES`,
        estimated from their words and images."""
        text = self.backend.forward.model.config.get_text_config(decoder=True)
        try:
            heads = getattr(text, "num_key_value_heads", None) or text.num_attention_heads
            width = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
        except (AttributeError, RuntimeError):  # layers of different widths (Gemma 4)
            heads, width = 1, text.hidden_size
        itemsize = self.backend.forward.model.dtype.itemsize
        token_bytes = 2 * text.num_hidden_layers * heads * width * itemsize
        image_tokens = self.backend.feature_tokens
        tokens = {
            d.digest: sum(1.5 * len(t.text.split()) + 8 for t in d.turns)
            + image_tokens * len(d.images)
            for d in demonstrations
        }
        return sum(tokens.values()) * token_bytes < PREFIX_BYTES

    def set_prefixes(
        self, block: Block, demonstrations: Sequence[Sample], pool: SampleSource
    ) -> None:
        """Set the prefix of each row of the block to its encoded demonstration. Rows that do not
        begin with exactly these tokens run whole."""
        keys = [demo.digest for demo in demonstrations]
        missing = {
            key: demo
            for key, demo in zip(keys, demonstrations, strict=True)
            if key not in self.encoded
        }
        if self.nbytes > PREFIX_BYTES:
            self.encoded, self.nbytes = {}, 0
            missing = dict(zip(keys, demonstrations, strict=True))
        for key, demo in missing.items():
            if self.nbytes <= PREFIX_BYTES:
                self._encode(key, demo, pool)
        for row, key in zip(block.rows, keys, strict=True):
            if (entry := self.encoded.get(key)) is not None:
                ids, prefix = entry
                if prefix.length < row.answer_positions[0] and np.array_equal(
                    row.ids[: prefix.length], ids
                ):
                    row.prefix = prefix

    def _encode(self, key: bytes, demo: Sample, pool: SampleSource) -> None:
        """Encode a demonstration up to its last answer token."""
        self.encoded[key] = None
        block = self.backend.prepare([conversation(demo)], range(1), pool, True)
        features = self.backend.features(block)
        if not block.rows:
            return
        row = block.rows[0]
        end = int(row.answer_positions[-1]) + 1
        beginning = EncodedRow(row.ids[:end], row.answer_positions, row.images, row.grids)
        prefix = self.backend.forward.split_on_oom(
            lambda part: list(self.backend.forward.prefixes(part, features)), [beginning]
        )[0]
        if not isinstance(prefix, str):
            self.encoded[key] = (beginning.ids, prefix)
            self.nbytes += prefix.nbytes
