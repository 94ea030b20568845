"""Forward passes in canonical shapes: rows padded to their own length rounded up, and never to a
neighbour's.

A row's numbers must not depend on which rows share its batch, or another batch size, a resumed run
or a shuffled file would give another subset. Four rules make fp32 on a CPU bit-exact under that
(measured; the tests check it): rows of one padded length go together; padding stands at the right,
so that no attention mask is needed under causal attention; and no matrix product has fewer than 8
rows (below that the BLAS takes another path), and none is split over threads.

`Forward` handles models that take precomputed image features; `mllama.py` changes what differs for
cross-attention.
"""

from __future__ import annotations

import gc
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch

from thresher.backends.hf.answer_ends import Ends
from thresher.backends.hf.images import Features, Vision
from thresher.backends.hf.outputs import LOSS, Loss, Outputs, spread
from thresher.backends.hf.states import LayerStates, means
from thresher.backends.hf.traits import cache_argument
from thresher.backends.hf.trie import Tree

STEP = 8  # padded lengths are multiples of this
LEAST_ROWS = 8  # rows of the smallest matrix product
LOGIT_VALUES = 2**27  # answer tokens x vocabulary in one batch: 512 MB in fp32


@dataclass(slots=True)
class Prefix:
    """The keys and values of an encoded demonstration, one pair [heads, length, width] a layer;
    `images`: how many it holds."""

    length: int
    images: int
    layers: list[tuple[torch.Tensor, torch.Tensor]]


@dataclass(slots=True)
class Row:
    """An encoded row. `ids`: all tokens, images expanded, int64. `answers`: positions of the tokens
    whose loss counts.

    `images`: the images of `ids` in order, as keys of the block's features; `grids`: their (t, h,
    w) if the model needs them.
    `prefix`: the encoded beginning of `ids`, if only the tokens after it are to run.
    `tree`: what follows `ids` where several prompts begin with them; then `answers` are the
    positions whose output is wanted.
    `ends`: where `greedy_match` looks for the end of each answer; None: it looks at the answers
    only.
    """

    ids: np.ndarray
    answers: np.ndarray
    images: tuple[Any, ...]
    grids: tuple[tuple[int, int, int], ...] = ()
    prefix: Prefix | None = None
    tree: Tree | None = None
    ends: Ends | None = None

    @property
    def start(self) -> int:
        return self.prefix.length if self.prefix else 0

    @property
    def packed(self) -> np.ndarray:
        """All tokens: `ids`, then the tree's."""
        return np.concatenate([self.ids, self.tree.ids]) if self.tree else self.ids

    @property
    def longest(self) -> int:
        """Tokens of the longest prompt: what must fit the model's context."""
        return len(self.ids) + (self.tree.height if self.tree else 0)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Rows of one shape may share a batch: tokens already encoded, padded tokens to run,
        images."""
        branches = len(self.tree.ids) if self.tree else 0
        return self.start, padded(len(self.ids) + branches - self.start), len(self.images)


class Forward:
    reuses_prefix = True
    # how several queries of a row are run; None: not at all, their prompts differ from the model's
    # own; see `ask.py`
    asks: Literal["packed", "batched", "full"] | None = None
    tokens_apart = 0  # what an image holds in memory beside the tokens of its row, in tokens

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
        self.soft_token_id = image_token_id  # of the tokens that stand for an image
        self._positions: dict[Any, torch.Tensor] = {}
        self.passes = 0
        self.tokens = 0
        self.workers = 1
        self._layers: LayerStates | None = None
        if self.device.type == "cpu":
            self.workers = cores()
            torch.set_num_threads(1)

    @torch.inference_mode()
    def prefixes(self, rows: Sequence[Row], features: dict[Any, Features]) -> list[Prefix]:
        """Encode rows (demonstrations) into keys and values; only rows of exactly one length go
        through together."""
        out: list[Prefix | None] = [None] * len(rows)
        for batch in self.cut(rows, lambda r: (0, len(r.ids), len(r.images)), LOGIT_VALUES):
            for i, prefix in zip(
                batch, self._prefixes([rows[i] for i in batch], features), strict=True
            ):
                out[i] = prefix
        return out  # type: ignore[return-value]

    def _prefixes(self, rows: list[Row], features: dict[Any, Features]) -> list[Prefix]:
        from transformers import DynamicCache

        cache = DynamicCache(config=self.model.config)
        length = len(rows[0].ids)
        ids = torch.from_numpy(np.stack([r.ids for r in rows])).to(self.device)
        self.model(
            input_ids=ids,
            position_ids=self._position_ids(rows, 0, length),
            use_cache=True,
            logits_to_keep=1,
            **{self.cache_argument: cache},
            **self._images(rows, features),
        )
        self._count(ids)
        return [
            # a copy: a view would keep the whole batch alive for as long as one of its prefixes is
            # held
            Prefix(
                length,
                len(r.images),
                [(layer.keys[j].clone(), layer.values[j].clone()) for layer in cache.layers],
            )
            for j, r in enumerate(rows)
        ]

    @property
    def layers(self) -> LayerStates:
        """Where hidden states are taken. Raises CapabilityError where they cannot be."""
        if self._layers is None:
            self._layers = LayerStates(self.model)
        return self._layers

    def losses(
        self, rows: Sequence[Row], features: dict[Any, Features], outputs: Outputs = LOSS
    ) -> Iterator[tuple[list[int], list[Loss | str]]]:
        """Positions of some rows and their losses (or why there is none), batch by batch.

        Where a row has a prefix, only the tokens after it run. `outputs`: what is wanted; states
        only of rows without a prefix.
        """
        batches = list(self.cut(rows, lambda r: r.shape, LOGIT_VALUES // self.vocabulary))
        results = self.run(
            lambda batch: self.batch([rows[i] for i in batch], features, outputs), batches
        )
        yield from zip(batches, results, strict=True)

    def cut(
        self, rows: Sequence[Row], shape: Callable[[Row], tuple[int, int, int]], answers: int
    ) -> Iterator[list[int]]:
        """Positions of rows of one shape, in batches of at most `batch_tokens` padded tokens and
        `answers` answer tokens."""
        groups: dict[tuple[int, int, int], list[int]] = {}
        for i, row in enumerate(rows):
            groups.setdefault(shape(row), []).append(i)
        for key in sorted(groups):
            batch: list[int] = []
            n_answers = 0
            most = max(self.batch_tokens // self._cost(key), 1)
            for i in groups[key]:
                if batch and (len(batch) >= most or n_answers + len(rows[i].answers) > answers):
                    yield batch
                    batch, n_answers = [], 0
                batch.append(i)
                n_answers += len(rows[i].answers)
            yield batch

    def _cost(self, shape: tuple[int, int, int]) -> int:
        """Tokens that a row of this shape holds in memory: encoded already, to run, and of images
        apart from the text."""
        return max(shape[0] + shape[1] + shape[2] * self.tokens_apart, 1)

    def run(self, job: Callable[[Any], Any], items: Sequence[Any]) -> Iterator[Any]:
        """`job` over `items`, in order; on a CPU one batch a core, each on one thread.

        Splitting a matrix product over threads would make its rounding depend on its size;
        splitting the batches does not.
        """
        if self.workers == 1 or len(items) < 2:
            yield from map(job, items)
            return
        with ThreadPoolExecutor(self.workers) as cores:
            yield from cores.map(job, items)

    def batch(
        self, rows: list[Row], features: dict[Any, Features], outputs: Outputs = LOSS
    ) -> list[Loss | str]:
        """Losses of rows of one shape in one pass, or in halves of it when memory runs out."""
        return self.halving(lambda some: list(self._batch(some, features, outputs)), rows)

    def halving(self, job: Callable[[list[Any]], list[Any]], items: list[Any]) -> list[Any]:
        """`job(items)`, one result each; when memory runs out, `job` of the halves. What does not
        fit alone gets a str."""
        try:
            return job(items)
        except (torch.OutOfMemoryError, RuntimeError) as e:
            if not is_out_of_memory(e):
                raise
        gc.collect()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        first = items[0]
        if isinstance(
            first,
            Row,
            # what failed is too much; batches that are cut already may fail again, but teach no
            # more
        ):
            self.batch_tokens = max(
                64, min(self.batch_tokens, len(items) * self._cost(first.shape) // 2)
            )
        if len(items) == 1:
            what = (
                f"this row alone ({len(first.ids):,} tokens)"
                if isinstance(first, Row)
                else "this image alone"
            )
            return [f"out of memory: {what} does not fit on {self.device}"]
        half = len(items) // 2
        return self.halving(job, items[:half]) + self.halving(job, items[half:])

    @torch.inference_mode()
    def _batch(
        self, rows: list[Row], features: dict[Any, Features], outputs: Outputs
    ) -> Iterator[Loss]:
        start, width, _ = rows[0].shape
        assert not (start and outputs.states), "the states of a prefix are not kept"
        ids = np.full((len(rows), width), self.pad, np.int64)
        for j, r in enumerate(rows):
            ids[j, : len(r.ids) - start] = r.ids[start:]
        tokens = torch.from_numpy(ids).to(self.device)
        given = {
            "input_ids": tokens,
            "position_ids": self._position_ids(rows, start, width),
            "use_cache": start > 0,
            **self._images(rows, features),
        }
        if start:
            given[self.cache_argument] = _stack([r.prefix for r in rows if r.prefix])
        depths = {depth for depth, _ in outputs.states}
        states: dict[int, torch.Tensor] = {}
        found: list[Loss] = []
        with self.layers.kept(states, depths, not outputs.logits) if depths else nullcontext():
            if outputs.logits:
                found = list(self._losses(rows, ids, given, outputs.spread))
            else:  # without the vocabulary's matrix
                getattr(self.model, "model", self.model)(**given)
        self._count(tokens)
        found = found or [Loss(float("nan"), len(r.answers), False) for r in rows]
        if depths:
            mean = means(rows, states, outputs.states, self.soft_token_id)
            for loss, of_row in zip(found, mean, strict=True):
                loss.states = of_row
        yield from found

    def _losses(
        self, rows: list[Row], ids: np.ndarray, given: dict[str, Any], wants_spread: bool
    ) -> Iterator[Loss]:
        """`ids`: int64 [rows, tokens to run], padded. `given`: what the model is called with."""
        start = rows[0].start
        keep = np.zeros(ids.shape, bool)
        for j, r in enumerate(rows):
            keep[j, r.answers - start - 1] = True
        targets = ids[:, 1:][keep[:, :-1]]
        used = keep.copy()
        for j, r in enumerate(rows):
            if r.ends is not None:
                used[j, np.array(r.ends.flat) - start] = True
        wanted = used.copy()
        if used.sum() < LEAST_ROWS:  # a few positions more, whose logits are thrown away
            wanted.reshape(-1)[:LEAST_ROWS] = True
        logits = self.model(logits_to_keep=torch.from_numpy(wanted).to(self.device), **given).logits
        if used.sum() < LEAST_ROWS:
            logits = logits[torch.from_numpy(used[wanted]).to(self.device)]
        said = np.zeros(used.shape, np.int64)
        said[used] = logits.argmax(-1).cpu().numpy()
        if used.sum() > len(targets):
            logits = logits[torch.from_numpy(keep[used]).to(self.device)]
        logits = logits.float()
        target = torch.from_numpy(targets).to(self.device)
        nll = (
            (logits.logsumexp(-1) - logits.gather(-1, target[:, None]).squeeze(-1))
            .double()
            .cpu()
            .numpy()
        )
        hit = said[keep] == targets
        entropy, gap = spread(logits, target) if wants_spread else (nll * np.nan,) * 2
        at = 0
        for j, r in enumerate(rows):
            n = len(r.answers)
            mine = slice(at, at + n)
            match = bool(hit[mine].all())
            if match and r.ends is not None:
                match = r.ends.met(r.ids, {p: int(said[j, p - start]) for p in r.ends.flat})
            yield Loss(
                float(nll[mine].sum() / n),
                n,
                match,
                float(entropy[mine].sum() / n),
                float(gap[mine].sum() / n),
            )
            at += n

    # ---------------------------------------------------------------- what a model needs beside ids

    def _images(
        self, rows: Sequence[Row], features: dict[Any, Features], width: int | None = None
    ) -> dict[str, Any]:
        """The features of the images that stand after the rows' prefixes. `width`: of the batch, if
        not the rows' padded one."""
        shown = [
            features[key] for r in rows for key in r.images[r.prefix.images if r.prefix else 0 :]
        ]
        return (
            {"mm_encoder_outputs": self.vision.as_encoder_output(shown)}
            if shown and self.vision
            else {}
        )

    def _position_ids(self, rows: Sequence[Row], start: int, width: int) -> torch.Tensor:
        """[B, width], or [3, B, width] for multimodal rotary positions, of tokens start … start +
        width."""
        if self.rope_index is None:
            return torch.arange(start, start + width, device=self.device)[None].expand(
                len(rows), width
            )
        return torch.stack(
            [self._rope(r, start + width)[:, start : start + width] for r in rows], dim=1
        ).to(self.device)

    def _rope(self, row: Row, width: int) -> torch.Tensor:
        """Multimodal rotary positions of a row [3, >= width]; rows with images at the same places
        share them."""
        where = np.flatnonzero(row.ids == self.image_token_id)
        key = (where.tobytes(), row.grids)
        known = self._positions.get(key)
        if known is None or known.shape[1] < width:
            room = padded(max(width, len(row.ids)) * 2)
            ids = torch.full((1, room), self.pad)
            ids[0, where] = self.image_token_id
            assert self.rope_index is not None
            known = self.rope_index(
                ids,
                mm_token_type_ids=(ids == self.image_token_id).int(),
                image_grid_thw=torch.tensor(row.grids) if row.grids else None,
            )[0][:, 0]
            if len(self._positions) > 4096:
                self._positions.clear()
            self._positions[key] = known
        return known

    def both_ways(self, row: Row) -> np.ndarray | None:
        """int64 [ids]: tokens of one number > 0 see each other in both directions. None: every
        token sees earlier ones only."""
        return None

    def _later(self, rows: Sequence[Row], extra: dict[str, Any]) -> dict[str, torch.Tensor]:
        """What of `extra` (`_images` of the prompts) each further token needs beside the cache;
        batch first."""
        return {}

    def _count(self, ids: torch.Tensor) -> None:
        self.passes += 1
        self.tokens += ids.numel()


def _stack(prefixes: Sequence[Prefix]) -> Any:
    """A cache whose row j is prefix j; equal prefixes share memory where all rows have the same
    one."""
    from transformers import DynamicCache

    if all(p is prefixes[0] for p in prefixes):
        layers = [
            (k.expand(len(prefixes), *k.shape), v.expand(len(prefixes), *v.shape))
            for k, v in prefixes[0].layers
        ]
    else:
        layers = [
            (
                torch.stack([p.layers[n][0] for p in prefixes]),
                torch.stack([p.layers[n][1] for p in prefixes]),
            )
            for n in range(len(prefixes[0].layers))
        ]
    return DynamicCache(layers)


def cores() -> int:
    """How many batches may run side by side on a CPU: OMP_NUM_THREADS if the user set it, else the
    cores we may use."""
    wanted = os.environ.get("OMP_NUM_THREADS", "")
    return int(wanted) if wanted.isdigit() and int(wanted) > 0 else len(os.sched_getaffinity(0))


def padded(length: int) -> int:
    return -(-length // STEP) * STEP


def is_out_of_memory(error: BaseException) -> bool:
    return (
        isinstance(error, torch.OutOfMemoryError)
        or "not enough memory" in str(error)
        or "out of memory" in str(error)
    )
