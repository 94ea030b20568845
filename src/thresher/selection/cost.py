"""What a row costs with a model: measured on a few rows, or counted where the model must not be
opened.

Each kind of pass has its own cost: a row alone, a row after a demonstration (one-shot), a row with
all queries that share a pass, and a row about which the model generates text. The
results of the measured rows are discarded; `plan` multiplies.
"""

from __future__ import annotations

import time
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal, Protocol

import numpy as np

from thresher.console.timing import typical_seconds
from thresher.engine import ColumnEngine
from thresher.mixture.tokens import media_tokens
from thresher.pools import Pool
from thresher.pools.token_estimate import TOKENS_PER_FRAME, TOKENS_PER_IMAGE, TOKENS_PER_WORD
from thresher.signals.answer_loss import AnswerLoss, without_images
from thresher.signals.query import QuerySignalBase
from thresher.types import (
    Capability,
    ModelIdentity,
    RowSignal,
    Sample,
    SampleSource,
    SharedSignal,
    VideoRef,
)

PROBE_ROWS = 64
WRITTEN_ROWS = 16  # measured rows if the model generates text, which takes longer
SHORT_ANSWER = 32  # tokens


Measuring = Literal["model", "processor", "text"]
"""What a row's cost is found with: the model itself, or its text and what the model's processor
makes of images, or its text alone."""


class ProbeResult(Protocol):
    """What a backend measured on some rows."""

    @property
    def seconds(self) -> float: ...  # of scoring them once, warm
    @property
    def tokens(self) -> int: ...  # that passed the language model, images included
    @property
    # peak memory, the model included; None if unknown
    def peak_bytes(self) -> int | None: ...


@dataclass(frozen=True)
class RowCost:
    """The cost of one row."""

    tokens: float | None  # None: unknown, here and below
    seconds: float | None  # of a row alone
    peak_bytes: int | None  # peak memory, the model included
    basis: str  # how the cost was determined, for messages
    reuses_prefix: bool = False  # whether a demonstration is encoded once for all its rows
    # after a demonstration: without encoding it if `reuses_prefix`, else with it
    seconds_one_shot: float | None = None
    # of all signals that share a pass, by their batch key
    seconds_asked: Mapping[Hashable, float] = field(default_factory=dict)
    # of generating text about a row, by signal
    seconds_written: Mapping[str, float] = field(default_factory=dict)
    # of a row without its images: tokens and seconds
    bare_tokens: float | None = None
    bare_seconds: float | None = None
    query_mode: str = ""  # how queries about a row run: packed, batched or full; "": no queries

    def of(self, rows: int) -> tuple[float | None, float | None]:
        """(tokens, seconds) of `rows` rows."""
        return _times(self.tokens, rows), _times(self.seconds, rows)

    def of_bare_rows(self, rows: int) -> tuple[float | None, float | None]:
        """(tokens, seconds) of `rows` rows without their images; as with them where that is not
        known."""
        tokens = self.tokens if self.bare_tokens is None else self.bare_tokens
        seconds = self.seconds if self.bare_seconds is None else self.bare_seconds
        return _times(tokens, rows), _times(seconds, rows)

    def of_texts(self, rows: int, tokens: float) -> tuple[float | None, float | None]:
        """(tokens, seconds) of `rows` rows of which the model gets only a text. Seconds are those
        of whole rows, in proportion to the tokens.

        Arguments:
            rows: number of rows.
            tokens: of one text.
        """
        whole = self.seconds and self.tokens and self.seconds * tokens / self.tokens
        return tokens * rows, _times(whole, rows)

    def of_generations(self, rows: int, signal: str) -> tuple[float | None, float | None]:
        """(tokens, seconds) of `rows` rows about which the model generates text for `signal`. The
        generated tokens are not counted.

        Arguments:
            rows: number of rows.
            signal: kind of the signal.
        """
        return _times(self.tokens, rows), _times(
            self.seconds_written.get(signal, self.seconds), rows
        )

    def of_fused_rows(self, rows: int, together: Hashable) -> tuple[float | None, float | None]:
        """(tokens, seconds) of `rows` rows with all queries of the batch key `together`. Tokens of
        the queries are not counted.

        Arguments:
            rows: number of rows.
            together: a batch key.
        """
        return _times(self.tokens, rows), _times(
            self.seconds_asked.get(together, self.seconds), rows
        )

    def of_one_shot_rows(self, rows: int, demonstrations: int) -> tuple[float | None, float | None]:
        """(tokens, seconds) of `rows` rows after one of `demonstrations` different demonstrations,
        each as long as a row.

        Arguments:
            rows: number of rows.
            demonstrations: number of different demonstrations.
        """
        whole = rows + (demonstrations if self.reuses_prefix else rows)
        # estimated from tokens, where no row was measured after a demonstration
        seconds = _times(self.seconds, whole)
        if self.seconds_one_shot is not None and self.seconds is not None:
            seconds = self.seconds_one_shot * rows + (
                self.seconds * demonstrations if self.reuses_prefix else 0
            )
        return _times(self.tokens, whole), seconds


def measure_cost(
    engine: ColumnEngine,
    model: ModelIdentity | None,
    due: Sequence[RowSignal],
    shared: Sequence[SharedSignal],
    how: Measuring,
) -> RowCost:
    """The cost of one row of a pool, measured with the model or estimated from its text.

    Arguments:
        engine: of the pool; its eligible rows are measured.
        model: the model that is measured.
        due: the signals that have rows to score.
        shared: those of them that share a pass with others.
        how: what is used.
    """
    if not due:
        return RowCost(0.0, 0.0, None, "")
    pool, numbering = engine.pool, engine.numbering
    usable = np.flatnonzero(engine.eligible.mask)  # int64 [u], positions
    order = np.argsort(numbering.ties[usable], kind="stable")  # at random, by the seed
    samples = pool.samples(numbering.pool_rows[usable[order[:PROBE_ROWS]]])
    if how == "model":
        backend = engine.models.open(model)
        if hasattr(backend, "probe"):
            measured = backend.probe(samples, pool)
            n = len(samples)
            reuses = bool(getattr(backend, "reuses_prefix", False))
            one_shot = any(map(uses_demonstrations, due)) and hasattr(backend, "one_shot")
            after_demonstration = (
                _seconds_one_shot(backend, samples, pool) / n if one_shot else None
            )
            together = _seconds_asked(backend, shared, samples, pool)
            written = _seconds_written(backend, due, samples, pool)
            basis = f"measured on {n} rows"
            each = measured.tokens / n, measured.seconds / n
            asked = any(isinstance(signal, QuerySignalBase) for signal in shared)
            mode = str(getattr(backend, "query_mode", "") or "") if asked else ""
            bare_rows = _without_images(samples) if any(map(is_bare, due)) else []
            bare = backend.probe(bare_rows, pool) if bare_rows else measured
            size = len(bare_rows) or n
            peak = measured.peak_bytes
            if peak is not None and hasattr(backend, "peak_bytes"):
                peak = max(peak, backend.peak_bytes())  # of the other passes, too
            return RowCost(
                *each,
                peak,
                basis,
                reuses,
                after_demonstration,
                together,
                written,
                bare.tokens / size,
                bare.seconds / size,
                mode,
            )
    words = sum(len(turn.text.split()) for sample in samples for turn in sample.turns)
    refs = [ref for sample in samples for ref in sample.images]
    frames = sum(ref.frames for ref in refs if isinstance(ref, VideoRef))
    images = sum(not isinstance(ref, VideoRef) for ref in refs)
    tokens = TOKENS_PER_WORD * words + TOKENS_PER_IMAGE * images + TOKENS_PER_FRAME * frames
    media = (
        f" and {TOKENS_PER_IMAGE} an image"
        f"{f', {TOKENS_PER_FRAME} a frame of a video' if frames else ''}"
    )
    if how == "processor" and isinstance(pool, Pool):
        counted = media_tokens(pool, engine.models.handle(model))
        tokens = TOKENS_PER_WORD * words + float(counted.of(samples).sum())
        media = counted.how
    tokens /= len(samples)
    # each question is a request that contains the row, and its words are charged
    if model is not None and model.served:
        tokens += TOKENS_PER_WORD * sum(len(_prompt(signal).split()) for signal in due) / len(due)
    basis = (
        f"counted on {len(samples)} rows: {TOKENS_PER_WORD} tokens a word{media}; the model was "
        "not measured, so hours and memory are not known"
    )
    return RowCost(tokens, None, None, basis, bare_tokens=TOKENS_PER_WORD * words / len(samples))


def _seconds_written(
    backend: Any, signals: Sequence[RowSignal], samples: Sequence[Sample], pool: SampleSource
) -> dict[str, float]:
    """Seconds per row of the signals that generate text, by name. Those that depend on other
    columns cannot be measured before these: they are assumed to cost as much as other generations
    of the model, or a short answer.
    """
    due = [s for s in signals if s.needs is Capability.GENERATE and not isinstance(s, SharedSignal)]
    if not due or not hasattr(backend, "generate"):
        return {}
    some = samples[:WRITTEN_ROWS]
    out: dict[str, float] = {}
    for signal in due:
        if not signal.inputs():
            began = time.perf_counter()
            for _ in signal.rows(some, None, backend, pool):
                continue
            out[signal.kind] = (time.perf_counter() - began) / len(some)
    if not out:
        began = time.perf_counter()
        for _ in backend.generate(some, pool, SHORT_ANSWER):
            continue
        out[due[0].kind] = (time.perf_counter() - began) / len(some)
    usual = sum(out.values()) / len(out)
    return {s.kind: out.get(s.kind, usual) for s in due}


def _seconds_asked(
    backend: Any, signals: Sequence[SharedSignal], samples: Sequence[Sample], pool: SampleSource
) -> dict[Hashable, float]:
    """Seconds a row of the pass that answers each group of signals asked together, warm. A loss
    alone is what the probe has measured."""
    groups: dict[Hashable, list[SharedSignal]] = {}
    for signal in signals:
        if (
            not signal.inputs()
        ):  # signals that depend on other columns cannot be measured before these
            groups.setdefault(signal.batch_key(), []).append(signal)
    seconds: dict[Hashable, float] = {}
    for together, group in groups.items():
        if all(isinstance(signal, AnswerLoss) and signal.image for signal in group):
            continue
        run = partial(group[0].batch_rows, group, samples, None, backend, pool)
        for _ in run():  # to warm up
            continue
        seconds[together] = typical_seconds(run) / len(samples)
    return seconds


def _seconds_one_shot(backend: Any, samples: Sequence[Sample], pool: SampleSource) -> float:
    """Seconds to score n `samples` after one of them as the demonstration, with a warm model."""
    run = partial(backend.one_shot, samples, [samples[0]] * len(samples), pool)
    for _ in run():  # to warm up
        continue
    return typical_seconds(run)


def _without_images(samples: Sequence[Sample]) -> list[Sample]:
    """Those rows with images that can be scored without them, without them."""
    bare = [without_images(sample) for sample in samples if sample.images]
    return [row for row in bare if isinstance(row, Sample)]


def is_bare(signal: RowSignal) -> bool:
    """Whether a signal scores rows without their images."""
    return getattr(signal, "image", True) is False


def sent_text(signal: RowSignal) -> tuple[str, str] | None:
    """The input and its field whose text the model gets in place of the row (`sent_text` of the
    signal); None: the model gets the row."""
    named: tuple[str, str] | None = getattr(signal, "sent_text", None)
    return named


def _prompt(signal: RowSignal) -> str:
    """The signal's prompt, from its fields `system` and `prompt`; placeholders are not filled
    in."""
    return " ".join(str(getattr(signal, name, "")) for name in ("system", "prompt"))


def uses_demonstrations(signal: RowSignal) -> bool:
    """Whether each row is scored after a demonstration: another row, which an input of the signal
    names by its digest."""
    keys = getattr(type(signal), "key_fields", ()) if signal.inputs() else ()
    return signal.needs is not Capability.NONE and any(field == "digest" for _, field in keys)


def _times(each: float | None, count: int) -> float | None:
    return None if each is None else each * count
