"""What went wrong with a change, for the page: a sentence, the field that it belongs to, and the
command that would help."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from thresher import methods
from thresher.errors import SETTING, ConfigError, ThresherError
from thresher.methods.settings import parse
from thresher.request.spelling import as_flag
from thresher.types import Budget
from thresher.viewer.displayed import SelectionParams
from thresher.viewer.recall import NeedsModel

if TYPE_CHECKING:
    from thresher.viewer.session import Session


@dataclass(frozen=True)
class Problem:
    """`field`: the form field, "set-NAME" of a setting, "rows", "where"; "" if it belongs to
    none."""

    field: str
    text: str
    command: str = ""


def problem_of(
    error: ThresherError, params: SelectionParams, session: Session, field: str = ""
) -> Problem:
    """An error of a change, for the page.

    Arguments:
        error: what was raised.
        params: the selection that was requested.
        session: the opened selection.
        field: where the problem is displayed if it is not a form field's.
    """
    text = error.spelled(as_flag)
    if session.fixed:
        return Problem("", text, session.command_or_nothing(session.first))
    if isinstance(error, NeedsModel):
        text += (
            " The current selection is unchanged. This command computes what is missing; then "
            "open its folder with thresher view:"
        )
        return Problem("", text, session.command_or_nothing(params))
    if isinstance(error, ConfigError):
        found = field or _field(params, error)

        def spell(name: str, value: object) -> str:
            if found and name == error.option and value is not None:  # beside its form field
                setting = name.removeprefix(SETTING)
                return str(value) if setting == name else f"{setting}={value}"
            return as_flag(name, value)

        return Problem(found, error.spelled(spell))
    return Problem(field, text)


def _field(params: SelectionParams, error: ConfigError) -> str:
    """The form field that is wrong; "" if it is none, or all of them together."""
    if error.option.startswith(SETTING):
        return f"set-{error.option[len(SETTING) :]}"
    if error.option in ("budget", "method"):
        return error.option
    try:
        Budget.parse(params.budget)
    except ConfigError:
        return "budget"
    if params.method not in methods.available():
        return "method"
    cls = methods.method_class(params.method)
    for name, value in params.settings.items():
        try:
            parse(cls, {name: value}, params.method)
        except ConfigError:
            return f"set-{name}"
    return ""
