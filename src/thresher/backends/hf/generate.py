"""Greedy answers, many rows at once: the prompt up to a row's last answer, then token after token
on a key-value cache.

A row's text may not depend on which rows share its batch. So the rules of `forward.py` hold here
too: prompts of one padded length go together, padding stands at the right and is hidden from the
new tokens by a mask that is always there, and on a CPU no matrix product has fewer than 8 rows. A
model whose layers cannot skip padding (sliding windows, recurrent states) gets prompts of exactly
one length instead.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from thresher.backends.hf.conversation import asked
from thresher.backends.hf.encode import Encoder
from thresher.backends.hf.forward import LEAST_ROWS, Forward, Row, padded
from thresher.backends.hf.traits import skips_padding, stop_tokens
from thresher.types import Sample, SampleSource, Scored

if TYPE_CHECKING:
    from thresher.backends.hf.blocks import BlockPipeline
    from thresher.backends.hf.images import Features


@dataclass(slots=True)
class Written:
    """`tokens` without the one that ended it; `finished`: the model ended it by itself."""

    tokens: list[int]
    finished: bool


def generate(
    pipeline: BlockPipeline, samples: Sequence[Sample], pool: SampleSource, max_new_tokens: int
) -> Iterator[Scored]:
    """Fields: text (str, ends stripped), tokens int32, finished bool. Pieces come as batches are
    done."""
    stops = stop_tokens(pipeline.forward.model, pipeline.encoder)
    writer = _Writer(pipeline.forward, stops, pipeline.context, max_new_tokens)
    for block in pipeline.blocks(samples, asked, pool, False, pipeline.prompt_encoder):
        features = pipeline.features(block)
        if block.errors:
            yield _scored(list(block.errors), list(block.errors.values()), pipeline.encoder)
        for batch, answers in writer.write(block.rows, features):
            yield _scored([block.index[i] for i in batch], answers, pipeline.encoder)


def _scored(index: list[int], answers: Sequence[Written | str], encoder: Encoder) -> Scored:
    blank = Written([], False)
    good = [blank if isinstance(a, str) else a for a in answers]
    texts = encoder.tokenizer.batch_decode([a.tokens for a in good], skip_special_tokens=True)
    values = {
        "text": np.array([t.strip() for t in texts], dtype=object),
        "tokens": np.array([len(a.tokens) for a in good], np.int32),
        "finished": np.array([a.finished for a in good], bool),
    }
    return Scored(
        np.array(index, np.int64), values, [a if isinstance(a, str) else "" for a in answers]
    )


class _Writer:
    def __init__(self, forward: Forward, stops: frozenset[int], context: int, most: int) -> None:
        self.forward = forward
        self.stops = torch.tensor(sorted(stops), dtype=torch.long, device=forward.device)
        self.context = context
        self.most = most
        self.exact = not skips_padding(forward.model.config)
        self.least = LEAST_ROWS if forward.device.type == "cpu" else 1

    def write(
        self, rows: Sequence[Row], features: dict[Any, Features]
    ) -> Iterator[tuple[list[int], list[Written | str]]]:
        """(positions in `rows`, their answers), one batch after the other."""
        batches = list(
            self.forward.cut(rows, lambda r: (self.most, self._width(r), len(r.images)), 1)
        )

        def job(batch: list[int]) -> list[Written | str]:
            return self.forward.halving(
                lambda some: self._batch(some, features), [rows[i] for i in batch]
            )

        yield from zip(batches, self.forward.run(job, batches), strict=True)

    def _width(self, row: Row) -> int:
        return len(row.ids) if self.exact else padded(len(row.ids))

    @torch.inference_mode()
    def _batch(self, rows: list[Row], features: dict[Any, Features]) -> list[Written | str]:
        forward, device = self.forward, self.forward.device
        width, n = self._width(rows[0]), len(rows)
        logits, cache, later = self._prompts(rows, width, features)
        lengths = torch.tensor([len(r.ids) for r in rows], device=device)
        # tokens that each row may still get
        left = (self.context - lengths).clamp(min=1, max=self.most)
        positions = self._positions(rows, width)
        mask = self._mask(lengths, width)

        written = torch.full((n, self.most), -1, dtype=torch.long, device=device)
        ended = torch.zeros(n, dtype=torch.bool, device=device)
        open_rows = torch.ones(n, dtype=torch.bool, device=device)
        alive, real = (
            torch.arange(n, device=device),
            n,
        )  # the row of each line of the running batch; then copies of line 0
        for step in range(self.most):
            token = logits.float().argmax(-1)
            rows_now, token_now = alive[:real], token[:real]
            ends = torch.isin(token_now, self.stops) & open_rows[rows_now]
            goes_on = open_rows[rows_now] & ~ends
            ended[rows_now] |= ends
            written[rows_now, step] = torch.where(goes_on, token_now, -1)
            goes_on &= step + 1 < left[rows_now]
            open_rows[rows_now] = goes_on
            going = int(goes_on.sum())
            if going == 0:
                break
            if len(alive) < self.least or (going <= real // 2 and real > self.least):
                lines = goes_on.nonzero().squeeze(1)
                real = going
                lines = torch.cat([lines, lines[:1].expand(max(self.least - going, 0))])
                cache.batch_select_indices(lines)
                alive, token = alive[lines], token[lines]
                later = {name: value[lines] for name, value in later.items()}
            logits = forward.model(
                input_ids=token[:, None],
                position_ids=positions[..., alive, step : step + 1],
                attention_mask=None if mask is None else mask[alive, :, :, : width + step + 1],
                use_cache=True,
                logits_to_keep=1,
                **{forward.cache_argument: cache},
                **later,
            ).logits[:, -1]
            forward._count(token)
        found, over = written.cpu().tolist(), ended.cpu().tolist()
        return [Written([t for t in row if t >= 0], over[i]) for i, row in enumerate(found)]

    def _prompts(
        self, rows: list[Row], width: int, features: dict[Any, Features]
    ) -> tuple[torch.Tensor, Any, dict[str, torch.Tensor]]:
        """Logits of each row's first new token [B, V], the cache of the prompts, and what later
        tokens need."""
        from transformers import DynamicCache

        forward = self.forward
        ids = np.full((len(rows), width), forward.pad, np.int64)
        keep = np.zeros((len(rows), width), bool)
        for j, r in enumerate(rows):
            ids[j, : len(r.ids)] = r.ids
            keep[j, len(r.ids) - 1] = True
        wanted = keep.copy()
        if len(rows) < self.least:  # a few positions more, whose logits are thrown away
            wanted.reshape(-1)[: self.least] = True
        tokens = torch.from_numpy(ids).to(forward.device)
        extra = forward._images(rows, features, width)
        cache = DynamicCache(config=forward.model.config)
        logits = forward.model(
            input_ids=tokens,
            position_ids=forward._position_ids(rows, 0, width),
            use_cache=True,
            logits_to_keep=torch.from_numpy(wanted).to(forward.device),
            **{forward.cache_argument: cache},
            **extra,
        ).logits
        forward._count(tokens)
        return (
            logits[torch.from_numpy(keep[wanted]).to(forward.device)],
            cache,
            forward._later(rows, extra),
        )

    def _positions(self, rows: list[Row], width: int) -> torch.Tensor:
        """[B, most] or [3, B, most]: where each row's new tokens stand, right behind its prompt."""
        whole = self.forward._position_ids(rows, 0, width + self.most)
        each = [whole[..., j, len(r.ids) : len(r.ids) + self.most] for j, r in enumerate(rows)]
        return torch.stack(each, dim=-2)

    def _mask(self, lengths: torch.Tensor, width: int) -> torch.Tensor | None:
        """[B, 1, 1, width + most], added to the attention of new tokens: the padding behind each
        prompt is hidden.

        Always there, also where no row of the batch is padded: with and without a mask rounding may
        differ.
        """
        if self.exact:
            return None
        column = torch.arange(width + self.most, device=lengths.device)
        hidden = (column >= lengths[:, None]) & (column < width)
        dtype = self.forward.model.dtype
        mask = torch.zeros(hidden.shape, dtype=dtype, device=lengths.device)
        return mask.masked_fill(hidden, torch.finfo(dtype).min)[:, None, None]
