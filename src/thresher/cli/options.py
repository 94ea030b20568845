"""The options that several commands share, each declared once. All default to None = "not given", so that a value from
--config can stand in; the defaults themselves are in `config.RunConfig`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from thresher.config import RunConfig

MODEL_PANEL = "Model"
RUN_PANEL = "Run"

Pool = Annotated[
    str | None,
    typer.Argument(metavar="POOL", help="The pool: a LLaVA JSON or JSONL file.", show_default=False),
]
Images = Annotated[
    str | None,
    typer.Option(
        "--images",
        metavar="DIR",
        help="Where relative image paths start (default: the pool's folder).",
        show_default=False,
    ),
]
Method = Annotated[
    str | None,
    typer.Option("--method", "-m", metavar="NAME", help="How to choose; see thresher methods.", show_default=False),
]
BudgetText = Annotated[
    str | None,
    typer.Option("--budget", "-b", metavar="B", help="How much to keep: 30%, or a number of rows.", show_default=False),
]
Settings = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        "-s",
        metavar="KEY=VALUE",
        help="A setting of the method. Repeat it, or quote several.",
        show_default=False,
    ),
]
Seed = Annotated[
    int | None,
    typer.Option("--seed", metavar="N", help="Chooses among equals (default: 0).", show_default=False),
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
        help="demo (built in, offline), a folder, or a hub id (default: demo).",
        show_default=False,
        rich_help_panel=MODEL_PANEL,
    ),
]
Device = Annotated[
    str | None,
    typer.Option(
        "--device",
        metavar="NAME",
        help="cpu, cuda, cuda:1, mps (default: the best there is).",
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
        help="Tokens in one forward pass; results do not depend on it (default: by device).",
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
StorePath = Annotated[
    str | None,
    typer.Option(
        "--store",
        metavar="PATH",
        help="Where scores are kept (default: $THRESHER_STORE, else your cache folder).",
        show_default=False,
        rich_help_panel=RUN_PANEL,
    ),
]
OnMissing = Annotated[
    str | None,
    typer.Option(
        "--on-missing",
        metavar="WHAT",
        help="Rows that cannot be scored: auto (leave out up to 5%), exclude, or refuse (default: auto).",
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


def told(context: typer.Context, **instead: Any) -> RunConfig:
    """What a command and its --config file say together. The command's parameters that are named as fields of RunConfig
    count; `instead` replaces some of them (None: not given). Raises ConfigError.
    """
    from dataclasses import fields

    from thresher.config import RunConfig, combine, parse_settings, read

    known = {f.name for f in fields(RunConfig)}
    flags = {name: value for name, value in context.params.items() if name in known} | instead
    if flags.get("settings") is not None:
        flags["settings"] = parse_settings(flags["settings"])
    file = context.params.get("config")
    return combine(read(file) if file else {}, flags)
