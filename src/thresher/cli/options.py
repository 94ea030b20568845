"""The options that several commands share, each declared once. All default to None = "not given",
so that a value from --config can stand in; the defaults themselves are in `request.RunRequest`.

Past 400 lines because it is a list: typer wants every option with its help, and commands take them
from one place.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from thresher.request import RunRequest

MODEL_PANEL = "Model"
SERVER_PANEL = "Model behind a server"
RUN_PANEL = "Run"
MIXTURE_PANEL = "Mixture"
TARGET_PANEL = "Target task"

_SETTING = re.compile(r"[a-z_][a-z0-9_.]*=")

Pool = Annotated[
    str | None,
    typer.Argument(
        metavar="POOL",
        help="The pool: a file, folder, pattern, mixture YAML, address, or name=path,name=path.",
        show_default=False,
    ),
]
Images = Annotated[
    str | None,
    typer.Option(
        "--images",
        metavar="DIR",
        help="Folder that relative image paths start from (default: the pool's folder).",
        show_default=False,
    ),
]
Format = Annotated[
    str | None,
    typer.Option(
        "--format",
        metavar="F",
        help="Read the pool as this format (default: detected from its content).",
        show_default=False,
    ),
]
TrustPaths = Annotated[
    bool | None,
    typer.Option(
        "--trust-paths",
        help="Identify images by path and size, not by content: faster, but an overwritten image "
        "keeps its old scores.",
        show_default=False,
    ),
]
Method = Annotated[
    str | None,
    typer.Option(
        "--method",
        "-m",
        metavar="NAME",
        help="Selection method; `thresher methods` lists them.",
        show_default=False,
    ),
]
BudgetText = Annotated[
    str | None,
    typer.Option(
        "--budget",
        "-b",
        metavar="B",
        help="How much to keep: 30%, a number of rows, or tokens (20Mtok).",
        show_default=False,
    ),
]
Settings = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        "-s",
        metavar="KEY=VALUE",
        help="A setting of the method, or several: -s a=1 b=2. Quote values that contain spaces.",
        show_default=False,
    ),
]
Teacher = Annotated[
    str | None,
    typer.Option(
        "--teacher",
        metavar="MODEL",
        help="A second model, for methods that learn from one: the same as --set teacher=MODEL.",
        show_default=False,
        rich_help_panel=MODEL_PANEL,
    ),
]
Validation = Annotated[
    str | None,
    typer.Option(
        "--validation",
        metavar="FILE",
        help="Questions of the target task, for methods that target the model's errors.",
        show_default=False,
        rich_help_panel=TARGET_PANEL,
    ),
]
ValidationImages = Annotated[
    str | None,
    typer.Option(
        "--validation-images",
        metavar="DIR",
        help="Folder that its relative image paths start from (default: its own folder).",
        show_default=False,
        rich_help_panel=TARGET_PANEL,
    ),
]
OnLeak = Annotated[
    str | None,
    typer.Option(
        "--on-leak",
        metavar="WHAT",
        help="Rows of the pool that repeat validation questions: refuse, or drop them (default: "
        "refuse).",
        show_default=False,
        rich_help_panel=TARGET_PANEL,
    ),
]
Rounds = Annotated[
    int | None,
    typer.Option(
        "--rounds",
        metavar="N",
        help="Select a part, train on it, find the remaining errors, and repeat (default: 1).",
        show_default=False,
        rich_help_panel=TARGET_PANEL,
    ),
]
Seed = Annotated[
    int | None,
    typer.Option(
        "--seed", metavar="N", help="Random seed; breaks ties (default: 0).", show_default=False
    ),
]
Config = Annotated[
    str | None,
    typer.Option(
        "--config",
        "-c",
        metavar="FILE",
        help="Take options from a YAML file or an earlier run.yaml.",
        show_default=False,
    ),
]
Model = Annotated[
    str | None,
    typer.Option(
        "--model",
        metavar="MODEL",
        help="A folder, a hub id, URL#NAME of a server, or demo (built in, tiny, for trying things "
        "out).",
        show_default=False,
        rich_help_panel=MODEL_PANEL,
    ),
]
Device = Annotated[
    str | None,
    typer.Option(
        "--device",
        metavar="NAME",
        help="cpu, cuda, cuda:1, mps (default: the best available).",
        show_default=False,
        rich_help_panel=MODEL_PANEL,
    ),
]
Dtype = Annotated[
    str | None,
    typer.Option(
        "--dtype",
        metavar="TYPE",
        help="auto, float32, bfloat16 or float16 (default: auto).",
        show_default=False,
        rich_help_panel=MODEL_PANEL,
    ),
]
BatchTokens = Annotated[
    int | None,
    typer.Option(
        "--batch-tokens",
        metavar="N",
        help="Tokens per forward pass; results do not depend on it (default: by device).",
        show_default=False,
        rich_help_panel=MODEL_PANEL,
    ),
]
TrustRemoteCode = Annotated[
    bool | None,
    typer.Option(
        "--trust-remote-code",
        help="Run Python code that comes with the model.",
        show_default=False,
        rich_help_panel=MODEL_PANEL,
    ),
]
Backend = Annotated[
    str | None,
    typer.Option(
        "--backend",
        metavar="NAME",
        help="hf (local weights) or openai (an OpenAI-compatible server). Default: hf.",
        show_default=False,
        rich_help_panel=SERVER_PANEL,
    ),
]
Url = Annotated[
    str | None,
    typer.Option(
        "--url",
        metavar="URL",
        help="With --backend openai: the server's address, such as http://127.0.0.1:8000/v1.",
        show_default=False,
        rich_help_panel=SERVER_PANEL,
    ),
]
MaxRequests = Annotated[
    int | None,
    typer.Option(
        "--max-requests",
        metavar="N",
        help="Stop before sending more requests than this.",
        show_default=False,
        rich_help_panel=SERVER_PANEL,
    ),
]
MaxCost = Annotated[
    float | None,
    typer.Option(
        "--max-cost",
        metavar="X",
        help="Stop before spending more than this; needs both prices.",
        show_default=False,
        rich_help_panel=SERVER_PANEL,
    ),
]
PriceIn = Annotated[
    float | None,
    typer.Option(
        "--price-in",
        metavar="X",
        help="Price per million prompt tokens.",
        show_default=False,
        rich_help_panel=SERVER_PANEL,
    ),
]
PriceOut = Annotated[
    float | None,
    typer.Option(
        "--price-out",
        metavar="X",
        help="Price per million generated tokens.",
        show_default=False,
        rich_help_panel=SERVER_PANEL,
    ),
]
Concurrency = Annotated[
    int | None,
    typer.Option(
        "--concurrency",
        metavar="N",
        help="Rows sent at the same time (default: 8).",
        show_default=False,
        rich_help_panel=SERVER_PANEL,
    ),
]
Timeout = Annotated[
    float | None,
    typer.Option(
        "--timeout",
        metavar="S",
        help="Seconds to wait for one answer (default: 120).",
        show_default=False,
        rich_help_panel=SERVER_PANEL,
    ),
]
ApiKeyEnv = Annotated[
    str | None,
    typer.Option(
        "--api-key-env",
        metavar="NAME",
        help="Environment variable with the key (default: OPENAI_API_KEY).",
        show_default=False,
        rich_help_panel=SERVER_PANEL,
    ),
]
ImageSide = Annotated[
    int | None,
    typer.Option(
        "--image-side",
        metavar="PX",
        help="Longest side, in pixels, of the images sent (default: 1024).",
        show_default=False,
        rich_help_panel=SERVER_PANEL,
    ),
]
Quota = Annotated[
    list[str] | None,
    typer.Option(
        "--quota",
        metavar="GROUP=RANGE",
        help="Rows of a source, of text_only or of COLUMN:VALUE: 5%..20% of the budget, 1000, "
        "..10%. Repeatable.",
        show_default=False,
        rich_help_panel=MIXTURE_PANEL,
    ),
]
Keep = Annotated[
    str | None,
    typer.Option(
        "--keep",
        metavar="FILE",
        help="Rows that are always kept: ids, or a selection.parquet.",
        show_default=False,
        rich_help_panel=MIXTURE_PANEL,
    ),
]
Drop = Annotated[
    str | None,
    typer.Option(
        "--drop",
        metavar="FILE",
        help="Rows that are never kept.",
        show_default=False,
        rich_help_panel=MIXTURE_PANEL,
    ),
]
Filter = Annotated[
    list[str] | None,
    typer.Option(
        "--filter",
        metavar="EXPR",
        help="Consider only rows for which this holds, such as 'length < 2000'. Repeatable: all "
        "must hold.",
        show_default=False,
        rich_help_panel=MIXTURE_PANEL,
    ),
]
Dedup = Annotated[
    str | None,
    typer.Option(
        "--dedup",
        metavar="HOW",
        help="Consider only one row of each group of duplicates: exact, near, or semantic (asks "
        "the model).",
        show_default=False,
        rich_help_panel=MIXTURE_PANEL,
    ),
]
DedupThreshold = Annotated[
    float | None,
    typer.Option(
        "--dedup-threshold",
        metavar="X",
        help="Least similarity of duplicates (default: 0.8 for near, 0.95 for semantic).",
        show_default=False,
        rich_help_panel=MIXTURE_PANEL,
    ),
]
Unscorable = Annotated[
    str | None,
    typer.Option(
        "--unscorable",
        metavar="WHAT",
        help="Rows that no model here can score (videos, audio, too long): keep, drop, or random.",
        show_default=False,
        rich_help_panel=MIXTURE_PANEL,
    ),
]
StorePath = Annotated[
    str | None,
    typer.Option(
        "--store",
        metavar="PATH",
        help="Where scores are stored (default: $THRESHER_STORE, else your cache folder).",
        show_default=False,
        rich_help_panel=RUN_PANEL,
    ),
]
OnMissing = Annotated[
    str | None,
    typer.Option(
        "--on-missing",
        metavar="WHAT",
        help="Rows that cannot be scored: auto (leave out up to 5%), exclude, or refuse (default: "
        "auto).",
        show_default=False,
        rich_help_panel=RUN_PANEL,
    ),
]
RetryErrors = Annotated[
    bool | None,
    typer.Option(
        "--retry-errors",
        help="Score rows again whose stored result is an error.",
        show_default=False,
        rich_help_panel=RUN_PANEL,
    ),
]


Force = Annotated[
    bool | None,
    typer.Option(
        "--force",
        help="Go on with scores that mean nothing (a judge that gives no probability to its "
        "answers).",
        show_default=False,
        rich_help_panel=RUN_PANEL,
    ),
]


def settings_apart(words: Sequence[str]) -> list[str]:
    """`--set a=1 b=2` as `--set a=1 --set b=2`, which is how the parser wants it.

    Only where the pool stands first, or --config names it: else a word such as `web=web.json` may
    be the pool.

    >>> settings_apart(["select", "pool.json", "--set", "a=1", "b=2", "--seed", "3"])
    ['select', 'pool.json', '--set', 'a=1', '--set', 'b=2', '--seed', '3']
    """
    out: list[str] = []
    pool_first = len(words) > 1 and (
        not words[1].startswith("-") or "--config" in words or "-c" in words
    )
    behind = False  # the word before is a setting
    for word in words:
        if behind and pool_first and _SETTING.match(word):
            out += ["--set", word]
            continue
        behind = (bool(out) and out[-1] in ("--set", "-s")) or word.startswith("--set=")
        out.append(word)
    return out


def roles_by_option(context: typer.Context) -> tuple[str, ...]:
    """Further models that were named by an option of their own."""
    return ("teacher",) if context.params.get("teacher") is not None else ()


def told(context: typer.Context, **instead: Any) -> RunRequest:
    """What a command and its --config file say together. The command's parameters that are named as
    fields of RunRequest count; `instead` replaces some of them (None: not given). Raises
    ConfigError.
    """
    from dataclasses import fields

    from thresher.errors import ConfigError
    from thresher.request import RunRequest
    from thresher.selection.config import combine, parse_settings, read

    known = {f.name for f in fields(RunRequest)}
    flags = {name: value for name, value in context.params.items() if name in known} | instead
    if flags.get("settings") is not None:
        flags["settings"] = parse_settings(flags["settings"])
    flags |= {
        name: tuple(flags[name]) or None
        for name in ("quota", "filter")
        if flags.get(name) is not None
    }
    given = flags.get("settings") or {}
    for role in roles_by_option(context):
        model = context.params[role]
        if given.get(role, model) != model:
            raise ConfigError(f"--{role} and --set {role}=… name two models. Give one of them.")
        flags["settings"] = given = {**given, role: model}
    file = context.params.get("config")
    return combine(read(file) if file else {}, flags)
