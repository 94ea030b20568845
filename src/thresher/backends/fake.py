"""A backend without a model, for tests: every number is a hash of the request, so every process
gives the same.

It can be slow (`seconds_per_row`), fail on chosen rows, and log its rows to a file (`log`).
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from thresher.types import ModelIdentity, Query, Sample, SampleSource, Scored

IDENTITY = ModelIdentity(weights="fake:1", architecture="fake", dtype="float32", pixels="pil")


@dataclass(frozen=True)
class Measured:
    """As `hf.backend.Probe`."""

    seconds: float
    tokens: int
    peak_bytes: int


def never(sample: Sample) -> str:
    """No row fails."""
    return ""


def by_hash(sample: Sample, query: Query) -> Sequence[float]:
    """A log-probability for each answer: a total probability of about 0.9, divided by a hash of
    row, query and answer.

    Arguments:
        sample: the row.
        query: its text and answers.
    """
    weight = np.array(
        [_nats(query.text.encode(), sample.digest + a.encode()) + 1e-3 for a in query.answers]
    )
    return np.log(0.9 * weight / weight.sum()).tolist()


def no_text(sample: Sample) -> str:
    """Generates nothing."""
    return ""


class FakeBackend:
    """fails: gives the error of a row, or "".
    seconds_per_row: how long a row takes.
    piece: rows per `Scored`.
    log: file that gets a line (the digest) for every row, even if the process is killed right
    after.
    answers: gives the log-probabilities of a query's answers.
    writes: gives the generated text of a row.

    `scored` counts the rows.

    Arguments:
        fails: returns the error of a row, or "".
        seconds_per_row: how long a row takes.
        piece: rows per `Scored`.
        log: file that gets a line (the digest) for every row, even if the process is killed right
            after.
        answers: returns the log-probabilities of a query's answers.
        writes: returns the generated text of a row.
    """

    reuses_prefix = True
    query_mode = "packed"

    def __init__(
        self,
        *,
        fails: Callable[[Sample], str] = never,
        seconds_per_row: float = 0.0,
        piece: int = 32,
        log: Path | None = None,
        answers: Callable[[Sample, Query], Sequence[float]] = by_hash,
        writes: Callable[[Sample], str] = no_text,
    ) -> None:
        self.fails, self.seconds_per_row, self.piece, self.log = fails, seconds_per_row, piece, log
        self.answers, self.writes = answers, writes
        self.scored = 0

    def answer_loss(
        self, samples: Sequence[Sample], pool: SampleSource, among_images: bool = False
    ) -> Iterator[Scored]:
        """nll in 0 … 8, mostly small; tokens: words of the answers; greedy_match: nll < 0.2."""
        for index in self._pieces(samples):
            part = [samples[i] for i in index]
            nll = np.array([_nats(b"loss", s.digest) for s in part], np.float32)
            words = [
                max(sum(len(t.text.split()) for t in s.turns if t.role == "assistant"), 1)
                for s in part
            ]
            values = {"nll": nll, "tokens": np.array(words, np.int32), "greedy_match": nll < 0.2}
            yield Scored(index, values, [self.fails(s) for s in part])

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
        """Losses as `answer_loss`; entropy and own_gap in 0 … 8; states as `embed_rows`, whatever
        the layer; every word a token."""
        for piece in self.answer_loss(samples, pool, among_images):
            part = [samples[i] for i in piece.index.tolist()]
            if spread:
                for name in ("entropy", "own_gap"):
                    each = [_nats(name.encode(), s.digest) for s in part]
                    piece.values[name] = np.array(each, np.float32)
            if light_spans is not None:
                piece.values.update(_word_losses(part, piece.values["nll"], light_spans))
            if states:
                bags = [_bags([_part(s, of) for s in part]) for _, of in states]
                piece.values["states"] = np.stack(bags, axis=1)
            yield piece

    def one_shot(
        self, samples: Sequence[Sample], demonstrations: Sequence[Sample], pool: SampleSource
    ) -> Iterator[Scored]:
        """nll: the zero-shot one, changed by up to 50% by a hash of the pair."""
        for index in self._pieces(samples):
            nll = []
            for i in index:
                query, demo = samples[i].digest, demonstrations[i].digest
                nll.append(_nats(b"loss", query) * (0.5 + _unit(b"pair", query + demo)))
            yield Scored(
                index, {"nll": np.array(nll, np.float32)}, [self.fails(samples[i]) for i in index]
            )

    def ask(
        self, samples: Sequence[Sample], queries: Sequence[Query], pool: SampleSource
    ) -> Iterator[Scored]:
        """logprob [m, answers of all queries]: of `answers`."""
        for index in self._pieces(samples):
            part = [samples[i] for i in index]
            table = [[x for q in queries for x in self.answers(s, q)] for s in part]
            yield Scored(
                index, {"logprob": np.array(table, np.float32)}, [self.fails(s) for s in part]
            )

    def generate(
        self, samples: Sequence[Sample], pool: SampleSource, max_new_tokens: int
    ) -> Iterator[Scored]:
        """text: of `writes`, cut to `max_new_tokens` words."""
        for index in self._pieces(samples):
            part = [samples[i] for i in index]
            words = [self.writes(s).split() for s in part]
            values = {
                "text": np.array([" ".join(w[:max_new_tokens]) for w in words], dtype=object),
                "tokens": np.array([min(len(w), max_new_tokens) for w in words], np.int32),
                "finished": np.array([len(w) <= max_new_tokens for w in words], bool),
            }
            yield Scored(index, values, [self.fails(s) for s in part])

    def embed_rows(self, samples: Sequence[Sample], pool: SampleSource) -> Iterator[Scored]:
        """Unit vectors of 64 numbers: of the images' identities, of the questions' words, of the
        answers' words."""
        for index in self._pieces(samples):
            part = [samples[i] for i in index]
            values = {
                "images": _bags([_part(s, "image") for s in part]),
                "question": _bags([_part(s, "question") for s in part]),
                "answer": _bags([_part(s, "answer") for s in part]),
            }
            yield Scored(index, values, [self.fails(s) for s in part])

    def probe(self, samples: Sequence[Sample], pool: SampleSource) -> Measured:
        """A hundredth of a second and ten tokens a row, 1 MiB.

        Arguments:
            samples: rows to measure.
            pool: not used.
        """
        return Measured(0.01 * len(samples), 10 * len(samples), 1 << 20)

    def _pieces(self, samples: Sequence[Sample]) -> Iterator[np.ndarray]:
        """Indices, last piece first, so that a caller that relies on the order fails."""
        starts = range(0, len(samples), self.piece)
        for start in reversed(starts):
            index = np.arange(start, min(start + self.piece, len(samples)))
            if self.seconds_per_row:
                time.sleep(self.seconds_per_row * len(index))
            self.scored += len(index)
            if self.log is not None:
                lines = "".join(samples[i].digest.hex() + "\n" for i in index.tolist())
                with open(self.log, "ab", buffering=0) as f:
                    os.write(f.fileno(), lines.encode())
            yield index


def _unit(purpose: bytes, data: bytes) -> float:
    """Uniform in (0, 1)."""
    return (int.from_bytes(hashlib.sha256(purpose + data).digest()[:6], "big") + 0.5) / 2**48


def _nats(purpose: bytes, data: bytes) -> float:
    return float(8 * _unit(purpose, data) ** 3)


def _word_losses(
    samples: Sequence[Sample],
    nll: np.ndarray,
    light_spans: Callable[[str], Sequence[tuple[int, int]]],
) -> dict[str, np.ndarray]:
    """As `HFBackend.read`: every word has the loss of its row, marked words half of it."""
    words = [_words(s, "assistant") for s in samples]
    light = np.array([sum(light_spans(w) == [(0, len(w))] for w in row) for row in words])
    content = np.array([len(row) for row in words]) - light
    return {
        "content": (nll * content).astype(np.float32),
        "content_tokens": content.astype(np.int32),
        "light": (nll / 2 * light).astype(np.float32),
        "light_tokens": light.astype(np.int32),
    }


def _words(sample: Sample, role: str) -> list[str]:
    return " ".join(t.text for t in sample.turns if t.role == role).split()


def _part(sample: Sample, part: str) -> list[str]:
    """The tokens of a part of the row: identities of images, words."""
    images = [i.identity for i in sample.images]
    question, answer = _words(sample, "user"), _words(sample, "assistant")
    every = {"image": images, "question": question, "answer": answer}
    return every[part] if part in every else images + question + answer


def _bags(bags: Sequence[Sequence[str]]) -> np.ndarray:
    """float32 [m, 64] of length 1: the sum of a vector for each word; zeros for no words."""
    out = np.zeros((len(bags), 64), np.float32)
    for row, words in zip(out, bags, strict=True):
        for word in words:
            raw = hashlib.sha512(word.encode("utf-8", "surrogatepass")).digest()
            row += np.frombuffer(raw, np.uint8).astype(np.float32) - 127.5
        row /= max(float(np.linalg.norm(row)), 1e-12)
    return out
