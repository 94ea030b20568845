"""What went wrong with a change, for the page: a sentence, the field that it belongs to, and the
command that would help."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from thresher import methods
from thresher.errors import ConfigError, ThresherError
from thresher.methods.settings import parse
from thresher.types import Budget
from thresher.viewer.displayed import SelectionParams
from thresher.viewer.recall import NeedsModel

if TYPE_CHECKING:
    from thresher.viewer.session import Session

_SETTING = re.compile(r"--set (\w+)=")


@dataclass(frozen=True)
class Problem:
    """`field`: the form field, "set-NAME" of a setting, "rows", "where"; "" where it belongs to
    none."""

    field: str
    text: str
    command: str = ""


def problem_of(
    error: ThresherError, params: SelectionParams, session: Session, field: str = ""
) -> Problem:
    """`field`: where it is shown if it is not a form field's."""
    text = str(error)
    if session.fixed:
        return Problem("", text, session.command_or_nothing(session.first))
    if isinstance(error, NeedsModel):
        text += (
            " The current selection is unchanged. This command computes what is missing; then "
            "open its folder with thresher view:"
        )
        return Problem("", text, session.command_or_nothing(params))
    if isinstance(error, ConfigError):
        found = field or _field(params, text)
        text = error.spelled(lambda _, value: str(value))
        text = re.sub(r"^--set ", "", text) if found else text
        return Problem(found, text)
    return Problem(field, text)


def _field(params: SelectionParams, text: str) -> str:
    """The form field that is wrong; "" where it is none, or all of them together."""
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
    if found := _SETTING.search(text):
        return f"set-{found[1]}"
    return "budget" if "budget" in text else ""
