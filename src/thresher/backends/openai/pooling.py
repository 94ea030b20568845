"""A server with OpenAI's embeddings API as a backend: a vector for each part of a row.

Rows are sent as `messages`, with their images, which is vLLM's extension of that API (`vllm serve
MODEL --runner pooling`), or as the text `input` of the API itself, if the user asks for texts only.
Nothing else of a server is used, and images are never left out unasked: whether the server takes
what is sent is found out with a trivial text, and with a plain image before the first row that has
one.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any, get_args

import numpy as np

from thresher.backends.openai.address import Address
from thresher.backends.openai.client import Client
from thresher.backends.openai.failures import Refused, Transient
from thresher.backends.openai.image_uris import ImageURIs
from thresher.backends.openai.messages import Messages, messages
from thresher.backends.openai.options import ServerOptions
from thresher.backends.openai.probe_request import TEXT, probe_messages
from thresher.backends.openai.row_parts import Part, part_of, text_only
from thresher.backends.openai.rows import RowResult, ServerHealth, ask_rows
from thresher.errors import CapabilityError, ServerError, opt
from thresher.types import Sample, SampleSource, Scored

FIELDS: dict[str, Part] = {"images": "image", "question": "question", "answer": "answer"}


class PoolingBackend:
    """One model of one embeddings server.

    Arguments:
        address: the server and the model.
        key: API key; None: requests have none.
        options: of the run.
        texts: whether rows are sent as plain texts, without their images.
    """

    def __init__(
        self, address: Address, key: str | None, options: ServerOptions, texts: bool
    ) -> None:
        self.client = Client(address, key, options)
        self.options, self.texts = options, texts
        self._health = ServerHealth(address.base)
        self._lock = threading.Lock()
        self._taken: set[bool] = set()  # of a content with an image or without: the server takes it
        self._width = 0  # numbers of a vector; 0: not known yet

    def embed_parts(
        self, samples: Sequence[Sample], pool: SampleSource, parts: Sequence[Part]
    ) -> Iterator[Scored]:
        """Vectors of parts of rows, one request each.

        Arguments:
            samples: m rows.
            pool: where images are loaded from.
            parts: of `row_parts.part_of`.

        Yields a field for each part: float32 [m, d] of length 1, zeros where a row has nothing of
        it. Raises CapabilityError for a server that gives no embeddings of what is sent, and
        ServerError for one whose vectors differ in length.
        """
        assert set(parts) <= set(get_args(Part))
        image_uris = ImageURIs(pool, self.options.image_side)

        def row(
            i: int, sending: Callable[[], None], stop: threading.Event
        ) -> list[np.ndarray | None]:
            found: list[np.ndarray | None] = []
            for part in parts:
                content = self._content(samples[i], part, image_uris)
                if content is not None:
                    self._probe(content, stop)
                    sending()
                found.append(None if content is None else self._vector(content, stop))
            return found

        for done in ask_rows(len(samples), len(parts), row, self.options, self._health):
            if done:
                values = {str(p): self._table(done, k) for k, p in enumerate(parts)}
                index = np.array([d.row for d in done], np.int64)
                yield Scored(index, values, [d.error for d in done])

    def embed_rows(self, samples: Sequence[Sample], pool: SampleSource) -> Iterator[Scored]:
        """`embed_parts` of images, question and answer, in fields of these names."""
        for piece in self.embed_parts(samples, pool, list(FIELDS.values())):
            values = {name: piece.values[part] for name, part in FIELDS.items()}
            yield Scored(piece.index, values, piece.errors)

    def embed(self, texts: Sequence[str]) -> list[np.ndarray | str]:
        """The vector of each text, float32 [d] of length 1, or why there is none."""

        def row(i: int, sending: Callable[[], None], stop: threading.Event) -> np.ndarray:
            text = texts[i]
            content = text if self.texts else _user(text)
            self._probe(content, stop)
            sending()
            return self._vector(content, stop)

        found: list[np.ndarray | str] = [""] * len(texts)
        for done in ask_rows(len(texts), 1, row, self.options, self._health):
            for result in done:
                found[result.row] = result.error or result.value
        return found

    def check(self) -> None:
        """Raise ServerError or CapabilityError if the server does not embed a trivial text."""
        self.client.check_reachable()
        try:
            self._probe(TEXT if self.texts else _user(TEXT), threading.Event())
        except Transient as error:
            raise ServerError(
                f"The server {self.client.address.base} gives no embedding of a trivial text "
                f"({error.reason}). It is needed later in this run, which stops before another "
                "model starts."
            ) from None

    # ------------------------------------------------------------------------------------- requests

    def _content(self, sample: Sample, part: Part, image_uris: ImageURIs) -> Any:
        """What is sent of a row; None: it has nothing of this part."""
        if self.texts:
            return text_only(sample, part)
        found = part_of(sample, part)
        return None if found is None else messages(found, image_uris.uri)

    def _vector(self, content: Any, stop: threading.Event, reserved: bool = True) -> np.ndarray:
        """A unit vector, float32 [d]. Raises Refused for one that is not finite or has no length,
        and what the client raises."""
        vector = self.client.embed(content, read_vector, stop, reserved=reserved)
        with self._lock:
            self._width = self._width or len(vector)
        if len(vector) != self._width:
            raise ServerError(
                f"The server {self.client.address.base} gave a vector of {len(vector):,} numbers "
                f"after vectors of {self._width:,}: does it serve one model under the name "
                f"{self.client.address.model!r}? Results so far are stored."
            )
        if not np.isfinite(vector).all():
            reason = "the server's embedding has numbers that are not finite"
            raise Refused(reason, kind="not-finite")
        largest = np.abs(vector).max()
        if not largest:
            raise Refused("the server's embedding has only zeros", kind="zero-vector")
        vector = vector / largest  # so that no square overflows or vanishes
        unit: np.ndarray = (vector / np.linalg.norm(vector)).astype(np.float32)
        return unit

    def _table(self, done: Sequence[RowResult], k: int) -> np.ndarray:
        """The k-th vector of each row, float32 [m, d]; zeros where there is none."""
        out = np.zeros((len(done), max(self._width, 1)), np.float32)
        for j, result in enumerate(done):
            if not result.error and result.value[k] is not None:
                out[j] = result.value[k]
        return out

    def _probe(self, content: Any, stop: threading.Event) -> None:
        """Find out, once for texts and once for images, whether the server embeds them. Raises
        CapabilityError if it refuses a trivial one."""
        has_image = not isinstance(content, str) and isinstance(content[0]["content"], list)
        with self._lock:
            kinds = [kind for kind in (False, True)[: 1 + has_image] if kind not in self._taken]
        for kind in kinds:
            trivial = probe_messages(_user([] if kind else ""))
            try:
                self._vector(TEXT if self.texts else trivial, stop, reserved=False)
            except Refused as refusal:
                raise self._no_embeddings(refusal, kind) from None
            with self._lock:
                self._taken.add(kind)

    def _no_embeddings(self, refusal: Refused, image: bool) -> CapabilityError:
        what = (
            "of an image" if image else "of a text" if self.texts else "of a message (`messages`)"
        )
        do = (
            "A server that embeds texts only needs "
            f"{opt('embed_text', True)}: rows are then compared by their texts, without their "
            "images."
        )
        return CapabilityError(
            f"The server {self.client.address.base} gives no embedding {what} ({refusal}). No row "
            f"was sent. {'' if self.texts else do + ' '}With vLLM, embeddings of images and texts "
            f"need an image-text model, started with `vllm serve MODEL --runner pooling`. Or give "
            f"weights: {opt('embedder')} with a folder or a hub id."
        )


def _user(content: Any) -> Messages:
    return [{"role": "user", "content": content}]


def read_vector(response: dict[str, Any]) -> np.ndarray:
    """The vector of a response with one embedding, float64 [d]. Raises ValueError for anything
    else."""
    data = response.get("data")
    if not isinstance(data, list) or len(data) != 1 or not isinstance(data[0], dict):
        raise ValueError("the response has no list of one embedding")
    numbers = data[0].get("embedding")
    if not isinstance(numbers, list) or not numbers:
        raise ValueError("the embedding is not a list of numbers")
    if not all(n is None or type(n) in (int, float) for n in numbers):
        raise ValueError("the embedding has elements that are no numbers")
    return np.array([math.nan if n is None else n for n in numbers], np.float64)
