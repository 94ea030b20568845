"""The likeliest of a row's candidate answers: the log-probability of each as the row's last answer,
under teacher forcing.

A candidate counts with all its tokens and, where the chat template ends an answer with an end
token, with that token
too: without it "1" would always beat "10". Log-probabilities are summed, not averaged: it is the
probability of saying exactly this. The prompt of a row's candidates is encoded once where the
architecture allows that exactly.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from thresher.backends.hf.conversation import Conversation, answered
from thresher.backends.hf.forward import LEAST_ROWS, LOGIT_VALUES, Forward, Row
from thresher.backends.hf.outputs import Loss
from thresher.backends.hf.traits import stop_tokens
from thresher.types import Sample, SampleSource, Scored

if TYPE_CHECKING:
    from thresher.backends.hf.blocks import BlockPipeline
    from thresher.backends.hf.images import Features


@dataclass(frozen=True, slots=True)
class _Pair:
    row: int  # position in the samples given
    sample: Sample
    candidate: str


def choice(
    pipeline: BlockPipeline,
    samples: Sequence[Sample],
    candidates: Sequence[Sequence[str]],
    pool: SampleSource,
) -> Iterator[Scored]:
    """Fields: picked int32 (position in the row's candidates; the first of equals), margin float32
    (nats to the next)."""
    assert all(candidates), "a row without candidates cannot be asked to choose"
    pairs = [
        _Pair(i, s, c)
        for i, (s, given) in enumerate(zip(samples, candidates, strict=True))
        for c in given
    ]
    stops = stop_tokens(pipeline.forward.model, pipeline.encoder)
    # row -> position in `pairs` -> log-probability, or what went wrong
    found: dict[int, dict[int, float | str]] = {}
    for block in pipeline.blocks(pairs, _talk, pool, False):
        for row in block.rows:
            _count_the_end(row, stops)
        features = pipeline.features(block)
        failed: list[tuple[int, Loss | str]] = list(block.errors.items())
        parts = (
            [(block.index[j], loss) for j, loss in part]
            for part in _losses(pipeline.forward, block.rows, features)
        )
        for part in itertools.chain([failed], parts):
            touched: dict[int, None] = {}  # in order
            for at, loss in part:
                i = pairs[at].row
                touched[i] = None
                score = loss if isinstance(loss, str) else -loss.nll * loss.tokens
                found.setdefault(i, {})[at] = score
            done = [i for i in touched if len(found[i]) == len(candidates[i])]
            if done:
                yield _scored(
                    done, [[score for _, score in sorted(found.pop(i).items())] for i in done]
                )


def _talk(pair: _Pair) -> Conversation:
    return answered(pair.sample, pair.candidate)


def _count_the_end(row: Row, stops: frozenset[int]) -> None:
    behind = int(row.answers[-1]) + 1
    if behind < len(row.ids) and int(row.ids[behind]) in stops:
        row.answers = np.append(row.answers, behind)


def _scored(index: list[int], scores: list[list[float | str]]) -> Scored:
    picked = np.zeros(len(index), np.int32)
    margin = np.zeros(len(index), np.float32)
    errors = []
    for j, row in enumerate(scores):
        bad = [s for s in row if isinstance(s, str)]
        good = np.array([s for s in row if not isinstance(s, str)])
        if bad:
            errors.append(bad[0])
        elif not np.isfinite(good).all():
            errors.append("the likelihood of a candidate is not a finite number")
        else:
            errors.append("")
            picked[j] = int(good.argmax())
            best = np.sort(good)[::-1]
            margin[j] = best[0] - best[1] if len(best) > 1 else np.inf
    return Scored(np.array(index, np.int64), {"picked": picked, "margin": margin}, errors)


def _losses(
    forward: Forward, rows: list[Row], features: dict[Any, Features]
) -> Iterator[list[tuple[int, Loss | str]]]:
    """(position, loss) of each row, part by part; rows that begin with the same prompt share its
    encoding.

    Where the prompt ends depends on the row alone, so that its numbers do not depend on the other
    candidates.
    """
    # a prompt (its ids and images) -> the rows that begin with it
    shared: dict[Any, list[int]] = {}
    alone: list[int] = []
    for i, row in enumerate(rows):
        # the prompt's last token runs with the candidate: it predicts the first token
        end = int(row.answers[0]) - 1
        if (
            not forward.reuses_prefix
            or end < LEAST_ROWS
            or (row.ids[end:] == forward.image_token_id).any()
        ):
            alone.append(i)
        else:
            shared.setdefault((row.ids[:end].tobytes(), row.images, row.grids), []).append(i)
    for part, losses in forward.losses([rows[i] for i in alone], features):
        yield [(alone[k], loss) for k, loss in zip(part, losses, strict=True)]

    groups = list(shared.values())
    prompts = [_prompt(rows[group[0]]) for group in groups]
    batches = list(forward.cut(prompts, lambda r: (0, len(r.ids), len(r.images)), LOGIT_VALUES))

    def job(batch: list[int]) -> list[tuple[int, Loss | str]]:
        """Prompts of one length, and all candidates behind them."""
        prefixes = forward.halving(
            lambda part: list(forward.prefixes(part, features)), [prompts[g] for g in batch]
        )
        done: list[tuple[int, Loss | str]] = []
        ready: list[int] = []
        for g, prefix in zip(batch, prefixes, strict=True):
            if isinstance(prefix, str):
                done += [(i, prefix) for i in groups[g]]
                continue
            ready += groups[g]
            for i in groups[g]:
                rows[i].prefix = prefix
        running = [rows[i] for i in ready]
        most = LOGIT_VALUES // forward.vocabulary
        for part in forward.cut(running, lambda r: r.shape, most):
            losses = forward.batch([running[k] for k in part], features)
            done += [(ready[k], loss) for k, loss in zip(part, losses, strict=True)]
        for row in running:
            row.prefix = None  # frees the keys and values
        return done

    yield from forward.run(job, batches)


def _prompt(row: Row) -> Row:
    """All but the prompt's last token and the answer."""
    return Row(row.ids[: int(row.answers[0]) - 1], row.answers, row.images, row.grids)
