"""What is asked of a run: one frozen `RunRequest`, from the command line, a YAML file or the Python
API.

Reading and checking it is in `selection.config`. Nothing here is resolved: paths are text, a model
is a name, a budget is what was typed.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from thresher.errors import ConfigError, did_you_mean
from thresher.request.fields import Option, fields_of

OnMissing = Literal["auto", "exclude", "refuse"]
OnLeak = Literal["refuse", "drop"]
Dedup = Literal["exact", "near", "semantic"]
Unscorable = Literal["keep", "drop", "random"]
Dtype = Literal["auto", "float32", "bfloat16", "float16"]
Backend = Literal["hf", "vllm", "openai"]
Track = Literal["wandb", "mlflow", "tensorboard"]
Engine = Literal["local", "ray"]
ALL = ("select", "plan", "compare")
SPREAD = ("select", "compare")  # commands whose work several devices share
VERIFY = "verify-backend"
SCORING = (*ALL, "evaluate", "suspects")  # commands that store a model's answers about rows
ASKING = (*SCORING, VERIFY)  # commands that ask a model about rows
# those that neither train it nor read hidden states
MODEL_ONLY = ("select", "plan", "evaluate", VERIFY)
EMBEDDING = (*ALL, "suspects")  # those that may take embeddings of rows from another model
ONE_MODEL = ("select", "plan", VERIFY)  # those that take one pool, and a model that may be served
SERVED = (*ONE_MODEL, "suspects")  # those with options for servers
TRACKED = ("select", "compare", "evaluate", "suspects")  # commands that a tracker follows
MODEL, TARGET, RUN = "Model", "Target task", "Run"  # panels
SERVERS, MIXTURES = "Model behind a server", "Mixture"
DEFAULT_METHOD = "winnow"
Texts = Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class RunRequest:
    """All that `select` and `plan` need. Paths are as the user wrote them: relative ones start
    where the command runs.

    The docstring below a field is the documentation of the option, its first paragraph the help
    text of the command line.
    """

    pool: Annotated[str, Option("POOL", commands=ONE_MODEL)] = field(default="", kw_only=False)
    """The pool: a file, folder, pattern, mixture YAML, address, or name=path,name=path."""
    images: Annotated[str | None, Option("DIR", commands=ASKING)] = None
    """Folder that relative image paths start from (default: the pool's folder)."""
    format: Annotated[str | None, Option("F", commands=(*ONE_MODEL, "suspects"))] = None
    """Read the pool as this format (default: detected from its content)."""
    method: Annotated[str, Option("NAME", short="-m")] = field(default="", kw_only=False)
    """Selection method; `thresher methods` lists them (default: winnow)."""
    budget: Annotated[str, Option("B", short="-b")] = field(default="", kw_only=False)
    """How much to keep: 30%, a number of rows, or tokens (20Mtok)."""
    settings: Annotated[
        Texts,
        Option(
            "KEY=VALUE",
            flag="--set",
            short="-s",
            help="A setting of the method, or several: -s a=1 b=2. Quote values with spaces.",
        ),
    ] = field(default_factory=dict)
    """Settings of the method by name, such as {"keep": 0.3}; `thresher methods` lists them."""
    model: Annotated[str | None, Option("MODEL", MODEL, commands=ASKING)] = None
    """A folder, a hub id, URL#NAME of a server, or demo (built in, tiny, for trying things out).

    With backend openai: the server's name of it; None: the server's only one.
    """
    embedder: Annotated[str | None, Option("MODEL", MODEL, commands=EMBEDDING)] = None
    """The model that gives embeddings of rows: a folder, a hub id, or URL#NAME of a server
    (default: the model itself).

    For skills, clusters and semantic duplicates. Weights run in this process, whatever `backend`
    is; of a server, vLLM's embeddings API is used (`vllm serve MODEL --runner pooling`).
    """
    embed_text: Annotated[bool, Option("", MODEL, commands=EMBEDDING)] = False
    """With an embedder behind a server: send texts only, without the images of the rows.

    For servers that embed texts only. Part of an embedding's identity.
    """
    backend: Annotated[Backend, Option("NAME", SERVERS)] = "hf"
    """hf (local weights), vllm (local weights in vLLM's engine) or openai (an OpenAI-compatible
    server).

    Scores of vllm are stored apart from those of hf.
    """
    vllm: Annotated[tuple[str, ...], Option("KEY=VALUE", MODEL, commands=ONE_MODEL)] = ()
    """With backend vllm: an argument of its engine, such as tensor_parallel_size=2.

    Those of `vllm serve`, without the ones of the server. An argument that may change numbers, such
    as quantization, is part of a score's identity; see docs/vllm.md.
    """
    url: Annotated[str | None, Option("URL", SERVERS, commands=ONE_MODEL)] = None
    """With backend openai: the server's address, such as http://127.0.0.1:8000/v1.

    Never with a key: that comes from the environment only.
    """
    max_requests: Annotated[int | None, Option("N", SERVERS, commands=SERVED)] = None
    """Stop before sending more requests than this."""
    max_cost: Annotated[float | None, Option("X", SERVERS, commands=SERVED)] = None
    """Stop before spending more than this; needs both prices.

    In the currency of the two prices.
    """
    price_in: Annotated[float | None, Option("X", SERVERS, commands=SERVED)] = None
    """Price per million prompt tokens."""
    price_out: Annotated[float | None, Option("X", SERVERS, commands=SERVED)] = None
    """Price per million generated tokens."""
    concurrency: Annotated[int | None, Option("N", SERVERS, commands=SERVED)] = None
    """Rows sent at the same time (default: 8)."""
    timeout: Annotated[float | None, Option("S", SERVERS, commands=SERVED)] = None
    """Seconds to wait for one answer (default: 120)."""
    api_key_env: Annotated[str | None, Option("NAME", SERVERS, commands=SERVED)] = None
    """Environment variable with the key (default: OPENAI_API_KEY)."""
    image_side: Annotated[int | None, Option("PX", SERVERS, commands=SERVED)] = None
    """Longest side, in pixels, of the images sent (default: 1024).

    Part of a score's identity.
    """
    validation: Annotated[str | None, Option("FILE", TARGET, commands=ALL)] = None
    """Questions of the target task, for methods that target the model's errors."""
    validation_images: Annotated[str | None, Option("DIR", TARGET, commands=ALL)] = None
    """Folder that its relative image paths start from (default: its own folder)."""
    on_leak: Annotated[OnLeak | None, Option("WHAT", TARGET)] = None
    """Rows of the pool that repeat validation questions: refuse, or drop them (default: refuse)."""
    rounds: Annotated[int | None, Option("N", TARGET)] = None
    """Select a part, train on it, find the remaining errors, and repeat (default: 1)."""
    quota: Annotated[tuple[str, ...], Option("GROUP=RANGE", MIXTURES)] = ()
    """Rows of a source, of text_only or of COLUMN:VALUE (images:0, skill:WORDS): 5%..20% of the
    budget, 1000, ..10%.

    See docs/mixture.md.
    """
    keep: Annotated[str | None, Option("FILE", MIXTURES)] = None
    """Rows that are always kept: ids, or a selection.parquet."""
    drop: Annotated[str | None, Option("FILE", MIXTURES)] = None
    """Rows that are never kept."""
    filter: Annotated[tuple[str, ...], Option("EXPR", MIXTURES)] = ()
    """Consider only rows for which this holds, such as 'length < 2000' or 'suspicion < 0.9' (asks
    the model); of several, all must."""
    drop_suspects: Annotated[float | None, Option("X", MIXTURES)] = None
    """Leave out rows whose suspicion of a wrong answer is X or more, such as 0.5 (asks the
    model)."""
    dedup: Annotated[Dedup | None, Option("HOW", MIXTURES)] = None
    """Consider only one row of each group of duplicates: exact, near, or semantic (asks the
    model)."""
    dedup_threshold: Annotated[float | None, Option("X", MIXTURES)] = None
    """Least similarity of duplicates (default: 0.8 for near, 0.95 for semantic)."""
    unscorable: Annotated[Unscorable | None, Option("WHAT", MIXTURES)] = None
    """Rows that no model here can score (videos, audio, too long): keep, drop, or random."""
    seed: Annotated[int, Option("N", commands=ONE_MODEL)] = 0
    """Random seed; breaks ties.

    Another seed reuses all scores that do not depend on it.
    """
    store: Annotated[str | None, Option("PATH", RUN, commands=ASKING)] = None
    """Where scores are stored: a folder, or an address such as s3://bucket/prefix (default:
    $THRESHER_STORE, else your cache folder)."""
    on_missing: Annotated[OnMissing, Option("WHAT", RUN, commands=SCORING)] = "auto"
    """Rows that cannot be scored: auto (leave out up to 5%), exclude, or refuse."""
    track: Annotated[Track | None, Option("NAME", RUN, commands=TRACKED)] = None
    """Log progress and results to wandb, mlflow or tensorboard.

    Needs the extra of that name. Results do not depend on it.
    """
    trust_paths: Annotated[bool, Option(commands=ASKING)] = False
    """Identify images by path and size, not by content: faster, but an overwritten image keeps its
    old scores.

    Rows then have other digests, and scores of their own.
    """
    retry_errors: Annotated[
        bool, Option("", RUN, commands=("select", "plan", "evaluate", "suspects"))
    ] = False
    """Score rows again whose stored result is an error.

    Each is tried once, whichever process of the command does it.
    """
    force: Annotated[bool, Option("", RUN, commands=("select",))] = False
    """Continue with meaningless scores (a judge that gives no probability to its answers)."""
    device: Annotated[str, Option("NAME", MODEL, commands=ASKING)] = "auto"
    """cpu, cuda, cuda:1, mps, or auto: the best available."""
    devices: Annotated[str | None, Option("LIST", MODEL, commands=SPREAD)] = None
    """Several GPUs of this machine, a process each: 0,1,2,3, or all.

    Results do not depend on it, except for the last bits of numbers on a GPU.
    """
    engine: Annotated[Engine, Option("NAME", RUN, commands=SPREAD)] = "local"
    """Where models run: local (this machine) or ray (workers on a Ray cluster).

    Ray's workers write scores into the store themselves: it must be on a file system that all nodes
    share, or on S3. See docs/cluster.md.
    """
    ray_address: Annotated[str | None, Option("ADDRESS", RUN, commands=SPREAD)] = None
    """With engine ray: HOST:PORT of the cluster's head; auto: the cluster that this machine is a
    node of; local: a new one on this machine (default: $RAY_ADDRESS, else auto, else local).

    The connection stays open until the process ends, and a new cluster ends with it.
    """
    ray_workers: Annotated[int | None, Option("N", RUN, commands=SPREAD)] = None
    """With engine ray: number of workers (default: one per GPU; without GPUs, one per CPU)."""
    dtype: Annotated[Dtype, Option("TYPE", MODEL, commands=ASKING)] = "auto"
    """auto, float32, bfloat16 or float16.

    Part of a score's identity.
    """
    image_pixels: Annotated[str | None, Option("MIN..MAX", MODEL, commands=ASKING)] = None
    """Pixels that the model sees of an image, as your trainer caps them: 200704..1003520, or
    ..1003520 (default: as in the model's files).

    Set in the processor of `model` and of what is trained from it. Part of a score's identity.
    """
    video_frames: Annotated[int | None, Option("N", MODEL, commands=SCORING)] = None
    """Score rows with videos, from N frames of each at equal distances (default: such rows are not
    scored).

    The first and the last frame are among them. For models that take videos; needs PyAV (extra
    `video`). Part of a score's identity.
    """
    batch_tokens: Annotated[int | None, Option("N", MODEL, commands=ASKING)] = None
    """Tokens per forward pass; results do not depend on it (default: by device).

    Not part of a score's identity.
    """
    trust_remote_code: Annotated[bool, Option("", MODEL, commands=ASKING)] = False
    """Run Python code that comes with the model.

    Never taken from a file.
    """
    adapter: Annotated[str | None, Option("MODULE:CLASS", MODEL, commands=MODEL_ONLY)] = None
    """A class of yours that runs a model which transformers cannot run as one of images and text;
    see docs/adapters.md.

    Its code runs, so it is never taken from a file. Part of a score's identity.
    """
    decided: Annotated[Texts, Option("KEY=VALUE", commands=())] = field(default_factory=dict)
    """What an earlier run measured before it chose rows, in its run.yaml; no option.

    Repeated for the same request, rows and models, and ignored for others.
    """
    out: Annotated[str | None, Option("DIR", short="-o", commands=("select",))] = None
    """The folder to write."""

    def __post_init__(self) -> None:
        """Raises ConfigError for a value that is none of its field's choices, and for an empty
        text."""
        for f in fields_of(type(self)).values():
            value = getattr(self, f.name)
            if isinstance(value, os.PathLike):
                object.__setattr__(self, f.name, value := os.fspath(value))
            empty = isinstance(value, str) and not value.strip()
            if empty and f.default is None and not f.choices:
                raise ConfigError(
                    " is empty. Give a value, or leave it out.", option=f.name, value=value
                )
            if f.choices and value is not None and value not in f.choices:
                raise ConfigError(
                    f": expected one of {', '.join(f.choices)}."
                    f"{did_you_mean(str(value), list(f.choices))}",
                    option=f.name,
                    value=value,
                )

    def to_mapping(self) -> dict[str, Any]:
        """Plain values, in the order of the fields, without those that are unset: the `config`
        section of run.yaml."""
        values = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        values["settings"] = dict(self.settings)
        values["decided"] = dict(self.decided) or None
        values |= {k: list(v) for k, v in values.items() if isinstance(v, tuple)}
        return {k: v for k, v in values.items() if v is not None and v != []}

    @property
    def mixture(self) -> dict[str, Any]:
        """As `to_mapping`, only the options of the mixture."""
        return {k: v for k, v in self.to_mapping().items() if k in MIXTURE}


SERVER = tuple(  # what only a server uses
    f.name
    for f in fields_of(RunRequest).values()
    if f.option.panel == SERVERS and f.name != "backend"
)
MIXTURE = tuple(f.name for f in fields_of(RunRequest).values() if f.option.panel == MIXTURES)
