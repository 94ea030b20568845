"""What is asked of a run: one frozen `RunRequest`, from the command line, a YAML file or the Python
API.

Reading and checking it is in `selection.config`. Nothing here is resolved: paths are text, a model
is a name, a budget is what was typed.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from thresher.errors import ConfigError, did_you_mean

OnMissing = Literal["auto", "exclude", "refuse"]
OnLeak = Literal["refuse", "drop"]
Dedup = Literal["exact", "near", "semantic"]
Unscorable = Literal["keep", "drop", "random"]
Dtype = Literal["auto", "float32", "bfloat16", "float16"]
Backend = Literal["hf", "openai"]
CHOICES = {
    "on_missing": get_args(OnMissing),
    "on_leak": get_args(OnLeak),
    "dedup": get_args(Dedup),
    "unscorable": get_args(Unscorable),
    "dtype": get_args(Dtype),
    "backend": get_args(Backend),
}
SERVER = (  # options for models behind a server only
    "url",
    "max_requests",
    "max_cost",
    "price_in",
    "price_out",
    "concurrency",
    "timeout",
    "api_key_env",
    "image_side",
)
MIXTURE = ("quota", "keep", "drop", "filter", "dedup", "unscorable", "dedup_threshold")


@dataclass(frozen=True, kw_only=True)
class RunRequest:
    """All that `select` and `plan` need. Paths are as the user wrote them: relative ones start
    where the command runs."""

    pool: str = field(default="", kw_only=False)
    """A file, folder, pattern, mixture YAML or address; see docs/formats."""
    images: str | None = None
    """The folder in which relative image paths start; None = the folder of the pool file."""
    format: str | None = None
    """How the pool is to be read; None = told from its content."""
    method: str = field(default="", kw_only=False)
    """A name from `thresher methods`."""
    budget: str = field(default="", kw_only=False)
    """`30%` of the pool, or a number of rows."""
    settings: Mapping[str, str] = field(default_factory=dict)
    """The method's own parameters, as text; the method parses them by type."""
    model: str | None = None
    """`demo`, a folder, a hub id, or with `backend: openai` the server's name of it; None = `demo`,
    or the server's only one."""
    backend: Backend = "hf"
    """`hf`: the weights are here, or come from the hub. `openai`: the model is behind an
    OpenAI-compatible server at `url`."""
    url: str | None = None
    """The server's URL up to /v1. Never with a key: that comes from the environment only."""
    max_requests: int | None = None
    """Requests that a run may send to servers."""
    max_cost: float | None = None
    """What a run may spend at servers, in the currency of the two prices."""
    price_in: float | None = None
    """Of a million prompt tokens."""
    price_out: float | None = None
    """Of a million answer tokens."""
    concurrency: int | None = None
    """Rows asked of a server at the same time; None = 8."""
    timeout: float | None = None
    """Seconds that one answer of a server may take; None = 120."""
    api_key_env: str | None = None
    """The name of the environment variable that holds the key; None = OPENAI_API_KEY."""
    image_side: int | None = None
    """Longest side in pixels of an image as a server gets it; None = 1024. Part of a score's
    identity."""
    validation: str | None = None
    """A file of questions of the target task, for a method that aims at what the model gets wrong
    there."""
    validation_images: str | None = None
    """The folder in which its relative image paths start; None = the folder of the file."""
    on_leak: OnLeak | None = None
    """Rows of the pool that repeat a question of the validation set: `refuse` to run (None), or
    `drop` them."""
    rounds: int | None = None
    """Times that such a method selects and trains in turn; None = 1: it only selects."""
    quota: tuple[str, ...] = ()
    """`GROUP=RANGE` each: at least and at most so many rows of a source or another group
    (docs/mixture.md)."""
    keep: str | None = None
    """A file that names rows which are taken in any case."""
    drop: str | None = None
    """A file that names rows which are never taken."""
    filter: tuple[str, ...] = ()
    """One comparison each, such as `length < 2000`; only rows that satisfy all of them are
    considered."""
    dedup: Dedup | None = None
    """`exact`, `near` or `semantic`: of rows that say the same only one is considered."""
    dedup_threshold: float | None = None
    """Similarity from which rows are near or semantic copies; None: the default of `dedup`."""
    unscorable: Unscorable | None = None
    """Rows that are fine, but that no model here can score (videos, audio, too long): `keep`,
    `drop` or `random`; None: they fail."""
    seed: int = 0
    """Chooses among equals and splits; another seed reuses all scores that do not depend on it."""
    store: str | None = None
    """Where scores are kept; None = the user's cache folder."""
    on_missing: OnMissing = "auto"
    """What happens to rows that cannot be scored: exclude up to 5% of the pool (auto), exclude, or
    refuse."""
    trust_paths: bool = False
    """An image's path and size stand for its content; rows then have other digests, and scores of
    their own."""
    retry_errors: bool = False
    """Score rows again whose stored result is an error."""
    force: bool = False
    """Go on with scores that mean nothing, such as those of a judge that gives no probability to
    its answers."""
    device: str = "auto"
    """`auto`, `cpu`, `cuda`, `cuda:1`, `mps` …"""
    dtype: Dtype = "auto"
    """`auto`, `float32`, `bfloat16` or `float16`. Part of a score's identity."""
    batch_tokens: int | None = None
    """Tokens per forward pass; None = chosen for the device. Not part of a score's identity."""
    trust_remote_code: bool = False
    """Run Python code that comes with the model. Taken from the command line only, never from a
    file."""
    out: str | None = None
    """The folder that the selection is written to."""

    def __post_init__(self) -> None:
        """Raises ConfigError for a value that is none of its field's choices."""
        for name, choices in CHOICES.items():
            value = getattr(self, name)
            if value is not None and value not in choices:
                raise ConfigError(
                    f"--{name.replace('_', '-')} {value}: expected one of "
                    f"{', '.join(choices)}.{did_you_mean(str(value), list(choices))}"
                )

    def to_mapping(self) -> dict[str, Any]:
        """Plain values, in the order of the fields, without those that are unset: the `config`
        section of run.yaml."""
        values = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        values["settings"] = dict(self.settings)
        values |= {k: list(v) for k, v in values.items() if isinstance(v, tuple)}
        return {k: v for k, v in values.items() if v is not None and v != []}

    @property
    def mixture(self) -> dict[str, Any]:
        """As `to_mapping`, only the options of the mixture."""
        return {k: v for k, v in self.to_mapping().items() if k in MIXTURE}
