"""The options of the commands, generated from the fields of `RunRequest`.

All default to None = "not given", so that a value from --config can take its place; the defaults
themselves are those of the request.
"""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Annotated, Any

import typer

from thresher.cli.guard import FROM_FILE
from thresher.errors import SETTING, ConfigError, opt
from thresher.request import RunRequest, fields_of, help_of
from thresher.request.run_request import MODEL, MODEL_ONLY

_SETTING = re.compile(r"[a-z_][a-z0-9_.]*=")

Teacher = Annotated[
    str | None,
    typer.Option(
        "--teacher",
        metavar="MODEL",
        help="A second model, for methods that learn from one: the same as --set teacher=MODEL.",
        show_default=False,
        rich_help_panel=MODEL,
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


def option(name: str, request: type[RunRequest] = RunRequest, *, help: str = "") -> Any:
    """The option of a field, with its documentation as help text.

    Arguments:
        name: of the field.
        request: the class that has it.
        help: a text instead, for a command to which the documentation does not apply.
    """
    f = fields_of(request)[name]
    keywords: dict[str, Any] = {"help": help or help_of(request, name), "show_default": False}
    if f.type is not bool:
        keywords["metavar"] = f.option.metavar or f.type.__name__.upper()
    if name == "pool":
        return typer.Argument(**keywords)
    names = (f.flag, *([f.option.short] if f.option.short else []))
    return typer.Option(*names, rich_help_panel=f.option.panel or None, **keywords)


def takes_request(
    command: str,
    request: type[RunRequest] = RunRequest,
    *,
    help: Mapping[str, str] | None = None,
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command an option for each field of the request that names it, before its own.

    The command finds their values in `context.params`, which `request_of` makes a request of.

    Arguments:
        command: its name, as the fields have it in `commands`.
        request: the class with the fields.
        help: name of a field -> a text in place of its documentation, as of `option`.
    """
    texts = help or {}

    def decorate(function: Callable[..., None]) -> Callable[..., None]:
        own = inspect.signature(function, eval_str=True).parameters

        @functools.wraps(function)
        def run(**given: Any) -> None:
            function(**{name: value for name, value in given.items() if name in own})

        parameters = {}
        for f in fields_of(request).values():
            if command in f.option.commands and f.name not in own:
                type_ = list[str] if f.type in (tuple, dict) else f.type
                made = option(f.name, request, help=texts.get(f.name, ""))
                annotation = Annotated[type_ | None, made]  # type: ignore[valid-type]
                parameters[f.name] = inspect.Parameter(
                    f.name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation
                )
        needed = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in own.values()]
        run.__signature__ = inspect.Signature([*parameters.values(), *needed])  # type: ignore[attr-defined]
        return run

    return decorate


def separate_settings(words: Sequence[str]) -> list[str]:
    """Write `--set a=1 b=2` as `--set a=1 --set b=2`, which the parser expects.

    Only if the pool comes first or --config names it: otherwise a word such as `web=web.json` may
    be the pool.

    >>> separate_settings(["select", "pool.json", "--set", "a=1", "b=2", "--seed", "3"])
    ['select', 'pool.json', '--set', 'a=1', '--set', 'b=2', '--seed', '3']
    """
    out: list[str] = []
    pool_first = len(words) > 1 and (
        not words[1].startswith("-") or "--config" in words or "-c" in words
    )
    after_setting = False  # whether the previous word is a setting
    for word in words:
        if after_setting and pool_first and _SETTING.match(word):
            out += ["--set", word]
            continue
        after_setting = (bool(out) and out[-1] in ("--set", "-s")) or word.startswith("--set=")
        out.append(word)
    return out


NO_ADAPTER = {  # why a command that takes a model has no --adapter
    "train": "trains the model, and one that an adapter runs cannot be trained",
    "compare": "trains the model, and one that an adapter runs cannot be trained",
    "suspects": "reads the model's hidden states, and an adapter gives none",
    "doctor": "counts tokens with the model's own processor and does not run the model",
}


def why_no_adapter(command: str | None) -> str:
    """The message for --adapter with a command that does not have it; "" for any other command."""
    if command not in NO_ADAPTER:
        return ""
    usable = f"{', '.join(MODEL_ONLY[:-1])} and {MODEL_ONLY[-1]}"
    return f"--adapter is for {usable}: {command} {NO_ADAPTER[command]}."


def roles_by_option(context: typer.Context) -> tuple[str, ...]:
    """Further models that were named by a separate option."""
    return ("teacher",) if context.params.get("teacher") is not None else ()


def request_of(
    context: typer.Context, request: type[RunRequest] = RunRequest, **instead: Any
) -> RunRequest:
    """The request of a command and its --config file. The command's parameters that are fields of
    `request` are used.

    Arguments:
        context: of the command.
        request: the class to make.
        instead: values that replace those of some fields; None: not given.

    Raises ConfigError.
    """
    from thresher.selection.config import combine, parse_settings, read

    known = fields_of(request)
    flags = {name: value for name, value in context.params.items() if name in known} | instead
    if flags.get("settings") is not None:
        flags["settings"] = parse_settings(flags["settings"])
    flags |= {
        name: tuple(value) or None
        for name, value in flags.items()
        if known[name].type is tuple and value is not None
    }
    given = flags.get("settings") or {}
    for role in roles_by_option(context):
        model = context.params[role]
        if given.get(role, model) != model:
            raise ConfigError(
                f" and {opt(f'settings.{role}')} name two models. Give one of them.", option=role
            )
        flags["settings"] = given = {**given, role: model}
    path = context.params.get("config")
    file = read(path, request) if path else {}
    if path:
        context.meta[FROM_FILE] = (path, frozenset(_names_from(file, flags)))
    return combine(file, flags, request)


def _names_from(file: Mapping[str, Any], flags: Mapping[str, Any]) -> Iterator[str]:
    """The options that a config file gave and no flag replaced, named as in error messages. Those
    that count in the command only are not among them, so that messages name their flags."""
    from thresher.selection.config import RUNS_CODE

    yield from (name for name in file if flags.get(name) is None and name not in RUNS_CODE)
    replaced = flags.get("settings") or {}
    yield from (SETTING + name for name in file.get("settings", {}) if name not in replaced)


def asked_of(request: RunRequest, command: str) -> dict[str, Any]:
    """The options of a command and their values, without those that are unset: for a tracker.

    Arguments:
        request: of the command.
        command: its name, as the fields have it in `commands`.
    """
    known = fields_of(type(request))
    values = request.to_mapping()
    return {name: v for name, v in values.items() if command in known[name].option.commands}
