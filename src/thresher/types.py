"""The words that every part of thresher shares: samples, images, signals, columns, budgets, selections.

Imports numpy and the standard library only, so that `import thresher` stays light.

Past 400 lines because it is the vocabulary: protocols and small values, next to no logic.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any, ClassVar, Protocol, runtime_checkable

import numpy as np

from thresher.errors import ConfigError

DIGEST = np.dtype("S32")  # a sha256; numpy strips trailing NULs when it hands out one element: use `digests_to_bytes`
IMAGE_PLACEHOLDER = "<image>"
CHANGED = "changed since the pool was opened"  # in the failure of a row whose image was written to during a run


# ---------------------------------------------------------------------------------------------- samples


@dataclass(frozen=True, slots=True)
class Turn:
    """One message. `text` keeps `<image>` placeholders where the user put them."""

    role: str  # "system" | "user" | "assistant"
    text: str


@dataclass(frozen=True, slots=True)
class ImageRef:
    """Where an image's bytes are. Exactly one of `path` (relative, as the user wrote it) and `data` is set."""

    path: str = ""
    data: bytes | None = None
    size: int = -1  # bytes on disk when the pool was opened; -1: there was no such file
    content: str = ""  # SHA-256 of the file when the pool was opened, 64 hexadecimal digits; "": not known
    trusted: bool = False  # --trust-paths: path and size stand for the content

    @property
    def identity(self) -> str:
        """What stands for the image in a digest: its content, wherever it lies.

        Of a file without known content (missing, unreadable, `trusted`) the path: a kind of its own each.
        """
        if self.data is not None:
            return "sha256:" + hashlib.sha256(self.data).hexdigest()
        if self.size < 0:
            return f"missing:{self.path}"
        if self.content:
            return f"sha256:{self.content}"
        return f"{'path' if self.trusted else 'unread'}:{self.path}:{self.size}"


@dataclass(frozen=True, slots=True)
class Sample:
    """One row of a pool, whatever format it came from."""

    id: str  # the user's id as JSON text ('"a1"' or '7'); only echoed back: real files repeat ids and mix types
    turns: tuple[Turn, ...]
    images: tuple[ImageRef, ...] = ()
    source: str = ""
    problem: str = ""  # why no model can score this row ("" = nothing known): bad turns, a video, placeholder mismatch
    media: tuple[str, ...] = ()  # identities of media that nobody here looks at: videos, audio, unreadable images

    @property
    def digest(self) -> bytes:
        """The row key everywhere, 32 bytes: `row_digest` of roles, texts, other media and image identities.

        Id and source are not part.
        """
        h = hashlib.sha256()
        for t in self.turns:
            text = t.text.encode("utf-8", "surrogatepass")
            h.update(b"%s\x1f%d\x1f%s" % (t.role.encode("utf-8", "surrogatepass"), len(text), text))
        for medium in self.media:
            h.update(b"\x1d" + medium.encode("utf-8", "surrogatepass"))
        return row_digest(h.digest(), [image.identity for image in self.images])


def row_digest(texts: bytes, identities: Sequence[str]) -> bytes:
    """32 bytes: `texts` (the sha256 of roles and texts) itself for a row without images, else one sha256 over both.

    In two steps because texts are known when a file is read, and images later or anew.
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
    """What a signal may ask of a pool: samples by digest and pixels of an image."""

    def by_digest(self, digest: bytes) -> Sample: ...

    def load_image(self, ref: ImageRef) -> Any:
        """The image as an RGB `PIL.Image`, EXIF-rotated. Raises `ImageError`."""


class TrainingRows(SampleSource, Protocol):
    """What training reads of the rows that it is given: those of a pool, or lessons made of them. Row numbers are its own."""

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

    def ids(self, rows: Sequence[int] | np.ndarray) -> list[str]: ...
    def samples(self, rows: Sequence[int] | np.ndarray) -> list[Sample]: ...


# ---------------------------------------------------------------------------------------------- signals


class Capability(Enum):
    """What a signal needs from a backend."""

    NONE = "nothing"
    LOGPROBS = "log-probabilities"
    GENERATE = "generation"
    EMBED = "embeddings"
    GRADIENTS = "gradients"


@dataclass(frozen=True)
class Field:
    """One value that a signal gives each row."""

    name: str
    dtype: str  # a numpy dtype name: float32, int32, bool
    meaning: str  # unit, range, direction


@dataclass(frozen=True)
class ModelIdentity:
    """What of a model changes the numbers. Device, batch size, URL and path do not belong here."""

    kind: ClassVar[str] = "model"

    weights: str  # "sha256:…" of a folder's content, or "hub:org/name@commit"
    architecture: str  # config.json's model_type, e.g. "qwen2_5_vl"
    dtype: str  # "float32" | "bfloat16" | "float16"
    pixels: str  # "pil" | "torchvision": the two resize a little differently; of a served model, how images are sent

    @property
    def served(self) -> bool:
        """Behind an OpenAI-compatible server: it tells the likeliest first tokens and writes answers, no more."""
        return self.architecture == "openai"

    @classmethod
    def unresolved(cls, role: str) -> ModelIdentity:
        """A model known by its role only: enough to read off a method's signals what it needs; never computed with."""
        return cls(f"unresolved:{role}", "unresolved", "", "")


@dataclass(frozen=True)
class TrainedModel:
    """A model that thresher itself trains: `base`, fine-tuned as `recipe` says on the rows that `rows` chooses.

    With `lessons` it is trained on what these make of the chosen rows and not on the rows themselves.

    Stands in a row signal where a `ModelIdentity` stands, and the signal names `model_inputs(model)` among its inputs.
    Before anything is stored it is replaced by the `TrainedIdentity`, in which the rows are known.
    """

    kind: ClassVar[str] = "model_to_train"

    base: ModelIdentity
    recipe: Any  # a frozen dataclass: `training.Recipe`
    rows: Signal  # a pool signal with a bool field `chosen`, True for the rows to train on
    lessons: Lessons | None = None

    @property
    def architecture(self) -> str:
        return self.base.architecture


@dataclass(frozen=True)
class TrainedIdentity:
    """What of a model that thresher trained changes the numbers. Whether it exists already does not matter."""

    kind: ClassVar[str] = "trained_model"

    base: ModelIdentity
    recipe: Any
    rows: str  # "sha256:…" over the sorted digests of the samples that it is trained on

    @property
    def architecture(self) -> str:
        return self.base.architecture


AnyModel = ModelIdentity | TrainedModel | TrainedIdentity


def model_inputs(model: AnyModel) -> Mapping[str, Signal]:
    """The inputs that a row signal has because of its model: what one that is still to be trained is trained on."""
    if not isinstance(model, TrainedModel):
        return {}
    taught = {} if model.lessons is None else model.lessons.inputs()
    return {"trained_on": model.rows, **{f"taught_{name}": signal for name, signal in taught.items()}}


class Lessons(Protocol):
    """Samples to train on, made of a pool's rows and their columns. A frozen dataclass."""

    def inputs(self) -> Mapping[str, Signal]:
        """The columns that the lessons are made of."""

    def of_row(self, sample: Sample, at: int, columns: Columns) -> Sequence[Sample]:
        """The lessons of one row, which is row `at` of `columns` (its `values` by the names of `inputs`); may be none."""


@dataclass
class Scored:
    """Results for some of the rows a signal was asked for.

    `index`: positions in the list of samples given, int64 [m]. `values`: field name -> array [m].
    `errors[j]` is "" or why row `index[j]` could not be scored (its values are then ignored).
    """

    index: np.ndarray
    values: dict[str, np.ndarray]
    errors: list[str]


@runtime_checkable
class Signal(Protocol):
    """A frozen dataclass whose fields are exactly what changes the numbers.

    `kind` names the class in fingerprints and in the store, wherever it is defined; no two classes share one.
    `version` is raised when the numbers change.
    """

    kind: ClassVar[str]
    version: ClassVar[int]
    fields: ClassVar[tuple[Field, ...]]

    def inputs(self) -> Mapping[str, Signal]: ...


@runtime_checkable
class FactSignal(Signal, Protocol):
    """Known from reading the pool: no model, nothing to store."""

    def facts(self, facts: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Pool facts (`answer_words`, `answer_chars`, `turns`, `images`: each [n]) -> field name -> array [n]."""


@runtime_checkable
class RowSignal(Signal, Protocol):
    """Depends on a row and its own input values only. The store's key is sha256(row digest + input values)."""

    needs: ClassVar[Capability]

    def rows(
        self, samples: Sequence[Sample], inputs: Columns | None, backend: Any, pool: SampleSource
    ) -> Iterator[Scored]:
        """Score `samples` in any order, yielding results as they come so that they can be stored.

        `inputs` (None without inputs) has one row a sample. Every position of `samples` is yielded exactly once.
        """


@runtime_checkable
class CheckedSignal(RowSignal, Protocol):
    """A row signal that can tell from its own values that they mean nothing."""

    def fault(self, values: Mapping[str, np.ndarray], errors: Sequence[str]) -> str:
        """What makes the column as a whole meaningless, a sentence without a full stop; "" for nothing.

        `values`: field -> array [m] of some rows; `errors`: "" or why a row has no values, m of them.
        """


@runtime_checkable
class SharedSignal(RowSignal, Protocol):
    """A row signal that others are asked together with: one pass over a row answers all of them, each keeps its own column.

    Signals asked together have the same inputs, so that a row has one key in all their columns.
    """

    def together(self) -> Hashable:
        """Signals with equal values here are asked in one pass."""

    def rows_together(
        self,
        signals: Sequence[Any],
        samples: Sequence[Sample],
        inputs: Columns | None,
        backend: Any,
        pool: SampleSource,
    ) -> Iterator[list[Scored]]:
        """As `rows`, for all of `signals` (this one among them): one `Scored` each, in their order, of the same index."""


@runtime_checkable
class PartSignal(RowSignal, Protocol):
    """A row signal that is asked of a part of the rows. Of the others its floats are NaN, its texts "", all else is zero."""

    @property
    def among(self) -> Signal:
        """A pool signal with a bool field `chosen`; it is also one of the inputs."""


@runtime_checkable
class PoolSignal(Signal, Protocol):
    """Depends on the whole pool (ranks, clusters, splits): recomputed each time, in numpy, never stored."""

    def pool(self, inputs: Columns) -> dict[str, np.ndarray]:
        """Input columns of all rows -> field name -> array [n]."""


# ---------------------------------------------------------------------------------------------- questions to a model


@dataclass(frozen=True)
class Query:
    """What is asked after a prompt's body, and the answers whose log-probability is wanted."""

    kind: ClassVar[str] = "query"

    text: str
    """Appended to the row's prompt body, inside the same user turn; its own leading newline included."""
    answers: tuple[str, ...]
    """Candidate answers, at least one, distinct, none empty."""
    whole: bool = False
    """False: the log-probability of each answer's first token at the first answer position; answers that begin with one
    token are then an error. True: the sum over all its tokens and, with `end`, the token that ends an answer if the
    template has one."""
    end: bool = True
    """Only with `whole`. False: how likely the model's answer begins with this one, rather than is exactly this one."""


# ---------------------------------------------------------------------------------------------- columns


@dataclass(frozen=True)
class Columns:
    """What is known of n rows, sorted by digest: the only thing a method sees.

    `values["loss"]["nll"]`: float32 [n] and so on, by the names the method gave its signals.
    `ties`: uint64 [n], a seeded hash of the digest: the fair order among equals, smallest first.
    `source`: int32 [n], index into `source_names`.
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
    """A seeded hash of each digest, uint64 [n]; exact duplicates (equal digests) get different values by occurrence.

    `digest` must be sorted. The digest is uniform already, so one splitmix64 round over its first 8 bytes is enough.
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


# ---------------------------------------------------------------------------------------------- budget, selection, method


@dataclass(frozen=True)
class Budget:
    """How much to keep: a number of rows, or a share of the pool in percent."""

    text: str

    _PERCENT: ClassVar[re.Pattern[str]] = re.compile(r"(\d+(?:\.\d+)?)\s*%")

    def rows(self, n: int) -> int:
        """Rows for a pool of n, rounded down, at least 1. Raises ConfigError on anything unclear, and for more than n."""
        k = self._asked(n)
        if k > n:
            raise ConfigError(
                f"--budget {self.text} asks for more rows than the pool has ({n:,}). Give at most {n}, or a share such as 30%."
            )
        return k

    def capped(self, n: int) -> int:
        """As `rows`, but all n where more are asked for."""
        return min(self._asked(n), n)

    def _asked(self, n: int) -> int:
        text = self.text.strip()
        if m := self._PERCENT.fullmatch(text):
            whole, _, decimals = m[1].partition(".")
            scale = 10 ** len(decimals)
            share = int(whole + decimals)  # exact: 30% of 38,575 must not depend on binary fractions
            if not 0 < share <= 100 * scale:
                raise ConfigError(f"--budget {self.text}: a share must be above 0% and at most 100%.")
            return max(n * share // (100 * scale), 1)
        if re.fullmatch(r"\d+", text):
            k = int(text)
            if k == 0:
                raise ConfigError(f"--budget {self.text}: at least one row must be kept.")
            return k
        hint = ""
        try:
            value = float(text)
            if 0 < value < 1:
                hint = f" Did you mean {value * 100:g}%?"
            elif value < 0:
                hint = " It cannot be negative."
        except ValueError:
            pass
        raise ConfigError(
            f"--budget {self.text} is not a budget. Give a share such as 30%, a number of rows such as 20000, "
            f"or tokens such as 20Mtok.{hint}"
        )


@dataclass(frozen=True)
class Findings:
    """What a method found in the target set, for people: plain values as JSON has them.

    `summary`: counts; `rows`: a record for each target row worth showing, its `row` in the target's file among them.
    """

    summary: Mapping[str, Any]
    rows: tuple[Mapping[str, Any], ...]


@dataclass(frozen=True)
class Selection:
    """The rows a method keeps and why.

    `rows`: int64 [k], unique, best first, indices into the Columns given.
    `reason`: name -> array over ALL n rows of the Columns (evidence for kept and dropped rows alike), plain dtypes.
    """

    rows: np.ndarray
    reason: Mapping[str, np.ndarray]
    notes: tuple[str, ...] = ()  # what the user should know, in words ("bin 3 of W had too few rows …")
    findings: Findings | None = None

    def __repr__(self) -> str:
        notes = f"; {len(self.notes)} in notes" if self.notes else ""
        return f"<Selection: {len(self.rows):,} rows; reasons: {', '.join(self.reason) or 'none'}{notes}>"


@dataclass(frozen=True)
class MethodContext:
    """What a method may know when it names its signals.

    model: identity of the model named with `--model`; None where there is none.
    roles: further models, by the name of the setting that names them, such as "teacher".
    seed: the run's random seed.
    budget: rows to select; None where it is not known.
    """

    model: ModelIdentity | None = None
    roles: Mapping[str, ModelIdentity] = field(default_factory=dict)
    seed: int = 0
    budget: int | None = None


@dataclass(frozen=True)
class OfTarget:
    """Marks a signal that is computed for the target set (a validation set) instead of the pool.

    extras: optional dependencies that the method needs to compare the pool with this column.
    """

    signal: Signal
    extras: tuple[str, ...] = ()


class Method(Protocol):
    """A frozen dataclass whose fields are the method's own settings (`--set key=value`), typed and with defaults.

    Optional: `explain(evidence) -> Explanation` (`thresher.methods.explanation`), which puts the reasons of a
    selection into words and says what the report draws.
    """

    name: ClassVar[str]
    paper: ClassVar[str]
    summary: ClassVar[str]

    def signals(self, context: MethodContext) -> Mapping[str, Signal | OfTarget]:
        """The columns that `select` reads, by the names under which it finds them. Raises ConfigError."""

    def select(self, columns: Columns, budget: int, target: Columns | None = None) -> Selection:
        """At most `budget` rows, best first.

        columns: of the rows of the pool that can be selected.
        budget: rows to select, at least 0.
        target: columns of the target set, those marked `OfTarget`, and `target["row"]["row"]`: int64, rows in its
            file. None where the method marks none.
        """
