"""A model behind an `Adapter` as a backend: losses of answers, choices, questions, generation.

One row at a time and without reuse: a row's numbers depend on nothing else, and a demonstration or
a judge's prompt runs again with each row. Hidden states are not read, and nothing is trained;
`ModelIdentity.limit` says so before a run starts.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from thresher.backends.adapted.adapter import Adapter, Encoded
from thresher.backends.hf.answer_ends import AnswerEnds
from thresher.backends.hf.backend import Probe
from thresher.backends.hf.choice import scored_choices
from thresher.backends.hf.conversation import (
    Conversation,
    Message,
    after_demonstration,
    conversation,
    prompt_of,
    with_answer,
)
from thresher.backends.hf.outputs import entropy_and_gap
from thresher.console.peak_memory import peak_bytes
from thresher.errors import CapabilityError, ImageError, ModelError, named_reason, opt, reason_of
from thresher.types import Query, Sample, SampleSource, Scored

PIECE_SECONDS = 1.0


class AdaptedBackend:
    """Runs rows through an adapter.

    Arguments:
        adapter: runs the model.
        name: of the adapter, as module:Class, for messages.
    """

    reuses_prefix = False
    shrinks_images = False
    query_mode = "full"

    def __init__(self, adapter: Adapter, name: str) -> None:
        self.adapter = adapter
        self.name = name
        self.tokens = 0  # through the model so far

    # --------------------------------------------------------------------------------- capabilities

    def answer_loss(
        self, samples: Sequence[Sample], pool: SampleSource, among_images: bool = False
    ) -> Iterator[Scored]:
        """Yields nll, tokens and greedy_match, see `HFBackend.answer_loss`."""
        return self._losses([conversation(s) for s in samples], pool)

    def read(
        self,
        samples: Sequence[Sample],
        pool: SampleSource,
        *,
        loss: bool = True,
        spread: bool = False,
        states: Sequence[tuple[float, str]] = (),
        light_spans: Callable[[str], Sequence[tuple[int, int]]] | None = None,
        among_images: bool = False,
    ) -> Iterator[Scored]:
        """Losses and, with `spread`, entropy and own_gap; see `HFBackend.read`.

        Raises CapabilityError for hidden states and for losses of single words.
        """
        if states or light_spans is not None:
            what = "hidden states" if states else "the loss of single words"
            raise CapabilityError(
                f"{what} cannot be read through the adapter {self.name}. Use a method that needs "
                f"losses or questions only: {opt('method', 'perplexity')}, clipper or mmssr."
            )
        yield from self._losses([conversation(s) for s in samples], pool, spread)

    def one_shot(
        self, samples: Sequence[Sample], demonstrations: Sequence[Sample], pool: SampleSource
    ) -> Iterator[Scored]:
        """Yields `nll` of `samples[i]` after `demonstrations[i]`."""
        pairs = zip(demonstrations, samples, strict=True)
        for piece in self._losses([after_demonstration(d, s) for d, s in pairs], pool):
            yield replace(piece, values={"nll": piece.values["nll"]})

    def generate(
        self, samples: Sequence[Sample], pool: SampleSource, max_new_tokens: int
    ) -> Iterator[Scored]:
        """Yields text, tokens and finished, see `HFBackend.generate`."""

        def answer(sample: Sample) -> tuple[str, int, bool]:
            row = self._encode(prompt_of(sample), pool, prompt=True)
            with self._user_code("generate"):
                ids = self.adapter.generate(row, max_new_tokens)
                self.tokens += len(row.ids) + len(ids)
                finished = bool(ids) and ids[-1] in self.adapter.stop_ids
                ids = ids[:-1] if finished else ids
                return self.adapter.decode(ids).strip(), len(ids), finished

        empty = ("", 0, False)
        for index, found, errors in self._rows(samples, answer, empty):
            texts, counts, finished = zip(*found, strict=True)
            values = {
                "text": np.array(texts, dtype=object),
                "tokens": np.array(counts, np.int32),
                "finished": np.array(finished, bool),
            }
            yield Scored(index, values, errors)

    def choice(
        self, samples: Sequence[Sample], candidates: Sequence[Sequence[str]], pool: SampleSource
    ) -> Iterator[Scored]:
        """Yields picked and margin, see `HFBackend.choice`."""

        def score(i: int) -> list[float | str]:
            rows = (with_answer(samples[i], text) for text in candidates[i])
            return [self._logprob(self._encode(c, pool), end=True) for c in rows]

        for index, found, errors in self._rows(range(len(samples)), score, []):
            scores: list[list[float | str]] = [
                [e] if e else s for s, e in zip(found, errors, strict=True)
            ]
            yield scored_choices(index.tolist(), scores)

    def ask(
        self, samples: Sequence[Sample], queries: Sequence[Query], pool: SampleSource
    ) -> Iterator[Scored]:
        """Yields logprob [m, answers of all queries], see `HFBackend.ask`."""
        width = sum(len(q.answers) for q in queries)

        def score(sample: Sample) -> list[float]:
            return [x for query in queries for x in self._answers(sample, query, pool)]

        for index, found, errors in self._rows(samples, score, [np.nan] * width):
            yield Scored(index, {"logprob": np.array(found, np.float32)}, errors)

    def probe(self, samples: Sequence[Sample], pool: SampleSource) -> Probe:
        """Score some rows once to warm up and once to measure; nothing is stored.

        Arguments:
            samples: the rows to score.
            pool: where their images are loaded from.
        """
        for _ in self.answer_loss(samples, pool):
            continue
        before, start = self.tokens, time.perf_counter()
        for _ in self.answer_loss(samples, pool):
            continue
        return Probe(time.perf_counter() - start, self.tokens - before, peak_bytes())

    # ------------------------------------------------------------------------------------- one row

    def _losses(
        self, conversations: Sequence[Conversation], pool: SampleSource, spread: bool = False
    ) -> Iterator[Scored]:
        def score(conv: Conversation) -> tuple[float, int, bool, float, float]:
            row = self._encode(conv, pool)
            targets = _positions(row)
            ids = np.asarray(row.ids, np.int64)
            logits = self._logits(row)
            ends = AnswerEnds.find(ids, targets, self.adapter.stop_ids)
            answer = torch.from_numpy(ids[targets])
            before = logits[torch.from_numpy(targets - 1)].float()
            nll = -before.log_softmax(-1).gather(-1, answer[:, None]).double().mean()
            likeliest = logits.argmax(-1).tolist()
            greedy = bool((before.argmax(-1) == answer).all())
            if self.adapter.stop_ids:
                greedy = greedy and ends.reached(
                    ids, {p: likeliest[p] for p in ends.flat_positions}
                )
            entropy = gap = np.nan
            if spread:
                entropy, gap = (float(x.mean()) for x in entropy_and_gap(before, answer))
            if not np.isfinite(float(nll)):
                raise ValueError("the loss is not a finite number")
            return float(nll), len(targets), greedy, entropy, gap

        failed = (np.nan, 0, False, np.nan, np.nan)
        for index, found, errors in self._rows(conversations, score, failed):
            nll, tokens, greedy, entropy, gap = zip(*found, strict=True)
            values = {
                "nll": np.array(nll, np.float32),
                "tokens": np.array(tokens, np.int32),
                "greedy_match": np.array(greedy, bool),
            }
            if spread:
                values["entropy"] = np.array(entropy, np.float32)
                values["own_gap"] = np.array(gap, np.float32)
            yield Scored(index, values, errors)

    def _logprob(self, row: Encoded, *, end: bool) -> float:
        """The log-probability of the answer, in nats; with `end`, of the stop token behind it,
        too."""
        targets = _positions(row)
        following = int(targets[-1]) + 1
        if end and following < len(row.ids) and row.ids[following] in self.adapter.stop_ids:
            targets = np.append(targets, following)
        answer = torch.tensor([row.ids[p] for p in targets.tolist()])
        logits = self._logits(row)[torch.from_numpy(targets - 1)].float()
        return float(logits.log_softmax(-1).gather(-1, answer[:, None]).double().sum())

    def _answers(self, sample: Sample, query: Query, pool: SampleSource) -> list[float]:
        """The log-probability of each answer to a query, in nats."""
        asked = conversation(sample)
        last = asked.messages[-1]
        messages = (*asked.messages[:-1], Message(last.role, _appended(last.parts, query.text)))
        rows = [
            self._encode(
                Conversation(
                    (*messages, Message("assistant", (text,))), asked.images, len(messages)
                ),
                pool,
            )
            for text in query.answers
        ]
        if query.whole:
            return [self._logprob(row, end=query.end) for row in rows]
        starts = [int(_positions(row)[0]) for row in rows]
        first = [row.ids[start] for row, start in zip(rows, starts, strict=True)]
        if len(set(first)) < len(first):
            raise ValueError(
                f"two of the answers {', '.join(query.answers)} share their first token"
            )
        prompts = [tuple(row.ids[:start]) for row, start in zip(rows, starts, strict=True)]
        known: dict[tuple[int, ...], torch.Tensor] = {}  # prompt -> [vocabulary]
        out = []
        for row, prompt, token in zip(rows, prompts, first, strict=True):
            if prompt not in known:
                logits = self._logits(replace(row, ids=prompt))[-1]
                known[prompt] = logits.float().log_softmax(-1)
            out.append(float(known[prompt][token]))
        return out

    def _encode(self, conv: Conversation, pool: SampleSource, prompt: bool = False) -> Encoded:
        """Encode and check a conversation; only answers that count are left. Raises ValueError,
        ImageError, ModelError."""
        if any(conv.videos):
            raise ValueError("video: a model with an adapter gets no videos")
        images = [pool.load_image(ref) for ref in conv.images]
        with self._user_code("encode"):
            row = self.adapter.encode(conv.messages, images, prompt)
        roles = [m.role == "assistant" for m in conv.messages]
        if len(row.answers) != sum(roles):
            raise ModelError(
                f"The adapter {self.name} gives {len(row.answers)} answers for a conversation with "
                f"{sum(roles)} assistant messages."
            )
        for start, end in row.answers:
            if not 0 < start <= end <= len(row.ids):
                raise ModelError(
                    f"The adapter {self.name} gives an answer at tokens {start} to {end} of "
                    f"{len(row.ids)}."
                )
        if len(row.ids) > self.adapter.context:
            raise ValueError(
                f"too long: {len(row.ids):,} tokens, and the model's context is "
                f"{self.adapter.context:,}"
            )
        skipped = sum(roles[: conv.scored_from])
        return replace(row, answers=tuple(row.answers[skipped:]))

    def _logits(self, row: Encoded) -> torch.Tensor:
        """[tokens, vocabulary], on the CPU."""
        with self._user_code("logits"), torch.inference_mode():
            logits = self.adapter.logits(row)
            self.tokens += len(row.ids)
        if not isinstance(logits, torch.Tensor) or logits.ndim != 2 or len(logits) != len(row.ids):
            shape = list(getattr(logits, "shape", ())) or type(logits).__name__
            raise ModelError(
                f"The adapter {self.name} gives logits of {shape} for {len(row.ids)} tokens; "
                "[tokens, vocabulary] is expected."
            )
        return logits.cpu()

    @contextlib.contextmanager
    def _user_code(self, method: str) -> Iterator[None]:
        """What the adapter raises: ValueError is a failure of the row, all else stops the run."""
        try:
            yield
        except ValueError as e:
            if str(e).strip():
                raise
            raise ValueError(f"{method} of the adapter {self.name} raised {named_reason(e)}") from e
        except torch.OutOfMemoryError as e:
            raise ValueError("out of memory: the row does not fit on the device") from e
        except Exception as e:
            raise ModelError(
                f"{method} of the adapter {self.name} raised {named_reason(e)}. Check it "
                "with thresher.testing.check_adapter."
            ) from e

    def _rows(
        self, items: Sequence[Any], score: Callable[[Any], Any], failed: Any
    ) -> Iterator[tuple[np.ndarray, list[Any], list[str]]]:
        """Indices, results and errors of the items, about once a second."""
        index: list[int] = []
        found: list[Any] = []
        errors: list[str] = []
        since = time.monotonic()
        for i, item in enumerate(items):
            try:
                result, error = score(item), ""
            except (ValueError, ImageError) as e:
                result, error = failed, reason_of(e)
            index.append(i)
            found.append(result)
            errors.append(error)
            if time.monotonic() - since > PIECE_SECONDS or i + 1 == len(items):
                yield np.array(index, np.int64), found, errors
                index, found, errors, since = [], [], [], time.monotonic()


def _positions(row: Encoded) -> np.ndarray:
    """int64 [m], the positions of the answer tokens. Raises ValueError if there are none."""
    positions = [p for start, end in row.answers for p in range(start, end)]
    if not positions:
        raise ValueError("the answer has no tokens")
    return np.array(positions, np.int64)


def _appended(parts: tuple[str | None, ...], text: str) -> tuple[str | None, ...]:
    if parts and parts[-1] is not None:
        return (*parts[:-1], parts[-1] + text)
    return (*parts, text)
