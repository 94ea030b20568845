"""Prompt templates with `{name}` placeholders; braces inside a value stay as they are."""

from __future__ import annotations

import re
from collections.abc import Mapping

_PLACEHOLDER = re.compile(r"\{(\w+)\}")


def render_template(template: str, values: Mapping[str, object]) -> str:
    """The template with its placeholders replaced. Raises KeyError for a missing value.

    Arguments:
        template: with `{name}` placeholders.
        values: name -> value.

    >>> render_template("Q: {question} A:", {"question": "what is {x}?"})
    'Q: what is {x}? A:'
    """
    return _PLACEHOLDER.sub(lambda m: str(values[m[1]]), template)
