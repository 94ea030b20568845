"""How a command fails: one clear message on stderr and the right exit code, never a traceback for a
user's mistake.

2: the command was wrong. 1: the data or the run failed. 130: interrupted. Any other exception is a
bug in thresher and keeps its traceback.
"""

from __future__ import annotations

import functools
import os
import shutil
import signal
import sys
import textwrap
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import ParamSpec, TextIO

import typer

from thresher.errors import Notice, ThresherError, spelled
from thresher.extras import UntestedVersion, untested_versions
from thresher.request.spelling import as_flag, as_yaml

P = ParamSpec("P")


INTERRUPTED = 130
FROM_FILE = "thresher.from_file"  # in `Context.meta`: the --config file and the names it gave
TRACEBACK = (
    # environment variable: show the traceback also where untested versions may be the cause
    "THRESHER_TRACEBACK"
)


class Interrupted(KeyboardInterrupt):
    """Ctrl-C during a run. `stored`: rows scored and stored by this command."""

    def __init__(self, stored: int) -> None:
        super().__init__()
        self.stored = stored


def fail(message: str) -> None:
    """`Error: …` on stderr; red where stderr is a terminal and NO_COLOR is not set."""
    label = "Error:"
    text = _wrapped(f"{label} {message}")
    if sys.stderr.isatty() and not os.environ.get("NO_COLOR"):
        text = f"\x1b[1;31m{label}\x1b[0m{text[len(label) :]}"
    typer.echo(text, err=True)


def note(message: str) -> None:
    """Print on stderr what the user should know but need not act on. `message` may refer to options
    (`errors.opt`)."""
    typer.echo(_wrapped(f"Note: {spelled(message, as_flag)}"), err=True)


@contextmanager
def warnings_as_notes() -> Iterator[None]:
    """Shows notices and warnings of untested versions as notes, any other as before."""
    usual = warnings.showwarning

    def show(
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        if issubclass(category, (UntestedVersion, Notice)):
            note(str(message))
        else:
            usual(message, category, filename, lineno, file, line)

    warnings.showwarning = show
    try:
        yield
    finally:
        warnings.showwarning = usual


def exit_on_second_sigint() -> None:
    """From now on another Ctrl-C ends the process at once. All scores are already on disk.

    The interpreter waits for its threads before it ends. A Ctrl-C during that wait would make it
    continue without them, and a thread inside torch would then abort the process ("terminate called
    without an active exception").
    """
    signal.signal(signal.SIGINT, lambda *_: os._exit(INTERRUPTED))


def _wrapped(text: str) -> str:
    """The text wrapped to the width of a terminal; one line in files, where it can be searched."""
    if not sys.stderr.isatty():
        return text
    width = min(shutil.get_terminal_size().columns, 110)
    return textwrap.fill(text, width, break_long_words=False, break_on_hyphens=False)


RENAMED = {"compare": {"budget": "budgets", "method": "methods"}}  # options of other names


def as_given(error: ThresherError, command: str, context: object) -> str:
    """The message, with options as the user gave them: by the flags of the command, or, what is
    from its --config file, as that file has it.

    Arguments:
        error: its message and the names of its options.
        command: name of the command.
        context: of the command, a typer.Context; None if it takes none.
    """
    meta = getattr(context, "meta", {})
    file, names = meta.get(FROM_FILE, ("", frozenset()))

    def spell(name: str, value: object) -> str:
        if name in names:
            return f"{as_yaml(name, value)} (in {file})"
        return as_flag(RENAMED.get(command, {}).get(name, name), value)

    return error.spelled(spell)


def environment_problem(error: Exception) -> str | None:
    """The message for an error that the environment causes: a file name that is not UTF-8, no
    working directory. None for any other error.

    Some libraries (pyarrow) accept only UTF-8 names; Python represents other bytes of a name as
    lone surrogates.
    """
    if isinstance(error, UnicodeEncodeError) and any(
        0xDC80 <= ord(c) <= 0xDCFF for c in error.object
    ):
        name = error.object.encode("utf-8", "backslashreplace").decode("utf-8")[:300]
        return (
            f"the name {name} is not UTF-8, and such a name cannot be used here. Rename it, or "
            "give another one."
        )
    if isinstance(error, FileNotFoundError):
        try:
            os.getcwd()
        except OSError:
            return (
                "the working directory no longer exists. Go to one that does, and run the command "
                "again."
            )
    return None


def handle_errors(command: Callable[P, None]) -> Callable[P, None]:
    """Wrap a command so that its errors become messages and exit codes."""

    @functools.wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            with warnings_as_notes():
                command(*args, **kwargs)
        except ThresherError as error:
            fail(as_given(error, command.__name__, kwargs.get("context")))
            raise typer.Exit(error.exit_code) from None
        except Interrupted as interrupt:
            rows = f"{interrupt.stored:,} row{'' if interrupt.stored == 1 else 's'}"
            typer.echo(f"\nInterrupted: stored {rows}; run the same command to continue.", err=True)
            raise typer.Exit(INTERRUPTED) from None
        except KeyboardInterrupt:
            typer.echo("\nInterrupted; run the same command to continue.", err=True)
            raise typer.Exit(INTERRUPTED) from None
        except (typer.Exit, typer.TyperException, BrokenPipeError):
            raise
        except MemoryError:
            fail("not enough memory. Free some, or give a smaller --batch-tokens.")
            raise typer.Exit(1) from None
        except Exception as error:
            if problem := environment_problem(error):
                fail(problem)
                raise typer.Exit(1) from None
            if (versions := untested_versions()) and not os.environ.get(TRACEBACK):
                first = next(iter(str(error).strip().splitlines()), "")
                fail(
                    f"{type(error).__name__}: {first.rstrip('.')}. {' '.join(versions)} "
                    f"{TRACEBACK}=1 shows where it failed. Scores that were stored are safe."
                )
                raise typer.Exit(1) from None
            note(
                "this is a bug in thresher, not in your data or command. Please report it with "
                "the command you gave and the lines below. Scores that were stored are safe."
            )
            raise

    return run
