"""Log-probabilities of the answers to many queries about a row, at the cost of about one pass: the
image and the conversation are encoded once.

"packed": the trunk (what all prompts of a row share) and all queries are one sequence with an
explicit attention mask and explicit positions (`trie.py`); rows of one padded length share a pass.
"batched": the trunk is encoded once into keys and values, and the queries run after it as a batch.
"full": each query runs with its whole prompt. When a model is opened, `ask_check.py` picks the
first of the three that gives the numbers of "full". (Rows whose packed sequence would be very long
are not packed.) Logits are computed only at the positions that predict an answer token.

The rules of `forward.py` apply, so a row's numbers do not depend on the other rows of its batch.
They do depend, by rounding only, on which queries share a pass.

Shapes in comments: B rows of the batch, T padded tokens, V vocabulary, K positions whose logits are
computed.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from thresher.backends.hf.ask_encode import AskEncoder
from thresher.backends.hf.conversation import conversation
from thresher.backends.hf.forward import (
    MAX_LOGIT_VALUES,
    MIN_GEMM_ROWS,
    EncodedRow,
    Forward,
    QueryMode,
    kept_logits,
)
from thresher.backends.hf.prefix import stack_prefixes
from thresher.backends.hf.traits import stop_tokens
from thresher.backends.hf.trie import attention_mask, paths, position_ids
from thresher.errors import ModelError
from thresher.types import Query, Sample, SampleSource, Scored

if TYPE_CHECKING:
    from thresher.backends.hf.blocks import BlockPipeline
    from thresher.backends.hf.images import ImageFeatures

YIELD_SECONDS = 1.0
# tokens; the mask of a longer sequence would cost more memory than packing saves time
MAX_PACKED_TOKENS = 8192
NOT_FINITE = "not-finite: the likelihood of an answer is not a finite number"

Result = np.ndarray | str
"""float64 log-probabilities of a row, in nats; or the row's error."""


def ask(
    pipeline: BlockPipeline, samples: Sequence[Sample], queries: Sequence[Query], pool: SampleSource
) -> Iterator[Scored]:
    """Log-probability of every answer of every query, for each sample.

    Arguments:
        pipeline: of the model.
        samples: each ends with a user turn, to which a query's text is appended.
        queries: asked of every sample.
        pool: where images are loaded from.

    Yields, about once a second, `logprob`: float32 [m, answers of all queries], in nats, queries in
    order. Raises ModelError, and ConfigError if answers cannot be distinguished.
    """
    forward, mode = pipeline.forward, pipeline.forward.query_mode
    if mode is None:
        raise ModelError(
            "This model cannot judge rows: its own processor formats the prompt of a question "
            "differently from thresher. Use another model as the judge, and please report this "
            "model's name."
        )
    stop_ids = stop_tokens(forward.model, pipeline.encoder)
    encoder = AskEncoder(pipeline.encoder, pipeline.prompt_encoder, queries, stop_ids)
    for block in pipeline.blocks(samples, conversation, pool, False, encoder):
        features = pipeline.features(block)
        ready: list[tuple[int, Result]] = list(block.errors.items())
        since = time.monotonic()
        for part in answer_logprobs(forward, block.rows, features, mode):
            ready += [(block.index[j], result) for j, result in part]
            if time.monotonic() - since > YIELD_SECONDS:
                yield _scored(ready, encoder.n_answers)
                ready, since = [], time.monotonic()
        if ready:
            yield _scored(ready, encoder.n_answers)


def _scored(results: Sequence[tuple[int, Result]], n_answers: int) -> Scored:
    table = np.full((len(results), n_answers), np.nan, np.float32)  # (rows, answers)
    errors = []
    for j, (_, result) in enumerate(results):
        if isinstance(result, str):
            errors.append(result)
            continue
        table[j] = result
        errors.append("" if np.isfinite(result).all() else NOT_FINITE)
    return Scored(np.array([i for i, _ in results], np.int64), {"logprob": table}, errors)


def answer_logprobs(
    forward: Forward, rows: list[EncodedRow], features: dict[Any, ImageFeatures], mode: QueryMode
) -> Iterator[list[tuple[int, Result]]]:
    """(index into `rows`, log-probability of each answer) part by part; every row has a trie.

    Arguments:
        forward: runs the model.
        rows: encoded, each with a trie.
        features: of the images.
        mode: how the queries of a row run.
    """
    unpacked: QueryMode = "batched" if forward.reuses_prefix else "full"
    too_long = [mode == "packed" and r.shape[1] > MAX_PACKED_TOKENS for r in rows]
    for row_mode, index in (
        (mode, [i for i, long in enumerate(too_long) if not long]),
        (unpacked, [i for i, long in enumerate(too_long) if long]),
    ):
        for batch, results in _run(forward, [rows[i] for i in index], features, row_mode):
            yield [
                (index[j], _sum_by_answer(rows[index[j]], result))
                for j, result in zip(batch, results, strict=True)
            ]


def _run(
    forward: Forward, rows: list[EncodedRow], features: dict[Any, ImageFeatures], mode: QueryMode
) -> Iterator[tuple[list[int], list[Result]]]:
    """Indices into `rows` and the log-probabilities of their tries' targets, batch by batch."""
    if mode == "batched":  # trunks of the same length are encoded together
        batches = list(
            forward.make_batches(rows, lambda r: (0, len(r.ids), len(r.images)), MAX_LOGIT_VALUES)
        )
    else:
        batches = list(
            forward.make_batches(rows, lambda r: r.shape, MAX_LOGIT_VALUES // forward.vocabulary)
        )

    def job(batch: list[int]) -> list[Result]:
        batch_rows = [rows[i] for i in batch]
        if mode == "packed":
            return forward.split_on_oom(
                lambda part: list(_target_logprobs(forward, part, features, True)), batch_rows
            )
        return _run_paths(forward, batch_rows, features, mode == "batched")

    yield from zip(batches, forward.parallel_map(job, batches), strict=True)


def _sum_by_answer(row: EncodedRow, result: Result) -> Result:
    """float64 [answers]: the log-probabilities of a row's targets, summed over each answer."""
    assert row.trie is not None
    if isinstance(result, str):
        return result
    return np.bincount(row.trie.answer, result, row.trie.n_answers)


def _run_paths(
    forward: Forward, rows: list[EncodedRow], features: dict[Any, ImageFeatures], reuse: bool
) -> list[Result]:
    """Log-probabilities of each row's targets, float64 [targets], every path of its trie by itself.

    Arguments:
        reuse: continue from the keys and values of the trunk, except for its last token, whose
            logits are needed.
    """
    out: list[Result] = []
    path_rows: list[EncodedRow] = []
    owners: list[tuple[int, np.ndarray]] = []  # of each path: its row, which targets it computes
    prefixes: list[Any] = [None] * len(rows)
    if reuse and len(rows[0].ids) > MIN_GEMM_ROWS:
        trunks = [EncodedRow(r.ids[:-1], r.answer_positions, r.images, r.grids) for r in rows]
        prefixes = forward.split_on_oom(lambda part: list(forward.prefixes(part, features)), trunks)
    for j, row in enumerate(rows):
        assert row.trie is not None
        if isinstance(prefixes[j], str):
            out.append(prefixes[j])
            continue
        out.append(np.full(len(row.trie.source), np.nan))  # (targets,)
        for path_ids, outputs, targets in paths(row.trie):
            ids = np.concatenate([row.ids, path_ids])  # (trunk + path,)
            path_rows.append(
                EncodedRow(
                    ids,
                    len(ids) + outputs.output_nodes,
                    row.images,
                    row.grids,
                    prefixes[j],
                    outputs,
                )
            )
            owners.append((j, targets))
    for batch in forward.make_batches(
        path_rows, lambda r: r.shape, MAX_LOGIT_VALUES // forward.vocabulary
    ):
        results = forward.split_on_oom(
            lambda part: list(_target_logprobs(forward, part, features, False)),
            [path_rows[i] for i in batch],
        )
        for i, result in zip(batch, results, strict=True):
            j, targets = owners[i]
            table = out[j]
            if isinstance(result, str):
                out[j] = result
            elif not isinstance(table, str):
                table[targets] = result
    return out


@torch.inference_mode()
def _target_logprobs(
    forward: Forward, rows: list[EncodedRow], features: dict[Any, ImageFeatures], packed: bool
) -> Iterator[np.ndarray]:
    """Log-probabilities of each row's targets, float64 [targets], of rows of equal shape, in one
    pass.

    Arguments:
        packed: the rows' tries have nodes; otherwise none has.
    """
    start, width, _ = rows[0].shape  # T = width
    device = forward.device
    ids = np.full((len(rows), width), forward.pad, np.int64)  # (B, T)
    needed = np.zeros((len(rows), width), bool)  # (B, T)
    lines: list[np.ndarray] = []  # for each row, (targets,): index into the needed logits
    targets: list[np.ndarray] = []  # for each row, (targets,): token ids
    n_needed = 0
    for j, row in enumerate(rows):
        trie = row.trie
        assert trie is not None and (packed or not len(trie.ids))
        trunk, outputs = len(row.ids) - start, trie.output_nodes
        ids[j, : trunk + len(trie.ids)] = row.packed_ids[start:]
        needed[j, trunk + outputs] = True
        lines.append(n_needed + np.searchsorted(outputs, trie.source))
        targets.append(trie.target)
        n_needed += len(outputs)
    computed = needed.copy()  # (B, T)
    if n_needed < MIN_GEMM_ROWS:  # a few positions more, whose logits are discarded
        computed.reshape(-1)[:MIN_GEMM_ROWS] = True
    tokens = torch.from_numpy(ids).to(device)  # (B, T)
    extra = forward.image_inputs(rows, features, width)
    if packed:
        extra["attention_mask"] = additive_mask(forward, rows, width)
        positions = _packed_positions(forward, rows, width)
    else:
        positions = forward.position_ids(rows, start, width)
    if start:
        extra[forward.cache_argument] = stack_prefixes([r.prefix for r in rows if r.prefix])
    keep = torch.from_numpy(computed).to(device)  # (B, T)
    output = forward.model(
        input_ids=tokens,
        position_ids=positions,
        use_cache=start > 0,
        logits_to_keep=keep,
        **extra,
    )
    logits = kept_logits(output.logits, keep)  # (K, V): one line per position in `computed`
    forward.count_pass(tokens)
    if n_needed < MIN_GEMM_ROWS:
        logits = logits[torch.from_numpy(needed[computed]).to(device)]  # (needed, V)
    logits = logits.float()  # (needed, V)
    line = torch.from_numpy(np.concatenate(lines)).to(device)  # (targets of all rows,)
    target = torch.from_numpy(np.concatenate(targets)).to(device)  # (targets of all rows,)
    logprobs = logits[line, target] - logits.logsumexp(-1)[line]  # (targets of all rows,)
    values = logprobs.double().cpu().numpy()
    begin = 0
    for row_targets in targets:
        yield values[begin : begin + len(row_targets)]
        begin += len(row_targets)


def _packed_positions(forward: Forward, rows: list[EncodedRow], width: int) -> torch.Tensor:
    """Each token's position in its own prompt: int64 (B, T), or (3, B, T) for multimodal rotary
    positions."""
    index = np.stack(
        [position_ids(len(r.ids), r.trie, width) for r in rows if r.trie is not None]
    )  # (B, T)
    positions = torch.from_numpy(index).to(forward.device)  # (B, T)
    if forward.rope_index is None:
        return positions
    sequential = forward.position_ids(rows, 0, int(index.max()) + 1)  # (3, B, longest prompt)
    return sequential.gather(2, positions.expand(3, *positions.shape))  # (3, B, T)


def additive_mask(forward: Forward, rows: list[EncodedRow], width: int) -> Any:
    """The mask that is added to the attention scores, (B, 1, T, T); a dict with one mask per kind
    of layer where layers differ.

    Arguments:
        forward: of the model.
        rows: B rows of equal padded length, each with a trie.
        width: T, the padded length.

    Raises ValueError for layers with neither full nor sliding attention: their rows cannot be
    packed.
    """
    tries = [r.trie for r in rows if r.trie is not None]

    def attends(kind: str) -> np.ndarray:  # (B, T, T)
        both_ways = kind in forward.bidirectional_layers
        masks = [
            attention_mask(
                len(r.ids), t, width, forward.bidirectional_groups(r) if both_ways else None
            )
            for r, t in zip(rows, tries, strict=True)
        ]
        return np.stack(masks)

    kinds, window = attention_kinds(forward.model.config)
    if not kinds <= {"full_attention", "attention", "sliding_attention"}:
        raise ValueError(f"layers of kinds {sorted(kinds)} take no mask")
    if "sliding_attention" not in kinds:
        return _to_additive(forward, attends("full_attention"))
    positions = np.stack(
        [position_ids(len(r.ids), t, width) for r, t in zip(rows, tries, strict=True)]
    )  # (B, T)
    distance = positions[:, :, None] - positions[:, None, :]  # (B, T, T)
    sliding = _to_additive(forward, attends("sliding_attention") & (distance < window))
    if kinds == {"sliding_attention"}:
        return sliding
    full = _to_additive(forward, attends("full_attention"))
    return {"full_attention": full, "sliding_attention": sliding}


def attention_kinds(config: Any) -> tuple[set[str], int]:
    """The kinds of attention layers of a language model, and the window of the sliding ones in
    tokens (0: there are none)."""
    text = config.get_text_config(decoder=True)
    window = getattr(text, "sliding_window", None) or 0
    kinds = getattr(text, "layer_types", None)
    if kinds:
        return set(kinds), window
    slides = bool(window) and getattr(text, "use_sliding_window", True)
    return {"sliding_attention" if slides else "full_attention"}, window


def _to_additive(forward: Forward, attends: np.ndarray) -> torch.Tensor:
    """(B, 1, T, T) in the model's dtype: 0 where `attends`, else the most negative number."""
    dtype = forward.model.dtype
    hidden = torch.from_numpy(~attends).to(forward.device)  # (B, T, T)
    out = torch.zeros(hidden.shape, dtype=dtype, device=forward.device)
    return out.masked_fill_(hidden, torch.finfo(dtype).min)[:, None]
