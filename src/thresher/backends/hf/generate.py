"""Greedy answers, many rows at once: the prompt up to a row's last answer, then one token after the
other with a key-value cache.

A row's text must not depend on which rows share its batch, so the rules of `forward.py` apply:
prompts of the same padded length share a batch, padding is on the right and hidden from new tokens
by a mask that is always present, and on a CPU no matrix product has fewer than 8 rows. Models whose
layers cannot skip padding (sliding windows, recurrent states) get prompts of exactly the same
length instead.

Shapes in comments: N rows, B lines of the running batch (those rows that are not finished, then
copies of the first line), T padded tokens of the prompt, M new tokens at most, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from thresher.backends.hf.conversation import prompt_of
from thresher.backends.hf.encode import Encoder
from thresher.backends.hf.forward import (
    MIN_GEMM_ROWS,
    EncodedRow,
    Forward,
    kept_logits,
    pad_length,
)
from thresher.backends.hf.traits import skips_padding, stop_tokens
from thresher.types import Sample, SampleSource, Scored

if TYPE_CHECKING:
    from thresher.backends.hf.blocks import BlockPipeline
    from thresher.backends.hf.images import ImageFeatures


@dataclass(slots=True)
class GeneratedAnswer:
    """tokens: ids, without the stop token. finished: whether the model stopped by itself."""

    tokens: list[int]
    finished: bool


def generate(
    pipeline: BlockPipeline, samples: Sequence[Sample], pool: SampleSource, max_new_tokens: int
) -> Iterator[Scored]:
    """The model's own answer in place of each sample's last answer.

    Arguments:
        pipeline: of the model.
        samples: n rows.
        pool: where images are loaded from.
        max_new_tokens: most tokens of an answer.

    Yields, batch by batch, `text` (str, stripped), `tokens` int32 (their number) and `finished`
    bool (whether the model stopped by itself).
    """
    stop_ids = stop_tokens(pipeline.forward.model, pipeline.encoder)
    generator = _Generator(pipeline.forward, stop_ids, pipeline.context, max_new_tokens)
    for block in pipeline.blocks(samples, prompt_of, pool, False, pipeline.prompt_encoder):
        features = pipeline.features(block)
        if block.errors:
            yield _scored(list(block.errors), list(block.errors.values()), pipeline.encoder)
        for batch, answers in generator.generate(block.rows, features):
            yield _scored([block.index[i] for i in batch], answers, pipeline.encoder)


def _scored(index: list[int], answers: Sequence[GeneratedAnswer | str], encoder: Encoder) -> Scored:
    empty = GeneratedAnswer([], False)
    generated = [empty if isinstance(a, str) else a for a in answers]
    texts = encoder.tokenizer.batch_decode([a.tokens for a in generated], skip_special_tokens=True)
    values = {
        "text": np.array([t.strip() for t in texts], dtype=object),
        "tokens": np.array([len(a.tokens) for a in generated], np.int32),
        "finished": np.array([a.finished for a in generated], bool),
    }
    return Scored(
        np.array(index, np.int64), values, [a if isinstance(a, str) else "" for a in answers]
    )


class _Generator:
    def __init__(
        self, forward: Forward, stop_ids: frozenset[int], context: int, max_new_tokens: int
    ) -> None:
        self.forward = forward
        self.stop_ids = torch.tensor(sorted(stop_ids), dtype=torch.long, device=forward.device)
        self.context = context
        self.max_new_tokens = max_new_tokens
        self.unpadded = not skips_padding(forward.model.config)  # prompts of the same length only
        self.min_lines = MIN_GEMM_ROWS if forward.device.type == "cpu" else 1

    def generate(
        self, rows: Sequence[EncodedRow], features: dict[Any, ImageFeatures]
    ) -> Iterator[tuple[list[int], list[GeneratedAnswer | str]]]:
        """Batch by batch: indices into `rows`, and for each its answer or an error."""
        batches = list(
            self.forward.make_batches(
                rows, lambda r: (self.max_new_tokens, self._width(r), len(r.images)), 1
            )
        )

        def job(batch: list[int]) -> list[GeneratedAnswer | str]:
            return self.forward.split_on_oom(
                lambda part: self._batch(part, features), [rows[i] for i in batch]
            )

        yield from zip(batches, self.forward.parallel_map(job, batches), strict=True)

    def _width(self, row: EncodedRow) -> int:
        return len(row.ids) if self.unpadded else pad_length(len(row.ids))

    @torch.inference_mode()
    def _batch(
        self, rows: list[EncodedRow], features: dict[Any, ImageFeatures]
    ) -> list[GeneratedAnswer | str]:
        forward, device = self.forward, self.forward.device
        width, n = self._width(rows[0]), len(rows)
        logits, cache, decode_inputs = self._prefill(rows, width, features)  # logits (N, V)
        lengths = torch.tensor([len(r.ids) for r in rows], device=device)  # (N,)
        # most new tokens of each row, so that it stays within the context
        limits = (self.context - lengths).clamp(min=1, max=self.max_new_tokens)  # (N,)
        positions = self._positions(rows, width)  # (N, M) or (3, N, M)
        mask = self._mask(lengths, width)  # (N, 1, 1, T + M)

        generated = torch.full((n, self.max_new_tokens), -1, dtype=torch.long, device=device)
        finished = torch.zeros(n, dtype=torch.bool, device=device)  # (N,) by a stop token
        active = torch.ones(n, dtype=torch.bool, device=device)  # (N,)
        row_of_line = torch.arange(n, device=device)  # (B,)
        n_real = n  # lines that are not copies
        for step in range(self.max_new_tokens):
            token = logits.float().argmax(-1)  # (B,)
            rows_now, token_now = row_of_line[:n_real], token[:n_real]
            stops = torch.isin(token_now, self.stop_ids) & active[rows_now]
            continues = active[rows_now] & ~stops
            finished[rows_now] |= stops
            generated[rows_now, step] = torch.where(continues, token_now, -1)
            continues &= step + 1 < limits[rows_now]
            active[rows_now] = continues
            n_active = int(continues.sum())
            if n_active == 0:
                break
            too_few = len(row_of_line) < self.min_lines
            if too_few or (n_active <= n_real // 2 and n_real > self.min_lines):
                # drop finished rows, and fill up with copies of the first line
                lines = continues.nonzero().squeeze(1)
                n_real = n_active
                copies = lines[:1].expand(max(self.min_lines - n_active, 0))
                lines = torch.cat([lines, copies])
                cache.reorder_cache(lines)  # also of layers with a recurrent state
                row_of_line, token = row_of_line[lines], token[lines]
                decode_inputs = {name: value[lines] for name, value in decode_inputs.items()}
            logits = forward.model(
                input_ids=token[:, None],  # (B, 1)
                position_ids=positions[..., row_of_line, step : step + 1],  # (B, 1) or (3, B, 1)
                attention_mask=(
                    None if mask is None else mask[row_of_line, :, :, : width + step + 1]
                ),
                use_cache=True,
                logits_to_keep=1,
                **{forward.cache_argument: cache},
                **decode_inputs,
            ).logits[:, -1]  # (B, V)
            forward.count_pass(token)
        token_lists, finished_list = generated.cpu().tolist(), finished.cpu().tolist()
        return [
            GeneratedAnswer([t for t in tokens if t >= 0], finished_list[i])
            for i, tokens in enumerate(token_lists)
        ]

    def _prefill(
        self, rows: list[EncodedRow], width: int, features: dict[Any, ImageFeatures]
    ) -> tuple[torch.Tensor, Any, dict[str, torch.Tensor]]:
        """Logits of each row's first new token (N, V), the cache of the prompts, and what every
        later pass needs."""
        from transformers import DynamicCache

        forward = self.forward
        ids = np.full((len(rows), width), forward.pad, np.int64)  # (N, T)
        needed = np.zeros((len(rows), width), bool)  # (N, T): each prompt's last token
        for j, r in enumerate(rows):
            ids[j, : len(r.ids)] = r.ids
            needed[j, len(r.ids) - 1] = True
        computed = needed.copy()
        if len(rows) < self.min_lines:  # a few positions more, whose logits are discarded
            computed.reshape(-1)[: self.min_lines] = True
        tokens = torch.from_numpy(ids).to(forward.device)
        extra = forward.image_inputs(rows, features, width)
        cache = DynamicCache(config=forward.model.config)
        keep = torch.from_numpy(computed).to(forward.device)  # (N, T)
        output = forward.model(
            input_ids=tokens,
            position_ids=forward.position_ids(rows, 0, width),
            use_cache=True,
            logits_to_keep=keep,
            **{forward.cache_argument: cache},
            **extra,
        )
        logits = kept_logits(output.logits, keep)  # (computed, V)
        forward.count_pass(tokens)
        return (
            logits[torch.from_numpy(needed[computed]).to(forward.device)],
            cache,
            forward.decode_inputs(rows, extra),
        )

    def _positions(self, rows: list[EncodedRow], width: int) -> torch.Tensor:
        """Positions of each row's new tokens, directly after its prompt: int64 (N, M) or (3, N,
        M)."""
        most = self.max_new_tokens
        whole = self.forward.position_ids(rows, 0, width + most)  # (N, T + M) or (3, N, T + M)
        new = [whole[..., j, len(r.ids) : len(r.ids) + most] for j, r in enumerate(rows)]
        return torch.stack(new, dim=-2)

    def _mask(self, lengths: torch.Tensor, width: int) -> torch.Tensor | None:
        """(N, 1, 1, T + M), added to the attention scores of new tokens: hides the padding after
        each prompt.

        Present even if no row of the batch is padded: rounding may differ with and without a mask.
        """
        if self.unpadded:
            return None
        column = torch.arange(width + self.max_new_tokens, device=lengths.device)
        hidden = (column >= lengths[:, None]) & (column < width)  # (N, T + M)
        dtype = self.forward.model.dtype
        mask = torch.zeros(hidden.shape, dtype=dtype, device=lengths.device)
        return mask.masked_fill(hidden, torch.finfo(dtype).min)[:, None, None]
