"""The same question after each piece of a growing text: what has been read stays in the key-value
cache, so each piece costs only its own tokens.

The prompts of a row are its user turn, the turn with one more piece, and so on, each followed by
the question. Consecutive prompts share all tokens before the new piece, so their keys and values
are kept, and only the new piece and the question run. The number of tokens that run is linear in
the length of the text; asking from the start each time would be quadratic.

Each prompt is tokenised as a whole, as `ask` does, and shared tokens are found by comparison: a
border at which two tokens merge costs one more token and changes no number. Text only. The rules of
`forward.py` apply: a row runs by itself, padded to a multiple of 8 tokens, so its numbers depend on
nothing else.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from thresher.backends.hf.conversation import Conversation, Message, conversation
from thresher.backends.hf.encode import EncodedText
from thresher.backends.hf.forward import (
    MIN_GEMM_ROWS,
    EncodedRow,
    Forward,
    kept_logits,
    pad_length,
)
from thresher.backends.hf.traits import skips_padding
from thresher.types import Query, Sample, SampleSource, Scored

if TYPE_CHECKING:
    from thresher.backends.hf.blocks import BlockPipeline

CHUNK_ROWS = 64  # rows per `Scored`


@dataclass(slots=True)
class _Prompts:
    """The prompts of one row.

    prompts: int64 token ids; `prompts[t]` has t pieces.
    answer_ids: the first token of each answer.
    """

    prompts: list[np.ndarray]
    answer_ids: list[int]


def can_ask_incrementally(forward: Forward) -> bool:
    """Whether a prefix of this model's key-value cache can be continued exactly."""
    return (
        type(forward) is Forward and forward.reuses_prefix and skips_padding(forward.model.config)
    )


def ask_incrementally(
    pipeline: BlockPipeline,
    samples: Sequence[Sample],
    pieces: Sequence[Sequence[str]],
    query: Query,
    pool: SampleSource,
) -> Iterator[Scored]:
    """Log-probabilities of the answers after every number of pieces, as `ask` gives them.

    Arguments:
        pipeline: of the model.
        samples: each an optional system turn and one user turn, without images.
        pieces: for each sample, the pieces that extend its user turn, in order.
        query: asked after each piece, and before the first.
        pool: not used.

    Yields `logprob`: float32 [m, most pieces + 1, answers], in nats under the full vocabulary, of
    each answer's first token; [., t] after t pieces, NaN after a row's last.
    """
    forward = pipeline.forward
    for start in range(0, len(samples), CHUNK_ROWS):
        index = range(start, min(start + CHUNK_ROWS, len(samples)))
        encoded = [_encode(pipeline, samples[i], pieces[i], query) for i in index]
        results: dict[int, np.ndarray | str] = {
            k: e for k, e in enumerate(encoded) if isinstance(e, str)
        }
        valid = [k for k, e in enumerate(encoded) if not isinstance(e, str)]
        jobs = [e for e in encoded if not isinstance(e, str)]
        tables = forward.parallel_map(lambda job: _run_row(forward, job), jobs)
        results.update(zip(valid, tables, strict=True))
        longest = max((len(t) for t in results.values() if not isinstance(t, str)), default=1)
        # (m, most pieces + 1, answers)
        out = np.full((len(index), longest, len(query.answers)), np.nan, np.float32)
        errors = [""] * len(index)
        for k, result in results.items():
            if isinstance(result, str):
                errors[k] = result
            else:
                out[k, : len(result)] = result
                if not np.isfinite(result).all():
                    errors[k] = "not-finite: the likelihood of an answer is not a finite number"
        yield Scored(np.array(index, np.int64), {"logprob": out}, errors)


def _encode(
    pipeline: BlockPipeline, sample: Sample, pieces: Sequence[str], query: Query
) -> _Prompts | str:
    """The prompts of a row, or why it has none."""
    base = conversation(sample)
    if base.images or base.messages[-1].role != "user":
        return "a growing text has no images and ends with a user turn"
    conversations = [
        _extended(base, pieces[:t], query.text, query.answers[0]) for t in range(len(pieces) + 1)
    ]
    # the other answers once, for their first tokens
    conversations += [_extended(base, (), query.text, answer) for answer in query.answers[1:]]
    texts = pipeline.encoder.encode(conversations)
    prompts: list[np.ndarray] = []
    answer_ids: list[int] = []
    for t, text in enumerate(texts):
        if not isinstance(text, EncodedText):
            return text
        answer = next(p for p in text.answer_positions if p not in text.separator_positions)
        ids = np.array(text.ids[:answer], np.int64)
        if t == 0 or t > len(pieces):
            answer_ids.append(text.ids[answer])
        if t <= len(pieces):
            prompts.append(ids)
        elif not np.array_equal(ids, prompts[0]):
            return "the answers do not begin at the same place of the prompt"
    if len(set(answer_ids)) < len(answer_ids):
        return (
            f"the answers {', '.join(query.answers)} cannot be distinguished by their first tokens"
        )
    if (longest := max(len(p) for p in prompts)) > pipeline.context:
        return f"too long: {longest:,} tokens, and the model's context is {pipeline.context:,}"
    return _Prompts(prompts, answer_ids)


def _extended(base: Conversation, pieces: Sequence[str], query: str, answer: str) -> Conversation:
    """`base` with pieces and query at the end of its user turn, and the answer."""
    last = base.messages[-1]
    text = "".join(p for p in last.parts if p is not None) + "".join(pieces) + query
    messages = (*base.messages[:-1], Message("user", (text,)), Message("assistant", (answer,)))
    return Conversation(messages, (), scored_from=len(base.messages))


def _run_row(forward: Forward, job: _Prompts) -> np.ndarray | str:
    longest = EncodedRow(max(job.prompts, key=len), np.zeros(1, np.int64), ())
    return forward.split_on_oom(lambda _: [_prompt_logprobs(forward, job)], [longest])[0]


@torch.inference_mode()
def _prompt_logprobs(forward: Forward, job: _Prompts) -> np.ndarray:
    """float64 [prompts, answers]."""
    from transformers import DynamicCache

    cache = DynamicCache()
    cached = np.zeros(0, np.int64)  # ids of the previous prompt
    answer_ids = torch.tensor(job.answer_ids, device=forward.device)  # (answers,)
    out = np.empty((len(job.prompts), len(job.answer_ids)))
    for t, ids in enumerate(job.prompts):
        # the last token runs in any case: its output is needed
        common = min(_common_length(cached, ids), len(ids) - 1)
        for layer in cache.layers:  # drop what differs, and the padding after it
            layer.keys = layer.keys[..., :common, :]  # (1, heads, common, head_dim)
            layer.values = layer.values[..., :common, :]
        out[t] = _next_token_logprobs(forward, ids, common, cache, answer_ids)
        cached = ids
    return out


def _common_length(a: np.ndarray, b: np.ndarray) -> int:
    """Length of the longest common prefix."""
    n = min(len(a), len(b))
    differ = np.flatnonzero(a[:n] != b[:n])
    return int(differ[0]) if len(differ) else n


def _next_token_logprobs(
    forward: Forward, ids: np.ndarray, start: int, cache: Any, answer_ids: torch.Tensor
) -> np.ndarray:
    """float64 [answers]: log-probabilities of `answer_ids` after `ids`, whose first `start` tokens
    are in the cache."""
    width = pad_length(len(ids) - start)  # T
    run = np.full((1, width), forward.pad, np.int64)  # (1, T)
    run[0, : len(ids) - start] = ids[start:]
    needed = np.zeros((1, width), bool)  # (1, T)
    needed[0, len(ids) - start - 1] = True
    computed = needed.copy()
    computed.reshape(-1)[:MIN_GEMM_ROWS] = True  # a few positions more, whose logits are discarded
    row = EncodedRow(ids, np.zeros(1, np.int64), ())
    tokens = torch.from_numpy(run).to(forward.device)
    keep = torch.from_numpy(computed).to(forward.device)  # (1, T)
    output = forward.model(
        input_ids=tokens,
        position_ids=forward.position_ids([row], start, width),
        use_cache=True,
        logits_to_keep=keep,
        **{forward.cache_argument: cache},
    )
    logits = kept_logits(output.logits, keep)  # (computed, vocabulary)
    forward.count_pass(tokens)
    line = logits[torch.from_numpy(needed[computed]).to(forward.device)].float()[0]  # (vocabulary,)
    return (line[answer_ids] - line.logsumexp(-1)).double().cpu().numpy()
