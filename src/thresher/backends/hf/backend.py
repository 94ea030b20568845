"""Any `AutoModelForImageTextToText` model: the backend behind `answer_loss`, `one_shot`,
`generate`, `choice` and `ask`.

Rows go through in blocks (`blocks.py`).
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch

from thresher.backends.hf.ask import ask
from thresher.backends.hf.ask_incremental import ask_growing, grows
from thresher.backends.hf.blocks import Block, BlockPipeline
from thresher.backends.hf.choice import choice
from thresher.backends.hf.conversation import after_demonstration, conversation
from thresher.backends.hf.embed import embed, embed_rows
from thresher.backends.hf.encode import Encoder
from thresher.backends.hf.forward import Forward, Prefix, Row
from thresher.backends.hf.generate import generate
from thresher.backends.hf.images import ImagePreparer
from thresher.backends.hf.outputs import LOSS
from thresher.backends.hf.read import finite, read, score
from thresher.console.peak_memory import peak_bytes
from thresher.types import Sample, SampleSource, Scored, digests_to_array

if TYPE_CHECKING:
    from thresher.types import Query

PREFIX_BYTES = 2**31  # keys and values of demonstrations held at once, on the device


@dataclass(frozen=True)
class Probe:
    """Cost of scoring some rows: seconds (warm), tokens through the language model with padding,
    most bytes held (None where the system does not tell)."""

    seconds: float
    tokens: int
    peak_bytes: int | None


class HFBackend(BlockPipeline):
    """What can be asked of a model."""

    def __init__(
        self,
        forward: Forward,
        encoder: Encoder,
        preparer: ImagePreparer,
        context: int,
        shrinks_images: bool,
    ) -> None:
        super().__init__(forward, encoder, preparer, context, shrinks_images)
        self._demonstrations = _Demonstrations(self)

    @property
    def asks(self) -> Literal["packed", "batched", "full"] | None:
        """How several queries of one row are run: in one pass, as a batch behind one encoding, each
        with its whole prompt, or not at all."""
        return self.forward.asks

    # -------------------------------------------------------------------------------- the questions

    def answer_loss(
        self, samples: Sequence[Sample], pool: SampleSource, among_images: bool = False
    ) -> Iterator[Scored]:
        """nll, tokens and greedy_match of `read`; a loss that is not a finite number is an
        error."""
        yield from map(finite, self.read(samples, pool, among_images=among_images))

    def read(
        self,
        samples: Sequence[Sample],
        pool: SampleSource,
        *,
        loss: bool = True,
        spread: bool = False,
        states: Sequence[tuple[float, str]] = (),
        among_images: bool = False,
    ) -> Iterator[Scored]:
        """One pass a row, whatever of it is wanted. What is not a number is no error here.

        Arguments:
            loss: nll (nats an answer token), tokens, greedy_match; [m] each.
            spread: entropy and own_gap, means over the answer tokens, nats; [m] each.
            states: (layer, part) of each of `states`, float32 [m, len(states), hidden size] of
                length 1. layer: 0 … 1 of the depth; part: image, question, answer or all.
            among_images: encode each image as in a conversation of several.
        """
        return read(
            self,
            samples,
            pool,
            loss=loss,
            spread=spread,
            states=states,
            among_images=among_images,
        )

    def one_shot(
        self, samples: Sequence[Sample], demonstrations: Sequence[Sample], pool: SampleSource
    ) -> Iterator[Scored]:
        """Loss of `samples[i]` after `demonstrations[i]`; equal demonstrations are encoded once a
        call."""
        encoded = self._demonstrations if self.reuses_prefix else None
        order = np.arange(len(samples))
        # then queries of one demonstration go together
        if encoded is not None and not encoded.all_fit(demonstrations):
            order = np.argsort(digests_to_array([d.digest for d in demonstrations]), kind="stable")
        pairs = [(samples[i], demonstrations[i]) for i in order.tolist()]
        for block in self.blocks(
            pairs, lambda pair: after_demonstration(pair[1], pair[0]), pool, True
        ):
            features = self.features(block)
            if encoded is not None:
                encoded.attach(block, [pairs[i][1] for i in block.index], pool)
            for piece in map(finite, score(self, block, features, LOSS)):
                yield Scored(order[piece.index], piece.values, piece.errors)

    def generate(
        self, samples: Sequence[Sample], pool: SampleSource, max_new_tokens: int
    ) -> Iterator[Scored]:
        """The model's own answer in place of each row's last answer, decoded greedily: text,
        tokens, finished."""
        return generate(self, samples, pool, max_new_tokens)

    def choice(
        self, samples: Sequence[Sample], candidates: Sequence[Sequence[str]], pool: SampleSource
    ) -> Iterator[Scored]:
        """Which of `candidates[i]` the model finds likeliest as the last answer of `samples[i]`:
        picked, margin."""
        return choice(self, samples, candidates, pool)

    def ask(
        self, samples: Sequence[Sample], queries: Sequence[Query], pool: SampleSource
    ) -> Iterator[Scored]:
        """Log-probabilities of each query's answers behind each row's one user turn: logprob [m,
        all answers]."""
        return ask(self, samples, queries, pool)

    @property
    def grows(self) -> bool:
        """Whether `ask_growing` can be used."""
        return grows(self.forward)

    def ask_growing(
        self,
        samples: Sequence[Sample],
        pieces: Sequence[Sequence[str]],
        query: Query,
        pool: SampleSource,
    ) -> Iterator[Scored]:
        """`ask` after each of `pieces[i]` that the row's one user turn grows by: logprob [m, most
        pieces + 1, answers]."""
        return ask_growing(self, samples, pieces, query, pool)

    def embed(self, texts: Sequence[str]) -> list[np.ndarray | str]:
        """What each text means to the model: float32 [hidden size] of length 1, or why there is
        none."""
        return embed(self, texts)

    def embed_rows(self, samples: Sequence[Sample], pool: SampleSource) -> Iterator[Scored]:
        """What each row's pictures, question and answer mean to the model: images, question,
        answer, float32 [m, hidden size] each, of length 1; zeros where a row has none."""
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


class _Demonstrations:
    """Encoded demonstrations, kept as long as memory allows. A demonstration's prefix ends with its
    last answer token."""

    def __init__(self, backend: HFBackend) -> None:
        self.backend = backend
        self.known: dict[bytes, tuple[np.ndarray, Prefix] | None] = {}
        self.held = 0

    def all_fit(self, demonstrations: Sequence[Sample]) -> bool:
        """Whether the keys and values of all these demonstrations may be held at once, by a rough
        count of their tokens."""
        text = self.backend.forward.model.config.get_text_config(decoder=True)
        heads = getattr(text, "num_key_value_heads", None) or text.num_attention_heads
        width = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
        a_token = (
            2 * text.num_hidden_layers * heads * width * self.backend.forward.model.dtype.itemsize
        )
        image = self.backend.feature_tokens
        tokens = {
            d.digest: sum(1.5 * len(t.text.split()) + 8 for t in d.turns) + image * len(d.images)
            for d in demonstrations
        }
        return sum(tokens.values()) * a_token < PREFIX_BYTES

    def attach(self, block: Block, demonstrations: Sequence[Sample], pool: SampleSource) -> None:
        """Give each row of the block the prefix that its first tokens are; rows for which that is
        not so run whole."""
        keys = [demo.digest for demo in demonstrations]
        wanted = {
            key: demo
            for key, demo in zip(keys, demonstrations, strict=True)
            if key not in self.known
        }
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
        got = self.backend.forward.halving(
            lambda some: list(self.backend.forward.prefixes(some, features)), [cut]
        )[0]
        if not isinstance(got, str):
            self.known[key] = (cut.ids, got)
            self.held += sum(k.nbytes + v.nbytes for k, v in got.layers)
