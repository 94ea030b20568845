"""Forward passes in canonical shapes: each row is padded to its own length rounded up, never to a
neighbour's.

A row's numbers must not depend on which rows share its batch: otherwise another batch size, a
resumed run or a shuffled file would select another subset. Four rules make fp32 on a CPU bit-exact
(measured; the tests check it): only rows of the same padded length share a batch; padding is on the
right, so causal attention needs no attention mask; no matrix product has fewer than 8 rows (below
that, BLAS uses another kernel); and no matrix product is split over threads.

`Forward` handles models that take precomputed image features; `mllama.py` and `token_types.py`
override what differs for cross-attention and for bidirectional image tokens.

Shapes in comments: B rows of the batch, T padded tokens, V vocabulary, K positions whose logits are
computed.

Longer than 400 lines because the four rules hold only if every pass, with or without a prefix, is
cut and padded by the same code.
"""

from __future__ import annotations

import gc
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import torch

from thresher.backends.hf.answer_ends import AnswerEnds
from thresher.backends.hf.images import Grid, ImageFeatures, VideoGrid, Vision
from thresher.backends.hf.outputs import LOSS, Loss, Outputs, entropy_and_gap, word_losses
from thresher.backends.hf.prefix import Prefix, split_cache, stack_prefixes
from thresher.backends.hf.states import LayerStates, mean_states
from thresher.backends.hf.traits import cache_argument
from thresher.backends.hf.trie import Trie
from thresher.cores import usable_cores

PAD_MULTIPLE = 8  # padded lengths are multiples of this
MIN_GEMM_ROWS = 8  # rows of the smallest matrix product
MAX_LOGIT_VALUES = 2**27  # answer tokens x vocabulary in one batch: 512 MB in fp32
MAX_CACHED_POSITIONS = 4096

QueryMode = Literal["packed", "batched", "full"]
"""How several queries about a row run; see `ask.py`."""


@dataclass(slots=True)
class EncodedRow:
    """A row as model input.

    ids: int64 [tokens], token ids, image placeholders expanded.
    answer_positions: int64 [m], ascending positions of the tokens whose loss counts; where there is
        a `trie`, the positions of the packed sequence whose logits are needed.
    images: the images in order, as keys of the block's features.
    grids: of each image and video, for models that need it.
    prefix: an encoded beginning of `ids`; only the tokens after it run.
    trie: the tokens after `ids`, where several prompts begin with `ids`.
    ends: where `greedy_match` looks for the end of each answer; None: ends are not checked.
    light: bool [m], the answer tokens whose loss is counted apart; None: not known.
    separators: int64, those of `answer_positions` that hold no character of the answer itself.
    """

    ids: np.ndarray
    answer_positions: np.ndarray
    images: tuple[Any, ...]
    grids: tuple[Grid, ...] = ()
    prefix: Prefix | None = None
    trie: Trie | None = None
    ends: AnswerEnds | None = None
    light: np.ndarray | None = None
    separators: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))

    @property
    def start(self) -> int:
        """Position of the first token to run."""
        return self.prefix.length if self.prefix else 0

    @property
    def packed_ids(self) -> np.ndarray:
        """int64: `ids`, then those of the trie."""
        return np.concatenate([self.ids, self.trie.ids]) if self.trie else self.ids

    @property
    def longest_prompt(self) -> int:
        """Tokens of the longest prompt, which has to fit into the model's context."""
        return len(self.ids) + (self.trie.height if self.trie else 0)

    @property
    def shape(self) -> tuple[int, int, int]:
        """(tokens in the prefix, padded tokens to run, images). Rows of equal shape may share a
        batch."""
        nodes = len(self.trie.ids) if self.trie else 0
        return self.start, pad_length(len(self.ids) + nodes - self.start), len(self.images)


class Forward:
    """Runs a model over encoded rows.

    Arguments:
        model: a transformers model in eval mode.
        vision: its vision tower; None for a model without images.
        image_token_id: id of the placeholder token of an image.
        batch_tokens: padded tokens per batch; lowered when memory runs out.
    """

    reuses_prefix = True  # whether rows may continue from a `Prefix`
    # None: it cannot answer queries, because our prompts differ from those of its processor
    query_mode: QueryMode | None = None
    # layers in which `bidirectional_groups` attend in both directions; set by the self-check
    bidirectional_layers: frozenset[str] = frozenset({"full_attention", "sliding_attention"})
    # memory that an image takes beside the tokens of its row, in tokens
    extra_tokens_per_image = 0

    def __init__(
        self, model: Any, vision: Vision | None, image_token_id: int, batch_tokens: int
    ) -> None:
        self.model = model
        self.vision = vision
        self.image_token_id = image_token_id
        self.batch_tokens = batch_tokens
        self.device = model.device
        self.cache_argument = cache_argument(model)
        text = model.config.get_text_config(decoder=True)
        self.vocabulary: int = text.vocab_size
        pad = getattr(text, "pad_token_id", None)
        self.pad = (
            pad
            if isinstance(pad, int) and 0 <= pad < self.vocabulary and pad != image_token_id
            else 0
        )
        base = getattr(model, "model", model)
        self.rope_index: Callable[..., Any] | None = getattr(base, "get_rope_index", None)
        # id of an image's own tokens; in some models not the placeholder
        self.soft_token_id = image_token_id
        self.video_token_id = _video_token_id(model.config)
        self._position_cache: dict[Any, torch.Tensor] = {}
        self.passes = 0
        self.tokens = 0
        self.workers = 1
        self._layers: LayerStates | None = None
        if self.device.type == "cpu":
            self.workers = available_cores()
            torch.set_num_threads(1)

    @torch.inference_mode()
    def prefixes(
        self, rows: Sequence[EncodedRow], features: dict[Any, ImageFeatures]
    ) -> list[Prefix]:
        """Encode whole rows into caches. Only rows of the same length share a batch, because a
        cache must not contain padding.

        Arguments:
            rows: without a prefix.
            features: of the images.
        """
        out: list[Prefix | None] = [None] * len(rows)
        for batch in self.make_batches(
            rows, lambda r: (0, len(r.ids), len(r.images)), MAX_LOGIT_VALUES
        ):
            for i, prefix in zip(
                batch, self._batch_prefixes([rows[i] for i in batch], features), strict=True
            ):
                out[i] = prefix
        return out  # type: ignore[return-value]

    def _batch_prefixes(
        self, rows: list[EncodedRow], features: dict[Any, ImageFeatures]
    ) -> list[Prefix]:
        from transformers import DynamicCache

        cache = DynamicCache(config=self.model.config)
        length = len(rows[0].ids)
        ids = torch.from_numpy(np.stack([r.ids for r in rows])).to(self.device)  # (B, length)
        self.model(
            input_ids=ids,
            position_ids=self.position_ids(rows, 0, length),
            use_cache=True,
            logits_to_keep=1,
            **{self.cache_argument: cache},
            **self.image_inputs(rows, features),
        )
        self.count_pass(ids)
        caches = split_cache(cache, len(rows))
        return [Prefix(length, len(r.images), c) for r, c in zip(rows, caches, strict=True)]

    @property
    def layers(self) -> LayerStates:
        """The hidden states of the model's layers. Raises CapabilityError if they cannot be
        read."""
        if self._layers is None:
            self._layers = LayerStates(self.model)
        return self._layers

    def losses(
        self,
        rows: Sequence[EncodedRow],
        features: dict[Any, ImageFeatures],
        outputs: Outputs = LOSS,
    ) -> Iterator[tuple[list[int], list[Loss | str]]]:
        """Losses batch by batch: indices into `rows`, and for each its loss or an error.

        Arguments:
            rows: encoded rows.
            features: of the images.
            outputs: what to compute; states only for rows without a prefix.
        """
        batches = list(
            self.make_batches(rows, lambda r: r.shape, MAX_LOGIT_VALUES // self.vocabulary)
        )
        results = self.parallel_map(
            lambda batch: self.batch_losses([rows[i] for i in batch], features, outputs), batches
        )
        yield from zip(batches, results, strict=True)

    def make_batches(
        self,
        rows: Sequence[EncodedRow],
        shape: Callable[[EncodedRow], tuple[int, int, int]],
        max_answer_tokens: int,
    ) -> Iterator[list[int]]:
        """Group rows of equal shape into batches of at most `batch_tokens` padded tokens.

        Arguments:
            rows: encoded rows.
            shape: gives a row's (encoded tokens, tokens to run, images).
            max_answer_tokens: most answer tokens of a batch.

        Yields indices into `rows`, shortest shapes first.
        """
        groups: dict[tuple[int, int, int], list[int]] = {}
        for i, row in enumerate(rows):
            groups.setdefault(shape(row), []).append(i)
        for key in sorted(groups):
            batch: list[int] = []
            answer_tokens = 0
            max_rows = max(self.batch_tokens // self._memory_tokens(key), 1)
            for i in groups[key]:
                n = len(rows[i].answer_positions)
                if batch and (len(batch) >= max_rows or answer_tokens + n > max_answer_tokens):
                    yield batch
                    batch, answer_tokens = [], 0
                batch.append(i)
                answer_tokens += n
            yield batch

    def _memory_tokens(self, shape: tuple[int, int, int]) -> int:
        """Tokens that a row of this shape keeps in memory: encoded, to run, and of its images."""
        return max(shape[0] + shape[1] + shape[2] * self.extra_tokens_per_image, 1)

    def parallel_map(self, job: Callable[[Any], Any], items: Sequence[Any]) -> Iterator[Any]:
        """Results of `job` for every item, in order; on a CPU one item per core, single-threaded.

        Splitting a matrix product over threads would make its rounding depend on its size;
        running several batches side by side does not.

        Arguments:
            job: computes the result of an item.
            items: the items.
        """
        if self.workers == 1 or len(items) < 2:
            yield from map(job, items)
            return
        with ThreadPoolExecutor(self.workers) as executor:
            yield from executor.map(job, items)

    def batch_losses(
        self,
        rows: list[EncodedRow],
        features: dict[Any, ImageFeatures],
        outputs: Outputs = LOSS,
    ) -> list[Loss | str]:
        """Losses of rows of equal shape in one pass, or in parts of it when memory runs out.

        Arguments:
            rows: encoded rows of equal shape.
            features: of the images.
            outputs: what to compute.
        """
        return self.split_on_oom(
            lambda part: list(self._batch_losses(part, features, outputs)), rows
        )

    def split_on_oom(self, job: Callable[[list[Any]], list[Any]], items: list[Any]) -> list[Any]:
        """`job(items)`, a list with one result per item; on out-of-memory, `job` of each half.

        The result of an item that does not fit by itself is an error message (str).

        Arguments:
            job: returns one result per item.
            items: the items, at least one.
        """
        try:
            return job(items)
        except (torch.OutOfMemoryError, RuntimeError) as e:
            if not is_out_of_memory(e):
                raise
        gc.collect()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        first = items[0]
        if isinstance(first, EncodedRow):
            # Lower the limit for later batches to half of what failed. Batches made before may
            # fail too, but do not lower it further.
            failed_tokens = len(items) * self._memory_tokens(first.shape)
            self.batch_tokens = max(64, min(self.batch_tokens, failed_tokens // 2))
        if len(items) == 1:
            what = (
                f"this row alone ({len(first.ids):,} tokens)"
                if isinstance(first, EncodedRow)
                else "this image alone"
            )
            return [f"out of memory: {what} does not fit on {self.device}"]
        half = len(items) // 2
        return self.split_on_oom(job, items[:half]) + self.split_on_oom(job, items[half:])

    @torch.inference_mode()
    def _batch_losses(
        self, rows: list[EncodedRow], features: dict[Any, ImageFeatures], outputs: Outputs
    ) -> Iterator[Loss]:
        start, width, _ = rows[0].shape  # T = width
        assert not (start and outputs.states), "a prefix has no hidden states"
        ids = np.full((len(rows), width), self.pad, np.int64)  # (B, T)
        for j, r in enumerate(rows):
            ids[j, : len(r.ids) - start] = r.ids[start:]
        tokens = torch.from_numpy(ids).to(self.device)  # (B, T)
        inputs = {
            "input_ids": tokens,
            "position_ids": self.position_ids(rows, start, width),
            "use_cache": start > 0,
            **self.image_inputs(rows, features),
        }
        if start:
            inputs[self.cache_argument] = stack_prefixes([r.prefix for r in rows if r.prefix])
        depths = {depth for depth, _ in outputs.states}
        states: dict[int, torch.Tensor] = {}  # depth -> (B, T, hidden size)
        losses: list[Loss] = []
        with self.layers.collect(states, depths, not outputs.logits) if depths else nullcontext():
            if outputs.logits:
                losses = list(self._losses(rows, ids, inputs, outputs.spread))
            else:  # without the language model head
                getattr(self.model, "model", self.model)(**inputs)
        self.count_pass(tokens)
        losses = losses or [Loss(float("nan"), len(r.answer_positions), False) for r in rows]
        if depths:
            row_states = mean_states(rows, states, outputs.states, self.soft_token_id)
            for loss, mean in zip(losses, row_states, strict=True):
                loss.states = mean
        yield from losses

    def _losses(
        self, rows: list[EncodedRow], ids: np.ndarray, inputs: dict[str, Any], spread: bool
    ) -> Iterator[Loss]:
        """Run the model and compute each row's loss.

        Arguments:
            ids: int64 (B, T), padded.
            inputs: keyword arguments of the model.
            spread: also compute entropy and own_gap.
        """
        start = rows[0].start
        predicts_answer = np.zeros(ids.shape, bool)  # (B, T)
        for j, r in enumerate(rows):
            predicts_answer[j, r.answer_positions - start - 1] = True
        targets = ids[:, 1:][predicts_answer[:, :-1]]  # (answer tokens,)
        needed = predicts_answer.copy()  # (B, T)
        for j, r in enumerate(rows):
            if r.ends is not None:
                needed[j, np.array(r.ends.flat_positions) - start] = True
        computed = needed.copy()  # (B, T)
        if needed.sum() < MIN_GEMM_ROWS:  # a few positions more, whose logits are discarded
            computed.reshape(-1)[:MIN_GEMM_ROWS] = True
        keep = torch.from_numpy(computed).to(self.device)  # (B, T)
        logits = kept_logits(self.model(logits_to_keep=keep, **inputs).logits, keep)  # (K, V)
        if needed.sum() < MIN_GEMM_ROWS:
            logits = logits[torch.from_numpy(needed[computed]).to(self.device)]  # (needed, V)
        predicted = np.zeros(needed.shape, np.int64)  # (B, T): the most likely next token
        predicted[needed] = logits.argmax(-1).cpu().numpy()
        if needed.sum() > len(targets):
            logits = logits[torch.from_numpy(predicts_answer[needed]).to(self.device)]
        logits = logits.float()  # (answer tokens, V)
        target = torch.from_numpy(targets).to(self.device)  # (answer tokens,)
        nll = (
            (logits.logsumexp(-1) - logits.gather(-1, target[:, None]).squeeze(-1))
            .double()
            .cpu()
            .numpy()
        )  # (answer tokens,)
        correct = predicted[predicts_answer] == targets  # (answer tokens,)
        entropy, gap = entropy_and_gap(logits, target) if spread else (nll * np.nan,) * 2
        begin = 0
        for j, r in enumerate(rows):
            n = len(r.answer_positions)
            row = slice(begin, begin + n)
            match = bool(correct[row].all())
            if match and r.ends is not None:
                next_ids = {p: int(predicted[j, p - start]) for p in r.ends.flat_positions}
                match = r.ends.reached(r.ids, next_ids)
            yield Loss(
                float(nll[row].sum() / n),
                n,
                match,
                float(entropy[row].sum() / n),
                float(gap[row].sum() / n),
                words=None if r.light is None else word_losses(nll[row], r.light),
            )
            begin += n

    # ------------------------------------------------------- inputs of the model besides the ids

    def image_inputs(
        self,
        rows: Sequence[EncodedRow],
        features: dict[Any, ImageFeatures],
        width: int | None = None,
    ) -> dict[str, Any]:
        """Keyword arguments of the model for the images after the rows' prefixes.

        Arguments:
            rows: encoded rows of a batch.
            features: of the images.
            width: tokens of the batch, if it is not the rows' padded length.
        """
        new = [
            features[key] for r in rows for key in r.images[r.prefix.images if r.prefix else 0 :]
        ]
        return (
            {"mm_encoder_outputs": self.vision.as_encoder_output(new)}
            if new and self.vision
            else {}
        )

    def position_ids(self, rows: Sequence[EncodedRow], start: int, width: int) -> torch.Tensor:
        """Positions start … start + width: int64 (B, width), or (3, B, width) for multimodal rotary
        positions.

        Arguments:
            rows: B encoded rows of a batch.
            start: position of the first token to run.
            width: number of tokens to run, with padding.
        """
        if self.rope_index is None:
            return torch.arange(start, start + width, device=self.device)[None].expand(
                len(rows), width
            )
        return torch.stack(
            [self._rope_positions(r, start + width)[:, start : start + width] for r in rows], dim=1
        ).to(self.device)

    def _rope_positions(self, row: EncodedRow, width: int) -> torch.Tensor:
        """Multimodal rotary positions of a row, int64 (3, >= width); cached by where its images
        are."""
        image_tokens = np.flatnonzero(row.ids == self.image_token_id)  # (image tokens,)
        video_tokens = np.flatnonzero(row.ids == self.video_token_id)
        key = (image_tokens.tobytes(), video_tokens.tobytes(), row.grids)
        positions = self._position_cache.get(key)
        if positions is None or positions.shape[1] < width:
            length = pad_length(max(width, len(row.ids)) * 2)
            ids = torch.full((1, length), self.pad)  # (1, length)
            types = torch.zeros((1, length), dtype=torch.int32)
            ids[0, image_tokens], types[0, image_tokens] = self.image_token_id, 1
            grids: dict[str, Any] = {}
            videos = [g for g in row.grids if isinstance(g, VideoGrid)]
            images = [g for g in row.grids if not isinstance(g, VideoGrid)]
            if videos:
                ids[0, video_tokens], types[0, video_tokens] = self.video_token_id, 2
                grids["video_grid_thw"] = torch.tensor([g[:3] for g in videos])
                grids["second_per_grid_ts"] = torch.tensor([g.seconds for g in videos])
            assert self.rope_index is not None
            positions = self.rope_index(
                ids,
                mm_token_type_ids=types,
                image_grid_thw=torch.tensor(images) if images else None,
                **grids,
            )[0][:, 0]  # (3, 1, length) -> (3, length)
            if len(self._position_cache) > MAX_CACHED_POSITIONS:
                self._position_cache.clear()
            self._position_cache[key] = positions
        return positions

    def bidirectional_groups(self, row: EncodedRow) -> np.ndarray | None:
        """int64 [tokens]: tokens with the same number > 0 attend to each other in both directions.
        None: attention is causal everywhere."""
        return None

    def decode_inputs(
        self, rows: Sequence[EncodedRow], prompt_inputs: dict[str, Any]
    ) -> dict[str, torch.Tensor]:
        """Further keyword arguments of the model for each generated token, batch dimension first.

        Arguments:
            rows: the prompts of a batch.
            prompt_inputs: `image_inputs` of the prompts.
        """
        return {}

    def count_pass(self, ids: torch.Tensor) -> None:
        """Count a forward pass over these input ids, padding included."""
        self.passes += 1
        self.tokens += ids.numel()


def kept_logits(logits: torch.Tensor, keep: torch.Tensor) -> torch.Tensor:
    """The logits of the kept positions, (K, V).

    Arguments:
        logits: (K, V), or (B, T, V) of a model that ignores `logits_to_keep`.
        keep: bool (B, T), K of them true.
    """
    return logits[keep] if logits.shape[:-1] == keep.shape else logits


def _video_token_id(config: Any) -> int:
    """Of the tokens of a video; -1: the model has none of their own."""
    for name in ("video_token_id", "video_token_index"):
        if isinstance(value := getattr(config, name, None), int):
            return value
    return -1


def available_cores() -> int:
    """Batches to run side by side on a CPU: OMP_NUM_THREADS if it is set, else the cores that this
    process may use."""
    setting = os.environ.get("OMP_NUM_THREADS", "")
    return int(setting) if setting.isdigit() and int(setting) > 0 else usable_cores()


def pad_length(length: int) -> int:
    """`length` rounded up to a multiple of `PAD_MULTIPLE`."""
    return -(-length // PAD_MULTIPLE) * PAD_MULTIPLE


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error of torch means that memory ran out, on a GPU or on the CPU."""
    return (
        isinstance(error, torch.OutOfMemoryError)
        or "not enough memory" in str(error)
        or "out of memory" in str(error)
    )
