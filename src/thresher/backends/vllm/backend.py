"""A model in vLLM's offline engine as a backend: losses of answers, choices, questions, generation.

Conversations are rendered and tokenised as for a model in this process (`hf.encode`), and vLLM gets
token ids and images, so that both score the same tokens. vLLM replaces each image's placeholder by
the image's tokens; a row where it changes anything else is an error. What rows have in common (a
judge's questions about a row, candidate answers, a demonstration) is read from vLLM's prefix cache.

Hidden states, whole distributions of tokens and training are not available.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from thresher.backends.hf.answer_ends import AnswerEnds
from thresher.backends.hf.ask_encode import AskEncoder
from thresher.backends.hf.backend import Probe
from thresher.backends.hf.choice import scored_choices
from thresher.backends.hf.conversation import (
    Conversation,
    after_demonstration,
    conversation,
    prompt_of,
    with_answer,
)
from thresher.backends.hf.encode import EncodedText, Encoder, PromptEncoder
from thresher.backends.hf.trie import Trie
from thresher.backends.vllm.engine import Engine
from thresher.backends.vllm.prompts import Prompt, TokenScores, expanded_positions
from thresher.console.timing import typical_seconds
from thresher.errors import ImageError
from thresher.types import Query, RowError, Sample, SampleSource, Scored

FIRST_ROWS = 16  # of the first block; later ones grow while they take less than BLOCK_SECONDS
MOST_ROWS = 256  # whose images are in memory at one time, and those of as many further ones
BLOCK_SECONDS = 10.0  # about what is lost if the run is killed
IMAGE_THREADS = 8
MOST_TARGETS = 128  # vLLM's limit on the tokens of one request whose log-probability is asked for
OTHER_TOKENS = (
    "vllm: it changes the text of the row beside its images' tokens, so its answers cannot be "
    "located"
)
NOT_FINITE = "not-finite: the loss is not a finite number"
_LOSS = {"max_tokens": 1, "temperature": 0.0, "prompt_logprobs": 1, "flat_logprobs": True}
_LOSS |= {"detokenize": False}


@dataclass(frozen=True, slots=True)
class _Row:
    """A row that can be sent. index: into the samples."""

    index: int
    text: EncodedText
    images: tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class _Loss:
    """total: negative log-likelihood of the answer tokens in nats. end: that of the stop token
    after the last answer, 0 if there is none."""

    total: float
    end: float
    tokens: int
    greedy: bool


class VLLMBackend:
    """The capabilities of a model in vLLM's engine.

    In every method `samples` are the rows to score and `pool` is where images are loaded from;
    `Scored.index` counts the samples.

    Arguments:
        engine: runs the model.
        encoder: conversations to token ids.
        prompt_encoder: conversations to the token ids of prompts.
        stop_ids: ids of the tokens that end an answer.
    """

    reuses_prefix = True
    shrinks_images = False

    def __init__(
        self,
        engine: Engine,
        encoder: Encoder,
        prompt_encoder: PromptEncoder,
        stop_ids: frozenset[int],
    ) -> None:
        self.engine, self.encoder, self.prompt_encoder = engine, encoder, prompt_encoder
        self.stop_ids = stop_ids
        self._rows_of_block = FIRST_ROWS

    def close(self) -> None:
        """End the engine's process, which gives its memory back."""
        self.engine.close()

    # --------------------------------------------------------------------------------- capabilities

    def answer_loss(
        self, samples: Sequence[Sample], pool: SampleSource, among_images: bool = False
    ) -> Iterator[Scored]:
        """The loss of each row's answers.

        Arguments:
            samples: n rows with answers.
            pool: where images are loaded from.
            among_images: has no effect: vLLM decides how images are encoded.

        Yields nll, tokens and greedy_match, see `HFBackend.answer_loss`.
        """
        return self._answer_losses([conversation(s) for s in samples], pool)

    def one_shot(
        self, samples: Sequence[Sample], demonstrations: Sequence[Sample], pool: SampleSource
    ) -> Iterator[Scored]:
        """Yields `nll` of `samples[i]` after `demonstrations[i]`."""
        # rows of one demonstration are neighbours, so that it is still in the cache
        order = sorted(range(len(samples)), key=lambda i: demonstrations[i].digest)
        pairs = [after_demonstration(demonstrations[i], samples[i]) for i in order]
        for piece in self._answer_losses(pairs, pool, reuse=True):
            index = np.array([order[i] for i in piece.index.tolist()], np.int64)
            yield replace(piece, index=index, values={"nll": piece.values["nll"]})

    def generate(
        self, samples: Sequence[Sample], pool: SampleSource, max_new_tokens: int
    ) -> Iterator[Scored]:
        """Yields text, tokens and finished, see `HFBackend.generate`."""
        settings = {
            "max_tokens": max_new_tokens,
            "temperature": 0.0,
            "stop_token_ids": sorted(self.stop_ids),
            "detokenize": False,
        }
        prompts = [prompt_of(s) for s in samples]
        for rows, errors in self._blocks(prompts, pool, self.prompt_encoder.encode):
            found: dict[int, tuple[list[int], bool]] = {}
            for row, output in zip(rows, self._run_rows(rows, settings), strict=True):
                if isinstance(output, str):
                    errors[row.index] = output
                    continue
                answer = output.outputs[0]
                ids, finished = list(answer.token_ids), answer.finish_reason == "stop"
                if finished and ids and ids[-1] in self.stop_ids:
                    ids.pop()
                found[row.index] = ids, finished
            index = sorted([*found, *errors])
            written = [found.get(i, ([], False)) for i in index]
            texts = self.encoder.tokenizer.batch_decode(
                [ids for ids, _ in written], skip_special_tokens=True
            )
            values = {
                "text": np.array([t.strip() for t in texts], dtype=object),
                "tokens": np.array([len(ids) for ids, _ in written], np.int32),
                "finished": np.array([finished for _, finished in written], bool),
            }
            yield _scored(index, values, errors)

    def choice(
        self, samples: Sequence[Sample], candidates: Sequence[Sequence[str]], pool: SampleSource
    ) -> Iterator[Scored]:
        """Yields picked and margin, see `HFBackend.choice`."""
        pairs = [(i, text) for i, texts in enumerate(candidates) for text in texts]
        results: dict[int, dict[int, float | str]] = {}  # sample -> pair -> log-probability
        conversations = [with_answer(samples[i], text) for i, text in pairs]
        for losses in self._losses(conversations, pool, reuse=True):
            for k, loss in losses.items():
                score = loss if isinstance(loss, str) else -(loss.total + loss.end)
                results.setdefault(pairs[k][0], {})[k] = score
            complete = [i for i in results if len(results[i]) == len(candidates[i])]
            if complete:
                scores = [[s for _, s in sorted(results.pop(i).items())] for i in complete]
                yield scored_choices(complete, scores)

    def ask(
        self, samples: Sequence[Sample], queries: Sequence[Query], pool: SampleSource
    ) -> Iterator[Scored]:
        """Yields logprob [m, answers of all queries], see `HFBackend.ask`."""
        encoder = AskEncoder(self.encoder, self.prompt_encoder, queries, self.stop_ids)
        asked = [conversation(s) for s in samples]
        for rows, errors in self._blocks(asked, pool, encoder.encode):
            parts = [part for row in rows for part in _questions(row)]
            outputs = self.engine.run(
                [part.prompt for part in parts],
                [
                    {
                        "max_tokens": 1,
                        "temperature": 0.0,
                        "logprob_token_ids": list(part.tokens),
                        "detokenize": False,
                    }
                    for part in parts
                ],
            )
            found = {row.index: np.zeros(encoder.n_answers) for row in rows}
            for part, output in zip(parts, outputs, strict=True):
                if isinstance(output, str):
                    errors[part.index] = output
                    continue
                values = output.outputs[0].logprobs[0]
                for token, answers in part.tokens.items():
                    for answer in answers:
                        found[part.index][answer] += values[token].logprob
            index = sorted({*found, *errors})
            unknown = np.full(encoder.n_answers, np.nan)
            table = np.stack([unknown if i in errors else found[i] for i in index])
            yield _scored(index, {"logprob": table.astype(np.float32)}, errors)

    def probe(self, samples: Sequence[Sample], pool: SampleSource) -> Probe:
        """Score some rows once to warm up, and then to measure; nothing is stored. The memory of
        the engine's own process is not known.

        Arguments:
            samples: the rows to score.
            pool: where their images are loaded from.
        """
        before = self.engine.tokens
        for _ in self.answer_loss(samples, pool):
            continue
        tokens = self.engine.tokens - before
        return Probe(typical_seconds(lambda: self.answer_loss(samples, pool)), tokens, None)

    # --------------------------------------------------------------------------------------- losses

    def _answer_losses(
        self, conversations: Sequence[Conversation], pool: SampleSource, reuse: bool = False
    ) -> Iterator[Scored]:
        for losses in self._losses(conversations, pool, reuse):
            index = sorted(losses)
            errors = {i: loss for i, loss in losses.items() if isinstance(loss, str)}
            blank = _Loss(np.nan, 0.0, 1, False)
            rows = [loss if isinstance(loss := losses[i], _Loss) else blank for i in index]
            nll = np.array([row.total / row.tokens for row in rows], np.float32)
            tokens = [0 if row is blank else row.tokens for row in rows]
            for i, value in zip(index, nll.tolist(), strict=True):
                if i not in errors and not np.isfinite(value):
                    errors[i] = NOT_FINITE
            values = {
                "nll": nll,
                "tokens": np.array(tokens, np.int32),
                "greedy_match": np.array([row.greedy for row in rows], bool),
            }
            yield _scored(index, values, errors)

    def _losses(
        self, conversations: Sequence[Conversation], pool: SampleSource, reuse: bool
    ) -> Iterator[dict[int, _Loss | str]]:
        """Block by block, the loss or the error of each conversation.

        reuse: read what a conversation has in common with others from the prefix cache. vLLM has no
            log-probabilities of that part; a row that needs some of them runs again as a whole.
        """
        for rows, errors in self._blocks(conversations, pool, self.encoder.encode):
            found: dict[int, _Loss | str] = dict(errors)
            settings = {**_LOSS, "skip_reading_prefix_cache": not reuse}
            again = []
            for row, output in zip(rows, self._run_rows(rows, settings), strict=True):
                loss = self._loss(row, output, reuse)
                if loss is None:
                    again.append(row)
                else:
                    found[row.index] = loss
            whole = {**_LOSS, "skip_reading_prefix_cache": True}
            for row, output in zip(again, self._run_rows(again, whole), strict=True):
                found[row.index] = self._loss(row, output, False) or OTHER_TOKENS
            yield found

    def _loss(self, row: _Row, output: Any, reused: bool) -> _Loss | str | None:
        """The loss of a row's answers, its error, or None if the prefix cache hides a part."""
        if isinstance(output, str):
            return output
        text, ids = row.text, output.prompt_token_ids
        positions = expanded_positions(text.ids, text.image_positions, ids)
        if positions is None:
            return OTHER_TOKENS
        answers = positions[text.answer_positions]
        cached = (output.num_cached_tokens or 0) if reused else 0
        following = output.outputs[0].token_ids[0]
        scores = TokenScores.read(ids, output.prompt_logprobs, cached, following)
        if not scores.known(answers):
            return None
        greedy = bool((scores.likeliest[answers] == scores.ids[answers]).all())
        if self.stop_ids:
            ends = AnswerEnds.find(scores.ids, answers, self.stop_ids)
            greedy = greedy and ends.reached(scores.ids, scores.predicted(ends.flat_positions))
        end, after = 0.0, int(answers[-1]) + 1
        if after < len(ids) and ids[after] in self.stop_ids:
            end = -float(scores.logprobs[after])
        return _Loss(-float(scores.logprobs[answers].sum()), end, len(answers), greedy)

    # --------------------------------------------------------------------------------------- blocks

    def _run_rows(self, rows: Sequence[_Row], settings: Mapping[str, Any]) -> list[Any]:
        """The output or the error of each row."""
        prompts = [Prompt(row.text.ids, row.images) for row in rows]
        return self.engine.run(prompts, [settings] * len(rows))

    def _blocks(
        self,
        conversations: Sequence[Conversation],
        pool: SampleSource,
        encode: Callable[[Sequence[Conversation]], list[EncodedText | str]],
    ) -> Iterator[tuple[list[_Row], dict[int, str]]]:
        """The rows that can be sent and the errors of the others, some conversations at a time.

        While one block runs, the images of the next one are loaded.
        """
        with ThreadPoolExecutor(IMAGE_THREADS) as threads:

            def load(start: int) -> tuple[int, Sequence[Conversation], Iterator[Any]]:
                part = conversations[start : start + self._rows_of_block]
                return start, part, threads.map(lambda conv: _images(conv, pool), part)

            ahead = load(0)
            while ahead[1]:
                start, part, loaded = ahead
                rows: list[_Row] = []
                errors: dict[int, str] = {}
                texts = encode(part)
                for i, (text, images) in enumerate(zip(texts, loaded, strict=True), start):
                    if isinstance(images, str) or isinstance(text, str):
                        errors[i] = images if isinstance(images, str) else str(text)
                    else:
                        rows.append(_Row(i, text, images))
                ahead = load(start + len(part))
                since = time.monotonic()
                yield rows, errors
                if time.monotonic() - since < BLOCK_SECONDS / 2:
                    self._rows_of_block = min(2 * self._rows_of_block, MOST_ROWS)


def _images(conv: Conversation, pool: SampleSource) -> tuple[Any, ...] | str:
    """The images of a conversation, or why one of them cannot be used."""
    if any(conv.videos):
        return "video: vLLM gets no videos"
    try:
        return tuple(pool.load_image(ref) for ref in conv.images)
    except ImageError as e:
        return str(RowError.of(e))


@dataclass(frozen=True, slots=True)
class _Question:
    """A prompt, and the tokens after it whose log-probability is asked for.

    index: of the row.
    tokens: token id -> the answers to whose sums its log-probability is added.
    """

    index: int
    prompt: Prompt
    tokens: dict[int, list[int]]


def _questions(row: _Row) -> Iterator[_Question]:
    """One prompt for each place in a row's trie after which an answer's token may follow."""
    trie = row.text.trie
    assert trie is not None
    targets = zip(trie.source.tolist(), trie.target.tolist(), trie.answer.tolist(), strict=True)
    by_source: dict[int, dict[int, list[int]]] = {}
    for source, token, answer in targets:
        by_source.setdefault(source, {}).setdefault(token, []).append(answer)
    for source, tokens in by_source.items():
        prompt = Prompt(_prefix(row.text.ids, trie, source), row.images)
        found = list(tokens.items())
        for k in range(0, len(found), MOST_TARGETS):
            yield _Question(row.index, prompt, dict(found[k : k + MOST_TARGETS]))


def _prefix(trunk: list[int], trie: Trie, source: int) -> list[int]:
    """The tokens up to and including a node of a trie; -1 is the trunk's last token, and so on."""
    if source < 0:
        return trunk[: len(trunk) + source + 1]
    return [*trunk, *trie.ids[np.flatnonzero(trie.attends[source])].tolist()]


def _scored(
    index: Sequence[int], values: dict[str, np.ndarray], errors: Mapping[int, str]
) -> Scored:
    return Scored(np.array(index, np.int64), values, [errors.get(i, "") for i in index])
