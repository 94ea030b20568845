"""How a message names an option: as a flag of the command line, or as a line of a YAML file.

Each function is a `Spell` of `thresher.errors`. In Python an option is a keyword argument
(`errors.in_python`).
"""

from __future__ import annotations

from thresher.errors import SETTING, Spell
from thresher.request.fields import fields_of
from thresher.request.run_request import RunRequest

_FLAGS = {"learning_rate": "--lr"}  # of parameters that are not fields of the request


def flag_of(name: str) -> str:
    """The flag of an option of the command line, such as `--on-missing`."""
    known = fields_of(RunRequest)
    if name in known:
        return known[name].flag
    return _FLAGS.get(name, "--" + name.replace("_", "-"))


def as_flag(name: str, value: object) -> str:
    """An option as it is typed: `--budget 30%`, `--set keep=0.3`, `--force`.

    Arguments:
        name: as in `errors.opt`.
        value: of the option; None: the name alone.
    """
    given = "…" if value is None else value
    if name == "pool":
        return "POOL" if value is None else str(value)
    if name.startswith(SETTING):
        return f"--set {_typed(f'{name[len(SETTING) :]}={given}')}"
    return flag_of(name) if value is None or value is True else f"{flag_of(name)} {_typed(value)}"


def as_flag_of(method: str) -> Spell:
    """`as_flag` for a command with several methods: `--set winnow.keep=0.3`, `--methods winnow`.

    >>> as_flag_of("winnow")("settings.keep", 0.3), as_flag_of("winnow")("budget", "30%")
    ('--set winnow.keep=0.3', '--budget 30%')
    """

    def spell(name: str, value: object) -> str:
        if name.startswith(SETTING):
            name = f"{SETTING}{method}.{name[len(SETTING) :]}"
        return as_flag("methods" if name == "method" else name, value)

    return spell


def _typed(value: object) -> str:
    """A value in quotes if it has spaces, or is empty."""
    text = str(value)
    return f"'{text}'" if not text or (" " in text and "'" not in text) else text


def as_yaml(name: str, value: object) -> str:
    """An option as a line of a file: `budget: 30%`, `settings: {keep: 0.3}`.

    Arguments:
        name: as in `errors.opt`.
        value: of the option; None: the name alone.
    """
    text = "" if value is None else f": {str(value).lower() if isinstance(value, bool) else value}"
    if name.startswith(SETTING):
        return f"settings: {{{name[len(SETTING) :]}{text}}}"
    return f"{name}{text}"
