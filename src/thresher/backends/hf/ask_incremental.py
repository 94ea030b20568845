"""One question after each piece of a growing text: what was read stays encoded, so each piece costs
its own tokens only.

The prompts of a row are its user turn, the turn with one piece more, and so on; behind each stands
the question. Two neighbours share all tokens up to where the text grew, so keys and values are kept
up to there, and only the new piece and the question run. Tokens processed grow with the length of
the text; asking anew each time grows with its square.

Each prompt is tokenised whole, as `ask` does, and shared tokens are found by comparing: a border
that merges two tokens costs one token more and changes no number. Text only. The rules of
`forward.py` hold: a row runs alone, in chunks padded to 8 tokens, so its numbers depend on nothing
but itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from thresher.backends.hf.conversation import Conversation, Message, conversation
from thresher.backends.hf.encode import Text
from thresher.backends.hf.forward import LEAST_ROWS, Forward, Row, padded
from thresher.backends.hf.traits import skips_padding
from thresher.types import Query, Sample, SampleSource, Scored

if TYPE_CHECKING:
    from thresher.backends.hf.blocks import BlockPipeline

ROWS_AT_ONCE = 64


@dataclass(slots=True)
class _Growing:
    """`prompts[t]`: int64 token ids with t pieces; `answers`: the first token of each answer."""

    prompts: list[np.ndarray]
    answers: list[int]


def grows(forward: Forward) -> bool:
    """Whether this model's encoded text may be cut back and gone on with exactly."""
    return (
        type(forward) is Forward and forward.reuses_prefix and skips_padding(forward.model.config)
    )


def ask_growing(
    pipeline: BlockPipeline,
    samples: Sequence[Sample],
    pieces: Sequence[Sequence[str]],
    query: Query,
    pool: SampleSource,
) -> Iterator[Scored]:
    """`samples[i]`: an optional system turn and ONE user turn, without images; `pieces[i]`: what
    its text grows by.

    Field: logprob float32 [m, most pieces + 1, answers], in nats under the full vocabulary, of each
    answer's first token: [., t] after t pieces, NaN behind a row's last. What `ask` gives for the
    turn with the first t pieces in it.
    """
    forward = pipeline.forward
    for start in range(0, len(samples), ROWS_AT_ONCE):
        at = range(start, min(start + ROWS_AT_ONCE, len(samples)))
        encoded = [_encode(pipeline, samples[i], pieces[i], query) for i in at]
        good = [k for k, e in enumerate(encoded) if not isinstance(e, str)]
        tables: dict[int, np.ndarray | str] = {
            k: e for k, e in enumerate(encoded) if isinstance(e, str)
        }
        jobs = [e for e in encoded if not isinstance(e, str)]
        for k, table in zip(good, forward.run(lambda job: _whole(forward, job), jobs), strict=True):
            tables[k] = table
        longest = max((len(t) for t in tables.values() if not isinstance(t, str)), default=1)
        out = np.full((len(at), longest, len(query.answers)), np.nan, np.float32)
        errors = [""] * len(at)
        for k, found in tables.items():
            if isinstance(found, str):
                errors[k] = found
            else:
                out[k, : len(found)] = found
                if not np.isfinite(found).all():
                    errors[k] = "the likelihood of an answer is not a finite number"
        yield Scored(np.array(at, np.int64), {"logprob": out}, errors)


def _encode(
    pipeline: BlockPipeline, sample: Sample, pieces: Sequence[str], query: Query
) -> _Growing | str:
    """The prompts of a row, or why it has none."""
    base = conversation(sample)
    if base.images or base.messages[-1].role != "user":
        return "a growing text has no images and ends with a user turn"
    talks = [_talk(base, pieces[:t], query.text, query.answers[0]) for t in range(len(pieces) + 1)]
    talks += [_talk(base, (), query.text, answer) for answer in query.answers[1:]]
    texts = pipeline.encoder.encode(talks)
    prompts: list[np.ndarray] = []
    answers: list[int] = []
    for t, text in enumerate(texts):
        if not isinstance(text, Text):
            return text
        ids = np.array(text.ids[: text.answers[0]], np.int64)
        if t == 0 or t > len(pieces):
            answers.append(text.ids[text.answers[0]])
        if t <= len(pieces):
            prompts.append(ids)
        elif not np.array_equal(ids, prompts[0]):
            return "the answers do not begin at one place of the prompt"
    if len(set(answers)) < len(answers):
        return f"the answers {', '.join(query.answers)} cannot be told apart by their first tokens"
    if (longest := max(len(p) for p in prompts)) > pipeline.context:
        return f"too long: {longest:,} tokens, and the model's context is {pipeline.context:,}"
    return _Growing(prompts, answers)


def _talk(base: Conversation, pieces: Sequence[str], query: str, answer: str) -> Conversation:
    last = base.messages[-1]
    text = "".join(p for p in last.parts if p is not None) + "".join(pieces) + query
    messages = (*base.messages[:-1], Message("user", (text,)), Message("assistant", (answer,)))
    return Conversation(messages, (), counted=len(base.messages))


def _whole(forward: Forward, job: _Growing) -> np.ndarray | str:
    longest = Row(max(job.prompts, key=len), np.zeros(1, np.int64), ())
    found = forward.halving(lambda some: [_grow(forward, job)], [longest])
    return found[0]


@torch.inference_mode()
def _grow(forward: Forward, job: _Growing) -> np.ndarray:
    """float64 [prompts, answers]."""
    from transformers import DynamicCache

    cache = DynamicCache()
    known = np.zeros(0, np.int64)
    token = torch.tensor(job.answers, device=forward.device)
    out = np.empty((len(job.prompts), len(job.answers)))
    for t, ids in enumerate(job.prompts):
        same = min(_common(known, ids), len(ids) - 1)  # the last token runs: its output is wanted
        for layer in cache.layers:  # what differs goes, and the padding behind it
            layer.keys, layer.values = layer.keys[..., :same, :], layer.values[..., :same, :]
        out[t] = _ask(forward, ids, same, cache, token)
        known = ids
    return out


def _common(a: np.ndarray, b: np.ndarray) -> int:
    """How many tokens both begin with."""
    n = min(len(a), len(b))
    differ = np.flatnonzero(a[:n] != b[:n])
    return int(differ[0]) if len(differ) else n


def _ask(
    forward: Forward, ids: np.ndarray, start: int, cache: Any, token: torch.Tensor
) -> np.ndarray:
    """Log-probabilities of `token` behind `ids`, whose first `start` tokens are in the cache."""
    width = padded(len(ids) - start)
    run = np.full((1, width), forward.pad, np.int64)
    run[0, : len(ids) - start] = ids[start:]
    keep = np.zeros((1, width), bool)
    keep[0, len(ids) - start - 1] = True
    wanted = keep.copy()
    wanted.reshape(-1)[:LEAST_ROWS] = True  # a few positions more, whose logits are thrown away
    row = Row(ids, np.zeros(1, np.int64), ())
    tokens = torch.from_numpy(run).to(forward.device)
    logits = forward.model(
        input_ids=tokens,
        position_ids=forward._position_ids([row], start, width),
        use_cache=True,
        logits_to_keep=torch.from_numpy(wanted).to(forward.device),
        **{forward.cache_argument: cache},
    ).logits
    forward._count(tokens)
    line = logits[torch.from_numpy(keep[wanted]).to(forward.device)].float()[0]
    return (line[token] - line.logsumexp(-1)).double().cpu().numpy()
