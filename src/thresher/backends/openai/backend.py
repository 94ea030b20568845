"""A model behind a server, as signals see it: questions with their answers' probabilities, and
generated texts.

What needs the probability of a text that the model did not write itself (the loss of a given
answer) cannot be asked of chat completions and is refused before anything is sent.
"""

from __future__ import annotations

import hashlib
import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NoReturn, Protocol

import numpy as np

from thresher.backends.openai.address import Address
from thresher.backends.openai.client import Client
from thresher.backends.openai.completions import Written, first_tokens, likeliest, written
from thresher.backends.openai.image_uris import Pictures
from thresher.backends.openai.messages import messages, prompt, question
from thresher.backends.openai.options import ServerOptions
from thresher.backends.openai.rows import Done, Health, ask_rows
from thresher.errors import CapabilityError
from thresher.types import Sample, SampleSource, Scored

EQUAL_ROWS = 20  # rows whose draws are all equal, before it is said
_WEIGHTS = (
    "Methods that ask questions work with a server (mmssr, the teacher of error_driven); methods "
    "that need losses or train the model want its weights: --model with a folder or a hub id."
)
Sending = Callable[[], None]
log = logging.getLogger(__name__)


class Asked(Protocol):
    """What is read of a query (`signals.query.Query`)."""

    @property
    def text(self) -> str: ...
    @property
    def answers(self) -> tuple[str, ...]: ...
    @property
    def whole(self) -> bool: ...


class OpenAIBackend:
    """`notes`: what the user should know of the server, in words. Raises ConfigError for a key that
    cannot be one."""

    def __init__(self, address: Address, key: str | None, options: ServerOptions) -> None:
        self.client = Client(address, key, options)
        self.options = options
        self._health = Health(address.base)
        self._several = True  # the server heeds `n`
        self._said = 0
        # whether draws of a row were seen to differ; rows whose draws were equal
        self._draws, self._equal = False, 0

    @property
    def notes(self) -> list[str]:
        return list(self.client.dialect.notes)

    # ------------------------------------------------------------------------- what a server can do

    def ask(
        self, samples: Sequence[Sample], queries: Sequence[Asked], pool: SampleSource
    ) -> Iterator[Scored]:
        """`samples[i]`: (optional system turn and) a user turn at the end; query q is that turn
        with `q.text` behind it.

        Values {"logprob": float32 [m, sum(len(q.answers))]} in nats, queries in order: of each
        answer's first token at the first position of the model's answer. The server names its
        likeliest tokens (20, or as many as it allows): an answer that is not among them gets -inf,
        and is at most as likely as the last of them. One request a query. Raises CapabilityError
        for whole answers, and where the server gives no log-probabilities.
        """
        if any(q.whole for q in queries):
            self._cannot(
                "give the probability of answers of several tokens, only of their first one",
                "Let the model write these answers: for mmssr's styles, --set style=generate (of "
                "a teacher, --set teacher_answers=generate).",
            )
        width = sum(len(q.answers) for q in queries)
        pictures = Pictures(pool, self.options.image_side)
        settings = {"temperature": 0}

        def row(i: int, sending: Sending, stop: threading.Event) -> np.ndarray:
            found = []
            for q in queries:
                talk = messages(question(samples[i], q.text), pictures.uri)
                sending()
                top = self.client.chat(talk, 1, settings, likeliest, stop, top=True)
                found.append(first_tokens(q.answers, top))
            return np.concatenate(found)

        blank = np.full(width, np.nan, np.float32)
        for done in self._rows(len(samples), len(queries), row):
            values = np.stack([blank if d.error else d.value for d in done])
            yield _scored(done, {"logprob": values})

    def generate(
        self, samples: Sequence[Sample], pool: SampleSource, max_new_tokens: int
    ) -> Iterator[Scored]:
        """The model's own answer in place of each row's last answer, decoded greedily.

        Fields: text (str, ends stripped), tokens int32 (as the server counts them, which may
        include the end token; 0: it does not say), finished bool (the model ended by itself).
        """
        pictures = Pictures(pool, self.options.image_side)

        def row(i: int, sending: Sending, stop: threading.Event) -> Written:
            talk = messages(prompt(samples[i]), pictures.uri)
            sending()
            return self.client.chat(talk, max_new_tokens, {"temperature": 0}, written, stop)[0]

        for done in self._rows(len(samples), 1, row):
            good = [Written("", 0, False) if d.error else d.value for d in done]
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
        """`n` answers drawn at `temperature` in place of each row's last answer: fields text_0 …
        text_{n-1} (str).

        Each row has a seed of its own, made of `seed` and its digest; whether a server heeds it is
        the server's affair. One request a row where the server gives `n` answers at once, else one
        an answer.
        """
        pictures = Pictures(pool, self.options.image_side)

        def row(i: int, sending: Sending, stop: threading.Event) -> list[str]:
            talk = messages(prompt(samples[i]), pictures.uri)
            texts: list[str] = []
            while len(texts) < n:
                many = n - len(texts) if self._several else 1
                drawn = _seed(seed, samples[i], len(texts))
                settings: dict[str, Any] = {
                    "temperature": temperature,
                    "seed": drawn,
                    **({"n": many} if many > 1 else {}),
                }
                sending()
                got = self.client.chat(talk, max_new_tokens, settings, written, stop)
                if len(got) < many:
                    self._several = False
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
        """Say it once when the server seems not to draw at all (`transformers serve` heeds the
        temperature of some models only)."""
        if n < 2 or temperature <= 0 or self._draws:
            return
        self._equal += sum(len(dict.fromkeys(texts)) == 1 for texts in drawn)
        self._draws = any(len(dict.fromkeys(texts)) > 1 for texts in drawn)
        if not self._draws and self._equal >= EQUAL_ROWS:
            self._draws = True
            self.client.dialect.notes.append(
                f"The server gave each of {self._equal} rows the same text {n} times at "
                f"temperature {temperature:g}: does it draw?"
            )

    # ------------------------------------------------------------------------------- what it cannot

    def answer_loss(
        self, samples: Sequence[Sample], pool: SampleSource, among_images: bool = False
    ) -> NoReturn:
        """Raises CapabilityError."""
        self._cannot("give the loss of answers that it did not write")

    def one_shot(
        self, samples: Sequence[Sample], demonstrations: Sequence[Sample], pool: SampleSource
    ) -> NoReturn:
        """Raises CapabilityError."""
        self._cannot("give the loss of answers that it did not write")

    def choice(
        self, samples: Sequence[Sample], candidates: Sequence[Sequence[str]], pool: SampleSource
    ) -> NoReturn:
        """Raises CapabilityError."""
        self._cannot(
            "compare the probabilities of whole candidates",
            "Let it write its answers (evaluate: --score generate), or give its weights: --model "
            "with a folder or a hub id.",
        )

    def _cannot(self, what: str, instead: str = _WEIGHTS) -> NoReturn:
        raise CapabilityError(
            f"The model {self.client.address.model!r} is behind a server, and chat completions "
            f"cannot {what}. {instead} Nothing was sent."
        )

    # ----------------------------------------------------------------------------------------- rows

    def _rows(self, count: int, requests: int, row: Any) -> Iterator[list[Done]]:
        for done in ask_rows(count, requests, row, self.options, self._health):
            for text in self.client.dialect.notes[self._said :]:
                log.warning("%s", text)
                self._said += 1
            if done:
                yield done


def _scored(done: Sequence[Done], values: dict[str, np.ndarray]) -> Scored:
    return Scored(np.array([d.row for d in done], np.int64), values, [d.error for d in done])


def _seed(seed: int, sample: Sample, already: int) -> int:
    """31 bits, as every server takes."""
    return (
        int.from_bytes(
            hashlib.sha256(b"%d|%d|" % (seed, already) + sample.digest).digest()[:4], "big"
        )
        >> 1
    )
