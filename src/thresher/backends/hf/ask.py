"""Many questions about a row at the cost of about one pass: all queries and answers behind one
encoding of image and body.

"packed": trunk and queries are one sequence with an explicit mask and explicit positions
(`trie.py`); rows of one padded length share a pass. "batched": the trunk is encoded once into keys
and values, and the queries run behind it as a batch. "full": each query with its whole prompt.
Which one a model gets is decided when it is opened, by trying: the first of the three that gives
what "full" gives. (A row whose pack would be very long is not packed.) Only wanted outputs pass the
vocabulary's matrix.

The rules of `forward.py` hold, so a row's numbers do not depend on its company. They do depend, by
rounding only, on which queries are asked together.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch

from thresher.backends.hf.ask_encode import AskEncoder
from thresher.backends.hf.conversation import conversation
from thresher.backends.hf.forward import LEAST_ROWS, LOGIT_VALUES, Forward, Row, _stack
from thresher.backends.hf.traits import stop_tokens
from thresher.backends.hf.trie import chains, places, sight
from thresher.errors import ModelError
from thresher.types import Query, Sample, SampleSource, Scored

if TYPE_CHECKING:
    from thresher.backends.hf.blocks import BlockPipeline
    from thresher.backends.hf.images import Features

Way = Literal["packed", "batched", "full"]
HAND_ON_SECONDS = 1.0
LONGEST_PACK = 8192  # tokens; the mask of a longer one would take more memory than it saves work
NOT_FINITE = "the likelihood of an answer is not a finite number"

Result = np.ndarray | str
"""float64 [answers] of a row, in nats; or why there is none."""


def ask(
    pipeline: BlockPipeline, samples: Sequence[Sample], queries: Sequence[Query], pool: SampleSource
) -> Iterator[Scored]:
    """Field: logprob float32 [m, all answers], queries in order. Pieces about once a second. Raises
    ModelError, ConfigError."""
    forward, way = pipeline.forward, pipeline.forward.asks
    if way is None:
        raise ModelError(
            "This model cannot judge rows: its own processor writes a question's prompt otherwise "
            "than thresher does. Take another model as the judge, and please report this one's "
            "name."
        )
    stops = stop_tokens(forward.model, pipeline.encoder)
    encoder = AskEncoder(pipeline.encoder, pipeline.prompt_encoder, queries, stops)
    for block in pipeline.blocks(samples, conversation, pool, False, encoder):
        features = pipeline.features(block)
        ready: list[tuple[int, Result]] = list(block.errors.items())
        since = time.monotonic()
        for part in answers(forward, block.rows, features, way):
            ready += [(block.index[j], result) for j, result in part]
            if time.monotonic() - since > HAND_ON_SECONDS:
                yield _scored(ready, encoder.answers)
                ready, since = [], time.monotonic()
        if ready:
            yield _scored(ready, encoder.answers)


def _scored(found: Sequence[tuple[int, Result]], width: int) -> Scored:
    table = np.full((len(found), width), np.nan, np.float32)
    errors = []
    for j, (_, result) in enumerate(found):
        if isinstance(result, str):
            errors.append(result)
            continue
        table[j] = result
        errors.append("" if np.isfinite(result).all() else NOT_FINITE)
    return Scored(np.array([i for i, _ in found], np.int64), {"logprob": table}, errors)


def answers(
    forward: Forward, rows: list[Row], features: dict[Any, Features], way: Way
) -> Iterator[list[tuple[int, Result]]]:
    """(position, result) of each row, part by part. Rows have a tree."""
    apart: Way = "batched" if forward.reuses_prefix else "full"
    long = [way == "packed" and r.shape[1] > LONGEST_PACK for r in rows]
    for each, index in (
        (way, [i for i, is_long in enumerate(long) if not is_long]),
        (apart, [i for i, is_long in enumerate(long) if is_long]),
    ):
        for batch, results in _run(forward, [rows[i] for i in index], features, each):
            yield [
                (index[j], _by_answer(rows[index[j]], result))
                for j, result in zip(batch, results, strict=True)
            ]


def _run(
    forward: Forward, rows: list[Row], features: dict[Any, Features], way: Way
) -> Iterator[tuple[list[int], list[Result]]]:
    """Positions of some rows and what was wanted of each, batch by batch."""
    if way == "batched":  # trunks of exactly one length are encoded together
        batches = list(forward.cut(rows, lambda r: (0, len(r.ids), len(r.images)), LOGIT_VALUES))
    else:
        batches = list(forward.cut(rows, lambda r: r.shape, LOGIT_VALUES // forward.vocabulary))

    def job(batch: list[int]) -> list[Result]:
        some = [rows[i] for i in batch]
        if way == "packed":
            return forward.halving(lambda part: list(_wanted(forward, part, features, True)), some)
        return _apart(forward, some, features, way == "batched")

    yield from zip(batches, forward.run(job, batches), strict=True)


def _by_answer(row: Row, got: Result) -> Result:
    """The wanted log-probabilities, summed over each answer's tokens."""
    assert row.tree is not None
    return got if isinstance(got, str) else np.bincount(row.tree.answer, got, row.tree.answers)


def _apart(
    forward: Forward, rows: list[Row], features: dict[Any, Features], reuse: bool
) -> list[Result]:
    """Each path of each row's tree by itself; `reuse`: behind keys and values of its trunk, but for
    the trunk's last token, whose output is wanted."""
    out: list[Result] = []
    paths: list[Row] = []
    # of each path: its row, which of the row's wanted it gives
    mine: list[tuple[int, np.ndarray]] = []
    prefixes: list[Any] = [None] * len(rows)
    if reuse and len(rows[0].ids) > LEAST_ROWS:
        trunks = [Row(r.ids[:-1], r.answers, r.images, r.grids) for r in rows]
        prefixes = forward.halving(lambda some: list(forward.prefixes(some, features)), trunks)
    for j, row in enumerate(rows):
        assert row.tree is not None
        if isinstance(prefixes[j], str):
            out.append(prefixes[j])
            continue
        out.append(np.full(len(row.tree.where), np.nan))
        for ids, bare, which in chains(row.tree):
            whole = np.concatenate([row.ids, ids])
            paths.append(
                Row(whole, len(whole) + bare.outputs, row.images, row.grids, prefixes[j], bare)
            )
            mine.append((j, which))
    for batch in forward.cut(paths, lambda r: r.shape, LOGIT_VALUES // forward.vocabulary):
        some = [paths[i] for i in batch]
        done = forward.halving(lambda part: list(_wanted(forward, part, features, False)), some)
        for i, got in zip(batch, done, strict=True):
            j, which = mine[i]
            result = out[j]
            if isinstance(got, str):
                out[j] = got
            elif not isinstance(result, str):
                result[which] = got
    return out


@torch.inference_mode()
def _wanted(
    forward: Forward, rows: list[Row], features: dict[Any, Features], packed: bool
) -> Iterator[np.ndarray]:
    """The wanted log-probabilities of rows of one shape, float64 [w] each, in one pass. Not
    `packed`: no row has nodes."""
    start, width, _ = rows[0].shape
    device = forward.device
    ids = np.full((len(rows), width), forward.pad, np.int64)
    keep = np.zeros((len(rows), width), bool)
    line: list[np.ndarray] = []  # of each wanted value: its line among the kept outputs
    token: list[np.ndarray] = []
    kept = 0
    for j, row in enumerate(rows):
        tree = row.tree
        assert tree is not None and (packed or not len(tree.ids))
        trunk, outputs = len(row.ids) - start, tree.outputs
        ids[j, : trunk + len(tree.ids)] = row.packed[start:]
        keep[j, trunk + outputs] = True
        line.append(kept + np.searchsorted(outputs, tree.where))
        token.append(tree.token)
        kept += len(outputs)
    wanted = keep.copy()
    if kept < LEAST_ROWS:  # a few positions more, whose logits are thrown away
        wanted.reshape(-1)[:LEAST_ROWS] = True
    tokens = torch.from_numpy(ids).to(device)
    extra = forward._images(rows, features, width)
    if packed:
        extra["attention_mask"] = mask(forward, rows, width)
        positions = _packed_positions(forward, rows, width)
    else:
        positions = forward._position_ids(rows, start, width)
    if start:
        extra[forward.cache_argument] = _stack([r.prefix for r in rows if r.prefix])
    logits = forward.model(
        input_ids=tokens,
        position_ids=positions,
        use_cache=start > 0,
        logits_to_keep=torch.from_numpy(wanted).to(device),
        **extra,
    ).logits
    forward._count(tokens)
    if kept < LEAST_ROWS:
        logits = logits[torch.from_numpy(keep[wanted]).to(device)]
    logits = logits.float()
    at = torch.from_numpy(np.concatenate(line)).to(device)
    what = torch.from_numpy(np.concatenate(token)).to(device)
    values = (logits[at, what] - logits.logsumexp(-1)[at]).double().cpu().numpy()
    begin = 0
    for some in token:
        yield values[begin : begin + len(some)]
        begin += len(some)


def _packed_positions(forward: Forward, rows: list[Row], width: int) -> torch.Tensor:
    """[B, width], or [3, B, width] for multimodal rotary positions: each token's position in its
    own prompt."""
    index = np.stack([places(len(r.ids), r.tree, width) for r in rows if r.tree is not None])
    where = torch.from_numpy(index).to(forward.device)
    if forward.rope_index is None:
        return where
    plain = forward._position_ids(rows, 0, int(index.max()) + 1)
    return plain.gather(2, where.expand(3, *where.shape))


def mask(forward: Forward, rows: list[Row], width: int) -> Any:
    """What is added to the attention scores, [B, 1, width, width]; a dict of two where layers
    differ in what they see.

    Raises ValueError for layers that are neither full nor sliding attention: their rows cannot be
    packed.
    """
    trees = [r.tree for r in rows if r.tree is not None]
    sees = np.stack(
        [
            sight(len(r.ids), t, width, forward.both_ways(r))
            for r, t in zip(rows, trees, strict=True)
        ]
    )
    kinds, window = windows(forward.model.config)
    if not kinds <= {"full_attention", "attention", "sliding_attention"}:
        raise ValueError(f"layers of kinds {sorted(kinds)} take no mask")
    if "sliding_attention" not in kinds:
        return _added(forward, sees)
    at = np.stack([places(len(r.ids), t, width) for r, t in zip(rows, trees, strict=True)])
    near = _added(forward, sees & (at[:, :, None] - at[:, None, :] < window))
    if kinds == {"sliding_attention"}:
        return near
    return {"full_attention": _added(forward, sees), "sliding_attention": near}


def windows(config: Any) -> tuple[set[str], int]:
    """The kinds of attention of a language model's layers, and the tokens that a sliding one sees
    (0: none slides)."""
    text = config.get_text_config(decoder=True)
    window = getattr(text, "sliding_window", None) or 0
    kinds = getattr(text, "layer_types", None)
    if kinds:
        return set(kinds), window
    slides = bool(window) and getattr(text, "use_sliding_window", True)
    return {"sliding_attention" if slides else "full_attention"}, window


def _added(forward: Forward, sees: np.ndarray) -> torch.Tensor:
    dtype = forward.model.dtype
    hidden = torch.from_numpy(~sees).to(forward.device)
    out = torch.zeros(hidden.shape, dtype=dtype, device=forward.device)
    return out.masked_fill_(hidden, torch.finfo(dtype).min)[:, None]
