"""Shared types: samples, images, signals, columns, budgets, selections.

Imports only numpy and the standard library, so that `import thresher` stays light. Past 400 lines
because these are the package's protocols and value types, with next to no logic.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from fractions import Fraction
from pathlib import Path
from typing import Any, ClassVar, Protocol, runtime_checkable

import numpy as np

from thresher.errors import ConfigError, ImageError, Spell, in_python, spelled

DIGEST = np.dtype("S32")  # SHA-256; indexing one element strips NULs: use `digests_to_bytes`
IMAGE_PLACEHOLDER = "<image>"
EMBEDDER = "embedder"  # the role of the model that gives the embeddings of rows
CHANGED = "changed since the pool was opened"  # kind of a row's error if its image was modified


# ---------------------------------------------------------------------- samples


@dataclass(frozen=True, slots=True)
class Turn:
    """One message. `text` keeps `<image>` placeholders where the user put them."""

    role: str  # "system" | "user" | "assistant"
    text: str


@dataclass(frozen=True, slots=True)
class ImageRef:
    """A reference to an image: either `path` (relative, as the user wrote it) or `data` is set."""

    path: str = ""
    data: bytes | None = None
    size: int = -1  # bytes on disk when the pool was opened; -1: there was no such file
    content: str = ""  # SHA-256 when the pool was opened, hexadecimal; "": unknown
    trusted: bool = False  # --trust-paths: path and size are taken to identify the content

    @property
    def identity(self) -> str:
        """Identifies the image in digests: by content, wherever the file is.

        A file without known content (missing, unreadable, `trusted`) is identified by its path.
        """
        if self.data is not None:
            return "sha256:" + hashlib.sha256(self.data).hexdigest()
        if self.size < 0:
            return f"missing:{self.path}"
        if self.content:
            return f"sha256:{self.content}"
        return f"{'path' if self.trusted else 'unread'}:{self.path}:{self.size}"


@dataclass(frozen=True, slots=True)
class VideoRef(ImageRef):
    """A reference to a video, among the images of a sample: `path` or `data` is set, or `problem`.

    Its identity is the path, not the content.
    """

    frames: int = 0  # most frames to read
    problem: str = ""  # "kind: explanation" of why it, or its row, cannot be scored

    @property
    def identity(self) -> str:
        if self.data is not None:
            return "video:sha256:" + hashlib.sha256(self.data).hexdigest()
        return f"video:{self.path}:{self.frames}:{self.problem}"


@dataclass(frozen=True, slots=True, eq=False)
class Video:
    """Frames of a video, sampled evenly.

    frames: uint8 [frames, height, width, 3], RGB.
    indices: their numbers in the video, from 0, ascending.
    total: frames of the video.
    fps: frames per second of the video.
    """

    frames: np.ndarray
    indices: tuple[int, ...]
    total: int
    fps: float


@dataclass(frozen=True, slots=True)
class Sample:
    """One row of a pool, independent of the file format."""

    id: str  # the user's id as JSON text ('"a1"', '7'); may repeat and mix types
    turns: tuple[Turn, ...]
    images: tuple[ImageRef, ...] = ()
    source: str = ""
    problem: str = ""  # why the row cannot be scored, "" = no known problem: bad turns, video …
    media: tuple[str, ...] = ()  # identities of other media: videos, audio, unreadable images
    key: bytes = b""  # the digest of a row whose turns and images are not those of its record

    @property
    def digest(self) -> bytes:
        """The row key, 32 bytes: `row_digest` of roles, texts, other media and image identities.

        Id and source are not part of it.
        """
        if self.key:
            return self.key
        h = hashlib.sha256()
        for t in self.turns:
            text = t.text.encode("utf-8", "surrogatepass")
            h.update(b"%s\x1f%d\x1f%s" % (t.role.encode("utf-8", "surrogatepass"), len(text), text))
        for medium in self.media:
            h.update(b"\x1d" + medium.encode("utf-8", "surrogatepass"))
        return row_digest(h.digest(), [image.identity for image in self.images])


@dataclass(frozen=True, slots=True)
class RowError:
    """Why a row cannot be used: `kind` is for code, `detail` for people.

    Stored and shown as text, "kind: detail"; `parse` reads it back, also from older stores.
    """

    kind: str
    detail: str = ""

    def __str__(self) -> str:
        return f"{self.kind}: {self.detail}" if self.detail else self.kind

    @classmethod
    def parse(cls, text: str) -> RowError:
        """
        >>> RowError.parse("too long: 9,000 tokens: more than 4,096")
        RowError(kind='too long', detail='9,000 tokens: more than 4,096')
        """
        kind, _, detail = text.partition(":")
        return cls(kind, detail.lstrip())

    @classmethod
    def of(cls, error: ImageError) -> RowError:
        """The error of a row whose image or video cannot be used.

        >>> str(RowError.of(ImageError("a.png: empty file (0 bytes)", kind="empty-image")))
        'empty-image: a.png: empty file (0 bytes)'
        """
        given = cls.parse(str(error))
        if given.kind in (error.kind, CHANGED):
            return given
        return cls(error.kind, str(error).replace(f"{error.kind}: ", "", 1))


@dataclass(frozen=True)
class Note:
    """Something the user should know about a result: `kind` is for code, `text` for people.

    The text may refer to options (`errors.opt`): `str` writes them as in Python, `spelled` in any
    other way. Kinds of a selection's notes: "left-out", "missing-images",
    "fewer-rows", "store", "model", "validation", "leak", "mixture", "method", "round", "subset"; ""
    if a run.yaml of an earlier version names none.
    """

    kind: str
    text: str

    def __str__(self) -> str:
        return self.spelled(in_python)

    def spelled(self, spell: Spell) -> str:
        """The text, with options as `spell` writes them."""
        return spelled(self.text, spell)


def row_digest(texts: bytes, identities: Sequence[str]) -> bytes:
    """Combine the digest of a row's texts with its image identities, 32 bytes.

    In two steps because texts are known when a file is read, and images later.

    Arguments:
        texts: SHA-256 of roles and texts; returned as it is for a row without images.
        identities: `ImageRef.identity` of each image.
    """
    if not identities:
        return texts
    images = b"".join([b"\x1e" + i.encode("utf-8", "surrogatepass") for i in identities])
    return hashlib.sha256(b"images\x1f" + texts + images).digest()


def digests_to_array(digests: Sequence[bytes]) -> np.ndarray:
    """32-byte digests -> DIGEST array [n]."""
    return np.frombuffer(b"".join(digests), dtype=DIGEST)


def digests_to_bytes(array: np.ndarray) -> list[bytes]:
    """DIGEST array [n] -> 32-byte digests, trailing NULs kept."""
    raw = np.ascontiguousarray(array).tobytes()
    return [raw[i : i + 32] for i in range(0, len(raw), 32)]


class SampleSource(Protocol):
    """What a signal may read from a pool: samples by digest, and the pixels of images."""

    def by_digest(self, digest: bytes) -> Sample: ...

    def load_image(self, ref: ImageRef) -> Any:
        """The image as an RGB `PIL.Image`, rotated by its EXIF tag; of a `VideoRef`, its `Video`.
        Raises ImageError."""


class TrainingRows(SampleSource, Protocol):
    """Rows to train on: a pool's, or examples made from them. Rows are numbered 0 … n-1."""

    path: Path  # the file behind the rows, for messages and records
    images_folder: Path
    digest: np.ndarray  # DIGEST [n]
    order: np.ndarray  # int64 [n]: an order that does not depend on the file's

    def __len__(self) -> int: ...
    @property
    def facts(self) -> Mapping[str, np.ndarray]:
        """`missing_images`: bool [n]."""

    @property
    def problems(self) -> Mapping[int, str]:
        """Row -> why it cannot be trained on; rows without a problem are absent."""

    def missing_image_reasons(self, rows: Sequence[int] | np.ndarray) -> list[str]:
        """Why each row's first missing image is missing; "" if none is."""

    def ids(self, rows: Sequence[int] | np.ndarray) -> list[str]: ...
    def samples(self, rows: Sequence[int] | np.ndarray) -> list[Sample]: ...


# ---------------------------------------------------------------------- signals


class Capability(Enum):
    """What a signal needs from a backend."""

    NONE = "nothing"
    LOGPROBS = "log-probabilities"
    GENERATE = "generation"
    EMBED = "embeddings"
    GRADIENTS = "gradients"


@dataclass(frozen=True)
class Field:
    """One value that a signal computes per row."""

    name: str
    dtype: str  # a numpy dtype name: float32, int32, bool
    meaning: str  # unit, range, direction


@dataclass(frozen=True)
class ModelIdentity:
    """The properties of a model that affect its scores; device, batch size, URL and path do not."""

    kind: ClassVar[str] = "model"
    added: ClassVar[Mapping[str, Any]] = dict.fromkeys(
        ("image_pixels", "adapter", "engine", "engine_arguments"), ""
    )

    weights: str  # "sha256:…" of a folder's content, or "hub:org/name@commit"
    architecture: str  # config.json's model_type, e.g. "qwen2_5_vl"
    dtype: str  # "float32" | "bfloat16" | "float16"
    pixels: str  # resizing by "pil" | "torchvision" (differs slightly); served: how images are sent
    image_pixels: str = ""  # "MIN..MAX" pixels of an image, "..MAX"; "": as in the model's files
    adapter: str = ""  # "module:Class@version" that runs it; "": thresher itself
    engine: str = ""  # "vllm"; served: "embeddings"; "": transformers, served: chat completions
    engine_arguments: str = ""  # those that may change numbers, such as "quantization=fp8"

    @property
    def served(self) -> bool:
        """Whether the model is behind an OpenAI-compatible server."""
        return self.architecture == "openai"

    @property
    def pooled(self) -> bool:
        """Whether it is behind a server that gives embeddings of rows, and nothing else."""
        return self.served and self.engine == "embeddings"

    @property
    def embeds(self) -> bool:
        """Whether it gives embeddings of rows: a server's, or its hidden states."""
        return self.pooled or not self.limit

    @property
    def losses_only(self) -> bool:
        """Whether it gives losses, answers to questions and generated texts, and neither hidden
        states nor whole distributions of tokens: behind a server or in vLLM."""
        return self.served or bool(self.engine)

    @property
    def limit(self) -> str:
        """Why its hidden states cannot be read and it cannot be trained, as the end of a sentence;
        "": both are possible."""
        if self.served:
            return "is behind a server"
        if self.engine:
            return "runs in vLLM"
        return f"runs through the adapter {self.adapter.partition('@')[0]}" if self.adapter else ""

    @classmethod
    def unresolved(cls, role: str) -> ModelIdentity:
        """A model known by its role only: enough to read off a method's signals what it needs;
        never computed with."""
        return cls(f"unresolved:{role}", "unresolved", "", "")


@dataclass(frozen=True)
class TrainedModel:
    """A model that thresher trains: `base`, fine-tuned with `recipe` on the rows that `rows`
    chooses.

    With `examples`, it is trained on distillation examples made from the chosen rows, not on the
    rows themselves. Used in a row signal in place of a `ModelIdentity`; the signal includes
    `model_inputs(model)` in its inputs. Before anything is stored it is replaced by a
    `TrainedIdentity` in which the rows are known.
    """

    kind: ClassVar[str] = "model_to_train"

    base: ModelIdentity
    recipe: Any  # a frozen dataclass: `training.Recipe`
    rows: Signal  # a pool signal with a bool field `chosen`, True for the rows to train on
    examples: DistillationExamples | None = None

    @property
    def architecture(self) -> str:
        return self.base.architecture


@dataclass(frozen=True)
class TrainedIdentity:
    """The properties of a trained model that affect its scores, whether or not it exists yet."""

    kind: ClassVar[str] = "trained_model"

    base: ModelIdentity
    recipe: Any
    rows: str  # "sha256:…" over the sorted digests of the samples that it is trained on

    @property
    def architecture(self) -> str:
        return self.base.architecture


AnyModel = ModelIdentity | TrainedModel | TrainedIdentity


def model_inputs(model: AnyModel) -> Mapping[str, Signal]:
    """Inputs that a row signal has because of its model: the columns a model to be trained depends
    on.
    """
    if not isinstance(model, TrainedModel):
        return {}
    taught = {} if model.examples is None else model.examples.inputs()
    return {
        "trained_on": model.rows,
        **{f"taught_{name}": signal for name, signal in taught.items()},
    }


class DistillationExamples(Protocol):
    """Makes training examples from a pool's rows and their columns. A frozen dataclass."""

    def inputs(self) -> Mapping[str, Signal]:
        """The columns that the examples are made from."""

    def of_row(self, sample: Sample, at: int, columns: Columns) -> Sequence[Sample]:
        """The examples made from one row; may be empty.

        Arguments:
            sample: the row.
            at: its index in `columns`.
            columns: values by the names of `inputs`.
        """


@dataclass
class Scored:
    """Results for some of the rows a signal was asked for.

    `index`: int64 [m], indices into the given samples. `values`: field name -> array [m].
    `errors[j]`: "" or why row `index[j]` could not be scored (its values are then ignored).
    """

    index: np.ndarray
    values: dict[str, np.ndarray]
    errors: list[str]


@runtime_checkable
class Signal(Protocol):
    """A frozen dataclass whose fields are exactly what affects the values.

    `kind` names the class in fingerprints and in the store, independent of its module; no two
    classes share one. `version` is raised when the values change.
    """

    kind: ClassVar[str]
    version: ClassVar[int]
    fields: ClassVar[tuple[Field, ...]]

    def inputs(self) -> Mapping[str, Signal]: ...


@runtime_checkable
class FactSignal(Signal, Protocol):
    """Computed from facts known after reading the pool: no model, nothing stored."""

    def facts(self, facts: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Pool facts (`answer_words`, `turns`, `images`, `visual`, `row`, `idx`, …: [n], see
        `engine.record_facts`) -> field name -> array [n].
        """


@runtime_checkable
class RowSignal(Signal, Protocol):
    """Depends only on a row and its input values. Store key: sha256(row digest + input values)."""

    needs: ClassVar[Capability]

    def rows(
        self, samples: Sequence[Sample], inputs: Columns | None, backend: Any, pool: SampleSource
    ) -> Iterator[Scored]:
        """Score `samples` in any order, yielding results as they come so that they can be stored.

        Every index of `samples` is yielded exactly once.

        Arguments:
            samples: n rows.
            inputs: n rows of input columns; None for a signal without inputs.
            backend: the model.
            pool: source of images.
        """


@runtime_checkable
class CheckedSignal(RowSignal, Protocol):
    """A row signal that can detect from its own values that they are meaningless."""

    def fault(self, values: Mapping[str, np.ndarray], errors: Sequence[str]) -> str:
        """Why the whole column is meaningless, a sentence without a full stop; "" if it is not.

        Arguments:
            values: field name -> array [m] of some rows.
            errors: m texts, "" or why a row has no values.
        """


@runtime_checkable
class SharedSignal(RowSignal, Protocol):
    """A row signal that others are asked together with: one pass over a row answers all of them,
    each keeps its own column.

    Signals asked together have the same inputs, so that a row has one key in all their columns.
    """

    def batch_key(self) -> Hashable:
        """Signals with equal values here are asked in one pass."""

    def batch_rows(
        self,
        signals: Sequence[Any],
        samples: Sequence[Sample],
        inputs: Columns | None,
        backend: Any,
        pool: SampleSource,
    ) -> Iterator[list[Scored]]:
        """Compute several signals in one pass. As `rows`, but yields one `Scored` for each of
        `signals`, in their order and with the same index.

        Arguments:
            signals: with equal `batch_key()`, this one among them.
            samples: n samples.
            inputs: n rows of input columns, the same for all signals; None without inputs.
            backend: the model, or None for signals without one.
            pool: where images are loaded from.
        """


@runtime_checkable
class PartSignal(RowSignal, Protocol):
    """A row signal computed for some rows only. For others floats are NaN, texts "", the rest
    zero."""

    @property
    def among(self) -> Signal:
        """A pool signal with a bool field `chosen`; also one of the inputs. It may have a field
        `within`, a signal with `chosen` too: it chooses no other rows."""


@runtime_checkable
class PoolSignal(Signal, Protocol):
    """Depends on the whole pool (ranks, clusters, splits): recomputed each time, in numpy, never
    stored.
    """

    def pool(self, inputs: Columns) -> dict[str, np.ndarray]:
        """Input columns of all rows -> field name -> array [n]."""


@runtime_checkable
class StoredPoolSignal(Signal, Protocol):
    """Depends on the whole pool, as a `PoolSignal`, and is costly: stored for each set of rows.

    The store knows it by its fingerprint and the digests of the rows; its inputs' values follow
    from both, and are not even loaded where it is stored.
    """

    def pool_rows(
        self, inputs: Columns, samples: Callable[[np.ndarray], Sequence[Sample]]
    ) -> dict[str, np.ndarray]:
        """Field name -> array [n]; rows of equal digest get equal values.

        Arguments:
            inputs: input columns of all n rows, sorted by digest.
            samples: reads some rows, given as int64 [m] indices into `inputs`.
        """


# ---------------------------------------------------------------------- questions to a model


@dataclass(frozen=True)
class Query:
    """A question appended to a prompt, and the candidate answers whose log-probability is
    computed."""

    kind: ClassVar[str] = "query"

    text: str
    """Appended to the row's prompt, inside the same user turn; includes its own leading newline."""
    answers: tuple[str, ...]
    """Candidate answers: at least one, distinct, non-empty."""
    whole: bool = False
    """False: the log-probability of each answer's first token; answers that share their first token
    are then an error. True: the sum over all its tokens and, with `end`, the end token if the
    template has one."""
    end: bool = True
    """Only with `whole`. False: the probability that the model's answer begins with this one,
    rather than equals it."""


# ---------------------------------------------------------------------- columns


@dataclass(frozen=True)
class Columns:
    """Everything known about n rows, sorted by digest: the only input of a method.

    `digest`: DIGEST [n]. `ties`: uint64 [n], a seeded hash of the digest that breaks ties, smallest
    first. `source`: int32 [n], index into `source_names`. `values["loss"]["nll"]`: array [n], by
    the names that the method gave its signals.
    """

    digest: np.ndarray
    ties: np.ndarray
    source: np.ndarray
    source_names: tuple[str, ...]
    values: Mapping[str, Mapping[str, np.ndarray]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.digest)

    def __getitem__(self, name: str) -> Mapping[str, np.ndarray]:
        return self.values[name]

    def take(self, rows: np.ndarray) -> Columns:
        """The columns of some rows; `rows` is an index or mask array."""
        return Columns(
            self.digest[rows],
            self.ties[rows],
            self.source[rows],
            self.source_names,
            {s: {f: a[rows] for f, a in fields.items()} for s, fields in self.values.items()},
        )


def seeded_ties(digest: np.ndarray, seed: int) -> np.ndarray:
    """A seeded hash of each digest, uint64 [n]; equal digests get different values by occurrence.

    The digest is uniform already, so one splitmix64 round over its first 8 bytes is enough.

    Arguments:
        digest: DIGEST [n], sorted.
        seed: any integer.
    """
    n = len(digest)
    if n == 0:
        return np.zeros(0, np.uint64)
    head = np.ascontiguousarray(digest).view(np.uint64).reshape(n, 4)[:, 0].copy()
    first = np.r_[True, digest[1:] != digest[:-1]]
    start = np.maximum.accumulate(np.where(first, np.arange(n), 0))
    occurrence = (np.arange(n) - start).astype(np.uint64)
    key = int.from_bytes(hashlib.sha256(b"ties %d" % seed).digest()[:8], "little")
    with np.errstate(over="ignore"):
        z = (head ^ np.uint64(key)) + (occurrence + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return z ^ (z >> np.uint64(31))


# ---------------------------------------------------------------------- budget, selection, method


@dataclass(frozen=True)
class Budget:
    """How much to keep, parsed from `text`: one of `Rows`, `Share` and `Tokens`."""

    text: str

    @staticmethod
    def parse(text: str) -> Rows | Share | Tokens:
        """A budget as a user types it: `30%`, `20000`, `20Mtok` or `20Mtok:total`.

        Raises ConfigError (option `budget`) for anything else, 0, and a share above 100%.

        >>> Budget.parse("12.5%")
        Share(text='12.5%', fraction=Fraction(1, 8))
        >>> Budget.parse("1.5Mtok:total")
        Tokens(text='1.5Mtok:total', amount=1500000, total=True)
        """
        text = text.strip()
        if m := _PERCENT.fullmatch(text):
            fraction = Fraction(m[1]) / 100
            if not 0 < fraction <= 1:
                raise _not_a_budget(text, ": a share must be above 0% and at most 100%.")
            return Share(text, fraction)
        if re.fullmatch(r"\d+", text):
            if not int(text):
                raise _not_a_budget(text, ": at least one row must be kept.")
            return Rows(text, int(text))
        if m := _TOKENS.fullmatch(text):
            if m[3] not in (None, "total", "answer"):
                raise _not_a_budget(
                    text, f": expected :total or :answer after the number, not :{m[3]}."
                )
            amount = math.floor(Fraction(m[1]) * _SCALE[m[2].lower()])
            if amount < 1:
                raise _not_a_budget(text, ": at least one token must be kept.")
            return Tokens(text, amount, m[3] == "total")
        if "tok" in text.lower():
            raise _not_a_budget(
                text,
                " is not a number of tokens. Give answer tokens such as 20Mtok or 500ktok, or all "
                "tokens with images such as 20Mtok:total.",
            )
        raise _not_a_budget(
            text,
            " is not a budget. Give a share such as 30%, a number of rows such as 20000, or tokens "
            f"such as 20Mtok.{_hint(text)}",
        )


@dataclass(frozen=True)
class Rows(Budget):
    """A number of rows."""

    count: int

    @classmethod
    def of(cls, count: int) -> Rows:
        return cls(str(count), count)

    def rows(self, n: int) -> int:
        """Number of rows for a pool of n rows: all of them where the pool has fewer."""
        return min(self.count, n)


@dataclass(frozen=True)
class Share(Budget):
    """A share of the pool, exact."""

    fraction: Fraction

    def rows(self, n: int) -> int:
        """Number of rows for a pool of n rows, rounded down, at least 1."""
        return min(max(math.floor(n * self.fraction), 1), n)


@dataclass(frozen=True)
class Tokens(Budget):
    """At most `amount` tokens. `total`: of prompts, answers and images; else of answers only."""

    amount: int
    total: bool

    @property
    def kind(self) -> str:
        return "tokens in all" if self.total else "answer tokens"


_PERCENT = re.compile(r"(\d+(?:\.\d+)?)\s*%")
_TOKENS = re.compile(r"(\d+(?:\.\d+)?)\s*([kKmMbBgG]?)\s*tok(?:en)?s?\s*(?::\s*(\w+))?")
_SCALE = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "b": 10**9}


def _not_a_budget(text: str, message: str) -> ConfigError:
    return ConfigError(message, option="budget", value=text)


def _hint(text: str) -> str:
    try:
        value = float(text)
    except ValueError:
        return ""
    if 0 < value < 1:
        return f" Did you mean {value * 100:g}%?"
    return " It cannot be negative." if value < 0 else ""


@dataclass(frozen=True)
class Findings:
    """What a method found in the target set, for reports: plain JSON values.

    `summary`: counts. `rows`: a record for each target row worth showing, with its `row` number in
    the target's file.
    """

    summary: Mapping[str, Any]
    rows: tuple[Mapping[str, Any], ...]


@dataclass(frozen=True)
class Selection:
    """The rows a method keeps, and why.

    `rows`: int64 [k], unique, best first, indices into the given Columns. `reason`: name -> array
    [n] over ALL rows of the Columns (evidence for kept and dropped rows alike), plain dtypes.
    """

    rows: np.ndarray
    reason: Mapping[str, np.ndarray]
    notes: tuple[str | Note, ...] = ()  # messages for the user
    findings: Findings | None = None

    def __repr__(self) -> str:
        notes = f"; {len(self.notes)} in notes" if self.notes else ""
        return (
            f"<Selection: {len(self.rows):,} rows; reasons: "
            f"{', '.join(self.reason) or 'none'}{notes}>"
        )


@dataclass(frozen=True)
class MethodContext:
    """What a method may know when it names its signals.

    model: identity of the model named with `--model`; None if there is none.
    roles: further models, by the name of the setting that names them, such as "teacher"; the model
        of `--embedder` as "embedder".
    seed: the run's random seed.
    budget: rows to select; None if it is not known.
    decided: what an earlier run of the same request measured, to be repeated: its columns, by name
        -> field -> value of those that decide something; None: nothing is decided yet.
    """

    model: ModelIdentity | None = None
    roles: Mapping[str, ModelIdentity] = field(default_factory=dict)
    seed: int = 0
    budget: int | None = None
    decided: Mapping[str, Mapping[str, Any]] | None = None

    @property
    def embedder(self) -> ModelIdentity | None:
        """The model whose embeddings of rows are used: that of `--embedder`, else `model`."""
        return self.roles.get(EMBEDDER, self.model)


@dataclass(frozen=True)
class OfTarget:
    """Marks a signal that is computed for the target set (a validation set) instead of the pool.

    extras: optional dependencies that the method needs to compare the pool with this column.
    """

    signal: Signal
    extras: tuple[str, ...] = ()


class Method(Protocol):
    """A frozen dataclass whose fields are the method's own settings (`--set key=value`), typed and
    with defaults.

    Optional: `explain(evidence) -> Explanation` (`thresher.methods.explanation`), which puts the
    reasons of a selection into words and says what the report draws.
    """

    name: ClassVar[str]
    paper: ClassVar[str]
    summary: ClassVar[str]

    def signals(self, context: MethodContext) -> Mapping[str, Signal | OfTarget]:
        """The columns that `select` reads, by the names under which it finds them. Raises
        ConfigError."""

    def select(self, columns: Columns, budget: int, target: Columns | None = None) -> Selection:
        """At most `budget` rows, best first.

        Arguments:
            columns: of the rows of the pool that can be selected.
            budget: rows to select, at least 0.
            target: columns of the target set, those marked `OfTarget`, and `target["row"]["row"]`:
                int64, rows in its file. None if the method marks none.
        """
