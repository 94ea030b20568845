"""A model behind an `Adapter` as a backend: losses of answers, choices, questions, generation.

One row at a time and without reuse: a row's numbers depend on nothing else, and a demonstration or
a judge's prompt runs again with each row. Hidden states are not read, and nothing is trained;
`ModelIdentity.limit` says so before a run starts.
"""

from __future__ import annotations

import contextlib
import operator
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
from thresher.console.formatting import pluralize
from thresher.console.peak_memory import peak_bytes
from thresher.console.timing import typical_seconds
from thresher.errors import CapabilityError, ImageError, ModelError, named_reason, opt, reason_of
from thresher.types import Query, RowError, Sample, SampleSource, Scored

PIECE_SECONDS = 1.0
ADAPTER = "adapter"  # kind of a row's error that the adapter gives
KINDS = ("too long", "no-answer", "not-finite")  # that an adapter may give itself


class RowFailed(Exception):
    """A row cannot be scored. `str` gives its error.

    Arguments:
        kind: of the error.
        detail: what is wrong with the row.
    """

    def __init__(self, kind: str, detail: str) -> None:
        super().__init__(str(RowError(kind, detail)))


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
        self.stop_ids = frozenset(self._checked_ids("stop_ids", adapter.stop_ids))
        if not isinstance(adapter.context, int) or adapter.context < 1:
            raise self._wrong("context", adapter.context, "a number of tokens, at least 1,")
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
                generated = self.adapter.generate(row, max_new_tokens)
            ids = self._checked_ids("new tokens", generated)
            self.tokens += len(row.ids) + len(ids)
            finished = bool(ids) and ids[-1] in self.stop_ids
            ids = ids[:-1] if finished else ids
            with self._user_code("decode"):
                text = self.adapter.decode(ids)
            if not isinstance(text, str):
                raise self._wrong("decoded text", text, "a str")
            return text.strip(), len(ids), finished

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
        """Score some rows once to warm up, and then to measure; nothing is stored.

        Arguments:
            samples: the rows to score.
            pool: where their images are loaded from.
        """
        before = self.tokens
        for _ in self.answer_loss(samples, pool):
            continue
        tokens = self.tokens - before
        seconds = typical_seconds(lambda: self.answer_loss(samples, pool))
        return Probe(seconds, tokens, peak_bytes())

    # ------------------------------------------------------------------------------------- one row

    def _losses(
        self, conversations: Sequence[Conversation], pool: SampleSource, spread: bool = False
    ) -> Iterator[Scored]:
        def score(conv: Conversation) -> tuple[float, int, bool, float, float]:
            row = self._encode(conv, pool)
            targets = _positions(row)
            ids = np.asarray(row.ids, np.int64)
            logits = self._logits(row, ids[targets].tolist())
            ends = AnswerEnds.find(ids, targets, self.stop_ids)
            answer = torch.from_numpy(ids[targets])
            before = logits[torch.from_numpy(targets - 1)].float()
            nll = -before.log_softmax(-1).gather(-1, answer[:, None]).double().mean()
            likeliest = logits.argmax(-1).tolist()
            greedy = bool((before.argmax(-1) == answer).all())
            if self.stop_ids:
                greedy = greedy and ends.reached(
                    ids, {p: likeliest[p] for p in ends.flat_positions}
                )
            entropy = gap = np.nan
            if spread:
                entropy, gap = (float(x.mean()) for x in entropy_and_gap(before, answer))
            if not np.isfinite(float(nll)):
                raise RowFailed("not-finite", "the loss is not a finite number")
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
        if end and following < len(row.ids) and row.ids[following] in self.stop_ids:
            targets = np.append(targets, following)
        ids = [row.ids[p] for p in targets.tolist()]
        answer = torch.tensor(ids)
        logits = self._logits(row, ids)[torch.from_numpy(targets - 1)].float()
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
            raise RowFailed(
                "answer-tokens",
                f"two of the answers {', '.join(query.answers)} share their first token",
            )
        prompts = [tuple(row.ids[:start]) for row, start in zip(rows, starts, strict=True)]
        known: dict[tuple[int, ...], torch.Tensor] = {}  # prompt -> [vocabulary]
        out = []
        for row, prompt, token in zip(rows, prompts, first, strict=True):
            if prompt not in known:
                logits = self._logits(replace(row, ids=prompt), first)[-1]
                known[prompt] = logits.float().log_softmax(-1)
            out.append(float(known[prompt][token]))
        return out

    def _encode(self, conv: Conversation, pool: SampleSource, prompt: bool = False) -> Encoded:
        """Encode and check a conversation; only answers that count are left. Raises RowFailed,
        ImageError, ModelError."""
        if any(conv.videos):
            raise RowFailed("video", "a model with an adapter gets no videos")
        images = [pool.load_image(ref) for ref in conv.images]
        with self._user_code("encode"):
            row = self.adapter.encode(conv.messages, images, prompt)
        if not isinstance(row, Encoded):
            raise self._wrong("encoded row", row, "an Encoded")
        row = replace(row, ids=self._checked_ids("ids", row.ids))
        roles = [m.role == "assistant" for m in conv.messages]
        if len(row.answers) != sum(roles):
            raise ModelError(
                f"The adapter {self.name} gives {pluralize(len(row.answers), 'answer')} for a "
                f"conversation with {pluralize(sum(roles), 'assistant message')}."
            )
        for answer in row.answers:
            try:
                start, end = map(int, answer)
            except (TypeError, ValueError):
                raise self._wrong("answer", answer, "a pair (start, end)") from None
            if not 0 < start <= end <= len(row.ids):
                raise ModelError(
                    f"The adapter {self.name} gives an answer at tokens {start} to {end} of "
                    f"{len(row.ids)}; it has to begin behind the first token and end in the row."
                )
        if len(row.ids) > self.adapter.context:
            raise RowFailed(
                "too long",
                f"{len(row.ids):,} tokens, and the model's context is {self.adapter.context:,}",
            )
        skipped = sum(roles[: conv.scored_from])
        return replace(row, answers=tuple(row.answers[skipped:]))

    def _logits(self, row: Encoded, read: Sequence[int]) -> torch.Tensor:
        """[tokens, vocabulary], on the CPU. `read`: the token ids whose logits are used."""
        with self._user_code("logits"), torch.inference_mode():
            logits = self.adapter.logits(row)
            self.tokens += len(row.ids)
        if not isinstance(logits, torch.Tensor) or not logits.is_floating_point():
            raise self._wrong("logits", logits, "a torch.Tensor of floating-point numbers")
        if logits.ndim != 2 or len(logits) != len(row.ids):
            raise ModelError(
                f"The adapter {self.name} gives logits of {list(logits.shape)} for "
                f"{len(row.ids)} tokens; [tokens, vocabulary] is expected."
            )
        if max(read) >= logits.shape[1]:
            raise ModelError(
                f"The adapter {self.name} gives logits for {logits.shape[1]:,} tokens, and an "
                f"answer has the token {max(read):,}."
            )
        return logits.cpu()

    def _checked_ids(self, what: str, ids: Any) -> list[int]:
        """Token ids that an adapter gives, from any sequence, set or array. Raises ModelError."""
        given = ids.tolist() if hasattr(ids, "tolist") else ids
        try:
            return [operator.index(i) for i in given]
        except TypeError:
            raise self._wrong(what, ids, "a sequence of token ids") from None

    def _wrong(self, what: str, given: object, expected: str) -> ModelError:
        """The error for something of a wrong type or value from the adapter."""
        text = " ".join(repr(given).split())[:60]
        return ModelError(
            f"The adapter {self.name} gives {what} of type {type(given).__name__} ({text}); "
            f"{expected} is expected. Check it with thresher.testing.check_adapter."
        )

    @contextlib.contextmanager
    def _user_code(self, method: str) -> Iterator[None]:
        """What the adapter raises: ValueError is a failure of the row, all else stops the run."""
        try:
            yield
        except ValueError as e:
            reason = reason_of(e) if str(e).strip() else ""
            given = RowError.parse(reason)
            if given.kind in KINDS and given.detail:
                raise RowFailed(given.kind, given.detail) from e
            reason = reason or f"{method} of {self.name} raised {named_reason(e)}"
            raise RowFailed(ADAPTER, reason) from e
        except torch.OutOfMemoryError as e:
            raise RowFailed("out of memory", "the row does not fit on the device") from e
        except (Exception, SystemExit) as e:
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
            except ImageError as e:
                result, error = failed, str(RowError.of(e))
            except RowFailed as e:
                result, error = failed, str(e)
            index.append(i)
            found.append(result)
            errors.append(error)
            if time.monotonic() - since > PIECE_SECONDS or i + 1 == len(items):
                yield np.array(index, np.int64), found, errors
                index, found, errors, since = [], [], [], time.monotonic()


def _positions(row: Encoded) -> np.ndarray:
    """int64 [m], the positions of the answer tokens. Raises RowFailed if there are none."""
    positions = [p for start, end in row.answers for p in range(start, end)]
    if not positions:
        raise RowFailed("no-answer", "the answer has no tokens")
    return np.array(positions, np.int64)


def _appended(parts: tuple[str | None, ...], text: str) -> tuple[str | None, ...]:
    if parts and parts[-1] is not None:
        return (*parts[:-1], parts[-1] + text)
    return (*parts, text)
