"""The command line: `thresher COMMAND …`. One file a command; this one only lists them.

Results go to stdout, progress and notes to stderr. Nothing heavy is imported before a command needs
it: `--help` and `methods` must stay instant.
"""

from __future__ import annotations

import functools
import io
import os
import re
import sys
import warnings
from typing import Annotated, Any

import typer

from thresher._version import __version__
from thresher.cli.compare import compare
from thresher.cli.demo import demo
from thresher.cli.diff import diff
from thresher.cli.doctor import doctor
from thresher.cli.evaluate import evaluate
from thresher.cli.export import export
from thresher.cli.guard import INTERRUPTED, exit_on_second_sigint, fail, handle_errors
from thresher.cli.help_text import Command, Group, paragraphs
from thresher.cli.methods import methods
from thresher.cli.options import separate_settings, why_no_adapter
from thresher.cli.plan import plan
from thresher.cli.report import report
from thresher.cli.select import select
from thresher.cli.signals import signals
from thresher.cli.store import app as store
from thresher.cli.suspects import suspects
from thresher.cli.train import train
from thresher.cli.verify_backend import verify_backend
from thresher.cli.view import view

app = typer.Typer(
    name="thresher",
    cls=Group,
    help="Pick the subset of an image+text pool that is worth fine-tuning a multimodal LLM on.",
    epilog="Start with: thresher demo",
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for command in (
    demo,
    select,
    plan,
    methods,
    doctor,
    signals,
    suspects,
    export,
    train,
    evaluate,
    verify_backend,
    compare,
    report,
    diff,
    view,
):
    app.command(command.__name__.replace("_", "-"), cls=Command, help=paragraphs(command.__doc__))(
        handle_errors(command)
    )
app.add_typer(store, name="store")


@app.callback(invoke_without_command=True)
def root(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version and stop.")] = False,
) -> None:
    if version:
        typer.echo(f"thresher {__version__}")
    elif context.invoked_subcommand is None:
        typer.echo(context.get_help())
        raise typer.Exit(2)


@functools.cache
def program() -> Any:
    """The command that `app` describes; a process that runs several builds it once."""
    return typer.main.get_command(app)


def _wrong_number(error: Any) -> str:
    """The message of an error of typer about an option's number; "" for other errors.

    The message of typer 0.29 is that of its validation library and does not repeat the value.
    """
    parameter = getattr(error, "param", None)
    validation = getattr(error.__cause__, "errors", None)
    wrong = validation()[0] if validation is not None else _from_message(str(error.message))
    if parameter is None or not wrong:
        return ""
    kind, bound = wrong["type"], next(iter(wrong.get("ctx", {}).values()), None)
    expected = {
        "int_parsing": "a whole number",
        "int_parsing_size": "a whole number of fewer digits",
        "int_from_float": "a whole number",
        "float_parsing": "a number",
        "greater_than_equal": f"a number of at least {bound}",
        "less_than_equal": f"a number of at most {bound}",
    }.get(kind)
    if expected is None:
        return ""
    name = max(parameter.opts, key=len)
    given = wrong["input"] or '""'
    return f"{name} {given}: expected {expected}."


def _from_message(message: str) -> dict[str, Any]:
    """An error about a number of typer 0.28 as a later one describes it; empty for other errors.

    >>> _from_message("'a' is not a valid int.")
    {'input': 'a', 'type': 'int_parsing'}
    >>> _from_message("-1 is not in the range 0<=x<=9.")
    {'input': '-1', 'type': 'greater_than_equal', 'ctx': {'ge': '0'}}
    """
    if found := re.match("'(.*)' is not a valid (int|float)", message):
        return {"input": found[1], "type": f"{found[2]}_parsing"}
    found = re.match(r"(\S+) is not in the range (?:(\S+)<=)?x(?:>=(\S+)|<=(\S+))?\.$", message)
    if found is None:
        return {}
    given, least, most = found[1], found[2] or found[3], found[4]
    if least is not None and float(given) < float(least):
        return {"input": given, "type": "greater_than_equal", "ctx": {"ge": least}}
    return {"input": given, "type": "less_than_equal", "ctx": {"le": most}}


def main(arguments: list[str] | None = None) -> None:
    """Run one command and exit with its code. Mistakes in the command itself (typer's errors) exit
    2."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(
            stream, io.TextIOWrapper
        ):  # what the terminal cannot show is escaped: a lone surrogate, or — in ASCII
            stream.reconfigure(errors="backslashreplace")
    # problems of images are reported in our own messages
    warnings.filterwarnings("ignore", module=r"PIL\.")
    words = separate_settings(sys.argv[1:] if arguments is None else arguments)
    try:
        code = program()(words, prog_name="thresher", standalone_mode=False)
    except typer.TyperException as error:
        message = _wrong_number(error) or error.format_message()
        context = getattr(error, "ctx", None)
        if context is not None and getattr(error, "option_name", "") == "--adapter":
            message = why_no_adapter(context.info_name) or message
        if "unexpected extra argument" in message and any("=" in word for word in words):
            message += (
                " Several settings: repeat --set, or name the pool first, as in POOL --set a=1 "
                "b=2. A value with spaces: "
                'quote the setting, as in --set "weights=a:2, b:1".'
            )
        fail(message)
        if context is not None:
            typer.echo(f"See: {context.command_path} --help", err=True)
        sys.exit(error.exit_code)
    except BrokenPipeError:
        # the reader has closed the pipe (`thresher methods | head`): without this, the interpreter
        # would print an error at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    if code == INTERRUPTED and arguments is None:  # the process is ours
        exit_on_second_sigint()
    sys.exit(code or 0)
