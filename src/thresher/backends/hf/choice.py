"""The most likely of a row's candidate answers: the log-probability of each as the row's last
answer, under teacher forcing.

All tokens of a candidate count and, where the chat template ends an answer with a stop token, that
token too: without it, "1" would always beat "10". Log-probabilities are summed, not averaged: the
sum is the log-probability of exactly this answer. The prompt of a row's candidates is encoded once
where the architecture allows that exactly.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from thresher.backends.hf.conversation import with_answer
from thresher.backends.hf.forward import (
    MAX_LOGIT_VALUES,
    MIN_GEMM_ROWS,
    EncodedRow,
    Forward,
)
from thresher.backends.hf.outputs import Loss
from thresher.backends.hf.traits import stop_tokens
from thresher.types import Sample, SampleSource, Scored

if TYPE_CHECKING:
    from thresher.backends.hf.blocks import BlockPipeline
    from thresher.backends.hf.images import ImageFeatures


@dataclass(frozen=True, slots=True)
class _Pair:
    sample_index: int
    sample: Sample
    candidate: str


def choice(
    pipeline: BlockPipeline,
    samples: Sequence[Sample],
    candidates: Sequence[Sequence[str]],
    pool: SampleSource,
) -> Iterator[Scored]:
    """The most likely candidate answer of each sample.

    Arguments:
        pipeline: of the model.
        samples: n rows.
        candidates: for each sample, at least one text to put in place of its last answer.
        pool: where images are loaded from.

    Yields `picked` int32, index into the sample's candidates (the first of equal ones), and
    `margin` float32, its log-probability minus that of the second, in nats (inf for a single one).
    """
    assert all(candidates), "choice needs at least one candidate for every row"
    pairs = [
        _Pair(i, s, c)
        for i, (s, texts) in enumerate(zip(samples, candidates, strict=True))
        for c in texts
    ]
    stop_ids = stop_tokens(pipeline.forward.model, pipeline.encoder)
    # sample index -> index into `pairs` -> log-probability or error
    results: dict[int, dict[int, float | str]] = {}
    for block in pipeline.blocks(pairs, lambda p: with_answer(p.sample, p.candidate), pool, False):
        for row in block.rows:
            _include_stop_token(row, stop_ids)
        features = pipeline.features(block)
        failed: list[tuple[int, Loss | str]] = list(block.errors.items())
        parts = (
            [(block.index[j], loss) for j, loss in part]
            for part in _losses(pipeline.forward, block.rows, features)
        )
        for part in itertools.chain([failed], parts):
            touched: dict[int, None] = {}  # samples, in order
            for pair_index, loss in part:
                i = pairs[pair_index].sample_index
                touched[i] = None
                score = loss if isinstance(loss, str) else -loss.nll * loss.tokens
                results.setdefault(i, {})[pair_index] = score
            complete = [i for i in touched if len(results[i]) == len(candidates[i])]
            if complete:
                scores = [[s for _, s in sorted(results.pop(i).items())] for i in complete]
                yield scored_choices(complete, scores)


def _include_stop_token(row: EncodedRow, stop_ids: frozenset[int]) -> None:
    """Count the token after the last answer, if it is a stop token."""
    following = int(row.answer_positions[-1]) + 1
    if following < len(row.ids) and int(row.ids[following]) in stop_ids:
        row.answer_positions = np.append(row.answer_positions, following)


def scored_choices(index: list[int], scores: list[list[float | str]]) -> Scored:
    """The choices of some samples.

    index: of the samples.
    scores: for each, the log-probability or the error of every candidate.

    Arguments:
        index: of the samples.
        scores: for each sample, the log-probability or the error of every candidate.
    """
    picked = np.zeros(len(index), np.int32)
    margin = np.zeros(len(index), np.float32)
    errors = []
    for j, row in enumerate(scores):
        failures = [s for s in row if isinstance(s, str)]
        logprobs = np.array([s for s in row if not isinstance(s, str)])  # (candidates,)
        if failures:
            errors.append(failures[0])
        elif not np.isfinite(logprobs).all():
            errors.append("not-finite: the likelihood of a candidate is not a finite number")
        else:
            errors.append("")
            picked[j] = int(logprobs.argmax())
            best = np.sort(logprobs)[::-1]
            margin[j] = best[0] - best[1] if len(best) > 1 else np.inf
    return Scored(np.array(index, np.int64), {"picked": picked, "margin": margin}, errors)


def _losses(
    forward: Forward, rows: list[EncodedRow], features: dict[Any, ImageFeatures]
) -> Iterator[list[tuple[int, Loss | str]]]:
    """(index into `rows`, loss or error) part by part; rows with the same prompt share its
    encoding.

    Where the prompt ends depends on the row alone, so that its numbers do not depend on the other
    candidates.
    """
    # a prompt (its ids and images) -> the rows that begin with it
    by_prompt: dict[Any, list[int]] = {}
    whole: list[int] = []  # rows that cannot share a prompt
    for i, row in enumerate(rows):
        # the prompt's last token runs with the candidate: it predicts the first token
        end = int(row.answer_positions[0]) - 1
        if (
            not forward.reuses_prefix
            or end < MIN_GEMM_ROWS
            or (row.ids[end:] == forward.image_token_id).any()
        ):
            whole.append(i)
        else:
            by_prompt.setdefault((row.ids[:end].tobytes(), row.images, row.grids), []).append(i)
    for part, losses in forward.losses([rows[i] for i in whole], features):
        yield [(whole[k], loss) for k, loss in zip(part, losses, strict=True)]

    groups = list(by_prompt.values())
    prompts = [_prompt(rows[group[0]]) for group in groups]
    batches = list(
        forward.make_batches(prompts, lambda r: (0, len(r.ids), len(r.images)), MAX_LOGIT_VALUES)
    )

    def job(batch: list[int]) -> list[tuple[int, Loss | str]]:
        """Encode prompts of the same length, then run all their candidates."""
        prefixes = forward.split_on_oom(
            lambda part: list(forward.prefixes(part, features)), [prompts[g] for g in batch]
        )
        out: list[tuple[int, Loss | str]] = []
        ready: list[int] = []
        for g, prefix in zip(batch, prefixes, strict=True):
            if isinstance(prefix, str):
                out += [(i, prefix) for i in groups[g]]
                continue
            ready += groups[g]
            for i in groups[g]:
                rows[i].prefix = prefix
        running = [rows[i] for i in ready]
        for part in forward.make_batches(
            running, lambda r: r.shape, MAX_LOGIT_VALUES // forward.vocabulary
        ):
            losses = forward.batch_losses([running[k] for k in part], features)
            out += [(ready[k], loss) for k, loss in zip(part, losses, strict=True)]
        for row in running:
            row.prefix = None  # frees the keys and values
        return out

    yield from forward.parallel_map(job, batches)


def _prompt(row: EncodedRow) -> EncodedRow:
    """The row without the prompt's last token and the answer."""
    end = int(row.answer_positions[0]) - 1
    return EncodedRow(row.ids[:end], row.answer_positions, row.images, row.grids)
