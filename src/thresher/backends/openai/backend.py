"""A model behind a server as a backend: probabilities of the answers to questions, generated texts,
and the loss of given answers.

Chat completions cannot give the probability of a text that the model did not generate; vLLM's
extension `prompt_logprobs` can (`losses`). Hidden states no server gives.
"""

from __future__ import annotations

import hashlib
import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NoReturn, Protocol

import numpy as np

from thresher.backends.hf.conversation import Conversation, after_demonstration, conversation
from thresher.backends.openai.address import Address
from thresher.backends.openai.client import Client
from thresher.backends.openai.completions import (
    GeneratedText,
    first_token_logprobs,
    read_texts,
    read_top_logprobs,
)
from thresher.backends.openai.first_tokens import AS_IDS, FirstTokens
from thresher.backends.openai.image_uris import ImageURIs
from thresher.backends.openai.losses import AnswerLosses, LossReader
from thresher.backends.openai.messages import Messages, messages, prompt, question
from thresher.backends.openai.options import ServerOptions
from thresher.backends.openai.rows import RowResult, ServerHealth, ask_rows
from thresher.errors import CapabilityError, opt
from thresher.types import Note, Sample, SampleSource, Scored

EQUAL_DRAWS_ROWS = 20  # rows whose samples are all equal, before the user is warned
BeforeSend = Callable[[], None]
log = logging.getLogger(__name__)


class QueryLike(Protocol):
    """The part of `thresher.types.Query` that is used here."""

    @property
    def text(self) -> str: ...
    @property
    def answers(self) -> tuple[str, ...]: ...
    @property
    def whole(self) -> bool: ...


class OpenAIBackend:
    """One model of one server.

    Arguments:
        address: the server and the model.
        key: API key; None: requests have none.
        options: of the run.
    """

    def __init__(self, address: Address, key: str | None, options: ServerOptions) -> None:
        self.client = Client(address, key, options)
        self.options = options
        self._loss_reader = LossReader(self.client)
        self._first_tokens = FirstTokens(self.client)
        self._health = ServerHealth(address.base)
        self._supports_n = True  # whether the server supports `n`
        self._logged_notes: list[Note] = []
        # whether it is known if the server samples; rows whose samples were all equal
        self._sampling_checked, self._equal_rows = False, 0

    @property
    def notes(self) -> list[str]:
        """What the user should know about the server, as messages."""
        return [note.text for note in self.client.dialect.notes]

    # ------------------------------------------------------------------------- what a server can do

    def ask(
        self, samples: Sequence[Sample], queries: Sequence[QueryLike], pool: SampleSource
    ) -> Iterator[Scored]:
        """Log-probability of the first token of every answer of every query.

        Arguments:
            samples: each ends with a user turn, to which a query's text is appended.
            queries: asked of every sample, one request each.
            pool: where images are loaded from.

        Yields `logprob` float32 [m, answers of all queries] in nats, queries in order. The server
        reports its most likely tokens only (20, or as many as it allows): an answer that is not
        among them gets -inf. Raises CapabilityError for whole answers, and if the server gives no
        log-probabilities.
        """
        if any(q.whole for q in queries):
            self._unsupported(
                "give the probability of answers of several tokens, only of their first one",
                "Let the model write these answers: for mmssr's styles, "
                f"{opt('settings.style', 'generate')} (of a teacher, "
                f"{opt('settings.teacher_answers', 'generate')}).",
            )
        width = sum(len(q.answers) for q in queries)
        image_uris = ImageURIs(pool, self.options.image_side)

        def row(i: int, sending: BeforeSend, stop: threading.Event) -> np.ndarray:
            found = []
            for q in queries:
                chat_messages = messages(question(samples[i], q.text), image_uris.uri)
                sending()
                found.append(self._first_logprobs(chat_messages, q.answers, stop))
            return np.concatenate(found)

        blank = np.full(width, np.nan, np.float32)
        for done in self._rows(len(samples), len(queries), row):
            values = np.stack([blank if d.error else d.value for d in done])
            yield _scored(done, {"logprob": values})

    def _first_logprobs(
        self, chat_messages: Messages, answers: Sequence[str], stop: threading.Event
    ) -> np.ndarray:
        """Log-probability of each answer's first token, float32 [m], from one request; the very
        first one to a vLLM server is sent again, once its answer has shown that it is one."""
        was_known = self.client.is_vllm
        settings: dict[str, Any] = {"temperature": 0}
        ids = self._first_tokens.ids(answers) if was_known else None
        if ids is not None:
            settings |= AS_IDS
        top = self.client.chat(chat_messages, 1, settings, read_top_logprobs, stop, top=True)
        if not was_known and self.client.is_vllm:
            ids = self._first_tokens.ids(answers)
            if ids is not None:
                settings |= AS_IDS
                top = self.client.chat(
                    chat_messages, 1, settings, read_top_logprobs, stop, top=True, reserved=False
                )
        return first_token_logprobs(answers, top, ids)

    def generate(
        self, samples: Sequence[Sample], pool: SampleSource, max_new_tokens: int
    ) -> Iterator[Scored]:
        """The model's own answer in place of each row's last answer, decoded greedily.

        Yields `text` (str, stripped), `tokens` int32 (as the server counts them, perhaps with the
        stop token; 0: not reported) and `finished` bool (whether the model stopped by itself).
        """
        image_uris = ImageURIs(pool, self.options.image_side)

        def row(i: int, sending: BeforeSend, stop: threading.Event) -> GeneratedText:
            chat_messages = messages(prompt(samples[i]), image_uris.uri)
            sending()
            return self.client.chat(
                chat_messages, max_new_tokens, {"temperature": 0}, read_texts, stop
            )[0]

        for done in self._rows(len(samples), 1, row):
            good = [GeneratedText("", 0, False) if d.error else d.value for d in done]
            values = {
                "text": np.array([w.text for w in good], dtype=object),
                "tokens": np.array([w.tokens for w in good], np.int32),
                "finished": np.array([w.finished for w in good], bool),
            }
            yield _scored(done, values)

    def sample(
        self,
        samples: Sequence[Sample],
        pool: SampleSource,
        n: int,
        temperature: float,
        max_new_tokens: int,
        seed: int,
    ) -> Iterator[Scored]:
        """Sampled answers in place of each row's last answer.

        Arguments:
            n: answers per row.
            temperature: of the sampling.
            max_new_tokens: most tokens of an answer.
            seed: each row's seed is derived from it and the row's digest; not every server uses it.

        Yields text_0 … text_{n-1} (str). One request per row if the server supports `n`, else one
        per answer.
        """
        image_uris = ImageURIs(pool, self.options.image_side)

        def row(i: int, sending: BeforeSend, stop: threading.Event) -> list[str]:
            chat_messages = messages(prompt(samples[i]), image_uris.uri)
            texts: list[str] = []
            while len(texts) < n:
                many = n - len(texts) if self._supports_n else 1
                drawn = _seed(seed, samples[i], len(texts))
                settings: dict[str, Any] = {
                    "temperature": temperature,
                    "seed": drawn,
                    **({"n": many} if many > 1 else {}),
                }
                sending()
                got = self.client.chat(chat_messages, max_new_tokens, settings, read_texts, stop)
                if len(got) < many:
                    self._supports_n = False
                texts += [w.text for w in got]
            return texts[:n]

        for done in self._rows(len(samples), n, row):
            self._note_equal_draws([d.value for d in done if not d.error], n, temperature)
            columns = list(zip(*[[""] * n if d.error else d.value for d in done], strict=True))
            yield _scored(
                done,
                {f"text_{k}": np.array(column, dtype=object) for k, column in enumerate(columns)},
            )

    def _note_equal_draws(self, drawn: Sequence[list[str]], n: int, temperature: float) -> None:
        """Add a note if the server seems not to sample at all (`transformers serve` uses the
        temperature for some models only)."""
        if n < 2 or temperature <= 0 or self._sampling_checked:
            return
        self._equal_rows += sum(len(dict.fromkeys(texts)) == 1 for texts in drawn)
        self._sampling_checked = any(len(dict.fromkeys(texts)) > 1 for texts in drawn)
        if not self._sampling_checked and self._equal_rows >= EQUAL_DRAWS_ROWS:
            self._sampling_checked = True
            text = (
                f"The server gave each of {self._equal_rows} rows the same text {n} times at "
                f"temperature {temperature:g}: does it sample?"
            )
            self.client.dialect.notes.append(Note("n", text))

    def answer_loss(
        self, samples: Sequence[Sample], pool: SampleSource, among_images: bool = False
    ) -> Iterator[Scored]:
        """The loss of each row's answers, if the server has vLLM's `prompt_logprobs`.

        Arguments:
            samples: with their answers.
            pool: where images are loaded from.
            among_images: has no effect: the server decides how images are encoded.

        Yields `nll` float32 [m], mean nats per answer token; `tokens` int32 [m]; `greedy_match`
        bool [m]. Raises CapabilityError for other servers.
        """
        return self._losses([conversation(sample) for sample in samples], pool)

    def one_shot(
        self, samples: Sequence[Sample], demonstrations: Sequence[Sample], pool: SampleSource
    ) -> Iterator[Scored]:
        """`answer_loss` of `samples[i]` after `demonstrations[i]`, in one conversation."""
        pairs = zip(demonstrations, samples, strict=True)
        return self._losses([after_demonstration(shown, query) for shown, query in pairs], pool)

    def _losses(
        self, conversations: Sequence[Conversation], pool: SampleSource
    ) -> Iterator[Scored]:
        image_uris = ImageURIs(pool, self.options.image_side)

        def row(i: int, sending: BeforeSend, stop: threading.Event) -> AnswerLosses:
            return self._loss_reader.losses(conversations[i], image_uris.uri, sending, stop)

        for done in self._rows(len(conversations), 1, row):
            found = [AnswerLosses(np.nan, 0, False) if d.error else d.value for d in done]
            values = {
                "nll": np.array([x.nll for x in found], np.float32),
                "tokens": np.array([x.tokens for x in found], np.int32),
                "greedy_match": np.array([x.greedy_match for x in found], bool),
            }
            yield _scored(done, values)

    # --------------------------------------------------------------------- unsupported capabilities

    def choice(
        self, samples: Sequence[Sample], candidates: Sequence[Sequence[str]], pool: SampleSource
    ) -> NoReturn:
        """Raises CapabilityError."""
        self._unsupported(
            "compare the probabilities of whole candidates",
            f"Let it write its answers (evaluate: {opt('score', 'generate')}), or give its "
            f"weights: {opt('model')} with a folder or a hub id.",
        )

    def _unsupported(self, what: str, instead: str) -> NoReturn:
        raise CapabilityError(
            f"The model {self.client.address.model!r} is behind a server, and chat completions "
            f"cannot {what}. {instead} Nothing was sent."
        )

    # ----------------------------------------------------------------------------------------- rows

    def _rows(self, count: int, requests: int, row: Any) -> Iterator[list[RowResult]]:
        for done in ask_rows(count, requests, row, self.options, self._health):
            for note in self.client.dialect.notes:
                if note not in self._logged_notes:
                    log.warning("%s", note)
                    self._logged_notes.append(note)
            if done:
                yield done


def _scored(done: Sequence[RowResult], values: dict[str, np.ndarray]) -> Scored:
    return Scored(np.array([d.row for d in done], np.int64), values, [d.error for d in done])


def _seed(seed: int, sample: Sample, already: int) -> int:
    """A seed of 31 bits, which every server accepts."""
    return (
        int.from_bytes(
            hashlib.sha256(b"%d|%d|" % (seed, already) + sample.digest).digest()[:4], "big"
        )
        >> 1
    )
